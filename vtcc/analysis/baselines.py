"""What simpler methods reach on the same images.

Each baseline is a function of `Inputs`, registered under its name in `evaluate.baselines`.
Pixels are flattened to 0-1; images above 32 pixels a side are averaged down first, which is
where k-means on pixels does no worse and memory stays bounded.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PIXEL_SIDE = 32
PIXEL_BYTES = 1 << 30
COMPONENTS = 50
MANY_IMAGES = 10_000  # k-means starts 10 times up to here, 3 times above
UMAP_LEAST_IMAGES = 10


@dataclass(frozen=True)
class Inputs:
    """What baselines work from.

    Attributes:
        images: (N, S, S, C) uint8, may be a memory map.
        rows: (n,) int64, the images to cluster.
        embedding: (n, d) float32, the trained encoder's class tokens of these rows.
        untrained: gives the same of an encoder with fresh weights; called when needed.
        num_clusters: K.
        seed: of every random start and subsample.
        quadratic_limit: Ward and UMAP see a seeded subsample above this many images.
    """

    images: np.ndarray
    rows: np.ndarray
    embedding: np.ndarray
    untrained: Callable[[], np.ndarray]
    num_clusters: int
    seed: int
    quadratic_limit: int

    @cached_property
    def pixels(self) -> np.ndarray:
        """(n, D) float32 in 0-1."""
        return pixel_features(self.images, self.rows)

    @cached_property
    def subsample(self) -> np.ndarray:
        """Which of `rows` the quadratic baselines see: ascending places in it, int64."""
        return subsample(len(self.rows), self.quadratic_limit, self.seed)


@dataclass(frozen=True)
class Result:
    """A baseline's clusters.

    Attributes:
        name: of the baseline.
        places: (m,) int64, which of `Inputs.rows` it saw, ascending.
        clusters: (m,) integers.
        seconds: it took, imports included.
    """

    name: str
    places: np.ndarray
    clusters: np.ndarray
    seconds: float


def run(name: str, inputs: Inputs) -> Result | None:
    """Runs one baseline.

    Returns:
        Its clusters, or None where the images are too few for it (UMAP below 10).

    Raises:
        KeyError: for an unknown name.
    """
    method, quadratic = BASELINES[name]
    places = inputs.subsample if quadratic else np.arange(len(inputs.rows))
    if method is umap_kmeans and len(places) < UMAP_LEAST_IMAGES:
        return None
    start = time.monotonic()
    clusters = method(inputs)
    return Result(name, places, clusters, time.monotonic() - start)


def kmeans_pixels(inputs: Inputs) -> np.ndarray:
    """k-means on pixels."""
    return kmeans(inputs.pixels, inputs)


def pca_kmeans(inputs: Inputs) -> np.ndarray:
    """k-means on the first 50 principal components of the pixels (or as many as there are)."""
    return kmeans(pca(inputs.pixels, COMPONENTS, inputs.seed), inputs)


def ward(inputs: Inputs) -> np.ndarray:
    """Ward's hierarchical clustering of the pixels."""
    from sklearn.cluster import AgglomerativeClustering

    x = inputs.pixels[inputs.subsample]
    if len(x) < 2:
        return np.zeros(len(x), dtype=np.int64)
    return AgglomerativeClustering(min(inputs.num_clusters, len(x))).fit_predict(x)


def umap_kmeans(inputs: Inputs) -> np.ndarray:
    """k-means on a 2-D UMAP of the pixels, with UMAP's own defaults."""
    return kmeans(umap(inputs.pixels[inputs.subsample], inputs.seed), inputs)


def kmeans_untrained(inputs: Inputs) -> np.ndarray:
    """k-means on the features of the same encoder, never trained."""
    return kmeans(inputs.untrained(), inputs)


def kmeans_embedding(inputs: Inputs) -> np.ndarray:
    """k-means on the trained encoder's features."""
    return kmeans(inputs.embedding, inputs)


# name -> (method, whether time or memory is quadratic in the images)
BASELINES: dict[str, tuple[Callable[[Inputs], np.ndarray], bool]] = {
    "kmeans_pixels": (kmeans_pixels, False),
    "pca_kmeans": (pca_kmeans, False),
    "ward": (ward, True),
    "umap_kmeans": (umap_kmeans, True),
    "kmeans_untrained": (kmeans_untrained, False),
    "kmeans_embedding": (kmeans_embedding, False),
}

TITLES = {
    "kmeans_pixels": "k-means on pixels",
    "pca_kmeans": "PCA + k-means",
    "ward": "Ward on pixels",
    "umap_kmeans": "UMAP + k-means",
    "kmeans_untrained": "k-means, untrained encoder",
    "kmeans_embedding": "k-means, trained embedding",
}


def kmeans(features: np.ndarray, inputs: Inputs) -> np.ndarray:
    """Lloyd's k-means, best of several seeded starts, on (n, d) float32 features."""
    from sklearn.cluster import KMeans

    model = KMeans(
        min(inputs.num_clusters, len(features)),
        n_init=10 if len(features) <= MANY_IMAGES else 3,
        random_state=inputs.seed,
    )
    with warnings.catch_warnings():
        # Fewer distinct images than clusters: some stay empty, which scores count rightly.
        warnings.simplefilter("ignore")
        return model.fit_predict(np.ascontiguousarray(features, dtype=np.float32))


def pca(features: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    """The first principal components, (n, at most `dimensions`) float32."""
    from sklearn.decomposition import PCA

    n, d = features.shape
    keep = min(dimensions, n, d)
    if n == 1:
        return np.zeros((1, keep), dtype=np.float32)  # no variance to speak of
    # Of many rows only the small covariance matrix is decomposed, without a copy of the rows.
    solver = "covariance_eigh" if n >= d else "randomized" if keep < 0.8 * n else "full"
    return PCA(keep, svd_solver=solver, random_state=seed).fit_transform(features)


def umap(features: np.ndarray, seed: int) -> np.ndarray:
    """A 2-D UMAP, (n, 2) float32; the same for the same seed on the same machine.

    Args:
        features: (n, d) float32 with n at least 10.
        seed: makes UMAP single-threaded and reproducible.
    """
    with warnings.catch_warnings():
        # umap warns of each default it changes for small or disconnected inputs.
        warnings.simplefilter("ignore")
        from umap import UMAP

        n = len(features)
        model = UMAP(
            n_neighbors=min(15, n - 1),
            init="spectral" if n > 50 else "random",
            random_state=seed,
            n_jobs=1,
        )
        found = model.fit_transform(features)
    # Points without any neighbour are left undefined; they go to the middle.
    return np.nan_to_num(found, nan=0.0).astype(np.float32)


def subsample(n: int, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of n rows, drawn with a seed, ascending int64."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:limit])


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
