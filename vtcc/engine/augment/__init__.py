"""Random views, a whole batch at a time; every image draws its own numbers.

Drawing (`draws`) is apart from applying (`geometry`, `colour`, `texture`). All geometry is one
sampling grid, so pixels are interpolated once; brightness, contrast, saturation, hue and
greyness are one affine map of the colours; a blur reads what its deviation reaches.

On a CPU a batch passes through all operations in groups that stay in its cache, and what few
images drew (blur, solarization, erasing) is computed for these alone. Elsewhere the batch is
one group and no operation waits for the device.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vtcc.config import Augment
from vtcc.engine.augment import colour, geometry, texture
from vtcc.engine.augment.draws import Draws, draw

__all__ = ["Draws", "apply", "draw", "normalize", "plain", "view"]

# Bytes of a group's float images per thread: what a core's own cache holds. Half as much costs a
# tenth more at 32 pixels; at 224 a group is one image.
GROUP_BYTES = 1024 * 1024


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
    N, C = images.shape[:2]
    drawn = draw(N, C, size, params, generator, second=second)
    return apply(images, drawn, params, size)


def apply(images: Tensor, drawn: Draws, params: Augment, size: int) -> Tensor:
    """The views that `drawn` describes.

    Args:
        images: (N, C, H, W) uint8, or float in 0-1.
        drawn: of the N images, on their device.
        params: what is not drawn: `elastic`, `padding`, and `blur_sigma` as a bound.
        size: side of the views in pixels.

    Returns:
        (N, C, size, size) float32 in 0-1.
    """
    N, C = images.shape[:2]
    theta, mix = geometry.affine(drawn), colour.gains(drawn)
    widest = params.blur_sigma[1]
    weights = None if drawn.sigma is None else texture.bands(drawn.sigma, size, widest)
    group = _group(images, size)
    out = torch.empty(N, C, size, size, device=images.device)
    for first in range(0, N, group):
        rows = slice(first, first + group)
        x = images[rows]
        x = x.float().div_(255) if x.dtype == torch.uint8 else x
        warp = None
        if drawn.knots is not None:
            warp = geometry.warp(drawn.knots[rows], params.elastic, size)
        x = geometry.sample(x, geometry.grid(theta[rows], size, warp), params.padding)
        if mix is not None:
            x = colour.adjust(x, mix[0][rows], mix[1][rows])
        if drawn.gamma is not None:
            x = colour.gamma(x, drawn.gamma[rows])
        if drawn.blurred is not None and weights is not None:
            x = _where(drawn.blurred[rows], x, texture.blur, weights[rows], widest=widest)
        if drawn.solarized is not None:
            x = _where(drawn.solarized[rows], x, colour.solarize)
        if drawn.noise is not None and drawn.deviation is not None:
            x = texture.add_noise(x, drawn.noise[rows], drawn.deviation[rows])
        if drawn.erased is not None and drawn.box is not None:
            x = _where(drawn.erased[rows], x, texture.erase, drawn.box[rows])
        torch.clamp(x, 0, 1, out=out[rows])
    return out


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
    return (x - x.new_tensor(mean).view(shape)).div_(x.new_tensor(std).view(shape))


def _group(images: Tensor, size: int) -> int:
    """How many images pass through all operations together."""
    N, C = images.shape[:2]
    if images.device.type != "cpu":
        return max(N, 1)
    return max(1, GROUP_BYTES // (4 * C * size * size)) * torch.get_num_threads()


def _where(
    chosen: Tensor, x: Tensor, change: Callable[..., Tensor], *each: Tensor, **fixed: float
) -> Tensor:
    """`change(x, *each, **fixed)` of the chosen images alone; x may be overwritten.

    Args:
        chosen: (N,) bool. each: one row per image.
    """
    if x.device.type != "cpu":  # looking at `chosen` would wait for the device
        return torch.where(chosen.view(-1, 1, 1, 1), change(x, *each, **fixed), x)
    rows = chosen.nonzero()[:, 0]
    if len(rows) == len(x):
        return change(x, *each, **fixed)
    if len(rows):
        x[rows] = change(x[rows], *(one[rows] for one in each), **fixed)
    return x
