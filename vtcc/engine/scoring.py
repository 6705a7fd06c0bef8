"""Scores every cluster head on fixed views, so that checkpoints and heads compare fairly."""

from typing import Any

import torch
from torch import Tensor

from vtcc.config import Train
from vtcc.engine.augment import normalize, view
from vtcc.engine.kernels import Kernels
from vtcc.engine.losses import cluster_loss, instance_loss
from vtcc.engine.model import VTCC
from vtcc.engine.pixels import Pixels

FIXED_SEED = 20220627  # of the views and of the subset: the same for every training seed
CHUNK = 512


@torch.no_grad()
def score_heads(
    model: VTCC,
    pixels: Pixels,
    params: Train,
    kernels: Kernels,
    mean: tuple[float, ...],
    std: tuple[float, ...],
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
    index = torch.randperm(len(pixels), generator=rng)[: params.selection.images]
    heads, K = params.model.num_cluster_heads, params.num_clusters
    losses, instance = torch.zeros(heads), 0.0
    counts, mass, confidence = torch.zeros(heads, K), torch.zeros(heads, K), torch.zeros(heads)
    was_training = model.training
    model.eval()
    for number in range(params.selection.views):
        g = torch.Generator(kernels.device).manual_seed(FIXED_SEED + 1 + number)
        assigned: list[tuple[Tensor, Tensor]] = []
        for part in index.split(CHUNK):
            x = pixels.take(part)
            x_a = normalize(view(x, params.augment, params.image_size, g), mean, std)
            x_b = normalize(view(x, params.augment, params.image_size, g, second=True), mean, std)
            with kernels.autocast():
                z_a, z_b, p_a, p_b = model(x_a, x_b)
            temperature = params.loss.instance_temperature
            share = len(part) / len(index)
            instance += float(instance_loss(z_a, z_b, temperature)) * share
            assigned.append((p_a.cpu(), p_b.cpu()))
        p_a, p_b = (torch.cat(side, dim=1) for side in zip(*assigned, strict=True))
        for head in range(heads):
            losses[head] += cluster_loss(
                p_a[head], p_b[head], params.loss.cluster_temperature, params.loss.entropy_weight
            )
            counts[head] += torch.bincount(p_a[head].argmax(1), minlength=K)
        mass += p_a.mean(dim=1)
        confidence += p_a.amax(dim=2).mean(dim=1)
    model.train(was_training)
    views = params.selection.views
    losses, mass, confidence = losses / views, mass / views, confidence / views
    entropy = -torch.xlogy(mass, mass).sum(dim=1) / torch.tensor(float(K)).log()
    return [
        {
            "head": head,
            "cluster_loss": float(losses[head]),
            "instance_loss": instance / views,
            "clusters_used": int((counts[head] > 0).sum()),
            "smallest_cluster": float(counts[head].min() / counts[head].sum()),
            "entropy": float(entropy[head]),
            "confidence": float(confidence[head]),
        }
        for head in range(heads)
    ]
