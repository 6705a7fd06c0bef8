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


Constants = tuple[tuple[float, ...], tuple[float, ...]]


def normalization(kind: str, cache: Moments, encoder: str = "vit") -> Constants:
    """Mean and deviation per channel, of the training images, ImageNet's or the encoder's.

    Args:
        kind: "dataset", "imagenet" or "encoder", as `train.normalize`.
        encoder: `train.model.encoder`.

    Raises:
        VtccError: when the constants do not fit the channels.
    """
    if kind == "encoder":
        return _for_channels(*encoder_constants(encoder), cache.channels, kind)
    if kind == "dataset":
        # A constant channel has deviation zero; one grey level is the least that can differ.
        return tuple(cache.mean), tuple(max(s, 1 / 255) for s in cache.std)
    return imagenet(cache.channels)


def imagenet(channels: int) -> Constants:
    """ImageNet's mean and deviation per channel; for grey images their average."""
    return _for_channels(*IMAGENET, channels, "imagenet")


def encoder_constants(encoder: str) -> Constants:
    """Mean and deviation of the three channels that an encoder was trained with, by its card."""
    name = encoder.removeprefix("timm:")
    if name != encoder:
        from vtcc.engine.timm_encoder import constants

        return constants(name)
    from vtcc import encoders

    card = encoders.card(encoder)
    return card.mean, card.std


def _for_channels(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int, kind: str
) -> Constants:
    """Constants of RGB images, averaged for grey ones."""
    if channels not in (1, 3):
        raise VtccError(
            f"train.normalize: found {kind!r}, but the cached images have {channels} channels; "
            "its constants are for 1 or 3, so use 'dataset'"
        )
    if channels == 1:
        return (sum(mean) / 3,), (sum(std) / 3,)
    return mean, std
