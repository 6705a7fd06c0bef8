"""Groups of added images that are unlike all that the clusters were made of; no label is read.

Two measures. Far: the distance of one image to what the clusters were made of, beyond what is usual
among these; it sees what lies outside of everything, and little of a new kind that lies between the
old ones. Crowded: the nearest neighbours of an added image are added ones far more often than by
chance (the test of two samples by nearest neighbours, Schilling 1986, Henze 1988, for one image);
it sees a new kind wherever it lies, and takes several of its images. Groups come from the second;
docs/design.md has figures.

Memory beside (N, d) float32: images are compared with at most twice `MOST_KNOWN` others, some rows
at a time (`analysis.features.row_blocks`), and at most `MOST_LINKED` with each other (250 MB).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vtcc.analysis.features import row_blocks, subsample, unit_rows

NEIGHBORS = 5  # the distance to the fifth nearest decides what is far
WITHIN = 0.95  # of the images that the clusters were made of are within the limit
CROWDS = (5, 7, 10, 14, 20, 28, 40)  # neighbours among which added images are counted
CHANCE = 1e-3  # what happens by chance as seldom as that has another reason
WIDER = 1.3  # times as wide as a cluster may a group be
APART = 0.6  # share of its cluster's images that are nearer to others than an image of a group is
LEAST, PART, FAR = 5, 0.2, 0.2  # images of a group; of a middle cluster's size, or of them far away
ROUNDS = 5  # in which groups take in what is beside them
MOST_KNOWN, MOST_LINKED = 20_000, 4000  # images that are compared with, and that are grouped
_PAIR_BYTES = 16  # a similarity, and the order of it


@dataclass(frozen=True)
class Novelty:
    """What is novel.

    Attributes:
        score: (N,) float32, distance to what the clusters were made of over the limit; above 1 is
            far. groups: rows of added images, the largest group first.
    """

    score: np.ndarray
    groups: list[np.ndarray]


def find(
    h: np.ndarray,
    known: np.ndarray,
    added: np.ndarray,
    cluster: np.ndarray,
    *,
    copies: np.ndarray,
    seed: int,
) -> Novelty:
    """Measures images and groups the added ones that are a kind of their own.

    Args:
        h: (N, d) embedding. known: (N,) bool, what the clusters were made of.
        added: (N,) bool, the others that may be grouped. cluster: (N,) ids, -1 for none.
        copies: (N,) bool, looks like an earlier image: many copies of one picture are no kind.
        seed: of subsamples.
    """
    unit = unit_rows(h.astype(np.float32, copy=False))
    rows = np.flatnonzero(known)
    if len(rows) < 2 or not added.any():
        return Novelty(np.zeros(len(unit), np.float32), [])
    reference = rows[subsample(len(rows), MOST_KNOWN, seed)]
    k = min(NEIGHBORS, len(reference) - 1)
    away = 1 - _nearest(unit, unit[reference], k, _place(len(unit), reference))[:, -1]
    limit = max(float(np.quantile(away[reference], WITHIN)), 1e-6)
    score = (away / limit).astype(np.float32)
    crowded = _crowded(unit, reference, np.flatnonzero(added & ~copies), cluster, seed)
    crowded = crowded[subsample(len(crowded), MOST_LINKED, seed)]
    width, middle = _clusters(unit, cluster, known)
    groups = [g for g in _linked(unit, crowded, WIDER * width) if len(g) >= LEAST]
    groups = _grown(unit, groups, np.flatnonzero(added), unit[reference])
    groups = [g for g in groups if len(g) >= PART * middle or (score[g] > 1).mean() >= FAR]
    groups = [g for g in groups if _rank(away, cluster, known, g) >= APART]
    return Novelty(score, sorted(groups, key=lambda g: (-len(g), g[0])))


def _crowded(
    unit: np.ndarray, reference: np.ndarray, added: np.ndarray, cluster: np.ndarray, seed: int
) -> np.ndarray:
    """Those of some rows that have far more of them among their nearest images than by chance.

    Where there are more rows than reference, parts of them are taken in turn: among so many others
    the reference could not be seen.

    Args:
        reference: rows of the images to compare with. added: the rows.
        cluster: (N,) ids; chance is the share of the rows in an image's own cluster, so that more
            images of a kind that is there are no crowd. seed: of the parts.
    """
    from scipy.special import bdtrc  # `scipy.stats.binom.sf`, whose import takes most of a second

    parts = -(-len(added) // max(len(reference), 1))
    shuffled = np.random.default_rng(seed).permutation(added)
    found = [np.empty(0, np.int64)]
    for part in range(parts):
        rows = np.sort(shuffled[part::parts])
        pool = np.concatenate([reference, rows])
        own = np.arange(len(reference), len(pool))
        share = _shares(cluster[pool], own)
        near = _neighbors(unit[rows], unit[pool], min(max(CROWDS), len(pool) - 1), own)
        fresh = near >= len(reference)
        crowd = np.zeros(len(rows), bool)
        for k in CROWDS:
            count = fresh[:, :k].sum(axis=1)
            crowd |= (k <= near.shape[1]) & (bdtrc(count - 1, k, share) < CHANCE)
        found.append(rows[crowd])
    return np.sort(np.concatenate(found))


def _shares(cluster: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(n,) the share of some images in the cluster each is in, without itself, or in all.

    Args:
        cluster: (m,) ids of all images. own: (n,) rows of the some.
    """
    ids, of = np.unique(cluster, return_inverse=True)
    every = np.bincount(of, minlength=len(ids))
    some = np.bincount(of[own], minlength=len(ids))
    local = (some[of[own]] - 1) / np.maximum(every[of[own]] - 1, 1)
    shares: np.ndarray = np.maximum(local, (len(own) - 1) / max(len(cluster) - 1, 1))
    return shares


