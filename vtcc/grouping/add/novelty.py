"""Groups of added images that are unlike all that the clusters were made of; no label is read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vtcc.analysis.features import subsample, unit_rows

NEIGHBORS = 5  # the distance to the fifth nearest decides
WITHIN = 0.95  # of the images that the clusters were made of are within the limit
LEAST = 5  # images of a group
MORE = 3.0  # times as many added images as their share of all would make, or a group says nothing new
ROUNDS = 5  # in which groups take in what is beside them
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


def find(
    h: np.ndarray, known: np.ndarray, added: np.ndarray, cluster: np.ndarray, *, seed: int
) -> Novelty:
    """Measures images and groups the added ones that are novel.

    Args:
        h: (N, d) embedding. known: (N,) bool, what the clusters were made of.
        added: (N,) bool, the others that may be grouped. cluster: (N,) ids, -1 for none.
        seed: of subsamples.
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
    if added[far].sum() < LEAST:
        return Novelty(score, [])
    groups = []
    expected = float(added.sum() / (added.sum() + known.sum()))
    for group in _linked(unit, far, _width(unit, cluster, known)):
        fresh = group[added[group]]
        if len(fresh) >= LEAST and _more(len(fresh), len(group), expected):
            groups.append(fresh)
    groups = _grown(unit, groups, np.flatnonzero(added), unit[reference])
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


def _width(unit: np.ndarray, cluster: np.ndarray, known: np.ndarray) -> float:
    """Mean cosine distance between two images of a cluster, of the middle image's cluster."""
    widths = np.full(len(unit), np.nan)
    for k in np.unique(cluster[known]):
        rows = known & (cluster == k)
        mean = unit[rows].mean(axis=0)
        widths[rows] = 1 - mean @ mean
    return float(np.nanmedian(widths))


def _linked(unit: np.ndarray, far: np.ndarray, width: float) -> list[np.ndarray]:
    """Rows that average linkage joins before the groups become wider than a cluster is.

    Args:
        far: the rows to group. width: of a cluster.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    apart = np.clip(1 - unit[far] @ unit[far].T, 0, None)
    tree = linkage(squareform(apart, checks=False), "average")
    labels = fcluster(tree, t=width, criterion="distance")
    return [far[labels == k] for k in np.unique(labels)]


def _grown(
    unit: np.ndarray,
    groups: Sequence[np.ndarray],
    candidates: np.ndarray,
    reference: np.ndarray,
) -> list[np.ndarray]:
    """The groups with the candidates that are nearer to one of them than to the reference.

    Args:
        candidates: rows. reference: (m, d) unit rows.
    """
    grown = [np.asarray(group) for group in groups]
    for _ in range(ROUNDS if grown else 0):
        free = np.setdiff1d(candidates, np.concatenate(grown))
        if not len(free):
            break
        near = np.stack([_beside(unit[free], unit[of]) for of in grown], axis=1)
        joins = near.max(axis=1) > _beside(unit[free], reference)
        if not joins.any():
            break
        best = near.argmax(axis=1)
        grown = [np.union1d(of, free[joins & (best == i)]) for i, of in enumerate(grown)]
    return grown


def _beside(unit: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) mean cosine similarity to the nearest of (m, d) others."""
    k = min(NEIGHBORS, len(others))
    near = np.empty(len(unit), np.float32)
    for start in range(0, len(unit), _BLOCK):
        part = slice(start, start + _BLOCK)
        near[part] = np.partition(unit[part] @ others.T, -k, axis=1)[:, -k:].mean(axis=1)
    return near
