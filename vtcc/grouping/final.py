"""The final clusters: groups in what was learned, taught to a head of the model.

A head that was trained along with the encoder cuts the embedding at once. After a training from
scratch, k-means in a UMAP of the embedding cuts it where it is thin, and, where two trainings do
not agree on clear groups, a little of the images' gradients in the map adds what minutes of
training have not learned. On a frozen encoder, whose instance features pull an image and its
neighbours together, k-means on these features themselves does as well as in a map of them, and more
steadily; UMAPs of the encoder's own features beside them, of the images as they are and of the mean
over their views, hold what the projectors have lost. Both scored better on the data that the
choices were made on (docs/design.md). Neither can place tomorrow's images, so a projector learns
the groups.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from vtcc import config
from vtcc.analysis.features import (
    COMPONENTS,
    UMAP_LEAST_IMAGES,
    hdbscan,
    kmeans,
    pca,
    subsample,
    umap,
    unit_rows,
)
from vtcc.engine.model_info import one_head_info
from vtcc.engine.views import PixelViews
from vtcc.grouping import head
from vtcc.grouping.baselines import Simpler
from vtcc.grouping.choices import Reason
from vtcc.grouping.clusters import Clusters
from vtcc.grouping.state import Learned
from vtcc.grouping.training import Material, Trained, embed, project
from vtcc.grouping.trust import CLEAR_SEEDS
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
        independent: (N,) clusters of the second training alone; -1 for images left out.
        mapped: (rows, DIMENSIONS) UMAP of the encoder's features, of `subsample`'s rows; None where
            there was no need of one.
        temperature: by which the model's head was softened, at least 1.
    """

    model: Trained
    clusters: Clusters
    how: Reason
    independent: np.ndarray
    mapped: np.ndarray | None = None
    temperature: float = 1.0


def choose(learned: Learned, hog: np.ndarray, *, seed: int) -> Final:
    """Groups the images in a map and teaches the groups to a head of the main model.

    Too few of them stay in the groups of the trained head, whose confidence is left as it is.

    Args:
        hog: (N, D) of all images, their `features.gradients`. seed: of map and head.
    """
    main, second, K = learned.main, learned.second, learned.num_clusters
    frozen = learned.material.features is not None
    independent = grouped(second, K, seed, frozen=frozen)
    N = len(main.h)
    if few(N, K):
        why = (
            f"{N} images are too few for k-means, which needs {_least(K)} for {K} "
            "clusters; confidence is as trained, so too high"
        )
        how = Reason(value="the trained head", why=why)
        return Final(main, Clusters.fit(main.p, main.h), how, independent)
    rows = subsample(N, MAPPED, seed)
    material, mapped = learned.material, None
    if material.features is None:
        value, what = "a map of what was learned", "a UMAP of both trainings' embeddings"
        parts = [main.space[rows], SECOND * second.space[rows]]
        if agreement(main.space[rows], independent[rows], K, seed) < CLEAR_SEEDS:
            what += " and HOG"
            parts.append(GRADIENTS * unit_rows(pca(hog[rows], COMPONENTS, seed)))
        points = _map(np.concatenate(parts, axis=1), seed)
    else:
        value = "instance features"
        what = "the instance features of both trainings and UMAPs of the encoder's features"
        instances = np.concatenate([main.space[rows], second.space[rows]], axis=1)
        features = material.features.values[rows]
        mapped = _features_map(features[:, 0], seed)
        maps = [mapped]
        if features.shape[1] > 1:
            views = unit_rows(np.asarray(features, np.float32), axis=2)
            maps.append(_features_map(views.mean(axis=1), seed))
        # Instance features and maps have the same share of the squared distances.
        parts = [_standardised(m) / np.sqrt(len(maps)) for m in maps]
        points = np.concatenate([_standardised(instances), *parts], axis=1)
    groups = np.full(N, -1)
    groups[rows] = kmeans(points, K, seed, starts=10).labels_
    taught, temperature = _taught(main, material, groups, K, independent, seed)
    kept = float((taught.p[rows].argmax(axis=1) == groups[rows]).mean())
    why = (
        f"k-means in {what}, taught to a head of the model, which places {kept:.1%} of "
        f"the images in their group; its confidence is softened by {temperature:.1f} to what the "
        "second training agrees with"
    )
    how = Reason(value=value, why=why)
    return Final(taught, Clusters.fit(taught.p, taught.h), how, independent, mapped, temperature)


def of_features(
    learned: Learned, *, seed: int, mapped: np.ndarray | None = None
) -> dict[str, Simpler]:
    """What people do with features today, on those that this run has.

    k-means on the embedding or the instance features that were trained here, and, with a
    pretrained encoder, k-means, UMAP + k-means and UMAP + HDBSCAN on its features alone.

    Args:
        seed: of starts and maps. mapped: of `choose` with the same seed, where it has one.
    """
    main, K = learned.main, learned.num_clusters
    every = np.arange(len(main.h))
    results: dict[str, Simpler] = {}
    labels = kmeans(main.space, K, seed, starts=5).labels_
    title = "k-means on what was trained"
    results["kmeans_embedding"] = Simpler(title, labels, every, main.space)
    if learned.material.features is not None:
        plain = learned.material.features.values[:, 0]
        encoder = main.info["model"]["encoder"]
        results |= on_features(plain, encoder, K, seed=seed, mapped=mapped)
    return results


