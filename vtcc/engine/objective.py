"""The losses of one step, from raw pixels: views, forward passes, contrast or self-labelling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtcc.config import Train
from vtcc.engine.augment import plain, view
from vtcc.engine.distributed import ALONE, Team
from vtcc.engine.guard import spread_and_agreement
from vtcc.engine.kernels import Kernels
from vtcc.engine.losses import cluster_loss, instance_loss
from vtcc.engine.model import VTCC
from vtcc.engine.prior import Prior
from vtcc.engine.self_label import self_label_loss
from vtcc.engine.vit import VisionTransformer


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
        team: the processes that share every batch; losses are those of the whole batch.
    """

    def __init__(
        self,
        model: VTCC,
        params: Train,
        kernels: Kernels,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        prior: Prior,
        team: Team = ALONE,
    ):
        self._model, self._params, self._kernels = model, params, kernels
        self._prior, self._team = prior, team
        self._parallel: tuple[str, Callable[..., Any]] | None = None
        # On the device once: a copy to a GPU in every step would make the CPU wait for it.
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(mean, device=kernels.device).view(shape)
        self._std = torch.tensor(std, device=kernels.device).view(shape)
        # Compiled apart from the model: scoring, checkpoints and prediction see it as it is.
        self._trained_pass = torch.compile(self._pass) if kernels.compile else self._pass

    def contrast(self, x: Tensor, generator: torch.Generator) -> Losses:
        """x: (B, C, H, W) uint8, this process's -> the paper's losses on two views of all."""
        model, loss = self._model, self._params.loss
        forward = self._exchanging("contrast", [model], self._both_views)
        x_a = self._view(x, generator)
        x_b = self._view(x, generator, second=True)
        with self._kernels.autocast():
            outputs = forward(x_a, x_b)
        u_a, u_b, p_a, p_b, o_a, o_b = self._team.gather(self._params.batch_size, *outputs)
        instance = p_a.new_zeros(())
        if model.instance_projector is not None:
            instance = instance_loss(u_a, u_b, loss.instance_temperature)
        temperature, weight = loss.cluster_temperature, loss.entropy_weight
        cluster = [
            cluster_loss(a, b, temperature, weight, self._prior.of(head))
            for head, (a, b) in enumerate(zip(p_a, p_b, strict=True))
        ]
        over = [cluster_loss(a, b, temperature, weight) for a, b in zip(o_a, o_b, strict=True)]
        health = spread_and_agreement(u_a, u_b)
        return Losses(instance, _stack(cluster, instance), _stack(over, instance), p_a, health)

    def self_label(self, x: Tensor, generator: torch.Generator) -> Losses:
        """x: (B, C, H, W) uint8, this process's -> cross entropy of a view of every image
        against confident plain ones, over the whole batch.
        """
        model = self._model
        trained = [model.encoder, model.cluster_projectors]
        forward = self._exchanging("self_label", trained, self._one_view)
        x_a = self._view(x, generator)
        x_plain = self._normalize(plain(x, self._params.image_size))
        self._team.share_buffers(model)
        model.eval()
        # A context of its own: autocast would hand weights cast here, without gradient, to below.
        with self._kernels.autocast(), torch.no_grad():
            _, p = model.project(model.encoder(x_plain))
        model.train()
        with self._kernels.autocast():
            p_a = forward(x_a)
        p, p_a = self._team.gather(self._params.batch_size, p, p_a)
        threshold = self._params.self_label.threshold
        cluster = [self_label_loss(w, s, threshold) for w, s in zip(p, p_a, strict=True)]
        instance = p_a.new_zeros(())
        return Losses(instance, _stack(cluster, instance), _stack([], instance), p_a)

    def _both_views(self, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, ...]:
        """All that a step needs of both views: z, or h where instances are not contrasted, p and
        the p of over-clustering heads.
        """
        h_a, z_a, p_a, o_a = self._trained_pass(x_a)
        h_b, z_b, p_b, o_b = self._trained_pass(x_b)
        u_a, u_b = (z_a, z_b) if self._model.instance_projector is not None else (h_a, h_b)
        return u_a.float(), u_b.float(), p_a, p_b, o_a, o_b

    def _one_view(self, x: Tensor) -> Tensor:
        return self._trained_pass(x)[2]

    def _exchanging(
        self, phase: str, trained: list[nn.Module], forward: Callable[..., Any]
    ) -> Callable[..., Any]:
        """`forward` with its gradients exchanged, made once when its phase begins."""
        if self._parallel is None or self._parallel[0] != phase:
            # Weights of a timm model may take no part; of ours all do.
            ours = isinstance(self._model.encoder, VisionTransformer)
            self._parallel = phase, self._team.parallel(trained, forward, all_used=ours)
        return self._parallel[1]

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
