"""What simpler methods reach on the same images.

Each baseline is a function of `Inputs`, registered under its name in `evaluate.baselines`.
Pixels are flattened to 0-1; images above 32 pixels a side are averaged down first, which is
where k-means on pixels does no worse and memory stays bounded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vtcc.analysis import features

MANY_IMAGES = 10_000  # k-means starts 10 times up to here, 3 times above


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
        return features.pixel_features(self.images, self.rows)

    @cached_property
    def subsample(self) -> np.ndarray:
        """Which of `rows` the quadratic baselines see: ascending places in it, int64."""
        return features.subsample(len(self.rows), self.quadratic_limit, self.seed)


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
    if method is umap_kmeans and len(places) < features.UMAP_LEAST_IMAGES:
        return None
    start = time.monotonic()
    clusters = method(inputs)
    return Result(name, places, clusters, time.monotonic() - start)


def kmeans_pixels(inputs: Inputs) -> np.ndarray:
    """k-means on pixels."""
    return kmeans(inputs.pixels, inputs.num_clusters, inputs.seed)


def pca_kmeans(inputs: Inputs) -> np.ndarray:
    """k-means on the first 50 principal components of the pixels (or as many as there are)."""
    return kmeans(
        features.pca(inputs.pixels, features.COMPONENTS, inputs.seed),
        inputs.num_clusters,
        inputs.seed,
    )


def ward(inputs: Inputs) -> np.ndarray:
    """Ward's hierarchical clustering of the pixels."""
    from sklearn.cluster import AgglomerativeClustering

    x = inputs.pixels[inputs.subsample]
    if len(x) < 2:
        return np.zeros(len(x), dtype=np.int64)
    return AgglomerativeClustering(min(inputs.num_clusters, len(x))).fit_predict(x)


def umap_kmeans(inputs: Inputs) -> np.ndarray:
    """k-means on a 2-D UMAP of the pixels, with UMAP's own defaults."""
    return kmeans(
        features.umap(inputs.pixels[inputs.subsample], inputs.seed),
        inputs.num_clusters,
        inputs.seed,
    )


def kmeans_untrained(inputs: Inputs) -> np.ndarray:
    """k-means on the features of the same encoder, never trained."""
    return kmeans(inputs.untrained(), inputs.num_clusters, inputs.seed)


def kmeans_embedding(inputs: Inputs) -> np.ndarray:
    """k-means on the trained encoder's features."""
    return kmeans(inputs.embedding, inputs.num_clusters, inputs.seed)


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


def kmeans(points: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """(n,) clusters of (n, d) points by k-means, with more starts where points are few."""
    starts = 10 if len(points) <= MANY_IMAGES else 3
    clusters: np.ndarray = features.kmeans(points, num_clusters, seed, starts).labels_
    return clusters
