"""The losses of one step, from raw pixels: views, forward passes, contrast or self-labelling."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtcc.config import Train
from vtcc.engine.distributed import ALONE, Team
from vtcc.engine.frozen import FeatureInput
from vtcc.engine.guard import spread_and_agreement
from vtcc.engine.kernels import Kernels
from vtcc.engine.losses import cluster_losses, instance_loss
from vtcc.engine.model import VTCC
from vtcc.engine.prior import Prior
from vtcc.engine.self_label import self_label_loss
from vtcc.engine.views import PixelViews, Views
from vtcc.engine.vit import VisionTransformer

# The seed of what is random in the first (0) or second (1) view of this step.
Seeds = Callable[[int], int]


@dataclass(frozen=True)
class Losses:
    """Of one step: instance (), cluster (heads,), over (overcluster heads,), p (heads, N, K).

    `pair`: the embeddings of both views that `health` is computed from, or None.
    """

    instance: Tensor
    cluster: Tensor
    over: Tensor
    p: Tensor
    pair: tuple[Tensor, Tensor] | None = None

    def health(self) -> Tensor | None:
        """(2,): spread and agreement of the embedding (`guard.spread_and_agreement`), or None."""
        return None if self.pair is None else spread_and_agreement(*self.pair)

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
        mean, std: C floats each, of the pixels in range 0-1; without effect on other `views`.
        prior: cluster sizes that the entropy term pulls to.
        team: the processes that share every batch; losses are those of the whole batch.
        views: of what a step is given; None: augmented views of pixels.
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
        views: Views | None = None,
    ):
        self._model, self._params, self._kernels = model, params, kernels
        self._prior, self._team = prior, team
        self._parallel: tuple[str, Callable[..., Any]] | None = None
        self._views = views or PixelViews(params, mean, std, kernels.device)
        # Compiled apart from the model: scoring, checkpoints and prediction see it as it is.
        self._trained_pass = torch.compile(self._pass) if kernels.compile else self._pass
        self._generator = torch.Generator(kernels.device)

    def contrast(self, x: Tensor, seeds: Seeds) -> Losses:
        """x: this process's images, as `views` take them -> the paper's losses on two views."""
        forward = self._exchanging("contrast", [self._model], self._both_views)
        outputs = forward(*(self._view(x, seeds, side) for side in (0, 1)))
        u_a, u_b, p_a, p_b, o_a, o_b = self._team.gather(self._params.batch_size, *outputs)
        loss = self._params.loss
        instance = p_a.new_zeros(())
        if self._model.instance_projector is not None:
            instance = instance_loss(u_a, u_b, loss.instance_temperature)
        temperature, weight = loss.cluster_temperature, loss.entropy_weight
        cluster = cluster_losses(p_a, p_b, temperature, weight, self._prior.sizes)
        over = cluster_losses(o_a, o_b, temperature, weight)
        return Losses(instance, cluster, over, p_a, (u_a.detach(), u_b.detach()))

    def backward(self, losses: Losses) -> Tensor:
        """Adds the gradients of all weights that were trained on.

        Args:
            losses: of `contrast` or `self_label`, once.

        Returns:
            The total loss, scalar, without a graph.
        """
        total = losses.total()
        self._team.backward(total)
        return total.detach()

    def self_label(self, x: Tensor, seeds: Seeds) -> Losses:
        """x: (B, C, H, W) uint8, this process's -> cross entropy of a view of every image
        against confident plain ones, over the whole batch.
        """
        model = self._model
        trained = [model.encoder, model.cluster_projectors]
        forward = self._exchanging("self_label", trained, self._one_view)
        x_a = self._view(x, seeds, 0)
        self._team.share_buffers(model)
        model.eval()
        p = self._labels(x)
        model.train()
        p_a = forward(x_a)
        p, p_a = self._team.gather(self._params.batch_size, p, p_a)
        threshold = self._params.self_label.threshold
        cluster = [self_label_loss(w, s, threshold) for w, s in zip(p, p_a, strict=True)]
        instance = p_a.new_zeros(())
        cluster_loss = torch.stack(cluster) if cluster else instance.new_zeros(0)
        return Losses(instance, cluster_loss, instance.new_zeros(0), p_a)

    def _labels(self, x: Tensor) -> Tensor:
        """p of plain images by the model in eval mode, without a graph."""
        x = self._laid_out(self._views.plain(x))
        # A context of its own: autocast would hand weights cast here, without gradient, to others.
        with self._kernels.autocast(), torch.no_grad():
            return self._model.project(self._model.encoder(x))[1]

    def _both_views(self, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, ...]:
        """Both views, one after the other: u_a, u_b, p_a, p_b, o_a, o_b."""
        return tuple(
            itertools.chain.from_iterable(zip(*map(self._outputs, (x_a, x_b)), strict=True))
        )

    def _outputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a step needs of a view: u, which is z or h where instances are not contrasted, p
        and the p of over-clustering heads.
        """
        # A context for each view: gradients of weights cast for both would be summed in bf16.
        with self._kernels.autocast():
            h, z, p, over = self._trained_pass(x)
        return (h if self._model.instance_projector is None else z).float(), p, over

    def _one_view(self, x: Tensor) -> Tensor:
        with self._kernels.autocast():
            return self._trained_pass(x)[2]

    def _exchanging(
        self, phase: str, trained: list[nn.Module], forward: Callable[..., Any]
    ) -> Callable[..., Any]:
        """`forward` with its gradients exchanged, made once when its phase begins."""
        if self._parallel is None or self._parallel[0] != phase:
            # Weights of a timm model may take no part; of ours all do.
            ours = isinstance(self._model.encoder, VisionTransformer | FeatureInput)
            self._parallel = phase, self._team.parallel(trained, forward, all_used=ours)
        return self._parallel[1]

    def _view(self, x: Tensor, seeds: Seeds, side: int) -> Tensor:
        generator = self._generator.manual_seed(seeds(side))
        return self._laid_out(self._views.view(x, generator, second=bool(side)))

    def _laid_out(self, x: Tensor) -> Tensor:
        last = self._kernels.channels_last and x.ndim == 4
        return x.to(memory_format=torch.channels_last) if last else x

    def _pass(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One view, as the encoder takes it -> h, z, p and the p of the over-clustering heads."""
        h = self._model.encoder(x)
        return (h, *self._model.project(h), self._model.overcluster(h))
