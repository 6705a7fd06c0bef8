"""VTCC: one encoder, an instance projector and one or more cluster projectors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtcc.config import Model
from vtcc.engine.vit import VisionTransformer


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
    """

    selected_head: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        num_clusters: int,
        feature_dim: int = 128,
        num_cluster_heads: int = 1,
    ):
        super().__init__()
        d = int(encoder.embed_dim)  # type: ignore[arg-type]
        self.encoder = encoder
        self.instance_projector = projector(d, feature_dim)
        self.cluster_projectors = nn.ModuleList(
            projector(d, num_clusters) for _ in range(num_cluster_heads)
        )
        self.register_buffer("selected_head", torch.zeros((), dtype=torch.int64))

    def forward(self, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Two views (N, C, S, S) -> z_a, z_b (N, feature_dim), p_a, p_b (heads, N, K).

        z has unit rows, p rows that sum to 1; both float32. The views pass one after the
        other, as in the paper: one joint pass would change the BatchNorm statistics.
        """
        z_a, p_a = self.project(self.encoder(x_a))
        z_b, p_b = self.project(self.encoder(x_b))
        return z_a, z_b, p_a, p_b

    def project(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h: (N, d) -> z: (N, feature_dim) with unit rows, p: (heads, N, K)."""
        z = F.normalize(self.instance_projector(h).float(), dim=1)
        p = torch.stack([head(h).float().softmax(dim=1) for head in self.cluster_projectors])
        return z, p

    def embed(self, x: Tensor) -> Tensor:
        """x: (N, C, S, S) -> h: (N, d)."""
        return self.encoder(x)

    def assign(self, x: Tensor) -> Tensor:
        """x: (N, C, S, S) -> p: (N, K) of the selected head."""
        return self.assign_embedding(self.embed(x))

    def assign_embedding(self, h: Tensor) -> Tensor:
        """h: (N, d) -> p: (N, K) of the selected head."""
        return self.cluster_projectors[int(self.selected_head)](h).float().softmax(dim=1)


def build(
    model: Model,
    num_clusters: int,
    *,
    image_size: int,
    channels: int,
    fused_attention: bool = True,
) -> VTCC:
    """Makes an untrained VTCC from the `train.model` section of params.yaml."""
    encoder = VisionTransformer(
        image_size=image_size,
        channels=channels,
        stem=model.stem,
        patch_size=model.patch_size,
        embed_dim=model.embed_dim,
        depth=model.depth,
        num_heads=model.num_heads,
        mlp_ratio=model.mlp_ratio,
        fused_attention=fused_attention,
    )
    return VTCC(encoder, num_clusters, model.feature_dim, model.num_cluster_heads)


def parameter_count(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
