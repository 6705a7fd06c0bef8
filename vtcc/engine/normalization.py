"""Mean and deviation by which pixels are normalised."""

from collections.abc import Sequence
from typing import Protocol

from vtcc.errors import VtccError

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Moments(Protocol):
    """What a data cache tells of its training images."""

    @property
    def channels(self) -> int:
        """C."""

    @property
    def mean(self) -> Sequence[float]:
        """C floats, of pixels in range 0-1."""

    @property
    def std(self) -> Sequence[float]:
        """C floats, likewise."""


def normalization(kind: str, cache: Moments) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel, of the training images or ImageNet's.

    Args:
        kind: "dataset" or "imagenet", as `train.normalize`.

    Raises:
        VtccError: when ImageNet's do not fit the channels.
    """
    if kind == "dataset":
        # A constant channel has deviation zero; one grey level is the least that can differ.
        return tuple(cache.mean), tuple(max(s, 1 / 255) for s in cache.std)
    return imagenet(cache.channels)


def imagenet(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's mean and deviation per channel; for grey images their average."""
    mean, std = IMAGENET
    if channels not in (1, 3):
        raise VtccError(
            f"train.normalize: found 'imagenet', but the cached images have {channels} channels; "
            "ImageNet's constants are for 1 or 3, so use 'dataset'"
        )
    if channels == 1:
        return (sum(mean) / 3,), (sum(std) / 3,)
    return mean, std
