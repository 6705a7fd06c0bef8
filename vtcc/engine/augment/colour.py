"""Brightness, contrast, saturation, hue and greyness as one affine map; gamma; solarization."""

from functools import cache

import torch
from torch import Tensor

from vtcc.engine.augment.draws import Draws

# Luma, and rotation of the chroma plane (YIQ): a hue shift as one matrix, which keeps the luma
# where HSV keeps the largest and smallest channel. A positive shift turns the other way than
# torchvision's; draws are symmetric. How far the two differ is stated in a test.
LUMA = (0.299, 0.587, 0.114)
RGB_TO_YIQ = (LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@cache
def _yiq(device: torch.device) -> tuple[Tensor, Tensor]:
    forward = torch.tensor(RGB_TO_YIQ, device=device)
    return forward, torch.linalg.inv(forward)


@cache
def _luma(device: torch.device) -> Tensor:
    return torch.tensor(LUMA, device=device)


def gains(d: Draws) -> tuple[Tensor, Tensor] | None:
    """The affine map of `adjust`: how colours mix, and what is added per unit of mean.

    Returns:
        (N, 3, 3), or (N, 1, 1) where there is no colour, and (N,); None when it is off.
    """
    if d.brightness is None or d.contrast is None:
        return None
    gain = (d.brightness * d.contrast).view(-1, 1, 1)
    lift = d.brightness * (1 - d.contrast)
    if d.saturation is None or d.hue is None:
        return gain, lift
    N = len(gain)
    forward, back = _yiq(gain.device)
    chroma = torch.zeros(N, 3, 3, device=gain.device)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = d.saturation * d.hue.cos()
    chroma[:, 1, 2] = -d.saturation * d.hue.sin()
    chroma[:, 2, 1] = d.saturation * d.hue.sin()
    return (back @ chroma @ forward) * gain, lift


def adjust(x: Tensor, matrix: Tensor, lift: Tensor) -> Tensor:
    """Colours mixed by `matrix`, moved by `lift` times the image's mean luma.

    Without three channels there is no colour: brightness and contrast alone, the same for all
    channels, around the mean of all. Values are not clipped in between.

    Args:
        x: (N, C, H, W) float, may be overwritten. matrix, lift: of `gains`.
    """
    mean = x.mean(dim=(2, 3))
    if matrix.shape[1] == 1:
        offset = mean.mean(dim=1) * lift
        return x.mul_(matrix[:, :, :, None]).add_(offset.view(-1, 1, 1, 1))
    offset = (mean @ _luma(x.device)) * lift
    return torch.baddbmm(offset.view(-1, 1, 1), matrix, x.flatten(2)).view_as(x)


def gamma(x: Tensor, exponent: Tensor) -> Tensor:
    """x ** exponent, of values clipped to 1e-6 to 1, in place. exponent: (N,)."""
    return x.clamp_(1e-6, 1).pow_(exponent.view(-1, 1, 1, 1))


def solarize(x: Tensor) -> Tensor:
    """Bright values inverted, those from one half on."""
    return torch.where(x >= 0.5, 1 - x, x)
