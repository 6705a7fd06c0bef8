"""A cluster projector taught a given grouping of the images, on the encoder as it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from vtcc.config import Model
from vtcc.engine.model import VTCC, with_projectors

VIEWS = 6  # random views of each image, beside the image as it is
BATCH, PASSES = 256, 30  # images of a step; passes over all of them
STEPS = 300, 600  # at least and at most
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
SMOOTHING = 0.02


@torch.inference_mode()
def embed_views(
    model: VTCC,
    rows: np.ndarray,
    *,
    plain: Callable[[np.ndarray], Tensor],
    views: Callable[[np.ndarray, torch.Generator], Tensor],
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Embeddings of images as they are and in random views, (VIEWS + 1, n, d) float32.

    Args:
        model: in eval mode on the CPU. rows: (n,) of the images.
        plain: rows -> normalised images. views: rows and a generator -> the same, augmented.
        on_progress: called with views done and their number.
    """
    generator = torch.Generator().manual_seed(seed)
    embedded = []
    for view in range(VIEWS + 1):
        parts = []
        for start in range(0, len(rows), 512):
            part = rows[start : start + 512]
            parts.append(model.embed(views(part, generator) if view else plain(part)).float())
        embedded.append(torch.cat(parts))
        on_progress(view + 1, VIEWS + 1)
    return torch.stack(embedded)


def teach(
    trained: VTCC, model: Model, h: Tensor, groups: np.ndarray, num_clusters: int, *, seed: int
) -> VTCC:
    """A model with one cluster projector, taught `groups` by cross-entropy.

    Encoder and instance projector are the trained ones. The projector sees each image as it is
    and in random views, so that what it says holds for images that look a little different.

    Args:
        trained: in eval mode on the CPU. model: its parameters.
        h: (views, n, d) embeddings of the images to learn from.
        groups: (n,) integers below num_clusters.
        num_clusters: K. seed: of weights and batches.
    """
    torch.manual_seed(seed)
    section = replace(
        model, num_cluster_heads=1, projectors="both", assign="heads", overcluster_heads=0
    )
    taught = with_projectors(trained.encoder, section, num_clusters)
    if trained.instance_projector is not None:
        taught.instance_projector = trained.instance_projector
    taught.eval()
    h, target = h.clone(), torch.from_numpy(groups.astype(np.int64))  # no longer of inference mode
    head = taught.cluster_projectors[0]
    size = min(BATCH, len(target))
    if size < 2:
        return taught
    head.train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = min(max(PASSES * len(target) // size, STEPS[0]), STEPS[1])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE * 3, steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for _ in range(steps):
        which = torch.randint(len(target), (size,), generator=generator)
        of = torch.randint(len(h), (size,), generator=generator)
        loss = loss_of(head(h[of, which]).float(), target[which])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return taught.eval()


def calibrate(taught: VTCC, h: Tensor, reference: np.ndarray) -> float:
    """Makes confidence mean agreement: softens the head until it foretells an independent grouping.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599) with the clusters of another training,
    matched one to one, in the place of labels. The order of the clusters of an image stays.

    Args:
        taught: of `teach`; its head's last layer is divided by the temperature.
        h: (n, d) embeddings of images as they are. reference: (n,) integers of the other grouping.

    Returns:
        The temperature, at least 1.
    """
    from scipy.optimize import linear_sum_assignment

    head = taught.cluster_projectors[0]
    with torch.no_grad():
        logits = head(h).float()
    K = logits.shape[1]
    own = logits.argmax(dim=1).numpy()
    names, other = np.unique(reference, return_inverse=True)
    table = np.zeros((K, max(K, len(names))))
    np.add.at(table, (own, other), 1)
    clusters, partners = linear_sum_assignment(-table)
    of = np.full(table.shape[1], -1)
    of[partners] = clusters
    target = torch.from_numpy(of[other])
    matched = target >= 0
    agreement = float((target == torch.from_numpy(own)).float().mean())

    def loss(temperature: float) -> float:
        p = (logits / temperature).softmax(dim=1)
        # Images whose partner cluster has no match agree with none: their confidence is mistaken.
        right = p[matched].gather(1, target[matched, None])[:, 0].clamp_min(1e-12).log()
        wrong = (1 - p[~matched].amax(dim=1)).clamp_min(1e-12).log()
        return -float(right.sum() + wrong.sum()) / len(p)

    temperatures = np.geomspace(1.0, 30.0, 60)
    best = float(temperatures[int(np.argmin([loss(float(t)) for t in temperatures]))])
    if agreement >= 1.0:
        best = 1.0
    last = cast(nn.Linear, cast(nn.Sequential, head)[-1])
    with torch.no_grad():
        last.weight.div_(best)
        last.bias.div_(best)
    return best
