"""What the page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Card:
    """One cluster.

    Attributes:
        id: as in the tables. name: for people. size: images.
        spread: mean cosine distance to the centre. confidence: mean, 0-1.
        nearest: id of the cluster whose centre is nearest, or None. nearest_distance: to it.
        prototypes, boundary: rows of images: the most typical, the least certain.
        duplicates: groups of rows that look nearly alike.
        outliers: how many images are flagged.
        about: what distinguishes it, in words.
        mean: (S, S, C) uint8, the mean image, or None.
        attention: one (g, g) map in 0-1 per prototype, or empty.
        labels: (name, share of the cluster) where classes are known, largest first.
    """

    id: int
    name: str
    size: int
    spread: float
    confidence: float
    nearest: int | None
    nearest_distance: float
    prototypes: Sequence[int]
    boundary: Sequence[int]
    duplicates: Sequence[Sequence[int]] = ()
    outliers: int = 0
    about: Sequence[str] = ()
    mean: np.ndarray | None = None
    attention: Sequence[np.ndarray] = ()
    labels: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Page:
    """The whole page; row i of everything is image i.

    Attributes:
        title: of the page. root: of the images, relative to the page, to show them in full.
        files: N names, shown as text whatever they hold.
        cluster: (N,) ids, -1 for excluded. confidence, distance: (N,). second: (N,) ids or -1.
        outlier: (N,) bool. map: (N, 2). order: (N,) permutation: place of row i's tile.
        thumb: side of a tile in pixels. cards: per cluster. digest: of the model, for edits.
        trust, count, choices, baselines: as in summary.json; empty where there is nothing.
        edits: those that were applied already.
    """

    title: str
    root: str
    files: Sequence[str]
    cluster: np.ndarray
    confidence: np.ndarray
    distance: np.ndarray
    second: np.ndarray
    outlier: np.ndarray
    map: np.ndarray
    order: np.ndarray
    thumb: int
    cards: Sequence[Card]
    digest: str
    trust: Mapping[str, Any] = field(default_factory=dict)
    count: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    baselines: Sequence[Mapping[str, Any]] = ()
    edits: Sequence[Mapping[str, Any]] = ()
