"""What simpler methods make of the same images, beside which the clusters are shown."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vtcc.analysis import features
from vtcc.analysis.baselines import kmeans

MOST = 10_000  # images UMAP sees


@dataclass(frozen=True)
class Simpler:
    """Clusters of a simpler method.

    Attributes:
        title: for people. clusters: (m,) integers. rows: (m,) of the images it saw.
        features: (m, d) float32 it clustered.
    """

    title: str
    clusters: np.ndarray
    rows: np.ndarray
    features: np.ndarray


def run(
    images: np.ndarray,
    hog: np.ndarray,
    hog_rows: np.ndarray,
    num_clusters: int,
    *,
    seed: int,
    on_start: Callable[[str], None],
    maps: bool = True,
) -> dict[str, Simpler]:
    """k-means on components of pixels and of gradients, and on a UMAP of the gradients.

    On the pixels themselves k-means gives about the same in ten times the time.

    Args:
        images: (N, S, S, C) uint8. hog: (m, D), `features.gradients` of those in hog_rows (m,).
        num_clusters: K. seed: of every start and subsample.
        on_start: called with the title of each method before it runs.
        maps: whether the method with a UMAP runs, which takes longest.
    """
    every = np.arange(len(images))
    some = features.subsample(len(hog), MOST, seed)

    def components(x: np.ndarray) -> np.ndarray:
        return features.pca(x, features.COMPONENTS, seed)

    def pixels() -> np.ndarray:
        return components(features.pixel_features(images, every))

    methods: dict[str, tuple[str, Callable[[], np.ndarray], np.ndarray]] = {
        "pca_kmeans": ("PCA + k-means", pixels, every),
        "hog_pca_kmeans": ("HOG + PCA + k-means", lambda: components(hog), hog_rows),
        "hog_umap_kmeans": (
            "HOG + UMAP + k-means",
            lambda: features.umap(hog[some], seed),
            hog_rows[some],
        ),
    }
    if not maps or len(some) < features.UMAP_LEAST_IMAGES:
        del methods["hog_umap_kmeans"]
    results = {}
    for name, (title, compute, rows) in methods.items():
        on_start(title)
        x = compute()
        results[name] = Simpler(title, kmeans(x, num_clusters, seed), rows, x)
    return results
