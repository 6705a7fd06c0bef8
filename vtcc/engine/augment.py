"""Random views, a whole batch at a time; every image draws its own numbers.

All geometry (crop, flip, rotation, shear, warp) is one sampling grid, so pixels are
interpolated once; brightness, contrast, saturation, hue and greyness are one affine map of
the colours. Blur is a product with a band matrix per image and axis, which lets each image
have its own width.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vtcc.config import Augment


def view(
    images: Tensor,
    params: Augment,
    size: int,
    generator: torch.Generator,
    *,
    second: bool = False,
) -> Tensor:
    """One random view of every image.

    Args:
        images: (N, C, H, W) uint8, or float in 0-1. Saturation, hue and greyness are of three
            channels; with any other number they do nothing.
        params: the ranges to draw from.
        size: side of the view in pixels.
        generator: on the images' device; the only source of randomness.
        second: the second view may be solarized (as in the paper).

    Returns:
        (N, C, size, size) float32 in 0-1.
    """
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    x = _geometry(x, params, size, generator)
    x = _colour(x, params, generator)
    if params.gamma:
        exponent = _uniform(len(x), -params.gamma, params.gamma, generator).exp()
        x = x.clamp(1e-6, 1) ** exponent.view(-1, 1, 1, 1)
    if params.blur:
        x = _blur(x, params, generator)
    if second and params.solarize:
        chosen = _chance(len(x), params.solarize, generator).view(-1, 1, 1, 1)
        x = torch.where(chosen & (x >= 0.5), 1 - x, x)
    if params.noise:
        deviation = _uniform(len(x), 0, params.noise, generator).view(-1, 1, 1, 1)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        x = x + deviation * noise
    if params.erase:
        x = _erase(x, params, generator)
    return x.clamp(0, 1)


def plain(images: Tensor, size: int) -> Tensor:
    """The images as they are, as prediction sees them.

    Args:
        images: (N, C, H, W) uint8. size: side in pixels of what comes back.

    Returns:
        (N, C, size, size) float32 in 0-1.
    """
    x = images.float() / 255
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True)


def normalize(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """x: (N, C, H, W) in 0-1 -> zero mean, unit deviation per channel."""
    shape = (1, -1, 1, 1)
    return (x - x.new_tensor(mean).view(shape)) / x.new_tensor(std).view(shape)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device) * (high - low) + low


def _chance(n: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device) < probability


def _log_uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return _uniform(n, math.log(low), math.log(high), generator).exp()


def _geometry(x: Tensor, p: Augment, size: int, g: torch.Generator) -> Tensor:
    """Samples the view through one grid of source positions, in units where a side is 2."""
    N = len(x)
    area, ratio = _uniform(N, *p.crop_scale, g), _log_uniform(N, *p.crop_ratio, g)
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    shift_x = _uniform(N, -1, 1, g) * (1 - width)
    shift_y = _uniform(N, -1, 1, g) * (1 - height)

    angle = _uniform(N, -p.rotation, p.rotation, g).deg2rad()
    if p.quarter_turns:
        turns = torch.randint(0, 4, (N,), generator=g, device=g.device)
        angle = angle + turns * (math.pi / 2)
    shear_x = _uniform(N, -p.shear, p.shear, g).deg2rad().tan()
    shear_y = _uniform(N, -p.shear, p.shear, g).deg2rad().tan()
    mirror = 1 - 2 * _chance(N, p.flip, g).float()
    upside = 1 - 2 * _chance(N, p.vertical_flip, g).float()

    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(N, 2, 2)
    one = torch.ones_like(shear_x)
    shear = torch.stack([one, shear_x, shear_y, one], dim=1).view(N, 2, 2)
    scale = torch.diag_embed(torch.stack([width * mirror, height * upside], dim=1))
    centre = torch.stack([shift_x, shift_y], dim=1)[:, :, None]
    theta = torch.cat([turn @ shear @ scale, centre], dim=2)  # (N, 2, 3)
    grid = F.affine_grid(theta, [N, x.shape[1], size, size], align_corners=False)
    if p.elastic:
        knots = torch.randn(N, 2, p.elastic_grid, p.elastic_grid, generator=g, device=g.device)
        warp = F.interpolate(knots, size=(size, size), mode="bicubic", align_corners=True)
        grid = grid + 2 * p.elastic * warp.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, "bilinear", padding_mode=p.padding, align_corners=False)


# Luma, and rotation of the chroma plane (YIQ): a hue shift as one matrix. It differs from the
# HSV definition for saturated colours, not in its range or its fixed grey axis.
_LUMA = (0.299, 0.587, 0.114)
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@cache
def _yiq(device: torch.device) -> tuple[Tensor, Tensor]:
    forward = torch.tensor(_RGB_TO_YIQ, device=device)
    return forward, torch.linalg.inv(forward)


def _colour(x: Tensor, p: Augment, g: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, hue and greyness as one affine map per image.

    Without three channels there is no colour: brightness and contrast alone, the same for all
    channels, around the mean of all.
    """
    N, C = x.shape[:2]
    on = _chance(N, p.jitter, g).float()
    brightness = 1 + on * _uniform(N, -p.brightness, p.brightness, g)
    contrast = 1 + on * _uniform(N, -p.contrast, p.contrast, g)
    if C != 3:
        mean = x.mean(dim=(1, 2, 3)) * brightness
        offset = mean * (1 - contrast)
        return x * (brightness * contrast).view(-1, 1, 1, 1) + offset.view(-1, 1, 1, 1)

    saturation = 1 + on * _uniform(N, -p.saturation, p.saturation, g)
    saturation = saturation * (1 - _chance(N, p.grey, g).float())
    angle = on * _uniform(N, -p.hue, p.hue, g) * (2 * math.pi)
    forward, back = _yiq(x.device)
    chroma = torch.zeros(N, 3, 3, device=x.device)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * angle.cos()
    chroma[:, 1, 2] = -saturation * angle.sin()
    chroma[:, 2, 1] = saturation * angle.sin()
    gain = brightness * contrast
    matrix = (back @ chroma @ forward) * gain.view(-1, 1, 1)  # (N, 3, 3)
    luma = x.new_tensor(_LUMA)
    mean = (x.mean(dim=(2, 3)) @ luma) * brightness
    offset = (mean * (1 - contrast)).view(-1, 1, 1, 1)
    return (matrix @ x.flatten(2)).view_as(x) + offset


