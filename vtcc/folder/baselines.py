"""What simpler methods make of the same images, beside which the clusters are shown."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vtcc.analysis import baselines

HOG_SIDE = 64  # pixels at most that gradients are taken at
MOST = 10_000  # images UMAP sees


@dataclass(frozen=True)
class Found:
    """Clusters of a simpler method.

    Attributes:
        title: for people. clusters: (m,) integers. rows: (m,) of the images it saw.
        features: (m, d) float32 it clustered. seconds: it took.
    """

    title: str
    clusters: np.ndarray
    rows: np.ndarray
    features: np.ndarray
    seconds: float


def gradients(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients (Dalal and Triggs 2005), of grey images.

    Args:
        images: (N, S, S, C) uint8, may be a memory map.

    Returns:
        (N, D) float32.
    """
    from skimage.feature import hog

    S = images.shape[1]
    side = min(S, HOG_SIDE)
    cell = max(side // 8, 4) if side >= 32 else max(side // 4, 2)
    found = []
    for start in range(0, len(images), 1024):
        block = np.asarray(images[start : start + 1024], np.float32).mean(axis=3) / 255
        if side < S:
            edges = np.linspace(0, S, side + 1).astype(int)
            for axis in (1, 2):
                lengths = np.diff(edges).reshape([-1 if a == axis else 1 for a in range(3)])
                block = np.add.reduceat(block, edges[:-1], axis=axis) / lengths
        found += [hog(x, pixels_per_cell=(cell, cell), cells_per_block=(2, 2)) for x in block]
    return np.stack(found).astype(np.float32)


def run(
    images: np.ndarray,
    hog: np.ndarray,
    num_clusters: int,
    *,
    seed: int,
    said: Callable[[str], None],
) -> dict[str, Found]:
    """k-means on pixels, on their and the gradients' components, and on a UMAP of the gradients.

    Args:
        images: (N, S, S, C) uint8. hog: (N, D), their `gradients`.
        num_clusters: K. seed: of every start and subsample.
        said: told the title of each method before it runs.
    """
    N = len(images)
    every = np.arange(N)
    some = baselines.subsample(N, MOST, seed)
    inputs = baselines.Inputs(
        images, every, np.zeros((0, 0), np.float32), lambda: images, num_clusters, seed, MOST
    )

    def components(x: np.ndarray) -> np.ndarray:
        return baselines.pca(x, baselines.COMPONENTS, seed)

    methods: dict[str, tuple[str, Callable[[], np.ndarray], np.ndarray]] = {
        "kmeans_pixels": ("k-means on pixels", lambda: inputs.pixels, every),
        "pca_kmeans": ("PCA + k-means", lambda: components(inputs.pixels), every),
        "hog_pca_kmeans": ("HOG + PCA + k-means", lambda: components(hog), every),
        "hog_umap_kmeans": (
            "HOG + UMAP + k-means",
            lambda: baselines.umap(hog[some], seed),
            some,
        ),
    }
    found = {}
    for name, (title, features, rows) in methods.items():
        if name == "hog_umap_kmeans" and len(some) < baselines.UMAP_LEAST_IMAGES:
            continue
        said(title)
        start = time.monotonic()
        x = features()
        clusters = baselines.kmeans(x, inputs)
        found[name] = Found(title, clusters, rows, x, time.monotonic() - start)
    return found


def plane(
    features: np.ndarray,
    seed: int,
    dimensions: int = 2,
    *,
    neighbors: int = 15,
    min_dist: float = 0.1,
) -> np.ndarray:
    """A UMAP by cosine distance, (N, dimensions) float32; principal components of a few images."""
    N = len(features)
    if N < baselines.UMAP_LEAST_IMAGES:
        found = baselines.pca(features, dimensions, seed)
        return np.pad(found, ((0, 0), (0, dimensions - found.shape[1])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import UMAP

        model = UMAP(
            n_neighbors=min(neighbors, N - 1),
            n_components=min(dimensions, N - 2),
            metric="cosine",
            init="spectral" if N > 50 else "random",
            random_state=seed,
            n_jobs=1,
            min_dist=min_dist,
        )
        found = model.fit_transform(features)
    return np.nan_to_num(found, nan=0.0).astype(np.float32)
