"""What simpler methods reach on the same images.

Each baseline is a function of `Inputs`, registered under its name in `evaluate.baselines`.
Pixels are flattened to 0-1; images above 32 pixels a side are averaged down first, which is
where k-means on pixels does no worse and memory stays bounded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vtcc.analysis import features

MAP_DIMENSIONS = 10  # of a UMAP that is clustered, not looked at
MANY_IMAGES = 10_000  # k-means starts 10 times up to here, 3 times above


@dataclass(frozen=True)
class Inputs:
    """What baselines work from.

    Attributes:
        images: (N, S, S, C) uint8, may be a memory map.
        rows: (n,) int64, the images to cluster.
        embedding: (n, d) float32, the trained encoder's class tokens of these rows.
        untrained: gives the same of an encoder with fresh weights; called when needed.
        frozen: (n, D) floats, a frozen pretrained encoder's features of these rows; None
            without one.
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
    frozen: np.ndarray | None = None

    @cached_property
    def unit_features(self) -> np.ndarray:
        """(n, D) float32, the frozen encoder's features with unit rows."""
        assert self.frozen is not None
        return features.unit_rows(np.asarray(self.frozen, np.float32))

    @cached_property
    def feature_map(self) -> np.ndarray:
        """(m, at most 10) float32, a UMAP of `unit_features` of the subsample, made to cluster."""
        x = self.unit_features[self.subsample]
        return features.umap(x, self.seed, MAP_DIMENSIONS, min_dist=0.0, metric="cosine")

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
        places: (m,) int64, which of `Inputs.rows` it saw, ascending.
        clusters: (m,) integers.
    """

    places: np.ndarray
    clusters: np.ndarray


def run(name: str, inputs: Inputs) -> Result | None:
    """Runs one baseline.

    Returns:
        Its clusters, or None where the images are too few for it (UMAP below 10) or there is
        no frozen encoder whose features it needs.

    Raises:
        KeyError: for an unknown name.
    """
    method, quadratic = BASELINES[name]
    places = inputs.subsample if quadratic else np.arange(len(inputs.rows))
    if missing(name, inputs):
        return None
    return Result(places, method(inputs))


def missing(name: str, inputs: Inputs) -> str:
    """Why a baseline cannot be run; empty where it can.

    Raises:
        KeyError: for an unknown name.
    """
    _, quadratic = BASELINES[name]
    if name in OF_FEATURES and inputs.frozen is None:
        return "it needs the features of a frozen encoder (train.model.frozen)"
    few = len(inputs.subsample if quadratic else inputs.rows) < features.UMAP_LEAST_IMAGES
    return f"it needs {features.UMAP_LEAST_IMAGES} images" if few and name in OF_UMAP else ""


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
    return np.asarray(AgglomerativeClustering(min(inputs.num_clusters, len(x))).fit_predict(x))


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


def kmeans_features(inputs: Inputs) -> np.ndarray:
    """k-means on a frozen pretrained encoder's unit features."""
    return kmeans(inputs.unit_features, inputs.num_clusters, inputs.seed)


def umap_kmeans_features(inputs: Inputs) -> np.ndarray:
    """k-means on a UMAP of a frozen pretrained encoder's features."""
    return kmeans(inputs.feature_map, inputs.num_clusters, inputs.seed)


def umap_hdbscan_features(inputs: Inputs) -> np.ndarray:
    """HDBSCAN on a UMAP of a frozen pretrained encoder's features.

    It finds the number of clusters itself; K says only how small one may be, a tenth of an equal
    share. What it takes for noise counts as a cluster of its own.
    """
    x = inputs.feature_map
    return features.hdbscan(x, len(x) // (10 * inputs.num_clusters))


# name -> (method, whether time or memory is quadratic in the images)
BASELINES: dict[str, tuple[Callable[[Inputs], np.ndarray], bool]] = {
    "kmeans_pixels": (kmeans_pixels, False),
    "pca_kmeans": (pca_kmeans, False),
    "ward": (ward, True),
    "umap_kmeans": (umap_kmeans, True),
    "kmeans_untrained": (kmeans_untrained, False),
    "kmeans_embedding": (kmeans_embedding, False),
    "kmeans_features": (kmeans_features, False),
    "umap_kmeans_features": (umap_kmeans_features, True),
    "umap_hdbscan_features": (umap_hdbscan_features, True),
}

OF_FEATURES = ("kmeans_features", "umap_kmeans_features", "umap_hdbscan_features")
OF_UMAP = ("umap_kmeans", "umap_kmeans_features", "umap_hdbscan_features")

TITLES = {
    "kmeans_pixels": "k-means on pixels",
    "pca_kmeans": "PCA + k-means",
    "ward": "Ward",
    "umap_kmeans": "UMAP + k-means",
    "kmeans_untrained": "k-means on an untrained encoder",
    "kmeans_embedding": "k-means on the trained embedding",
    "kmeans_features": "k-means on pretrained features",
    "umap_kmeans_features": "UMAP + k-means on pretrained features",
    "umap_hdbscan_features": "UMAP + HDBSCAN on pretrained features, noise one cluster",
}


def kmeans(points: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """(n,) clusters of (n, d) points by k-means, with more starts where points are few."""
    starts = 10 if len(points) <= MANY_IMAGES else 3
    clusters: np.ndarray = features.kmeans(points, num_clusters, seed, starts).labels_
    return clusters