def _rank(away: np.ndarray, cluster: np.ndarray, known: np.ndarray, group: np.ndarray) -> float:
    """Mean share of their cluster's known images that are nearer to the clusters than a group's.

    0.5 where the group is more of what a cluster has already.

    Args:
        away: (N,) distance to what the clusters were made of. cluster: (N,). known: (N,) bool.
        group: rows.
    """
    ranks = []
    for k in np.unique(cluster[group]):
        usual = np.sort(away[known & (cluster == k)])
        of = away[group[cluster[group] == k]]
        ranks.append(np.searchsorted(usual, of) / len(usual) if len(usual) else np.ones(len(of)))
    return float(np.concatenate(ranks).mean())


def _place(n: int, rows: np.ndarray) -> np.ndarray:
    """(n,) place of a row among `rows`; -1 for others."""
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    return place


def _neighbors(unit: np.ndarray, others: np.ndarray, k: int, own: np.ndarray) -> np.ndarray:
    """(n, k) the nearest of (m, d) others by cosine, the nearest first.

    Args:
        own: (n,) the row of `others` that is the image itself, -1 where none is.
    """
    found = np.empty((len(unit), k), np.int64)
    for part in row_blocks(len(unit), len(others) * _PAIR_BYTES):
        near = _similar(unit[part], others, own[part])
        best = np.argpartition(near, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(near, best, axis=1), axis=1, kind="stable")
        found[part] = np.take_along_axis(best, order, axis=1)
    return found


def _nearest(unit: np.ndarray, others: np.ndarray, k: int, own: np.ndarray) -> np.ndarray:
    """(n, k) float32 cosine similarity to the nearest of (m, d) others, descending.

    Args:
        own: as of `_neighbors`.
    """
    found = np.empty((len(unit), k), np.float32)
    for part in row_blocks(len(unit), len(others) * _PAIR_BYTES):
        near = np.partition(_similar(unit[part], others, own[part]), -k, axis=1)[:, -k:]
        found[part] = -np.sort(-near, axis=1)
    return found


def _similar(unit: np.ndarray, others: np.ndarray, own: np.ndarray) -> np.ndarray:
    near: np.ndarray = unit @ others.T
    there = np.flatnonzero(own >= 0)
    near[there, own[there]] = -np.inf
    return near


def _clusters(unit: np.ndarray, cluster: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Mean cosine distance of two images in the middle image's cluster; the middle size."""
    widths = np.full(len(unit), np.nan)
    sizes = []
    for k in np.unique(cluster[known]):
        rows = known & (cluster == k)
        mean = unit[rows].mean(axis=0)
        widths[rows] = 1 - mean @ mean
        sizes.append(int(rows.sum()))
    return float(np.nanmedian(widths)), float(np.median(sizes))


def _linked(unit: np.ndarray, rows: np.ndarray, width: float) -> list[np.ndarray]:
    """Groups of rows that average linkage joins before they become wider than that."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(rows) < LEAST:
        return []
    apart = np.clip(1 - unit[rows] @ unit[rows].T, 0, None)
    tree = linkage(squareform(apart, checks=False), "average")
    labels = fcluster(tree, t=width, criterion="distance")
    return [rows[labels == k] for k in np.unique(labels)]


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
        some = unit[free]
        near = np.stack([_beside(some, unit[of]) for of in grown], axis=1)
        joins = near.max(axis=1) > _beside(some, reference)
        if not joins.any():
            break
        best = near.argmax(axis=1)
        grown = [np.union1d(of, free[joins & (best == i)]) for i, of in enumerate(grown)]
    return grown


def _beside(unit: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) mean cosine similarity to the nearest of (m, d) others."""
    k = min(NEIGHBORS, len(others))
    near: np.ndarray = _nearest(unit, others, k, np.full(len(unit), -1)).mean(axis=1)
    return near
