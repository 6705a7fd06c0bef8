"""VTCC: one encoder, an instance projector and one or more cluster projectors."""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtcc import encoders
from vtcc.config import Model
from vtcc.engine.frozen import FrozenEncoder, Reduction
from vtcc.engine.timm_encoder import TimmEncoder
from vtcc.engine.vit import VisionTransformer

# Similarity to a centroid over this gives the odds of its cluster, where centroids assign.
CENTROID_TEMPERATURE = 0.1


def projector(in_dim: int, out_dim: int) -> nn.Sequential:
    """Linear d->4d, BatchNorm, ReLU, Linear 4d->4d, BatchNorm, ReLU, Linear 4d->out."""
    hidden = 4 * in_dim
    return nn.Sequential(
        nn.Linear(in_dim, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out_dim),
    )


class VTCC(nn.Module):
    """Contrastive clustering with a vision transformer (arXiv 2206.12925, section 3).

    Args:
        encoder: maps (N, C, S, S) to (N, d) and has the attribute `embed_dim` = d.
        num_clusters: K, at least 2.
        feature_dim: length of the instance features z.
        num_cluster_heads: cluster projectors trained side by side on the same encoder.
        projectors: "both", or "instance" or "cluster" alone (the paper's ablation). Without
            cluster projectors, clusters are centroids of the unit embedding, `centroids` (K, d).
        assign: "heads", or "instance": clusters are centroids of z, `centroids` (K, feature_dim).
        overcluster_heads: further cluster projectors, of `overcluster_clusters` clusters each,
            that only shape the encoder.
    """

    selected_head: Tensor
    centroids: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        num_clusters: int,
        feature_dim: int = 128,
        num_cluster_heads: int = 1,
        *,
        projectors: str = "both",
        assign: str = "heads",
        overcluster_heads: int = 0,
        overcluster_clusters: int = 0,
    ):
        super().__init__()
        d = int(encoder.embed_dim)  # type: ignore[arg-type]
        heads = 0 if projectors == "instance" else num_cluster_heads
        self.num_clusters = num_clusters
        self.encoder = encoder
        self.instance_projector = None if projectors == "cluster" else projector(d, feature_dim)
        self.cluster_projectors = nn.ModuleList(projector(d, num_clusters) for _ in range(heads))
        self.overcluster_projectors = nn.ModuleList(
            projector(d, overcluster_clusters) for _ in range(overcluster_heads)
        )
        self.has_centroids = assign == "instance" or projectors == "instance"
        self._of_instances = assign == "instance"
        if self.has_centroids:
            length = feature_dim if self._of_instances else d
            self.register_buffer("centroids", torch.zeros(num_clusters, length))
        self.register_buffer("selected_head", torch.zeros((), dtype=torch.int64))

    @property
    def second_half(self) -> range:
        """The cluster projectors that `restart_heads` draws anew; none of one."""
        count = len(self.cluster_projectors)
        return range((count + 1) // 2, count)

    def restart_heads(self, seed: int) -> list[nn.Parameter]:
        """Gives the second half of the cluster projectors new weights, drawn from `seed`.

        Returns:
            These weights; none of a model with one cluster projector.
        """
        heads = [self.cluster_projectors[head] for head in self.second_half]
        with torch.random.fork_rng(devices=[]):
            # On the CPU, by its generator alone: `torch.manual_seed` would seed the GPUs' too.
            torch.default_generator.manual_seed(seed)
            for head in heads:
                in_dim = cast(nn.Linear, cast(nn.Sequential, head)[0]).in_features
                head.load_state_dict(projector(in_dim, self.num_clusters).state_dict())
        return [weight for head in heads for weight in head.parameters()]

    def forward(self, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Two views (N, C, S, S) -> z_a, z_b (N, feature_dim), p_a, p_b (heads, N, K).

        z has unit rows, p rows that sum to 1; both float32. What a projector that is left out
        would give is empty: (N, 0) or (0, N, K). The views pass one after the other, as in the
        paper: one joint pass would change the BatchNorm statistics.
        """
        z_a, p_a = self.project(self.encoder(x_a))
        z_b, p_b = self.project(self.encoder(x_b))
        return z_a, z_b, p_a, p_b

    def project(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h: (N, d) -> z: (N, feature_dim) with unit rows, p: (heads, N, K)."""
        if self.instance_projector is None:
            z = h.new_empty(len(h), 0, dtype=torch.float32)
        else:
            z = F.normalize(self.instance_projector(h).float(), dim=1)
        return z, _assignments(self.cluster_projectors, h, self.num_clusters)

    def overcluster(self, h: Tensor) -> Tensor:
        """h: (N, d) -> (overcluster_heads, N, overcluster_clusters), rows that sum to 1."""
        return _assignments(self.overcluster_projectors, h, 0)

    def embed(self, x: Tensor) -> Tensor:
        """x: (N, C, S, S) -> h: (N, d)."""
        h: Tensor = self.encoder(x)
        return h

    def centroid_space(self, h: Tensor) -> Tensor:
        """h: (N, d) -> unit rows, float32, in the space of `centroids`: z, or h itself."""
        if self._of_instances:
            h = cast(nn.Sequential, self.instance_projector)(h)
        return F.normalize(h.float(), dim=1)

    def assign(self, x: Tensor) -> Tensor:
        """x: (N, C, S, S) -> p: (N, K) of the selected head."""
        return self.assign_embedding(self.embed(x))

    def assign_embedding(self, h: Tensor) -> Tensor:
        """h: (N, d) -> p: (N, K) of the selected head, or by the centroids where they assign."""
        if self.has_centroids:
            similarity = self.centroid_space(h) @ self.centroids.T
            return (similarity / CENTROID_TEMPERATURE).softmax(dim=1)
        logits: Tensor = self.cluster_projectors[int(self.selected_head)](h)
        return logits.float().softmax(dim=1)


def _assignments(projectors: nn.ModuleList, h: Tensor, K: int) -> Tensor:
    if not projectors:
        return h.new_empty(0, len(h), K, dtype=torch.float32)
    return torch.stack([head(h).float().softmax(dim=1) for head in projectors])


def build(
    model: Model,
    num_clusters: int,
    *,
    image_size: int,
    channels: int,
    fused_attention: bool = True,
    pretrained: bool = False,
    resolved: encoders.ResolvedWeights | None = None,
) -> VTCC:
    """Makes an untrained VTCC from the `train.model` section of params.yaml.

    Args:
        model: the section. num_clusters: K. image_size: side of a view in pixels.
        channels: of the images.
        fused_attention: torch's fused kernel in our encoder.
        pretrained: read weights into a pretrained encoder: `model.weights`, else for one that
            has a card those on this machine. A saved model brings its own.
        resolved: the weights of the encoder's card, where the caller has found them.

    Raises:
        VtccError: on an encoder that does not exist, whose weights are not on this machine, or
            do not fit.
    """
    encoder = build_encoder(
        model,
        image_size=image_size,
        channels=channels,
        fused_attention=fused_attention,
        pretrained=pretrained,
        resolved=resolved,
    )
    return with_projectors(encoder, model, num_clusters)


def build_encoder(
    model: Model,
    *,
    image_size: int,
    channels: int,
    fused_attention: bool = True,
    pretrained: bool = False,
    resolved: encoders.ResolvedWeights | None = None,
) -> nn.Module:
    """The encoder of `build` alone, with the attribute `embed_dim`.

    A frozen one with components is a `FrozenEncoder`, whose reduction has yet to be set.

    Args:
        model, image_size, channels, fused_attention, pretrained, resolved: as of `build`.

    Raises:
        VtccError: as `build`.
    """
    encoder: nn.Module
    if model.encoder == "vit":
        encoder = VisionTransformer(
            image_size=image_size,
            channels=channels,
            stem=model.stem,
            patch_size=model.patch_size,
            embed_dim=model.embed_dim,
            depth=model.depth,
            num_heads=model.num_heads,
            mlp_ratio=model.mlp_ratio,
            positions=model.positions,
            fused_attention=fused_attention,
        )
    else:
        name, weights = model.encoder.removeprefix("timm:"), model.weights if pretrained else ""
        if name == model.encoder:
            if pretrained and resolved is None:
                resolved = resolve_encoder(model)
            name = encoders.card(name).timm
            weights = str(resolved.file) if resolved else ""
        encoder = TimmEncoder(
            name,
            image_size=image_size,
            channels=channels,
            weights=weights,
            frozen=model.frozen,
        )
        if model.components:
            encoder = FrozenEncoder(encoder, model.components)
    return encoder


def resolve_encoder(model: Model) -> encoders.ResolvedWeights:
    """The weights of an encoder that has a card, on this machine.

    Raises:
        VtccError: when they are not here.
    """
    return encoders.resolve(model.encoder, weights=Path(model.weights) if model.weights else None)


def with_projectors(encoder: nn.Module, model: Model, num_clusters: int) -> VTCC:
    """The encoder under untrained projectors of the `train.model` section.

    Args:
        encoder: with the attribute `embed_dim`. model: the section. num_clusters: K.
    """
    return VTCC(
        encoder,
        num_clusters,
        model.feature_dim,
        model.num_cluster_heads,
        projectors=model.projectors,
        assign=model.assign,
        overcluster_heads=model.overcluster_heads,
        overcluster_clusters=model.overcluster_clusters,
    )


def with_frozen_encoder(
    trained: VTCC, model: Model, reduction: Reduction | None, *, image_size: int, channels: int
) -> VTCC:
    """A model that was trained on features, with the encoder in the place of its input.

    Args:
        trained: of `loop.Fitted.choose`. model: the `train.model` section.
        reduction: of the features; None where they were trained on as they are.
        image_size: side in pixels of what the encoder sees. channels: of the images.
    """
    encoder = build_encoder(model, image_size=image_size, channels=channels, pretrained=True)
    if reduction is not None:
        cast(FrozenEncoder, encoder).set_reduction(reduction)
    trained.encoder = encoder
    return trained.eval()


def parameter_count(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
