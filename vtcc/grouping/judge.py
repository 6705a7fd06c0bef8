"""Third step of `vtcc cluster`: final clusters, what they are worth, what simpler methods give."""

from dataclasses import replace
from typing import Any

import numpy as np

from vtcc.analysis.features import COMPONENTS, gradients, pca, subsample, unit_rows
from vtcc.analysis.metrics import clustering_scores
from vtcc.data import duplicates
from vtcc.grouping import baselines, copies, describe, final, trust
from vtcc.grouping.options import Options
from vtcc.grouping.state import Judged, Learned, Prepared
from vtcc.progress import note

GRADIENTS = 1000  # images whose gradients a simpler method sees, beside an encoder's features


def judge(prepared: Prepared, learned: Learned, options: Options) -> Judged:
    """Makes the final clusters and measures them without labels, all images in one of them.

    What belongs nowhere leaves them after that. Sub-folders taken for classes score them and the
    simpler methods at the end, nothing else.
    """
    from sklearn.metrics import adjusted_rand_score

    images, K, seed = prepared.cache.images, learned.num_clusters, options.seed
    # With a pretrained encoder's features gradients are one of the simpler methods and no more.
    frozen = learned.material.features is not None
    some = subsample(len(images), GRADIENTS if frozen else len(images), seed)
    hog = gradients(images if len(some) == len(images) else images[some])
    chosen = final.choose(learned, hog, seed=seed)
    note(f"clusters by {chosen.how['value']}: {chosen.how['why']}")
    model, clusters = chosen.model, chosen.clusters
    base = model.p.argmax(axis=1).astype(np.int32)
    applied = clusters.apply(model.p, model.h, base)
    note("simpler methods on the same images")
    simpler = baselines.run(images, hog, some, K, seed=seed, on_start=note, maps=not frozen)
    simpler |= final.of_features(learned, seed=seed, mapped=chosen.mapped)
    at = learned.count.at(learned.count.clusters)
    looks = np.concatenate(
        [describe.looks(images[i : i + 1024]) for i in range(0, len(images), 1024)]
    )
    max_pixels = prepared.params["validate"]["max_pixels"]
    copied = copies.share(
        prepared.files, seed=seed, max_pixels=max_pixels, **prepared.cache.decoding
    )
    worth = trust.measure(
        applied.cluster,
        applied.confidence,
        other=chosen.independent,
        reference=_untrained(learned, simpler["hog_pca_kmeans"].features, seed),
        looks=looks,
        map_silhouette=at.silhouette,
        halves=at.stability,
        alike=max(trust.alike(prepared.sketches, looks), copied),
        seed=seed,
    )
    labels = prepared.labels
    every = np.arange(len(images))
    ours = {"title": "these clusters", "agreement": 1.0}
    comparison = [ours | _scores(labels, applied.cluster, every)]
    for method in simpler.values():
        agreement = adjusted_rand_score(applied.cluster[method.rows], method.clusters)
        row = {"title": method.title, "agreement": float(agreement)}
        comparison.append(row | _scores(labels, method.clusters, method.rows))
    at_most, unclustered = options.unclustered_at_most, options.unclustered
    means = clusters.means.limited(model.h, applied.cluster, at_most, unclustered=unclustered)
    clusters = replace(clusters, means=means)
    if unclustered:  # centres and fences are those of the rest
        clusters = clusters.measured(model.h, clusters.apply(model.p, model.h, base).cluster)
        applied = clusters.apply(model.p, model.h, base)
        rest = np.flatnonzero(applied.cluster >= 0)
        row = {"title": "these clusters, without what belongs nowhere", "agreement": 1.0}
        comparison.insert(1, row | _scores(labels, applied.cluster[rest], rest))
    first = duplicates.groups(duplicates.nearest_earlier(prepared.sketches, 2))
    return Judged(model, clusters, base, applied, chosen.how, worth, comparison, first, looks)


def _untrained(learned: Learned, gradients: np.ndarray, seed: int) -> np.ndarray:
    """(N, d): the space nothing was trained in here, of the encoder's features or of gradients."""
    features = learned.material.features
    if features is None:
        return gradients
    return pca(unit_rows(np.asarray(features.values[:, 0], np.float32)), COMPONENTS, seed)


def _scores(labels: list[int] | None, clusters: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Against the sub-folders, where there are any."""
    if labels is None:
        return {}
    scores = clustering_scores([labels[i] for i in rows.tolist()], clusters)
    return {score: scores[score] for score in ("nmi", "acc") if score in scores}
