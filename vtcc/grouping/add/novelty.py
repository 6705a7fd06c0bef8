"""Groups of added images that are unlike all that the clusters were made of; no label is read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vtcc.analysis.features import subsample, unit_rows

NEIGHBORS = 5  # the distance to the fifth nearest decides
WITHIN = 0.95  # of the images that the clusters were made of are within the limit
LEAST = 5  # images of a group
MORE = 3.0  # times as many added images as their share of all would make, or a group says nothing new
MOST_KNOWN, MOST_FAR = 20_000, 4000  # images that are compared with, and that are grouped
_BLOCK = 1024


@dataclass(frozen=True)
class Novelty:
    """What is novel.

    Attributes:
        score: (N,) float32, distance to what the clusters were made of over the limit; above 1 is
            novel. groups: rows of added images, the largest group first.
    """

    score: np.ndarray
    groups: list[np.ndarray]


def find(h: np.ndarray, known: np.ndarray, added: np.ndarray, *, seed: int) -> Novelty:
    """Measures images and groups the added ones that are novel.

    Args:
        h: (N, d) embedding. known: (N,) bool, what the clusters were made of.
        added: (N,) bool, the others that may be grouped. seed: of subsamples.
    """
    unit = unit_rows(h.astype(np.float32))
    rows = np.flatnonzero(known)
    reference = rows[subsample(len(rows), MOST_KNOWN, seed)]
    k = min(NEIGHBORS, max(len(reference) - 1, 1))
    away = _kth(unit, unit[reference], k, without=_place(len(unit), reference))
    limit = max(float(np.quantile(away[reference], WITHIN)), 1e-6)
    score = (away / limit).astype(np.float32)
    far = np.flatnonzero((score > 1) & (known | added))
    far = far[subsample(len(far), MOST_FAR, seed)]
    candidates = np.flatnonzero(added)
    if added[far].sum() < LEAST:
        return Novelty(score, [])
    groups = []
    expected = added.sum() / (added.sum() + known.sum())
    for group in _linked(unit, far, reference, seed):
        fresh = group[added[group]]
        if len(fresh) >= LEAST and _more(len(fresh), len(group), float(expected)):
            groups.append(fresh)
    groups = _grown(unit, groups, candidates, unit[reference], k)
    return Novelty(score, sorted(groups, key=lambda g: (-len(g), g[0])))


def _place(n: int, rows: np.ndarray) -> np.ndarray:
    """(n,) place of a row among `rows`; -1 for others."""
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    return place


def _kth(
    unit: np.ndarray, others: np.ndarray, k: int, without: np.ndarray | None = None
) -> np.ndarray:
    """(n,) cosine distance to the k-th nearest of (m, d) others.

    Args:
        without: (n,) the row of `others` that is the image itself, -1 where none is.
    """
    away = np.empty(len(unit), np.float32)
    for start in range(0, len(unit), _BLOCK):
        part = slice(start, start + _BLOCK)
        near = unit[part] @ others.T
        if without is not None:
            own = without[part]
            near[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
        away[part] = 1 - np.partition(near, -k, axis=1)[:, -k]
    return away


def _more(fresh: int, all_: int, expected: float) -> bool:
    """Whether a group has markedly more added images than their share of all would make."""
    usual = expected / max(1 - expected, 1e-9)
    return fresh > MORE * usual * (all_ - fresh)


def _linked(
    unit: np.ndarray, far: np.ndarray, reference: np.ndarray, seed: int
) -> list[np.ndarray]:
    """Groups of far images by average linkage, as wide as the surroundings of the reference are."""
    raise NotImplementedError


def _grown(
    unit: np.ndarray,
    groups: Sequence[np.ndarray],
    candidates: np.ndarray,
    reference: np.ndarray,
    k: int,
) -> list[np.ndarray]:
    """The groups with the added images that are nearer to one of them than to the reference."""
    raise NotImplementedError
