"""Blur, noise and erasing."""

import math

import torch
from torch import Tensor

BLOCK = 32
REACH = 5  # deviations: what lies farther weighs less than float32 resolves


def bands(sigma: Tensor, size: int, widest: float) -> Tensor:
    """Gaussian weights of each image, for blocks of neighbouring pixels.

    A product with the whole band matrix would multiply mostly zeros at larger sizes; a block of
    32 pixels reads itself and what lies within reach. Weights are renormalised at the edges.

    Args:
        sigma: (N,) deviations in pixels. size: side in pixels.
        widest: the largest possible deviation, known without looking at sigma.

    Returns:
        (N, blocks, block, window): see `_windows`.
    """
    block, window, starts = _windows(size, widest)
    to = torch.arange(len(starts) * block, device=sigma.device).view(-1, block, 1)
    start = (to[:, :1] - (window - block) // 2).clamp(0, size - window)  # as in `starts`
    distance = (to - start - torch.arange(window, device=sigma.device)).float().square()
    weights = distance * (-0.5 / sigma.square()).view(-1, 1, 1, 1)
    # exp is many times slower where its result is too small for float32.
    weights = weights.clamp_(min=-80).exp_()
    # A row past the last pixel, of a block that sticks out, may see nothing: it is not used.
    return weights.div_(weights.sum(dim=3, keepdim=True).clamp_(min=1e-30))


def _windows(size: int, widest: float) -> tuple[int, int, list[int]]:
    """Length of a block, of the window it reads, and where each window starts."""
    reach = math.ceil(REACH * widest)
    window = BLOCK + 2 * reach
    if size <= 2 * BLOCK or size <= window:
        return size, size, [0]
    starts = [min(max(at - reach, 0), size - window) for at in range(0, size, BLOCK)]
    return BLOCK, window, starts


def blur(x: Tensor, weights: Tensor, widest: float) -> Tensor:
    """Gaussian blur, each image with its own deviation.

    Args:
        x: (N, C, S, S). weights, widest: of `bands`, for the N images.
    """
    N, C, S = x.shape[:3]
    block, window, starts = _windows(S, widest)
    ends = [min(block, S - i * block) for i in range(len(starts))]
    x = torch.cat(
        [
            weights[:, i, None, :end] @ x[:, :, at : at + window]
            for i, (at, end) in enumerate(zip(starts, ends, strict=True))
        ],
        dim=2,
    )
    lines = x.view(N, C * S, S)
    lines = torch.cat(
        [
            lines[:, :, at : at + window] @ weights[:, i, :end].transpose(1, 2)
            for i, (at, end) in enumerate(zip(starts, ends, strict=True))
        ],
        dim=2,
    )
    return lines.view(N, C, S, S)


def add_noise(x: Tensor, noise: Tensor, deviation: Tensor) -> Tensor:
    """x + deviation * noise, in place. noise: as x. deviation: (N,)."""
    return x.addcmul_(noise, deviation.view(-1, 1, 1, 1))


def erase(x: Tensor, box: Tensor) -> Tensor:
    """The image's mean colour wherever a pixel's centre lies in its box.

    Args:
        x: (N, C, S, S). box: (N, 4) left, top, right, bottom, in pixels.
    """
    left, top, right, bottom = box[:, :, None].unbind(1)
    at = torch.arange(x.shape[-1], device=x.device) + 0.5
    across = (at >= left) & (at < right)
    down = (at >= top) & (at < bottom)
    inside = (down[:, :, None] & across[:, None, :])[:, None]
    return torch.where(inside, x.mean(dim=(2, 3), keepdim=True), x)
