"""How far images are from the clusters they were trained with: novelty, doubt, outliers.

Novelty and doubt are by Mahalanobis' distances to the mean embeddings of the clusters, with one
covariance for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

NOVEL = 0.99  # share of the training images below the threshold of novelty
FOLDS = 5  # in which images are left out to find that distance
RIDGE = 0.01  # of the covariance's mean variance, added so that it can be inverted
ROUNDING = 1e-6  # of embeddings, by length, of cosine distances and of doubt
DOUBT = 0.9  # how near to another cluster an image may be and not belong nowhere
AT_MOST = 0.2  # share of the images that may belong nowhere, unless another is asked for
FEW = 8  # images per dimension: with fewer, those that the covariance is of have much less doubt


@dataclass(frozen=True)
class Means:
    """What distances are measured by.

    Attributes:
        means: (m, d) float32, one per trained cluster, and one per cluster confirmed since.
        owners: final ids of the clusters that each is a mean of: several after a split, -1 for an
            excluded one; none at all in models of before they were kept.
        precision: (d, d) float32, the inverse of their shared covariance.
        threshold: distance to the nearest mean above which an image is novel.
        limit: doubt above which an image belongs nowhere.
        unclustered: whether such images are in no cluster.
    """

    means: np.ndarray
    owners: tuple[frozenset[int], ...]
    precision: np.ndarray
    threshold: float
    limit: float = DOUBT
    unclustered: bool = False

    @classmethod
    def fit(cls, h: np.ndarray, cluster: np.ndarray) -> "Means":
        """Of training images.

        Args:
            h: (N, d) embeddings. cluster: (N,) of them.
        """
        used = np.unique(cluster)
        means, precision = _estimated(h, cluster)
        fitted = cls(
            means=means.astype(np.float32),
            owners=tuple(frozenset({int(k)}) for k in used),
            precision=precision.astype(np.float32),
            threshold=np.inf,
        )
        nearest = fitted.distances(h).min(axis=1)
        if len(used) < len(h):
            # Images that a mean and a covariance were made of lie nearer to them than others do.
            nearest = np.maximum(nearest, _left_out(h, cluster).min(axis=1))
        # One is what rounding may make of images that are all the same.
        return replace(fitted, threshold=max(float(np.quantile(nearest, NOVEL)), 1.0))

    def distances(self, h: np.ndarray) -> np.ndarray:
        """(N, m) distances of (N, d) embeddings to the means."""
        return _distances(h, self.means, self.precision)

    def doubt(self, distances: np.ndarray, cluster: np.ndarray) -> np.ndarray:
        """(N,) distance to an image's own cluster over that to the nearest other one.

        The excluded clusters count as one. 0 where there is no other, or the image is in none.

        Args:
            distances: (N, m) of the method. cluster: (N,) final ids, -1 for an excluded cluster,
                -2 for none.
        """
        doubt = np.zeros(len(cluster))
        for k in np.unique(cluster):
            rows, own = cluster == k, np.array([k in ids for ids in self.owners], bool)
            if own.all() or (k < 0 and not own.any()):
                continue
            mine = distances[rows][:, own].min(axis=1, initial=np.inf)
            doubt[rows] = mine / np.maximum(distances[rows][:, ~own].min(axis=1), 1e-12)
        return doubt

    def limited(
        self, h: np.ndarray, cluster: np.ndarray, at_most: float, *, unclustered: bool
    ) -> "Means":
        """With a limit of doubt that at most so many of the training images are above.

        Where these are few, also when they are left out of the estimates, as tomorrow's are.

        Args:
            h: (N, d) embeddings. cluster: (N,) final ids. at_most: share of the images.
            unclustered: whether those above it are in no cluster.
        """
        doubt = self.doubt(self.distances(h), cluster)
        if len(self.means) < len(h) < FEW * h.shape[1]:
            left_out = self.doubt(_left_out(h, cluster), cluster)
            # Without its only image a cluster has no mean: nothing is known of that image.
            doubt = np.maximum(doubt, np.where(np.isfinite(left_out), left_out, 0))
        # It is one of these images' own doubt, which rounding must not take above it.
        limit = float(np.quantile(doubt, 1 - at_most, method="higher")) * (1 + ROUNDING)
        return replace(self, limit=max(DOUBT, limit), unclustered=unclustered)


def outlying(distance: np.ndarray, cluster: np.ndarray, fences: Mapping[int, float]) -> np.ndarray:
    """(N,) bool, which images are beyond the fence of their cluster, by more than rounding.

    The fence of one image, of two or of copies is their own distance.

    Args:
        distance: (N,) cosine distances to the centres, NaN without one. cluster: (N,) final ids.
        fences: id -> cosine distance.
    """
    fence = np.array([fences.get(int(k), np.inf) for k in cluster])
    beyond: np.ndarray = distance > fence + ROUNDING
    return beyond


def _estimated(h: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, d) means of the clusters there are, ascending, and the inverse of their covariance."""
    used = np.unique(cluster)
    means = np.stack([h[cluster == k].mean(axis=0) for k in used]).astype(np.float64)
    rest = h - means[np.searchsorted(used, cluster)]
    covariance = rest.T @ rest / max(len(rest) - len(used), 1)
    length = float(np.einsum("nd,nd->n", h, h, dtype=np.float64).mean())  # squared
    ridge = max(RIDGE * float(np.trace(covariance)) / len(covariance), ROUNDING**2 * length, 1e-12)
    return means, np.linalg.inv(covariance + ridge * np.eye(len(covariance)))


def _distances(h: np.ndarray, means: np.ndarray, precision: np.ndarray) -> np.ndarray:
    away = np.empty((len(h), len(means)))
    for i, mean in enumerate(means):
        gap = h.astype(np.float64) - mean
        away[:, i] = np.einsum("nd,nd->n", gap @ precision, gap)
    distances: np.ndarray = np.sqrt(away.clip(0))
    return distances


def _left_out(h: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """(N, m) distances of images to the means, where they have no part in the estimates.

    By folds, of which each holds its share of every cluster; infinite where it holds all of one.
    """
    used, order = np.unique(cluster), np.argsort(cluster, kind="stable")
    fold = np.empty(len(h), np.int64)
    fold[order] = np.arange(len(h)) % min(FOLDS, len(h))
    away = np.full((len(h), len(used)), np.inf)
    for i in range(int(fold.max()) + 1):
        here = fold == i
        means, precision = _estimated(h[~here], cluster[~here])
        columns = np.isin(used, cluster[~here])
        away[np.ix_(here, columns)] = _distances(h[here], means, precision)
    return away
