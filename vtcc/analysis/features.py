"""What every comparison and every grouping works from: features of images, maps, k-means.

One of each: scikit-learn's k-means and principal components, umap-learn's UMAP, scikit-image's
histograms of oriented gradients. All are imported where they are called.
"""

import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vtcc.engine import cpus

if TYPE_CHECKING:
    from sklearn.cluster import KMeans

PIXEL_SIDE = 32
PIXEL_BYTES = 1 << 30
COMPONENTS = 50  # of features before they are clustered
UMAP_LEAST_IMAGES = 10
_UMAP_APPROXIMATE = 4096  # images from which it searches neighbours instead of comparing all
GRADIENT_SIDE = 64  # pixels at most that gradients are taken at
BLOCK_BYTES = 64 << 20  # of what is computed of many rows, a block at a time


def kmeans(points: np.ndarray, num_clusters: int, seed: int, starts: int) -> "KMeans":
    """Lloyd's k-means, the best of several seeded starts.

    Args:
        points: (n, d), computed with as float32.
        num_clusters: K; fewer where there are fewer points.
        seed: of the starts. starts: how many.

    Returns:
        The fitted model: `labels_` (n,) int32, and `predict` for other points.
    """
    from sklearn.cluster import KMeans

    model = KMeans(min(num_clusters, len(points)), n_init=starts, random_state=seed)
    with warnings.catch_warnings():
        # Fewer distinct points than clusters: some stay empty, which scores count rightly.
        warnings.simplefilter("ignore")
        return model.fit(np.ascontiguousarray(points, dtype=np.float32))


def hdbscan(points: np.ndarray, least: int) -> np.ndarray:
    """HDBSCAN (Campello et al. 2013) with scikit-learn's defaults but for the size of a cluster.

    Args:
        points: (n, d). least: points of a cluster, 5 where that is fewer.

    Returns:
        (n,) int64; noise is a cluster of its own, number 0.
    """
    from sklearn.cluster import HDBSCAN

    size = min(max(5, least), len(points))
    labels: np.ndarray = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(points)
    return labels.astype(np.int64) + 1


