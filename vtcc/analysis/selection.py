"""The two label-free rules: which checkpoint and head to keep, which model is champion.

Both are explained, with their limits, in docs/selection.md. Training calls `choose` on machines
that have little more than numpy.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vtcc.analysis import features
from vtcc.errors import VtccError

REFERENCE_IMAGES = 2000  # the silhouette is quadratic in the images
REFERENCE_DIMENSIONS = 50


@dataclass(frozen=True)
class Candidate:
    """One (checkpoint, head) pair, scored in eval mode on the fixed views of a fixed subset.

    Attributes:
        step: optimiser steps taken when the checkpoint was written.
        epoch: passes over the images, for people to read.
        head: index of the cluster head.
        cluster_loss: mean over the fixed views, entropy term included.
        instance_loss: the same of the instance loss; equal for all heads of a checkpoint.
        clusters_used: clusters that are the argmax of at least one image.
        smallest_cluster: share of the images in the smallest cluster, 0-1.
        entropy: of the mean assignment over log K, 0-1.
        confidence: mean of the highest probability, 0-1.
    """

    step: int
    epoch: int
    head: int
    cluster_loss: float
    instance_loss: float
    clusters_used: int
    smallest_cluster: float
    entropy: float
    confidence: float


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate to keep, by the label-free rule.

    Candidates with a figure that is not finite are dropped; of the others those stay that
    use the most clusters; the lowest cluster loss wins. Ties go to the later checkpoint, then
    to the lower head. The order of the candidates is irrelevant.

    Raises:
        VtccError: when there is no candidate, or none is finite.
    """
    finite = [c for c in candidates if _is_finite(c)]
    if not finite:
        reason = "there is none" if not candidates else f"none of {len(candidates)} is finite"
        raise VtccError(
            f"no checkpoint to choose from: {reason}; the training diverged or ended too early, "
            "try a lower train.optimizer.learning_rate or train.precision: fp32"
        )
    most = max(c.clusters_used for c in finite)
    return min(
        (c for c in finite if c.clusters_used == most),
        key=lambda c: (c.cluster_loss, -c.step, c.head),
    )


def _is_finite(candidate: Candidate) -> bool:
    figures = (
        candidate.cluster_loss,
        candidate.instance_loss,
        candidate.entropy,
        candidate.confidence,
    )
    return all(math.isfinite(figure) for figure in figures)


def promote(
    challenger: Mapping[str, float], champion: Mapping[str, float] | None
) -> tuple[bool, str]:
    """Whether the challenger becomes champion, and why, in one sentence.

    Args:
        challenger: `comparison_scores` of the new model.
        champion: those of the present one, measured on the same images, the same fixed
            views and in the same reference space; None when there is no champion.
    """
    ours = is_collapsed(challenger)
    if champion is None:
        remark = f"; {_collapsed('this model', challenger)}" if ours else ""
        return True, f"there was no champion{remark}"
    theirs = is_collapsed(champion)
    if ours != theirs:
        who, scores = ("challenger", challenger) if ours else ("champion", champion)
        return theirs, _collapsed(f"the {who}", scores)
    new, old = score(challenger), score(champion)
    if math.isfinite(new) and (not math.isfinite(old) or new > old):
        return True, f"the challenger scores {new:.4f}, the champion {old:.4f}"
    return False, f"the challenger scores {new:.4f}, not above the champion's {old:.4f}"


def _collapsed(who: str, scores: Mapping[str, float]) -> str:
    return (
        f"{who} has collapsed: it uses {scores['effective_clusters']:.1f} of "
        f"{scores['num_clusters']:.0f} clusters"
    )


def is_collapsed(scores: Mapping[str, float]) -> bool:
    """Whether a model uses fewer than half of its clusters: exp(H of the sizes) < K/2."""
    return scores["effective_clusters"] < scores["num_clusters"] / 2


def score(scores: Mapping[str, float]) -> float:
    """What `promote` compares: view consistency plus silhouette, from -1.5 to 2."""
    return scores["view_consistency"] + scores["reference_silhouette"]


def comparison_scores(
    assign_a: np.ndarray, assign_b: np.ndarray, pixels: np.ndarray, num_clusters: int
) -> dict[str, float]:
    """What `promote` needs to know of a model.

    Args:
        assign_a: (N,) integers, the clusters of the first fixed view of each image.
        assign_b: (N,) integers, those of the second fixed view of the same images.
        pixels: (N, ...) uint8 or float, the images as they are; the same for both models.
        num_clusters: K of the model.

    Returns:
        `view_consistency` (adjusted Rand index of the two assignments), `reference_silhouette`
        (mean of both assignments' silhouettes over the first 50 principal components of the
        pixels of at most 2,000 images), `effective_clusters` (exp of the entropy of the
        cluster sizes) and `num_clusters`.

    Raises:
        ValueError: when the lengths differ or there is no image.
    """
    assign_a, assign_b = np.asarray(assign_a), np.asarray(assign_b)
    if not len(assign_a) or not len(assign_a) == len(assign_b) == len(pixels):
        raise ValueError(
            f"expected as many assignments as images and at least one, found "
            f"{len(assign_a)}, {len(assign_b)} and {len(pixels)}"
        )
    # The subset depends on the number of images alone, so that both models get the same.
    rows = np.sort(np.random.default_rng(0).permutation(len(pixels))[:REFERENCE_IMAGES])
    points = principal_components(pixels[rows], REFERENCE_DIMENSIONS)
    both = np.concatenate([assign_a, assign_b])
    return {
        "view_consistency": adjusted_rand_index(assign_a, assign_b),
        "reference_silhouette": float(
            np.mean([features.silhouette(points, a[rows]) for a in (assign_a, assign_b)])
        ),
        "effective_clusters": effective_clusters(both),
        "num_clusters": float(num_clusters),
    }


def effective_clusters(assignments: np.ndarray) -> float:
    """exp(entropy of the cluster sizes): K for K equal clusters, 1 for a single one."""
    sizes = np.unique(assignments, return_counts=True)[1]
    shares = sizes / sizes.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def adjusted_rand_index(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement of two partitions of N images, corrected for chance; 1 when equal.

    Unlike the usual convention it is 0 when both put everything into one cluster: nothing is
    told apart, and a collapsed model must not look consistent.
    """
    from sklearn.metrics import adjusted_rand_score

    if len(np.unique(a)) == len(np.unique(b)) == 1:
        return 0.0
    return float(adjusted_rand_score(a, b))


def principal_components(images: np.ndarray, dimensions: int) -> np.ndarray:
    """The images' coordinates on their first principal components.

    Args:
        images: (N, ...) of any numeric dtype; flattened.
        dimensions: how many components; fewer come back where there are fewer.

    Returns:
        (N, min(dimensions, N, pixels)) float64; the signs of the columns are arbitrary.
    """
    x = images.reshape(len(images), -1)
    N, D = x.shape
    mean = x.mean(0, dtype=np.float64)
    if D <= N:
        centred = x - mean
        vectors = np.linalg.eigh(centred.T @ centred)[1]
        components: np.ndarray = centred @ vectors[:, ::-1][:, :dimensions]
        return components
    # Large images: N x N inner products, a slice of the pixels at a time to bound memory.
    gram = np.zeros((N, N))
    for start in range(0, D, 4096):
        part = x[:, start : start + 4096] - mean[start : start + 4096]
        gram += part @ part.T
    values, vectors = np.linalg.eigh(gram)
    components = vectors * np.sqrt(values.clip(0))
    return components[:, ::-1][:, :dimensions]
