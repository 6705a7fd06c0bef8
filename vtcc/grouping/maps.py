"""Maps of features by cosine distance."""

import numpy as np

from vtcc.analysis import features

MOST_PLACED = 20_000  # images that UMAP places on the page's map


def cosine_map(
    points: np.ndarray,
    seed: int,
    dimensions: int = 2,
    *,
    neighbors: int = 15,
    min_dist: float = 0.1,
) -> np.ndarray:
    """A UMAP by cosine distance, (N, dimensions) float32; principal components of a few images.

    Args:
        points: (N, d) float32. seed, dimensions, neighbors, min_dist: of `features.umap`.
    """
    if len(points) < features.UMAP_LEAST_IMAGES:
        components = features.pca(points, dimensions, seed)
        return np.pad(components, ((0, 0), (0, dimensions - components.shape[1])))
    return features.umap(
        points, seed, dimensions, neighbors=neighbors, min_dist=min_dist, metric="cosine"
    )


def page_map(unit: np.ndarray, seed: int) -> np.ndarray:
    """(N, 2) float32 for the page; of very many images most are placed beside their nearest.

    Args:
        unit: (N, d) float32 unit rows.
    """
    rows = features.subsample(len(unit), MOST_PLACED, seed)
    placed = cosine_map(unit[rows], seed)
    if len(rows) == len(unit):
        return placed
    every = np.empty((len(unit), 2), np.float32)
    for start in range(0, len(unit), 1024):
        part = unit[start : start + 1024]
        every[start : start + 1024] = placed[(part @ unit[rows].T).argmax(axis=1)]
    every[rows] = placed
    return every