def pca(features: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    """The first principal components, (n, at most `dimensions`) float32."""
    from sklearn.decomposition import PCA

    n, d = features.shape
    keep = min(dimensions, n, d)
    if n == 1:
        return np.zeros((1, keep), dtype=np.float32)  # no variance to speak of
    # Of many rows only the small covariance matrix is decomposed, without a copy of the rows.
    solver = "covariance_eigh" if n >= d else "randomized" if keep < 0.8 * n else "full"
    components: np.ndarray = PCA(keep, svd_solver=solver, random_state=seed).fit_transform(features)
    return components


def plane(features: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    """`pca` with zeros for components that there are not, (n, dimensions) float32."""
    components = pca(features, dimensions, seed)
    return np.pad(components, ((0, 0), (0, dimensions - components.shape[1])))


def umap(
    features: np.ndarray,
    seed: int,
    dimensions: int = 2,
    *,
    neighbors: int = 15,
    min_dist: float = 0.1,
    metric: str = "euclidean",
) -> np.ndarray:
    """A UMAP, (n, dimensions) float32; the same for the same seed on the same machine.

    Of fewer than 10 rows it is their principal components.

    Args:
        features: (n, d) float32.
        seed: makes UMAP single-threaded and reproducible.
        dimensions: of the map, at most n - 2.
        neighbors, min_dist, metric: as umap-learn's; the defaults are its own.
    """
    n = len(features)
    if n < UMAP_LEAST_IMAGES:
        return plane(features, dimensions, seed)
    if metric == "cosine" and n < _UMAP_APPROXIMATE:
        # The same distances that UMAP would compute one by one in Python, a fifth of the time.
        from sklearn.metrics.pairwise import cosine_distances

        features, metric = cosine_distances(features), "precomputed"
    # numba's first loop of several threads sets OpenMP's number, which torch shares, to its own.
    with warnings.catch_warnings(), cpus.kept_threads():
        # umap warns of each default it changes for small or disconnected inputs.
        warnings.simplefilter("ignore")
        from umap import UMAP

        _keep_compiled()
        model = UMAP(
            n_neighbors=min(neighbors, n - 1),
            n_components=min(dimensions, n - 2),
            metric=metric,
            init="spectral" if n > 50 else "random",
            random_state=seed,
            n_jobs=1,
            min_dist=min_dist,
        )
        points: np.ndarray = model.fit_transform(features)
    # Points without any neighbour are left undefined; they go to the middle.
    return np.asarray(np.nan_to_num(points, nan=0.0), dtype=np.float32)


@functools.cache
def _keep_compiled() -> None:
    """Has numba keep what it compiles of umap-learn, which took 20 s of the first map of a process.

    umap-learn asks for it for one function alone. Where they are kept is numba's choice: beside
    the module, or in NUMBA_CACHE_DIR.
    """
    from numba.core.registry import CPUDispatcher
    from umap import layouts, umap_, utils

    for module in (layouts, umap_, utils):
        for function in vars(module).values():
            # What has a signature was compiled by the import.
            if isinstance(function, CPUDispatcher) and not function.signatures:
                function.enable_caching()


def hog(grey: np.ndarray, cell: int) -> np.ndarray:
    """Histograms of oriented gradients (Dalal and Triggs 2005), blocks of 2 x 2 cells.

    Args:
        grey: (n, S, S) floats in 0-1. cell: side of a cell in pixels.

    Returns:
        (n, D) of the floats' type.
    """
    from skimage import feature

    return np.stack(
        [feature.hog(x, pixels_per_cell=(cell, cell), cells_per_block=(2, 2)) for x in grey]
    )


def gradients(images: np.ndarray) -> np.ndarray:
    """`hog` of images as grey ones of at most `GRADIENT_SIDE` pixels, with cells to match.

    Args:
        images: (n, S, S, C) uint8, may be a memory map.

    Returns:
        (n, D) float32.
    """
    S = images.shape[1]
    side = min(S, GRADIENT_SIDE)
    cell = max(side // 8, 4) if side >= 32 else max(side // 4, 2)
    histograms = []
    for start in range(0, len(images), 1024):
        block = np.asarray(images[start : start + 1024], np.float32).mean(axis=3) / 255
        if side < S:
            block = _shrink(_shrink(block, side, 1), side, 2)
        histograms.append(hog(block, cell).astype(np.float32))
    return np.concatenate(histograms)


def silhouette(points: np.ndarray, clusters: np.ndarray) -> float:
    """Mean silhouette (Rousseeuw 1987), -1 to 1; 0 for one cluster, or as many as points.

    Args:
        points: (n, d) floats. clusters: (n,) integers.
    """
    from sklearn.metrics import silhouette_score

    used = len(np.unique(clusters))
    return float(silhouette_score(points, clusters)) if 1 < used < len(clusters) else 0.0


def subsample(n: int, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of n rows, drawn with a seed, ascending int64."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:limit])


def unit_rows(features: np.ndarray, axis: int = 1) -> np.ndarray:
    """(n, d) with each row divided by its length; rows of zeros stay."""
    lengths: np.ndarray = np.linalg.norm(features, axis=axis, keepdims=True)
    unit: np.ndarray = features / np.maximum(lengths, 1e-12)
    return unit


def row_blocks(n: int, row_bytes: int) -> Iterator[slice]:
    """Slices of n rows, each of at most `BLOCK_BYTES` and at least one row.

    Args:
        row_bytes: what computing takes for a row, beside what it gives.
    """
    rows = max(BLOCK_BYTES // max(row_bytes, 1), 1)
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def pixel_features(
    images: np.ndarray, rows: np.ndarray, side: int = PIXEL_SIDE, budget: int = PIXEL_BYTES
) -> np.ndarray:
    """Flat pixels in 0-1, averaged over areas where images are large.

    Args:
        images: (N, S, S, C) uint8, may be a memory map.
        rows: (n,) int64, the images wanted.
        side: highest side in pixels of what comes back; smaller where needed for the budget.
        budget: bytes the result may take.

    Returns:
        (n, side * side * C) float32.
    """
    n, (_, S, _, C) = len(rows), images.shape
    side = min(side, S)
    while side > 4 and n * side * side * C * 4 > budget:
        side -= 1
    features = np.empty((n, side * side * C), dtype=np.float32)
    for start in range(0, n, 1024):
        block = images[rows[start : start + 1024]].astype(np.float32) / 255
        if side < S:
            block = _shrink(_shrink(block, side, 1), side, 2)
        features[start : start + len(block)] = block.reshape(len(block), -1)
    return features


def _shrink(block: np.ndarray, side: int, axis: int) -> np.ndarray:
    """Averages over `side` stretches of nearly equal length along an axis."""
    edges: Sequence[int] | np.ndarray = np.linspace(0, block.shape[axis], side + 1).astype(int)
    sums = np.add.reduceat(block, edges[:-1], axis=axis)
    lengths = np.diff(edges).astype(np.float32)
    return sums / lengths.reshape([-1 if i == axis else 1 for i in range(block.ndim)])
