"""A cluster projector taught a given grouping of the images, on the encoder as it is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from vtcc.config import Model
from vtcc.engine.augment import normalize
from vtcc.engine.model import VTCC, build

VIEWS = 6  # random views of each image, beside the image as it is
STEPS, BATCH = 600, 256
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
SMOOTHING = 0.02


def teach(
    trained: VTCC,
    model: Model,
    groups: np.ndarray,
    num_clusters: int,
    *,
    plain: Callable[[np.ndarray], torch.Tensor],
    views: Callable[[np.ndarray, torch.Generator], torch.Tensor],
    image_size: int,
    channels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> VTCC:
    """A copy of a model with one cluster projector, taught `groups` by cross-entropy.

    Encoder and instance projector stay. The projector sees each image as it is and in random
    views, so that what it says holds for images that look a little different.

    Args:
        trained: in eval mode on the CPU. model: its parameters.
        groups: (N,) integers below num_clusters; -1 for images not to learn from.
        plain: rows -> (n, C, s, s) in 0-1. views: rows and a generator -> the same, augmented.
        on_progress: called with embeddings done and to do.
    """
    torch.manual_seed(seed)
    chosen = replace(model, num_cluster_heads=1, projectors="both", overcluster_heads=0, weights="")
    made = build(
        replace(chosen, frozen=False), num_clusters, image_size=image_size, channels=channels
    )
    made.encoder.load_state_dict(trained.encoder.state_dict())
    if trained.instance_projector is not None and made.instance_projector is not None:
        made.instance_projector.load_state_dict(trained.instance_projector.state_dict())
    made.eval()
    rows = np.flatnonzero(groups >= 0)
    target = torch.from_numpy(groups[rows].astype(np.int64))
    generator = torch.Generator().manual_seed(seed)
    embedded = []
    with torch.inference_mode():
        for view in range(VIEWS + 1):
            parts = []
            for start in range(0, len(rows), 512):
                part = rows[start : start + 512]
                x = plain(part) if not view else views(part, generator)
                parts.append(made.embed(normalize(x.float(), mean, std)).float())
            embedded.append(torch.cat(parts))
            on_progress(view + 1, VIEWS + 1)
    h = torch.stack(embedded).clone()  # (views, n, d), no longer of inference mode
    head = made.cluster_projectors[0]
    head.train()
    optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE * 3, STEPS)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    size = min(BATCH, len(rows))
    for _ in range(STEPS):
        which = torch.randint(len(rows), (size,), generator=generator)
        of = torch.randint(len(h), (size,), generator=generator)
        if size < 2:
            break
        loss = loss_of(head(h[of, which]).float(), target[which])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return made.eval()
