"""The same augmentation by torchvision, image by image, and by kornia, for `benchmarks.augment`."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from vtcc.config import Augment

BILINEAR = v2.InterpolationMode.BILINEAR


def kernel(params: Augment) -> int:
    """Taps of a blur that reaches 3 deviations of the widest."""
    return 2 * math.ceil(3 * params.blur_sigma[1]) + 1


def torchvision_views(images: Tensor, params: Augment, *, pil: bool) -> Callable[[], Tensor]:
    """Every image by itself, as a dataset's transform does it, then stacked to a batch.

    Args:
        images: (N, C, S, S) uint8. pil: on PIL images, made beforehand, else on uint8 tensors.
    """
    change = v2.Compose(steps(params, images.shape[-1], images.shape[1]))
    sources: list[Any] = [tv.to_pil_image(one) for one in images] if pil else list(images)
    return lambda: torch.stack([change(one) for one in sources])


def steps(p: Augment, size: int, channels: int) -> list[Any]:
    """Torchvision's transforms for these ranges; what is off is left out."""
    todo: list[Any] = [v2.RandomResizedCrop(size, p.crop_scale, p.crop_ratio, BILINEAR)]
    if p.flip:
        todo.append(v2.RandomHorizontalFlip(p.flip))
    if p.vertical_flip:
        todo.append(v2.RandomVerticalFlip(p.vertical_flip))
    if p.quarter_turns:
        todo.append(v2.Lambda(lambda x: tv.rotate(x, 90 * int(torch.randint(4, ())))))
    if p.shear:
        ranges = [-p.shear, p.shear, -p.shear, p.shear]
        todo.append(v2.RandomAffine(p.rotation, shear=ranges, interpolation=BILINEAR))
    elif p.rotation:
        todo.append(v2.RandomRotation(p.rotation, BILINEAR))
    if p.elastic:
        todo.append(v2.Lambda(lambda x: warp(x, p, size)))
    if p.jitter:
        colour = (p.saturation, p.hue) if channels == 3 else (0, 0)
        todo.append(v2.RandomApply([v2.ColorJitter(p.brightness, p.contrast, *colour)], p.jitter))
    if p.grey and channels == 3:
        todo.append(v2.RandomGrayscale(p.grey))
    if p.gamma:
        todo.append(v2.Lambda(lambda x: tv.adjust_gamma(x, math.exp(between(-p.gamma, p.gamma)))))
    if p.blur:
        todo.append(v2.RandomApply([v2.GaussianBlur(kernel(p), p.blur_sigma)], p.blur))
    if p.solarize:
        todo.append(v2.RandomSolarize(128, p.solarize))
    todo += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()]
    if p.noise:
        todo.append(v2.Lambda(lambda x: x + between(0, p.noise) * torch.randn_like(x)))
    if p.erase:
        todo.append(v2.RandomErasing(p.erase, p.erase_scale))
    if p.noise:
        todo.append(v2.Lambda(lambda x: x.clamp_(0, 1)))
    return todo


def between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def warp(image: Any, p: Augment, size: int) -> Any:
    """A smooth warp like ours: torchvision's own blurs noise at full size, which costs more."""
    knots = torch.randn(1, 2, p.elastic_grid, p.elastic_grid)
    surface = F.interpolate(knots, (size, size), mode="bicubic", align_corners=True)
    return tv.elastic(image, 2 * p.elastic * surface.permute(0, 2, 3, 1), BILINEAR)


def kornia_views(images: Tensor, params: Augment) -> Callable[[], Tensor]:
    """A whole batch, each image with its own draws.

    Raises:
        ImportError: where kornia is not installed.
    """
    import kornia.augmentation as K

    p, size = params, images.shape[-1]
    todo: list[Any] = [K.RandomResizedCrop((size, size), p.crop_scale, p.crop_ratio)]
    if p.flip:
        todo.append(K.RandomHorizontalFlip(p=p.flip))
    if p.vertical_flip:
        todo.append(K.RandomVerticalFlip(p=p.vertical_flip))
    if p.quarter_turns:
        todo.append(K.RandomRotation90((0, 3), p=1.0))
    if p.rotation or p.shear:
        shear = torch.tensor([[-p.shear, p.shear]] * 2) if p.shear else None
        todo.append(K.RandomAffine(p.rotation, shear=shear, padding_mode=p.padding, p=1.0))
    if p.elastic:
        todo.append(K.RandomElasticTransform(p=1.0))
    if p.jitter:
        todo.append(K.ColorJitter(p.brightness, p.contrast, p.saturation, p.hue, p=p.jitter))
    if p.grey:
        todo.append(K.RandomGrayscale(p=p.grey))
    if p.gamma:
        todo.append(K.RandomGamma((math.exp(-p.gamma), math.exp(p.gamma)), p=1.0))
    if p.blur:
        k = kernel(p)
        todo.append(K.RandomGaussianBlur((k, k), p.blur_sigma, p=p.blur))
    if p.solarize:
        todo.append(K.RandomSolarize(0.0, 0.0, p=p.solarize))
    if p.noise:
        todo.append(K.RandomGaussianNoise(std=p.noise / 2, p=1.0))
    if p.erase:
        todo.append(K.RandomErasing(scale=p.erase_scale, p=p.erase))
    change = torch.nn.Sequential(*todo)
    return lambda: change(images.float() / 255).clamp_(0, 1)
