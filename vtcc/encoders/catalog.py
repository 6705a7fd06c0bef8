"""A card per encoder: `cards/NAME.yaml`, read into frozen dataclasses."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vtcc import schema, yaml_file
from vtcc.errors import VtccError

CARDS = Path(__file__).parent / "cards"
SMALL = 64  # pixels, up to which images are small
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class PackageSource:
    """Weights inside an installed Python package.

    Attributes:
        distribution: name for pip. module: to import, which is not done.
        file: inside the module, a path or a glob.
        sha256: of that file; None: not pinned.
    """

    distribution: str
    module: str
    file: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Weights in a repository of the Hugging Face hub.

    Attributes:
        repo: owner/name. revision: a commit, or `main`, which may move.
        file: of safetensors in it.
        sha256: of that file; None: not pinned.
    """

    repo: str
    revision: str
    file: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class EncoderCard:
    """One pretrained encoder.

    Attributes:
        name: for `train.model.encoder`. purpose: a sentence on what it is good for.
        timm: the model's name in timm, with the tag of its weights.
        parameters: of the encoder, without a classifier.
        megabytes: of the weights' file, 10^6 bytes each.
        licence: of the weights, an SPDX identifier or a name. licence_url: its text.
        restricted: the licence must be accepted before the weights are fetched.
        image_size: side in pixels that the features are best at here.
        mean: per RGB channel, of images in 0-1. std: likewise.
        crop: `squash`: the whole image, resized to the square (bicubic, antialiased).
        pooling: of the last layer to one vector, as timm names it: avg, token or map.
        feature_dim: length of that vector.
        package: where pip brings the weights, or None. hub: where the hub has them.
        small_image_size: as image_size, for images of at most `SMALL` pixels; 0: the same.
    """

    name: str
    purpose: str
    timm: str
    parameters: int
    megabytes: int
    licence: str
    licence_url: str
    restricted: bool
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: str
    pooling: str
    feature_dim: int
    package: PackageSource | None
    hub: HubSource
    small_image_size: int = 0

    def size_for(self, side: float | None) -> int:
        """The side in pixels that images are embedded at.

        Args:
            side: the images' shorter one in pixels; None where it is not known.
        """
        small = side is not None and side <= SMALL
        return self.small_image_size if small and self.small_image_size else self.image_size


def names() -> list[str]:
    """All encoders, sorted; reads the directory only."""
    return sorted(file.stem for file in CARDS.glob("*.yaml"))


def nearest(name: str) -> str:
    """A hint for a name that is no card's: the nearest that is, or all."""
    return schema.nearest(name, names(), f"there are {', '.join(names())}")


def card(name: str) -> EncoderCard:
    """The card of an encoder.

    Raises:
        VtccError: when there is none, with the nearest name, or when the card is wrong.
    """
    if name not in names():
        raise VtccError(f"encoder {name!r}: unknown; {nearest(name)}")
    return read_card(CARDS / f"{name}.yaml")


@cache
def read_card(file: Path) -> EncoderCard:
    """Reads a card.

    Raises:
        VtccError: on a key that is unknown, missing or of the wrong type; names file and key.
    """
    try:
        card: EncoderCard = schema.build(EncoderCard, yaml_file.read(file))
    except VtccError as error:
        raise VtccError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from None
    if card.name != file.stem:
        raise VtccError(f"{file}: name: found {card.name!r}; a card has the name of its file")
    if card.crop != "squash":
        raise VtccError(f"{file}: crop: found {card.crop!r}; allowed: squash")
    for source in (card.package, card.hub):
        if source and source.sha256 is not None and not _SHA256.fullmatch(source.sha256):
            raise VtccError(f"{file}: sha256: found {source.sha256!r}; expected 64 hex digits")
    return card