def _blur(x: Tensor, p: Augment, g: torch.Generator) -> Tensor:
    """Gaussian blur, each image with its own deviation in pixels; edges are renormalised."""
    size = x.shape[-1]
    sigma = _uniform(len(x), *p.blur_sigma, g)
    # A deviation near zero is the identity, so images not chosen share the same product.
    sigma = torch.where(_chance(len(x), p.blur, g), sigma, torch.full_like(sigma, 1e-2))
    at = torch.arange(size, device=x.device)
    distance = (at[:, None] - at[None, :]).float().square()
    band = torch.exp(-distance / (2 * sigma.square().view(-1, 1, 1)))
    band = band / band.sum(dim=2, keepdim=True)  # (N, size, size)
    band = band[:, None]
    return band @ x @ band.transpose(2, 3)


def _erase(x: Tensor, p: Augment, g: torch.Generator) -> Tensor:
    """Fills a random rectangle with the image's mean colour."""
    N, size = len(x), x.shape[-1]
    area, ratio = _uniform(N, *p.erase_scale, g), _log_uniform(N, 0.3, 3.3, g)
    width = (area * ratio).sqrt().clamp(max=1) * size
    height = (area / ratio).sqrt().clamp(max=1) * size
    left = _uniform(N, 0, 1, g) * (size - width)
    top = _uniform(N, 0, 1, g) * (size - height)
    chosen = _chance(N, p.erase, g).view(-1, 1, 1)
    at = torch.arange(size, device=x.device) + 0.5
    across = (at >= left[:, None]) & (at < (left + width)[:, None])
    down = (at >= top[:, None]) & (at < (top + height)[:, None])
    inside = (down[:, :, None] & across[:, None, :] & chosen)[:, None]
    return torch.where(inside, x.mean(dim=(2, 3), keepdim=True), x)
