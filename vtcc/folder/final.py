"""The final clusters: groups in a map of what was learned, taught to a head of the model.

A head that was trained along with the encoder cuts the embedding at once; k-means in a UMAP of
the embedding cuts it where it is thin, and a little of the images' gradients in the map adds what
minutes of training have not learned. It scored better on the data that the choice was made on
(docs/design.md). A map cannot place tomorrow's images, so a projector learns its groups.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vtcc import config
from vtcc.analysis.baselines import COMPONENTS, UMAP_LEAST_IMAGES, pca, subsample
from vtcc.clusters import Clusters
from vtcc.engine import augment
from vtcc.engine.model import build
from vtcc.folder import head
from vtcc.folder.baselines import Found, plane
from vtcc.folder.count import _kmeans
from vtcc.folder.training import Trained, embed
from vtcc.progress import report

MAPPED = 10_000  # images in the map; the projector places the others
COMPARED = 4000  # images that two trainings are compared on
DIMENSIONS, NEIGHBORS = 10, 30  # of the map
SECOND, GRADIENTS = 0.5, 0.22  # weights in the map, of the second embedding and of gradients


def choose(run: Any) -> tuple[Trained, Clusters, dict[str, str]]:
    """The model with its final head, the clusters, and how they were found with the reason.

    Args:
        run: of `vtcc.stages.cluster`, after its trainings.
    """
    main, K, seed = run.main, run.K, run.options.seed
    N = len(main.h)
    if few(N, K):
        return (
            main,
            Clusters.fit(main.p, main.h),
            {"value": "the trained head", "why": f"{N} images are too few for a map"},
        )
    rows = subsample(N, MAPPED, seed)
    hog = pca(run.gradients[rows], COMPONENTS, seed)
    features = np.concatenate(
        [_unit(main.h[rows]), SECOND * _unit(run.second.h[rows]), GRADIENTS * _unit(hog)], axis=1
    )
    groups = np.full(N, -1)
    points = plane(features, seed, DIMENSIONS, neighbors=NEIGHBORS, min_dist=0.0)
    groups[rows] = _kmeans(points, K, seed, 10).labels_
    taught = _taught(run, groups)
    kept = float((taught.p[rows].argmax(axis=1) == groups[rows]).mean())
    how = {
        "value": "a map of what was learned",
        "why": (
            "k-means in a UMAP of both trainings' embeddings and a little of gradients (HOG), "
            "taught to a head of the model, "
            f"which places {kept:.1%} of the images in their group"
        ),
    }
    return taught, Clusters.fit(taught.p, taught.h), how


def of_features(run: Any) -> dict[str, Found]:
    """k-means on the trained embedding, and on pretrained features before any training.

    Args:
        run: of `vtcc.stages.cluster`, with its final model.
    """
    K, seed, cache = run.K, run.options.seed, run.cache
    every = np.arange(len(cache.paths))
    features = {"kmeans_embedding": ("k-means on the trained embedding", _unit(run.main.h))}
    section = config.from_dict(config.Params, run.main.params).train
    if section.model.weights:
        made = build(
            section.model,
            K,
            image_size=section.image_size,
            channels=cache.channels,
            pretrained=True,
        )
        h, _ = embed(cache, made.eval(), run.main.info)
        title = "k-means on the pretrained features, untrained here"
        features["kmeans_pretrained"] = (title, _unit(h))
    found = {}
    for name, (title, x) in features.items():
        start = time.monotonic()
        clusters = _kmeans(x, K, seed, 5).labels_
        found[name] = Found(title, clusters, every, x, time.monotonic() - start)
    return found


def few(N: int, K: int) -> bool:
    """Whether N images are too few to map them and to find K groups there."""
    return max(UMAP_LEAST_IMAGES, 5 * K) > N


def grouped(trained: Trained, K: int, seed: int) -> np.ndarray:
    """(N,) groups of one training alone by the same rule; -1 for images left out of the map."""
    N = len(trained.h)
    found = np.full(N, -1)
    if few(N, K):
        return trained.p.argmax(axis=1) if trained.p.shape[1] == K else found
    rows = subsample(N, COMPARED, seed)
    unit = _unit(trained.h[rows])
    points = plane(unit, seed, DIMENSIONS, neighbors=NEIGHBORS, min_dist=0.0)
    found[rows] = _kmeans(points, K, seed, 5).labels_
    return found


def _taught(run: Any, groups: np.ndarray) -> Trained:
    main, cache = run.main, run.cache
    section = config.from_dict(config.Params, main.params).train
    size = section.image_size

    def pixels(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(cache.images[rows])).permute(0, 3, 1, 2)

    model = head.teach(
        main.model,
        section.model,
        groups,
        run.K,
        plain=lambda rows: augment.plain(pixels(rows), size),
        views=lambda rows, generator: augment.view(pixels(rows), section.augment, size, generator),
        image_size=size,
        channels=cache.channels,
        mean=tuple(main.info["mean"]),
        std=tuple(main.info["std"]),
        seed=run.options.seed,
        said=lambda done, total: report("clusters", done, total),
    )
    parts = {"num_cluster_heads": 1, "projectors": "both", "overcluster_heads": 0, "frozen": False}
    info = main.info | {
        "head": 0,
        "num_clusters": run.K,
        "model": main.info["model"] | parts | {"weights": ""},
    }
    h, heads = embed(cache, model, info)
    return replace(main, model=model, info=info, h=h, heads=heads, chosen=0)


def _unit(h: np.ndarray) -> np.ndarray:
    return h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)
