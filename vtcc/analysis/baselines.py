"""What simpler methods reach on the same images.

`BASELINES` holds all of them under their names in `evaluate.baselines`.
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


@dataclass(frozen=True)
class Baseline:
    """A simpler method.

    Attributes:
        title: what people call it.
        points: (m, d), what it clusters.
        cluster: (m,) clusters of these points.
        quadratic: in time or memory; it sees a subsample.
        of_features: of a frozen encoder.
        of_umap: of a map, which few images do not give.
    """

    title: str
    points: Callable[[Inputs], np.ndarray]
    cluster: Callable[[Inputs, np.ndarray], np.ndarray] = lambda inputs, x: kmeans(
        x, inputs.num_clusters, inputs.seed
    )
    quadratic: bool = False
    of_features: bool = False
    of_umap: bool = False


def run(name: str, inputs: Inputs) -> Result | None:
    """Runs one baseline.

    Returns:
        Its clusters, or None where the images are too few for it (UMAP below 10) or there is
        no frozen encoder whose features it needs.

    Raises:
        KeyError: for an unknown name.
    """
    if missing(name, inputs):
        return None
    baseline = BASELINES[name]
    places = inputs.subsample if baseline.quadratic else np.arange(len(inputs.rows))
    return Result(places, baseline.cluster(inputs, baseline.points(inputs)))


def missing(name: str, inputs: Inputs) -> str:
    """Why a baseline cannot be run; empty where it can.

    Raises:
        KeyError: for an unknown name.
    """
    baseline = BASELINES[name]
    if baseline.of_features and inputs.frozen is None:
        return "it needs the features of a frozen encoder (train.model.frozen)"
    few = len(inputs.subsample) < features.UMAP_LEAST_IMAGES
    return f"it needs {features.UMAP_LEAST_IMAGES} images" if few and baseline.of_umap else ""


def _ward(inputs: Inputs, points: np.ndarray) -> np.ndarray:
    """Ward's hierarchical clustering."""
    from sklearn.cluster import AgglomerativeClustering

    if len(points) < 2:
        return np.zeros(len(points), dtype=np.int64)
    model = AgglomerativeClustering(min(inputs.num_clusters, len(points)))
    return np.asarray(model.fit_predict(points))


def _hdbscan(inputs: Inputs, points: np.ndarray) -> np.ndarray:
    """HDBSCAN, which finds the number of clusters itself.

    K says only how small one may be, a tenth of an equal share. What it takes for noise counts as
    a cluster of its own.
    """
    return features.hdbscan(points, len(points) // (10 * inputs.num_clusters))


BASELINES = {
    "kmeans_pixels": Baseline("k-means on pixels", lambda x: x.pixels),
    "pca_kmeans": Baseline(
        "PCA + k-means", lambda x: features.pca(x.pixels, features.COMPONENTS, x.seed)
    ),
    "ward": Baseline("Ward", lambda x: x.pixels[x.subsample], _ward, quadratic=True),
    "umap_kmeans": Baseline(  # two dimensions, UMAP's own defaults
        "UMAP + k-means",
        lambda x: features.umap(x.pixels[x.subsample], x.seed),
        quadratic=True,
        of_umap=True,
    ),
    "kmeans_untrained": Baseline("k-means on an untrained encoder", lambda x: x.untrained()),
    "kmeans_embedding": Baseline("k-means on the trained embedding", lambda x: x.embedding),
    "kmeans_features": Baseline(
        "k-means on pretrained features", lambda x: x.unit_features, of_features=True
    ),
    "umap_kmeans_features": Baseline(
        "UMAP + k-means on pretrained features",
        lambda x: x.feature_map,
        quadratic=True,
        of_features=True,
        of_umap=True,
    ),
    "umap_hdbscan_features": Baseline(
        "UMAP + HDBSCAN on pretrained features, noise one cluster",
        lambda x: x.feature_map,
        _hdbscan,
        quadratic=True,
        of_features=True,
        of_umap=True,
    ),
}
TITLES = {name: baseline.title for name, baseline in BASELINES.items()}


def kmeans(points: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """(n,) clusters of (n, d) points by k-means, with more starts where points are few."""
    starts = 10 if len(points) <= MANY_IMAGES else 3
    clusters: np.ndarray = features.kmeans(points, num_clusters, seed, starts).labels_
    return clusters
