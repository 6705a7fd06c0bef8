"""Crop, flips, rotation, shear and warp as one sampling grid: pixels are interpolated once."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vtcc.engine.augment.draws import Draws


def affine(d: Draws) -> Tensor:
    """(N, 2, 3): from places in the view to places in the image, both spanning -1 to 1.

    The view's pixels are flipped and scaled to the crop, then sheared, turned and moved.
    """
    N = len(d.width)
    cos, sin = d.angle.cos(), d.angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(N, 2, 2)
    one = torch.ones_like(d.shear_x)
    shear = torch.stack([one, d.shear_x, d.shear_y, one], dim=1).view(N, 2, 2)
    scale = torch.diag_embed(torch.stack([d.width * d.mirror, d.height * d.upside], dim=1))
    centre = torch.stack([d.shift_x, d.shift_y], dim=1)[:, :, None]
    return torch.cat([turn @ shear @ scale, centre], dim=2)


def grid(theta: Tensor, size: int, warp: Tensor | None = None) -> Tensor:
    """(N, size, size, 2) places to sample, x before y.

    A place is a complex number here: a sum over rows and columns then needs one pass, where
    `F.affine_grid` multiplies matrices (35 times slower on a CPU at 224 pixels).

    Args:
        theta: (N, 2, 3) of `affine`.
        size: side of the view in pixels.
        warp: (N, 2, size, size) to add.
    """
    at = torch.linspace(-1 + 1 / size, 1 - 1 / size, size, device=theta.device)
    x, y, centre = torch.complex(theta[:, 0], theta[:, 1]).split(1, dim=1)  # (N, 1) each
    places = (x * at)[:, None, :] + (y * at + centre)[:, :, None]
    if warp is not None:
        places += torch.complex(warp[:, 0], warp[:, 1])
    return torch.view_as_real(places)


def warp(knots: Tensor, elastic: float, size: int) -> Tensor:
    """(N, 2, size, size): bicubic surfaces through the knots, their deviation `elastic` sides."""
    surface = _bicubic(knots.shape[-1], size, knots.device)
    return (surface * (2 * elastic)) @ knots @ surface.T


@lru_cache(maxsize=8)
def _bicubic(knots: int, size: int, device: torch.device) -> Tensor:
    """(size, knots): what each knot gives to each place, as `F.interpolate` does it."""
    unit = torch.eye(knots)[None, :, :, None]
    one = F.interpolate(unit, size=(size, 1), mode="bicubic", align_corners=True)
    return one[0, :, :, 0].T.contiguous().to(device)


def sample(x: Tensor, places: Tensor, padding: str) -> Tensor:
    """(N, C, size, size), bilinear.

    Not antialiased: nearly every crop is magnified. Where the cache is larger than the view, a
    whole photograph differs from its antialiased self by .001 to .003 of the range on average
    at 256 -> 224 pixels, by .005 to .016 at twice the size: keep the cache near the view's size.

    Args:
        x: (N, C, H, W) float. places: (N, size, size, 2). padding: as `F.grid_sample`.
    """
    return F.grid_sample(x, places, "bilinear", padding_mode=padding, align_corners=False)