def on_features(
    features: np.ndarray, encoder: str, K: int, *, seed: int, mapped: np.ndarray | None = None
) -> dict[str, Simpler]:
    """k-means, UMAP + k-means and UMAP + HDBSCAN on the features of a pretrained encoder.

    Args:
        features: (N, D) of the images as they are. encoder: its name. seed: of starts and maps.
        mapped: their UMAP with that seed, if it is known.
    """
    rows = subsample(len(features), MAPPED, seed)
    plain = unit_rows(np.asarray(features[rows], np.float32))
    groups = {"kmeans": ("k-means", kmeans(pca(plain, COMPONENTS, seed), K, seed, 5).labels_)}
    if len(rows) >= UMAP_LEAST_IMAGES:
        mapped = _features_map(features[rows], seed) if mapped is None else mapped
        groups["umap_kmeans"] = ("UMAP + k-means", kmeans(mapped, K, seed, 10).labels_)
        groups["umap_hdbscan"] = ("UMAP + HDBSCAN", hdbscan(mapped, len(mapped) // 100))
    results = {}
    for name, (title, labels) in groups.items():
        title = f"{title} on {encoder}'s features"
        results[f"{name}_features"] = Simpler(title, labels, rows, plain)
    return results


def few(N: int, K: int) -> bool:
    """Whether N images are too few to map them and to find K groups there."""
    return _least(K) > N


def _least(K: int) -> int:
    return max(UMAP_LEAST_IMAGES, 5 * K)


def grouped(trained: Trained, K: int, seed: int, *, frozen: bool) -> np.ndarray:
    """(N,) groups of one training alone by the same rule; -1 for images left out of the map."""
    N = len(trained.h)
    groups = np.full(N, -1)
    if few(N, K):
        return trained.p.argmax(axis=1) if trained.p.shape[1] == K else groups
    rows = subsample(N, COMPARED, seed)
    points = trained.space[rows] if frozen else _map(trained.space[rows], seed)
    groups[rows] = kmeans(points, K, seed, starts=5).labels_
    return groups


def agreement(space: np.ndarray, other: np.ndarray, K: int, seed: int) -> float:
    """Adjusted Rand index of k-means in a space with other groups; rows of -1 do not count."""
    from sklearn.metrics import adjusted_rand_score

    both = other >= 0
    own = kmeans(space[both], K, seed, starts=5).labels_ if both.sum() > K else other[both]
    return float(adjusted_rand_score(own, other[both]))


def _features_map(features: np.ndarray, seed: int) -> np.ndarray:
    plain = unit_rows(np.asarray(features, np.float32))
    return umap(plain, seed, DIMENSIONS, min_dist=0.0, metric="cosine")


def _standardised(points: np.ndarray) -> np.ndarray:
    """Rows whose mean is zero and whose mean squared length is one."""
    centred = points - points.mean(axis=0)
    length = max(float(np.sqrt((centred**2).sum(axis=1).mean())), 1e-12)
    return np.asarray(centred / length)


def _map(points: np.ndarray, seed: int) -> np.ndarray:
    return umap(points, seed, DIMENSIONS, neighbors=NEIGHBORS, min_dist=0.0, metric="cosine")


def _taught(
    main: Trained,
    material: Material,
    groups: np.ndarray,
    K: int,
    independent: np.ndarray,
    seed: int,
) -> tuple[Trained, float]:
    """The main model with a head that has learned the groups, and its temperature."""
    section = config.from_dict(config.Params, main.params).train
    rows = np.flatnonzero(groups >= 0)
    if material.features is None:
        cache = material.cache
        normal = PixelViews(section, tuple(main.info["mean"]), tuple(main.info["std"]))

        def pixels(part: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.array(cache.images[part])).permute(0, 3, 1, 2)

        h = head.embed_views(
            main.model,
            rows,
            plain=lambda part: normal.plain(pixels(part)),
            views=lambda part, generator: normal.view(pixels(part), generator, second=False),
            seed=seed,
            on_progress=lambda done, total: report("clusters", done, total),
        )
    else:
        reduced = np.asarray(material.features.reduced[rows], np.float32)
        h = torch.from_numpy(reduced).transpose(0, 1)
    model = head.teach(main.model, section.model, h, groups[rows], K, seed=seed)
    known = np.flatnonzero(independent >= 0)
    temperature = head.calibrate(model, torch.from_numpy(main.h[known]), independent[known])
    info = one_head_info(main.info, K)
    if material.features is None:
        embedding, heads = embed(material.cache, model, info)
    else:
        embedding, heads, _ = project(material.features.reduced, model)
    return replace(main, model=model, info=info, h=embedding, heads=heads, chosen=0), temperature
