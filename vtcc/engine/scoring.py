"""Scores every cluster head on fixed views, so that checkpoints and heads compare fairly."""

from typing import Any

import torch
from torch import Tensor

from vtcc.config import Train
from vtcc.engine.centroids import unit_kmeans
from vtcc.engine.kernels import Kernels
from vtcc.engine.losses import cluster_loss, instance_loss
from vtcc.engine.model import VTCC
from vtcc.engine.pixels import Pixels
from vtcc.engine.prior import Prior
from vtcc.engine.views import FeatureViews, Views

FIXED_SEED = 20220627  # of the views and of the subset: the same for every training seed
CHUNK = 512


@torch.no_grad()
def score_heads(
    model: VTCC,
    data: Pixels | FeatureViews,
    views: Views,
    params: Train,
    kernels: Kernels,
    prior: Prior | None = None,
) -> list[dict[str, Any]]:
    """Label-free figures of every cluster head, in eval mode.

    Every call sees the same images and the same `selection.views` augmented pairs of them,
    whatever the training seed. The cluster loss is taken over all scored images at once.

    Returns:
        Per head: head, cluster_loss, instance_loss (the same for all), clusters_used,
        smallest_cluster (share of images), entropy (of the mean assignment, over log K) and
        confidence (mean of the largest probability).
    """
    rng = torch.Generator().manual_seed(FIXED_SEED)
    index = torch.randperm(len(data), generator=rng)[: params.selection.images]
    # Centroids, where they assign, count as one head.
    heads = 1 if model.has_centroids else len(model.cluster_projectors)
    K = params.num_clusters
    losses, instance = torch.zeros(heads), 0.0
    counts, mass, confidence = torch.zeros(heads, K), torch.zeros(heads, K), torch.zeros(heads)
    was_training = model.training
    model.eval()
    for number in range(params.selection.views):
        g = torch.Generator(kernels.device).manual_seed(FIXED_SEED + 1 + number)
        assigned: list[tuple[Tensor, Tensor]] = []
        for part in index.split(CHUNK):
            x = data.take(part)
            x_a, x_b = (views.view(x, g, second=second) for second in (False, True))
            with kernels.autocast():
                z_a, z_b, p_a, p_b = _both(model, x_a, x_b)
            if model.instance_projector is not None:
                temperature = params.loss.instance_temperature
                share = len(part) / len(index)
                instance += float(instance_loss(z_a, z_b, temperature)) * share
            assigned.append((p_a.cpu(), p_b.cpu()))
        p_a, p_b = (torch.cat(side, dim=1) for side in zip(*assigned, strict=True))
        for head in range(heads):
            losses[head] += cluster_loss(
                p_a[head],
                p_b[head],
                params.loss.cluster_temperature,
                params.loss.entropy_weight,
                prior.of(head) if prior and not model.has_centroids else None,
            )
            counts[head] += torch.bincount(p_a[head].argmax(1), minlength=K)
        mass += p_a.mean(dim=1)
        confidence += p_a.amax(dim=2).mean(dim=1)
    model.train(was_training)
    pairs = params.selection.views
    losses, mass, confidence = losses / pairs, mass / pairs, confidence / pairs
    entropy = -torch.xlogy(mass, mass).sum(dim=1) / torch.tensor(float(K)).log()
    return [
        {
            "head": head,
            "cluster_loss": float(losses[head]),
            "instance_loss": instance / pairs,
            "clusters_used": int((counts[head] > 0).sum()),
            "smallest_cluster": float(counts[head].min() / counts[head].sum()),
            "entropy": float(entropy[head]),
            "confidence": float(confidence[head]),
        }
        for head in range(heads)
    ]


def _both(model: VTCC, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`model(x_a, x_b)`, with centroids in the place of cluster heads where they assign."""
    if not model.has_centroids:
        return model.forward(x_a, x_b)
    h_a, h_b = model.embed(x_a), model.embed(x_b)
    p_a, p_b = model.assign_embedding(h_a)[None], model.assign_embedding(h_b)[None]
    return model.project(h_a)[0], model.project(h_b)[0], p_a, p_b


@torch.no_grad()
def place_centroids(model: VTCC, data: Pixels | FeatureViews, views: Views, params: Train) -> None:
    """k-means on the plain training images' z or embedding, where that is how models assign."""
    if not model.has_centroids:
        return
    was_training = model.training
    model.eval()
    points = torch.cat(
        [
            model.centroid_space(model.embed(views.plain(data.take(part)))).cpu()
            for part in torch.arange(len(data)).split(CHUNK)
        ]
    )
    model.centroids.copy_(unit_kmeans(points, params.num_clusters, seed=params.seed))
    model.train(was_training)
