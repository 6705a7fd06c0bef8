"""What is random in a view: one number per image and operation, drawn before any is applied."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcc.config import Augment


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What happens to each of N images; (N,) float32 unless said, None where it is off for all.

    Attributes:
        width, height: sides of the crop, over the image's.
        shift_x, shift_y: centre of the crop, in a frame where the image spans -1 to 1.
        angle: radians, counterclockwise, quarter turns included.
        shear_x, shear_y: tangents of the angles.
        mirror, upside: -1 where the image is flipped left to right, upside down; else 1.
        knots: (N, 2, G, G) displacements in standard deviations, x before y.
        brightness, contrast: factors.
        saturation: factor, 0 for grey images. None, as hue, without three channels.
        hue: radians.
        gamma: exponent.
        sigma: deviation of the blur in pixels.
        blurred, solarized, erased: (N,) bool, who is.
        deviation: of the noise.
        noise: (N, C, S, S) of unit deviation.
        box: (N, 4) left, top, right, bottom of the erased rectangle, in pixels of the view.
    """

    width: Tensor
    height: Tensor
    shift_x: Tensor
    shift_y: Tensor
    angle: Tensor
    shear_x: Tensor
    shear_y: Tensor
    mirror: Tensor
    upside: Tensor
    knots: Tensor | None = None
    brightness: Tensor | None = None
    contrast: Tensor | None = None
    saturation: Tensor | None = None
    hue: Tensor | None = None
    gamma: Tensor | None = None
    sigma: Tensor | None = None
    blurred: Tensor | None = None
    solarized: Tensor | None = None
    deviation: Tensor | None = None
    noise: Tensor | None = None
    erased: Tensor | None = None
    box: Tensor | None = None

    @classmethod
    def none(cls, n: int) -> "Draws":
        """Draws that leave n images as they are, to change with `dataclasses.replace`."""
        one, zero = torch.ones(n), torch.zeros(n)
        return cls(
            width=one,
            height=one,
            shift_x=zero,
            shift_y=zero,
            angle=zero,
            shear_x=zero,
            shear_y=zero,
            mirror=one,
            upside=one,
        )


def draw(
    n: int,
    channels: int,
    size: int,
    params: Augment,
    generator: torch.Generator,
    *,
    second: bool = False,
) -> Draws:
    """Draws for n images, on the generator's device.

    The order of the draws is part of every recorded result: an operation that is switched off
    takes none (but crop, rotation, shear, flips and colour, which always do).

    Args:
        n, channels: of the images. size: side of the views in pixels.
        params: the ranges. generator: the only source of randomness.
        second: whether the views may be solarized.
    """
    random = _Random(n, generator)
    drawn = _geometry(random, params) | _colour(random, params, channels)
    if params.gamma:
        drawn["gamma"] = random.uniform(-params.gamma, params.gamma).exp()
    if params.blur:
        drawn["sigma"] = random.uniform(*params.blur_sigma)
        drawn["blurred"] = random.chance(params.blur)
    if second and params.solarize:
        drawn["solarized"] = random.chance(params.solarize)
    if params.noise:
        drawn["deviation"] = random.uniform(0, params.noise)
        drawn["noise"] = random.normal(channels, size, size)
    if params.erase:
        drawn |= _rectangle(random, params, size)
    return Draws(**drawn)


class _Random:
    """Draws of n numbers each."""

    def __init__(self, n: int, generator: torch.Generator):
        self.n, self.generator = n, generator

    def uniform(self, low: float, high: float) -> Tensor:
        device = self.generator.device
        return torch.rand(self.n, generator=self.generator, device=device) * (high - low) + low

    def log_uniform(self, low: float, high: float) -> Tensor:
        return self.uniform(math.log(low), math.log(high)).exp()

    def chance(self, probability: float) -> Tensor:
        device = self.generator.device
        return torch.rand(self.n, generator=self.generator, device=device) < probability

    def normal(self, *shape: int) -> Tensor:
        device = self.generator.device
        return torch.randn(self.n, *shape, generator=self.generator, device=device)

    def integers(self, high: int) -> Tensor:
        device = self.generator.device
        return torch.randint(0, high, (self.n,), generator=self.generator, device=device)


def _box(random: _Random, scale: tuple[float, float], ratio: tuple[float, float]) -> list[Tensor]:
    """Width and height of a rectangle within the unit square."""
    area, aspect = random.uniform(*scale), random.log_uniform(*ratio)
    return [(area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)]


def _geometry(random: _Random, p: Augment) -> dict[str, Tensor]:
    width, height = _box(random, p.crop_scale, p.crop_ratio)
    drawn = {"width": width, "height": height}
    drawn["shift_x"] = random.uniform(-1, 1) * (1 - width)
    drawn["shift_y"] = random.uniform(-1, 1) * (1 - height)
    drawn["angle"] = random.uniform(-p.rotation, p.rotation).deg2rad()
    if p.quarter_turns:
        drawn["angle"] = drawn["angle"] + random.integers(4) * (math.pi / 2)
    drawn["shear_x"] = random.uniform(-p.shear, p.shear).deg2rad().tan()
    drawn["shear_y"] = random.uniform(-p.shear, p.shear).deg2rad().tan()
    drawn["mirror"] = 1 - 2 * random.chance(p.flip).float()
    drawn["upside"] = 1 - 2 * random.chance(p.vertical_flip).float()
    if p.elastic:
        drawn["knots"] = random.normal(2, p.elastic_grid, p.elastic_grid)
    return drawn


def _colour(random: _Random, p: Augment, channels: int) -> dict[str, Tensor]:
    on = random.chance(p.jitter).float()
    drawn = {
        "brightness": 1 + on * random.uniform(-p.brightness, p.brightness),
        "contrast": 1 + on * random.uniform(-p.contrast, p.contrast),
    }
    if channels == 3:
        saturation = 1 + on * random.uniform(-p.saturation, p.saturation)
        drawn["saturation"] = saturation * (1 - random.chance(p.grey).float())
        drawn["hue"] = on * random.uniform(-p.hue, p.hue) * (2 * math.pi)
    changes = p.jitter or (p.grey and channels == 3)
    return drawn if changes else {}


def _rectangle(random: _Random, p: Augment, size: int) -> dict[str, Tensor]:
    width, height = (side * size for side in _box(random, p.erase_scale, (0.3, 3.3)))
    left = random.uniform(0, 1) * (size - width)
    top = random.uniform(0, 1) * (size - height)
    box = torch.stack([left, top, left + width, top + height], dim=1)
    return {"box": box, "erased": random.chance(p.erase)}
