"""The losses of one step, from raw pixels: views, forward passes, contrast or self-labelling."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vtcc.config import Train
from vtcc.engine.augment import plain, view
from vtcc.engine.guard import spread_and_agreement
from vtcc.engine.kernels import Kernels
from vtcc.engine.losses import cluster_loss, instance_loss
from vtcc.engine.model import VTCC
from vtcc.engine.prior import Prior
from vtcc.engine.self_label import self_label_loss


@dataclass(frozen=True)
class Losses:
    """Of one step: instance (), cluster (heads,), over (overcluster heads,), p (heads, N, K).

    `health` (2,): spread and agreement of the embedding (`guard.spread_and_agreement`), or None.
    """

    instance: Tensor
    cluster: Tensor
    over: Tensor
    p: Tensor
    health: Tensor | None = None

    def total(self) -> Tensor:
        """Their sum, heads averaged; what a projector that is left out would add is 0."""
        loss = self.instance
        for heads in (self.cluster, self.over):
            if len(heads):
                loss = loss + heads.mean()
        return loss


class Objective:
    """What a training minimises, in its two phases.

    Args:
        model: in train mode, on the kernels' device.
        params: the `train` section.
        kernels: precision of the forward passes; losses are fp32.
        mean, std: C floats each, of the pixels in range 0-1.
        prior: cluster sizes that the entropy term pulls to.
    """

    def __init__(
        self,
        model: VTCC,
        params: Train,
        kernels: Kernels,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        prior: Prior,
    ):
        self._model, self._params, self._kernels = model, params, kernels
        self._prior = prior
        # On the device once: a copy to a GPU in every step would make the CPU wait for it.
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(mean, device=kernels.device).view(shape)
        self._std = torch.tensor(std, device=kernels.device).view(shape)
        # Compiled apart from the model: scoring, checkpoints and prediction see it as it is.
        self._trained_pass = torch.compile(self._pass) if kernels.compile else self._pass

    def contrast(self, x: Tensor, generator: torch.Generator) -> Losses:
        """x: (B, C, H, W) uint8 -> the paper's losses on two views of every image."""
        model, loss = self._model, self._params.loss
        x_a = self._view(x, generator)
        x_b = self._view(x, generator, second=True)
        with self._kernels.autocast():
            h_a, z_a, p_a, o_a = self._trained_pass(x_a)
            h_b, z_b, p_b, o_b = self._trained_pass(x_b)
        instance = p_a.new_zeros(())
        if model.instance_projector is not None:
            instance = instance_loss(z_a, z_b, loss.instance_temperature)
        temperature, weight = loss.cluster_temperature, loss.entropy_weight
        cluster = [
            cluster_loss(a, b, temperature, weight, self._prior.of(head))
            for head, (a, b) in enumerate(zip(p_a, p_b, strict=True))
        ]
        over = [cluster_loss(a, b, temperature, weight) for a, b in zip(o_a, o_b, strict=True)]
        u_a, u_b = (z_a, z_b) if model.instance_projector is not None else (h_a, h_b)
        health = spread_and_agreement(u_a, u_b)
        return Losses(instance, _stack(cluster, instance), _stack(over, instance), p_a, health)

    def self_label(self, x: Tensor, generator: torch.Generator) -> Losses:
        """x: (B, C, H, W) uint8 -> cross entropy of a view against confident plain images."""
        model = self._model
        x_a = self._view(x, generator)
        x_plain = self._normalize(plain(x, self._params.image_size))
        model.eval()
        # A context of its own: autocast would hand weights cast here, without gradient, to below.
        with self._kernels.autocast(), torch.no_grad():
            _, p = model.project(model.encoder(x_plain))
        model.train()
        with self._kernels.autocast():
            _, _, p_a, _ = self._trained_pass(x_a)
        threshold = self._params.self_label.threshold
        cluster = [self_label_loss(w, s, threshold) for w, s in zip(p, p_a, strict=True)]
        instance = p_a.new_zeros(())
        return Losses(instance, _stack(cluster, instance), _stack([], instance), p_a)

    def _view(self, x: Tensor, generator: torch.Generator, *, second: bool = False) -> Tensor:
        params = self._params
        x = view(x, params.augment, params.image_size, generator, second=second)
        return self._normalize(x)

    def _normalize(self, x: Tensor) -> Tensor:
        x = (x - self._mean) / self._std
        return x.to(memory_format=torch.channels_last) if self._kernels.channels_last else x

    def _pass(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One view (B, C, S, S) -> h, z, p and the p of the over-clustering heads."""
        h = self._model.encoder(x)
        return (h, *self._model.project(h), self._model.overcluster(h))


def _stack(losses: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(losses) if losses else like.new_zeros(0)
