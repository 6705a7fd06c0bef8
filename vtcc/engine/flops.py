"""How much arithmetic a training costs, counted without doing it."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from vtcc.config import Train
from vtcc.engine.frozen import FeatureInput
from vtcc.engine.model import build, with_projectors

COUNTED = 2  # images; BatchNorm needs more than one


def flops_per_image(params: Train, channels: int, features: int = 0) -> float:
    """Floating-point operations per image trained: both views, forward and backward.

    Counts the matrix products and convolutions of encoder and projectors, two operations per
    multiply-add; augmentation, norms and losses are not in it. The model lives on torch's meta
    device: no memory, no time to speak of.

    Args:
        params: the `train` section.
        channels: of the images.
        features: d, where a frozen encoder's features are trained on; 0: pixels are.
    """
    with torch.device("meta"):
        if features:
            model = with_projectors(FeatureInput(features), params.model, params.num_clusters)
            x = torch.empty(COUNTED, features)
        else:
            model = build(
                params.model,
                params.num_clusters,
                image_size=params.image_size,
                channels=channels,
                fused_attention=False,  # the same arithmetic, in products that are counted
            )
            x = torch.empty(COUNTED, channels, params.image_size, params.image_size)
    model.train()
    with FlopCounterMode(display=False) as counter:
        h = model.encoder(x)
        z, p = model.project(h)
        outputs = [o for o in (z, p, model.overcluster(h)) if o.numel()]
        sum(o.sum() for o in outputs).backward()  # type: ignore[union-attr]
    return float(2 * counter.get_total_flops() / COUNTED)
