"""What each step of `vtcc cluster` hands to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.data.cache import Cache
from vtcc.engine.features import Features
from vtcc.grouping.choices import Reason
from vtcc.grouping.clusters import Applied, Clusters
from vtcc.grouping.count import Count
from vtcc.grouping.intake import Listed
from vtcc.grouping.training import Material, Trained
from vtcc.grouping.trust import Trust


@dataclass(frozen=True)
class Prepared:
    """The images, decoded once, and the training that was chosen for them.

    Attributes:
        listed: all files. cache: those that could be read, N of them, as uint8 pixels.
        sketches: (N, 8, 9) float32 of `vtcc.data.duplicates.sketch`.
        errors: name -> why it could not be read.
        features: (N, V, D) of a pretrained encoder, and what names them; or None.
        params: nested, complete. reasons: what was decided -> value and reason in words.
    """

    listed: Listed
    cache: Cache
    sketches: np.ndarray
    errors: dict[str, str]
    params: dict[str, Any]
    reasons: dict[str, Reason]
    features: Features | None = None

    @property
    def labels(self) -> list[int] | None:
        """Class numbers of the N images by sub-folder, or None; they only score, at the end."""
        if self.listed.labels is None:
            return None
        of = dict(zip(self.listed.names, self.listed.labels, strict=True))
        return [of[path] for path in self.cache.paths]

    @property
    def files(self) -> list[Path]:
        """Where the N images are."""
        of = dict(zip(self.listed.names, self.listed.files, strict=True))
        return [of[path] for path in self.cache.paths]


@dataclass(frozen=True)
class Learned:
    """Two models of the images, and the number of clusters.

    Attributes:
        num_clusters: K, given or chosen.
        main: whose encoder the result has; its heads have K clusters.
        second: from another seed, for the map and for the measure of trust; its heads may have
            another number of clusters.
        count: the criteria at K, or for every K that was tried.
        material: what was trained on.
    """

    num_clusters: int
    main: Trained
    second: Trained
    count: Count
    material: Material


@dataclass(frozen=True)
class Judged:
    """The final clusters and what they are worth.

    Attributes:
        model: with the final head. clusters: how its head's clusters are named and limited.
        base: (N,) int32, the head's cluster of each image. applied: what `clusters` make of it.
        how: the clusters were made, with the reason.
        trust: measures without labels, and the verdict.
        comparison: a row per method: title, agreement with these clusters, scores where there
            are labels; these clusters come first.
        first: (N,) int64, for each image the first of those that look alike.
        looks: (N, 6) float32 of `describe.looks`.
    """

    model: Trained
    clusters: Clusters
    base: np.ndarray
    applied: Applied
    how: Reason
    trust: Trust
    comparison: Sequence[dict[str, Any]]
    first: np.ndarray
    looks: np.ndarray
