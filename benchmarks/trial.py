"""One step of a training on given pixels, outside a training."""

import torch
from torch import Tensor

from vtcc.config import Train
from vtcc.engine.kernels import Kernels
from vtcc.engine.model import build
from vtcc.engine.objective import Objective
from vtcc.engine.optim import make_optimizer
from vtcc.engine.prior import Prior
from vtcc.engine.schedule import view_seeds


class Trial:
    """A model, its objective and optimiser; the weights are thrown away.

    Args:
        params: the `train` section. kernels: what to run it with. channels: of the images.
    """

    def __init__(self, params: Train, kernels: Kernels, channels: int):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build(
                params.model,
                params.num_clusters,
                image_size=params.image_size,
                channels=channels,
                fused_attention=kernels.fused_attention,
            )
        self.model = kernels.placed(model).train()
        self.optimizer = make_optimizer(self.model, params.optimizer)
        half = (0.5,) * channels
        self.objective = Objective(self.model, params, kernels, half, half, Prior(params))
        self.seed, self.number = params.seed, 0

    def step(self, x: Tensor) -> None:
        """x: (B, C, H, W) uint8 on the device -> new weights."""
        losses = self.objective.contrast(x, view_seeds(self.seed, self.number))
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.backward(losses)
        self.optimizer.step()
        self.number += 1
