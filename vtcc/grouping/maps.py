"""The map of the images on the page."""

import numpy as np

from vtcc.analysis.features import subsample, umap

MOST_PLACED = 20_000  # images that UMAP places


def page_map(unit: np.ndarray, seed: int) -> np.ndarray:
    """(N, 2) float32 for the page; of very many images most are placed beside their nearest.

    Args:
        unit: (N, d) float32 unit rows.
    """
    rows = subsample(len(unit), MOST_PLACED, seed)
    placed = umap(unit[rows], seed, metric="cosine")
    if len(rows) == len(unit):
        return placed
    every = np.empty((len(unit), 2), np.float32)
    for start in range(0, len(unit), 1024):
        part = unit[start : start + 1024]
        every[start : start + 1024] = placed[(part @ unit[rows].T).argmax(axis=1)]
    every[rows] = placed
    return every
