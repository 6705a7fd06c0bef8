"""A training step as such repositories write it, from the paper's description; the baseline.

Every image is augmented by itself, with Pillow and torchvision, in workers of a DataLoader; two
forward passes; attention that materialises its matrix; all tokens through the last block; Adam.
"""

import math
import random
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional

from vtcc.config import Augment


def transform(p: Augment, size: int, channels: int, *, second: bool) -> Any:
    """The same distribution of views as `engine.augment.view`, for one PIL image at a time."""
    steps: list[Any] = [transforms.RandomResizedCrop(size, p.crop_scale, p.crop_ratio)]
    if p.flip:
        steps.append(transforms.RandomHorizontalFlip(p.flip))
    if p.vertical_flip:
        steps.append(transforms.RandomVerticalFlip(p.vertical_flip))
    if p.quarter_turns:
        steps.append(lambda image: image.rotate(90 * random.randrange(4)))
    if p.rotation or p.shear:
        shear = (-p.shear, p.shear, -p.shear, p.shear)
        bilinear = transforms.InterpolationMode.BILINEAR
        steps.append(transforms.RandomAffine(p.rotation, shear=shear, interpolation=bilinear))
    if p.elastic:
        steps.append(lambda image: warp(image, p.elastic, p.elastic_grid))
    colour = (p.saturation, p.hue) if channels == 3 else (0, 0)
    if p.brightness or p.contrast or any(colour):
        jitter = transforms.ColorJitter(p.brightness, p.contrast, *colour)
        steps.append(transforms.RandomApply([jitter], p.jitter))
    if p.gamma:
        steps.append(
            lambda image: functional.adjust_gamma(
                image, math.exp(random.uniform(-p.gamma, p.gamma))
            )
        )
    if p.grey and channels == 3:
        steps.append(transforms.RandomGrayscale(p.grey))
    if p.blur:
        steps.append(transforms.RandomApply([lambda image: blur(image, p.blur_sigma)], p.blur))
    if second and p.solarize:
        steps.append(transforms.RandomSolarize(128, p.solarize))
    steps.append(transforms.ToTensor())
    if p.noise:
        steps.append(lambda x: x + random.uniform(0, p.noise) * torch.randn_like(x))
    if p.erase:
        steps.append(transforms.RandomErasing(p.erase, p.erase_scale))
    steps.append(transforms.Normalize((0.5,) * channels, (0.5,) * channels))
    return transforms.Compose(steps)


def blur(image: Image.Image, sigma: tuple[float, float]) -> Image.Image:
    """Pillow's blur, which is faster than torchvision's on tensors."""
    return image.filter(ImageFilter.GaussianBlur(random.uniform(*sigma)))


def warp(image: Image.Image, deviation: float, grid: int) -> Image.Image:
    """A smooth warp as one mesh in Pillow, which is faster than torchvision's ElasticTransform."""
    side = image.width
    at = np.linspace(0, side, grid).round()
    knots = np.stack(np.meshgrid(at, at), axis=2) + np.random.randn(grid, grid, 2) * (
        deviation * side
    )
    mesh = []
    for i in range(grid - 1):
        for j in range(grid - 1):
            box = tuple(int(v) for v in (at[j], at[i], at[j + 1], at[i + 1]))
            corners = (knots[i, j], knots[i + 1, j], knots[i + 1, j + 1], knots[i, j + 1])
            mesh.append((box, tuple(float(v) for c in corners for v in c)))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


class Pairs(Dataset):
    """Two views of every image."""

    def __init__(self, images: np.ndarray, p: Augment, size: int):
        channels = images.shape[3]
        self.images, self.grey = images, channels == 1
        self.first = transform(p, size, channels, second=False)
        self.second = transform(p, size, channels, second=True)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """The views of image `i`, each (C, S, S) float32."""
        pixels = self.images[i]
        image = Image.fromarray(pixels[:, :, 0] if self.grey else pixels)
        return self.first(image), self.second(image)


def loader(images: np.ndarray, p: Augment, size: int, batch: int, workers: int) -> DataLoader:
    """Shuffled batches of pairs, the partial last one dropped."""
    pinned = torch.cuda.is_available()
    return DataLoader(
        Pairs(images, p, size),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=pinned,
    )


def all_tokens(encoder: Any, x: Tensor) -> Tensor:
    """The encoder's forward pass without the shortcut of its last block."""
    tokens = encoder.stem(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([encoder.class_token.expand(len(x), -1, -1), tokens], dim=1)
    return encoder.norm(encoder.blocks(tokens + encoder.positions))[:, 0]
