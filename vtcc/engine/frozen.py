"""A frozen encoder under the projectors: its features are made once and trained on as they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtcc import encoders
from vtcc.config import Model
from vtcc.digests import sha256
from vtcc.errors import VtccError

FITTED_ON = 50_000  # images that the components are computed from, evenly spaced
_BLOCK = 4096


def encoder_identity(model: Model) -> dict[str, Any]:
    """What an encoder is: as its card and weights have it, or name and digest of one's own file.

    Raises:
        VtccError: when the weights are not on this machine.
    """
    if known := encoders.encoder_record(model.encoder, model.weights):
        return known
    file = Path(model.weights)
    if not file.is_file():
        raise VtccError(f"train.model.weights: no file {model.weights!r} in {Path.cwd()}")
    return {"name": model.encoder, "digest": sha256(file), "source": f"file {model.weights}"}


class FeatureInput(nn.Module):
    """Stands in for the encoder while its cached features are trained on.

    Args:
        embed_dim: d.
    """

    def __init__(self, embed_dim: int):
        super().__init__()
        self.embed_dim = embed_dim

    def forward(self, h: Tensor) -> Tensor:
        """h: (N, d) -> the same."""
        return h


class FrozenEncoder(nn.Module):
    """Image -> features of a frozen backbone -> principal components of the unit features.

    The components carry nearly all that tells images apart in a tenth of the numbers, so that the
    projectors, whose hidden layers are 4 d wide, train in seconds.

    Args:
        backbone: maps (N, C, S, S) to (N, D) and has the attribute `embed_dim` = D.
        components: d, at most D.
    """

    center: Tensor
    axes: Tensor
    scale: Tensor

    def __init__(self, backbone: nn.Module, components: int):
        super().__init__()
        D = int(cast(int, backbone.embed_dim))
        if components > D:
            raise VtccError(
                f"train.model.components: {components} of features of length {D}; use at most {D}"
            )
        self.backbone = backbone
        self.embed_dim = components
        self.register_buffer("center", torch.zeros(D))
        self.register_buffer("axes", torch.zeros(D, components))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, S, S) float -> h: (N, d)."""
        return self.reduce(self.backbone(x))

    def reduce(self, features: Tensor) -> Tensor:
        """features: (N, D) -> h: (N, d) float32."""
        return (F.normalize(features.float(), dim=1) - self.center) @ self.axes * self.scale

    def set_reduction(self, reduction: "Reduction") -> None:
        """Takes the centre, axes and scale of `fit_reduction`."""
        self.center.copy_(reduction.center)
        self.axes.copy_(reduction.axes)
        self.scale.copy_(reduction.scale)


class Reduction:
    """Unit features -> principal components with unit standard deviation on average.

    Args:
        center: (D,). axes: (D, d), orthonormal columns. scale: ().
    """

    def __init__(self, center: Tensor, axes: Tensor, scale: Tensor):
        self.center, self.axes, self.scale = center, axes, scale

    def __call__(self, features: np.ndarray) -> Tensor:
        """(..., D) of any float type -> (..., d) float32."""
        flat = features.reshape(-1, features.shape[-1])
        reduced = torch.empty(len(flat), self.axes.shape[1])
        for start in range(0, len(flat), _BLOCK):
            block = torch.from_numpy(np.asarray(flat[start : start + _BLOCK], np.float32))
            unit = F.normalize(block, dim=1)
            reduced[start : start + _BLOCK] = (unit - self.center) @ self.axes * self.scale
        return reduced.view(*features.shape[:-1], -1)


def fit_reduction(features: np.ndarray, rows: np.ndarray, components: int) -> Reduction:
    """Principal components of the unit features, each image the mean of its views.

    Args:
        features: (M, V, D) of any float type. rows: (N,) those to fit to.
        components: d, at most D; with fewer images than that, the rest of the axes are zero.
    """
    some = rows[:: -(-len(rows) // FITTED_ON)]
    D = features.shape[2]
    total, products = torch.zeros(D, dtype=torch.float64), torch.zeros(D, D, dtype=torch.float64)
    for start in range(0, len(some), _BLOCK):
        block = torch.from_numpy(np.asarray(features[some[start : start + _BLOCK]], np.float32))
        mean = F.normalize(F.normalize(block, dim=2).mean(dim=1), dim=1).double()
        total += mean.sum(dim=0)
        products += mean.T @ mean
    center = total / len(some)
    covariance = products / len(some) - torch.outer(center, center)
    values, vectors = torch.linalg.eigh(covariance)
    order = values.argsort(descending=True)[:components]
    axes = vectors[:, order]
    # The sign of an eigenvector is arbitrary: the largest entry decides, as in scikit-learn.
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    axes = axes * (values[order] > 1e-12)
    spread = values[order].clamp_min(0).mean().sqrt().clamp_min(1e-6)
    return Reduction(center.float(), axes.float(), (1 / spread).float())


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of a frozen encoder, and what a training reads of them.

    Attributes:
        values: (N, V, D) of any float type, each image as it is first.
        reduced: (N, V, d): their principal components as float32, or the features themselves.
        reduction: from these to those; None where they are themselves.
        digest: names the features.
    """

    values: np.ndarray
    reduced: np.ndarray
    reduction: Reduction | None
    digest: str

    @classmethod
    def of(
        cls, values: np.ndarray, digest: str, *, rows: np.ndarray, components: int
    ) -> "FrozenFeatures":
        """With the components that projectors are trained on.

        Args:
            values, digest: as above. rows: those to fit to. components: d; 0: none.
        """
        if not components:
            return cls(values, values, None, digest)
        reduction = fit_reduction(values, rows, components)
        return cls(values, reduction(values).numpy(), reduction, digest)
