"""What a sweep maximises: how much of a partition survives fixed views and fixed neighbours.

No label, no loss and no temperature of a training enters, so that trials of different
augmentations, losses and encoders compare. Why these two figures: docs/sweeps.md.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc import paths

if TYPE_CHECKING:
    from vtcc.engine.predict import Predictor

VERSION = 1  # of the definition; trials of different ones do not compare
IMAGES = 1000
NEIGHBOURS = 15


class Yardstick:
    """Images, views and neighbours, fixed once and the same for every trial of a sweep.

    Attributes:
        digest: of the images' cache.
        images: (N, S, S, C) uint8, a fixed subset of the training images, N at most 1,000.
        views: two arrays like `images`, `tracking.champion.fixed_views` of them.
        neighbours: (N, k) int64, rows of the k nearest other images in the reference space of
            `analysis.selection`: the first 50 principal components of the pixels.
    """

    def __init__(self, cache_dir: Path = paths.CACHE) -> None:
        from vtcc.analysis import selection
        from vtcc.data.cache import open_cache
        from vtcc.tracking import champion

        cache = open_cache(cache_dir)
        rows = cache.rows("train")
        keep = np.sort(np.random.default_rng(champion.SEED).permutation(len(rows))[:IMAGES])
        self.digest: str = cache.digest
        self.images = np.asarray(cache.images[rows[keep]])
        self.views = champion.fixed_views(self.images)
        points = selection.principal_components(self.images, selection.REFERENCE_DIMENSIONS)
        self.neighbours = nearest(points, NEIGHBOURS)

    def score(self, predictor: "Predictor") -> dict[str, float]:
        """The figures of a model, `objective` among them.

        Args:
            predictor: an `engine.predict.Predictor` trained on the same cache.
        """
        a, b = (predictor.predict(view).cluster for view in self.views)
        own = predictor.predict(self.images).cluster
        return figures(a, b, own, self.neighbours, predictor.num_clusters)


def figures(
    assign_a: np.ndarray,
    assign_b: np.ndarray,
    assign: np.ndarray,
    neighbours: np.ndarray,
    num_clusters: int,
) -> dict[str, float]:
    """The objective and what it is made of.

    Args:
        assign_a: (N,) int, clusters of the first fixed view of each image.
        assign_b: (N,) int, clusters of the second.
        assign: (N,) int, clusters of the images as they are.
        neighbours: (N, k) int, rows of each image's nearest others in the reference space.
        num_clusters: K.

    Returns:
        `view_information`: what the cluster of one view tells of that of the other, 0 to 1;
        `neighbour_information`: what the cluster of an image tells of that of a neighbour;
        `objective`: their mean; `effective_clusters`: exp of the entropy of the cluster sizes.
    """
    from vtcc.analysis.selection import effective_clusters

    view = shared_information(assign_a, assign_b, num_clusters)
    pairs = np.repeat(assign, neighbours.shape[1]), assign[neighbours].ravel()
    near = shared_information(*pairs, num_clusters)
    return {
        "objective": (view + near) / 2,
        "view_information": view,
        "neighbour_information": near,
        "effective_clusters": effective_clusters(assign),
    }


def shared_information(a: np.ndarray, b: np.ndarray, num_clusters: int) -> float:
    """Mutual information of two assignments over log K.

    0 for independent assignments and for a single cluster, 1 for equal ones of K equal
    clusters. Unlike indices that only correct for chance it falls when clusters are merged.

    Args:
        a: (P,) int clusters, 0 to K - 1.
        b: (P,) int, those of the partners; the order within a pair does not count.
        num_clusters: K, at least 2.
    """
    table = np.zeros((num_clusters, num_clusters))
    np.add.at(table, (a, b), 1.0)
    joint = (table + table.T) / table.sum() / 2
    share = joint.sum(1)
    seen = joint > 0
    information = joint[seen] * np.log(joint[seen] / np.outer(share, share)[seen])
    return float(max(information.sum(), 0.0) / np.log(num_clusters))


def nearest(points: np.ndarray, count: int) -> np.ndarray:
    """(N, min(count, N - 1)) int64: for each row of (N, d) the nearest others, nearest first."""
    squares = (points**2).sum(1)
    squared = squares[:, None] + squares[None] - 2 * points @ points.T
    np.fill_diagonal(squared, np.inf)
    return np.argsort(squared, axis=1, kind="stable")[:, : min(count, len(points) - 1)]


def of_checkpoint(yardstick: Yardstick, state: dict[str, Any], info: dict[str, Any]) -> float:
    """The objective of a training in progress, the mean over its heads.

    Which head is kept is known at the end only; a mean is the same question to every trial.

    Args:
        yardstick: of the sweep.
        state: what `engine.scratch` keeps of the training.
        info: what a Predictor reads images by: num_clusters, image_size, cache_size, channels,
            max_pixels, mean, std, model.
    """
    import torch

    from vtcc.engine.centroids import unit_kmeans
    from vtcc.engine.checkpoint import architecture
    from vtcc.engine.model import build
    from vtcc.engine.predict import Predictor

    model = build(
        architecture(info), info["num_clusters"], image_size=info["image_size"],
        channels=info["channels"],
    )  # fmt: skip
    weights = state["model"]
    if state.get("average"):
        averaged = state["average"].items()
        weights = {k.removeprefix("module."): v for k, v in averaged if k.startswith("module.")}
    model.load_state_dict(weights)
    predictor = Predictor(model, info)
    seen = [*yardstick.views, yardstick.images]
    embeddings = [torch.from_numpy(predictor.predict(x).embedding) for x in seen]
    if model.has_centroids:  # those of the state are of its last scored checkpoint, if any
        with torch.no_grad():
            points = model.centroid_space(embeddings[-1].to(predictor.device))
            model.centroids.copy_(unit_kmeans(points, predictor.num_clusters))
    objectives = []
    for head in range(1 if model.has_centroids else len(model.cluster_projectors)):
        model.selected_head.fill_(head)
        with torch.inference_mode():
            a, b, own = (
                model.assign_embedding(h.to(predictor.device)).argmax(1).cpu().numpy()
                for h in embeddings
            )
        scored = figures(a, b, own, yardstick.neighbours, predictor.num_clusters)
        objectives.append(scored["objective"])
    return float(np.mean(objectives))
