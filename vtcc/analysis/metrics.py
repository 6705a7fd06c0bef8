"""Scores of a clustering: against labels, and without any."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Labels = Sequence[str] | Sequence[int] | np.ndarray


def clustering_accuracy(y_true: Labels, y_pred: Labels) -> float:
    """Share of images in the right class under the best one-to-one match of clusters to classes.

    The match is found on the rectangular table of counts, so empty clusters and any number
    of clusters are fine; a cluster left without a class counts as wrong.

    Args:
        y_true: N class labels, texts or numbers.
        y_pred: N clusters, likewise.

    Returns:
        The accuracy, 0-1.

    Raises:
        ValueError: when there is no label or the lengths differ.
    """
    table, _, _ = contingency(y_true, y_pred)
    rows, columns = _match(table)
    return float(table[rows, columns].sum() / table.sum())


def mapping(y_true: Labels, y_pred: Labels) -> dict[Any, Any]:
    """The match behind `clustering_accuracy`: cluster -> class.

    Clusters that no class is left for are absent.

    Raises:
        ValueError: as `clustering_accuracy`.
    """
    table, classes, clusters = contingency(y_true, y_pred)
    rows, columns = _match(table)
    return {clusters[j]: classes[i] for i, j in zip(rows, columns, strict=True)}


def clustering_scores(y_true: Labels, y_pred: Labels) -> dict[str, float]:
    """ACC, NMI (arithmetic mean), ARI and FMI (Fowlkes-Mallows) as `acc, nmi, ari, fmi`.

    Labels of a single class give none: any score of them says nothing, and most would be
    perfect for a model that puts all into one cluster.

    Raises:
        ValueError: as `clustering_accuracy`.
    """
    from sklearn import metrics

    table, _, _ = contingency(y_true, y_pred)
    if len(table) < 2:
        return {}
    return {
        "acc": clustering_accuracy(y_true, y_pred),
        "nmi": float(metrics.normalized_mutual_info_score(y_true, y_pred)),
        "ari": float(metrics.adjusted_rand_score(y_true, y_pred)),
        "fmi": float(metrics.fowlkes_mallows_score(y_true, y_pred)),
    }


def label_free(shares: np.ndarray, own: np.ndarray, confidence: np.ndarray) -> dict[str, float]:
    """Figures that need no labels.

    Args:
        shares: (N, K) floats, the probabilities of K clusters, rows that sum to one at most.
        own: (N,) integers, the column of the cluster that an image is in: not always the most
            probable one, where clusters were merged.
        confidence: (N,) floats, the probability of that cluster.

    Returns:
        `entropy` of the mean assignment over log K (1 when balanced, 0 where there is one cluster),
        `smallest_cluster` and `largest_cluster` (share of the images that are in it, 0-1),
        `clusters_used` (clusters that an image is in) and `confidence` (the mean).

    Raises:
        ValueError: when there is no image.
    """
    N, K = shares.shape
    if not N:
        raise ValueError("label_free: found no image")
    mean = shares.mean(0, dtype=np.float64)
    mean = mean[mean > 0] / mean.sum()
    sizes = np.bincount(own, minlength=K)
    return {
        # + 0.0 turns the -0.0 of a single cluster into 0.0
        "entropy": float(-(mean * np.log(mean)).sum() / np.log(max(K, 2)) + 0.0),
        "smallest_cluster": float(sizes.min() / N),
        "largest_cluster": float(sizes.max() / N),
        "clusters_used": int((sizes > 0).sum()),
        "confidence": float(confidence.mean(dtype=np.float64)),
    }


def contingency(y_true: Labels, y_pred: Labels) -> tuple[np.ndarray, list[Any], list[Any]]:
    """Counts of every (class, cluster) pair.

    Returns:
        (classes, clusters) int64 counts, the classes and the clusters, each sorted.

    Raises:
        ValueError: as `clustering_accuracy`.
    """
    if len(y_true) != len(y_pred):
        raise ValueError(f"found {len(y_true)} labels for {len(y_pred)} assignments")
    if not len(y_true):
        raise ValueError("no labels to score against")
    classes, rows = np.unique(y_true, return_inverse=True)
    clusters, columns = np.unique(y_pred, return_inverse=True)
    table = np.zeros((len(classes), len(clusters)), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    return table, classes.tolist(), clusters.tolist()


def _match(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return rows, columns
