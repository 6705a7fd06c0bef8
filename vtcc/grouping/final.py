"""The final clusters: groups in a map of what was learned, taught to a head of the model.

A head that was trained along with the encoder cuts the embedding at once; k-means in a UMAP of
the embedding cuts it where it is thin, and a little of the images' gradients in the map adds what
minutes of training have not learned. It scored better on the data that the choice was made on
(docs/design.md). A map cannot place tomorrow's images, so a projector learns its groups.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from vtcc import config
from vtcc.analysis.features import COMPONENTS, UMAP_LEAST_IMAGES, kmeans, pca, subsample, unit_rows
from vtcc.clusters import Clusters
from vtcc.data.cache import Cache
from vtcc.engine import augment
from vtcc.engine.model import build
from vtcc.engine.model_info import one_head_info
from vtcc.grouping import head
from vtcc.grouping.baselines import Simpler
from vtcc.grouping.choices import Reason
from vtcc.grouping.maps import cosine_map
from vtcc.grouping.state import Learned
from vtcc.grouping.training import Trained, embed
from vtcc.progress import report

MAPPED = 10_000  # images in the map; the projector places the others
COMPARED = 4000  # images that two trainings are compared on
DIMENSIONS, NEIGHBORS = 10, 30  # of the map
SECOND, GRADIENTS = 0.5, 0.22  # weights in the map, of the second embedding and of gradients


@dataclass(frozen=True)
class Final:
    """The model with its final head.

    Attributes:
        model: whose chosen head has the final clusters. clusters: names and limits of these.
        how: they were made, with the reason.
    """

    model: Trained
    clusters: Clusters
    how: Reason


def choose(learned: Learned, cache: Cache, hog: np.ndarray, *, seed: int) -> Final:
    """Groups the images in a map and teaches the groups to a head of the main model.

    Args:
        cache: the N images. hog: (N, D), their `features.gradients`. seed: of map and head.
    """
    main, second, K = learned.main, learned.second, learned.num_clusters
    N = len(main.h)
    if few(N, K):
        why = f"{N} images are too few for a map"
        return Final(main, Clusters.fit(main.p, main.h), Reason(value="the trained head", why=why))
    rows = subsample(N, MAPPED, seed)
    components = pca(hog[rows], COMPONENTS, seed)
    mapped = np.concatenate(
        [
            unit_rows(main.h[rows]),
            SECOND * unit_rows(second.h[rows]),
            GRADIENTS * unit_rows(components),
        ],
        axis=1,
    )
    points = cosine_map(mapped, seed, DIMENSIONS, neighbors=NEIGHBORS, min_dist=0.0)
    groups = np.full(N, -1)
    groups[rows] = kmeans(points, K, seed, starts=10).labels_
    taught = _taught(main, cache, groups, K, seed)
    kept = float((taught.p[rows].argmax(axis=1) == groups[rows]).mean())
    why = (
        "k-means in a UMAP of both trainings' embeddings and a little of gradients (HOG), "
        "taught to a head of the model, "
        f"which places {kept:.1%} of the images in their group"
    )
    how = Reason(value="a map of what was learned", why=why)
    return Final(taught, Clusters.fit(taught.p, taught.h), how)


def of_features(main: Trained, cache: Cache, num_clusters: int, *, seed: int) -> dict[str, Simpler]:
    """k-means on the trained embedding, and on pretrained features before any training.

    Args:
        main: before its final head. cache: the images. seed: of the starts.
    """
    every = np.arange(len(cache.paths))
    features = {"kmeans_embedding": ("k-means on the trained embedding", unit_rows(main.h))}
    section = config.from_dict(config.Params, main.params).train
    if section.model.weights:
        untrained = build(
            section.model,
            num_clusters,
            image_size=section.image_size,
            channels=cache.channels,
            pretrained=True,
        )
        h, _ = embed(cache, untrained.eval(), main.info)
        title = "k-means on the pretrained features, untrained here"
        features["kmeans_pretrained"] = (title, unit_rows(h))
    results = {}
    for name, (title, x) in features.items():
        start = time.monotonic()
        clusters = kmeans(x, num_clusters, seed, starts=5).labels_
        results[name] = Simpler(title, clusters, every, x, time.monotonic() - start)
    return results


def few(N: int, K: int) -> bool:
    """Whether N images are too few to map them and to find K groups there."""
    return max(UMAP_LEAST_IMAGES, 5 * K) > N


def grouped(trained: Trained, K: int, seed: int) -> np.ndarray:
    """(N,) groups of one training alone by the same rule; -1 for images left out of the map."""
    N = len(trained.h)
    groups = np.full(N, -1)
    if few(N, K):
        return trained.p.argmax(axis=1) if trained.p.shape[1] == K else groups
    rows = subsample(N, COMPARED, seed)
    unit = unit_rows(trained.h[rows])
    points = cosine_map(unit, seed, DIMENSIONS, neighbors=NEIGHBORS, min_dist=0.0)
    groups[rows] = kmeans(points, K, seed, starts=5).labels_
    return groups


def _taught(main: Trained, cache: Cache, groups: np.ndarray, K: int, seed: int) -> Trained:
    section = config.from_dict(config.Params, main.params).train
    size = section.image_size

    def pixels(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(cache.images[rows])).permute(0, 3, 1, 2)

    model = head.teach(
        main.model,
        section.model,
        groups,
        K,
        plain=lambda rows: augment.plain(pixels(rows), size),
        views=lambda rows, generator: augment.view(pixels(rows), section.augment, size, generator),
        image_size=size,
        channels=cache.channels,
        mean=tuple(main.info["mean"]),
        std=tuple(main.info["std"]),
        seed=seed,
        on_progress=lambda done, total: report("clusters", done, total),
    )
    info = one_head_info(main.info, K)
    h, heads = embed(cache, model, info)
    return replace(main, model=model, info=info, h=h, heads=heads, chosen=0)
