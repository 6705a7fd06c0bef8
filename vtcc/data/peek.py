"""How many images inputs hold, and some of them, without unpacking what is packed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vtcc.data import archive, inputs, remote, shards
from vtcc.data.walk import count, marks_results, unwanted
from vtcc.errors import VtccError

_LATER = "not looked at yet"  # why an archive's member is not written


@dataclass(frozen=True)
class Peeked:
    """What there is.

    Attributes:
        images: how many, by their names. shards: files that hold some of them.
        packed: bytes of these, which unpacking puts on the disk once more.
        files: some of the images, readable or not; of what lies in folders all.
    """

    images: int
    shards: int
    packed: int
    files: list[Path]


def peeked(given: Sequence[inputs.Given], room: Path, most: int) -> Peeked:
    """Counts the images of inputs; an archive is read through, and nothing is written beside it.

    Args:
        given: as of `inputs.parts`. room: an empty folder, for some images of shards.
        most: of these in all.

    Raises:
        VtccError: as `inputs.parts`, and for an address.
    """
    plain: list[inputs.Given] = []
    packed: list[Path] = []
    for item in given:
        if remote.is_address(text := os.fspath(item)):
            raise VtccError(
                f"{remote.shown(text)}: a plan looks at what is on this disk; copy it first, or "
                "give a part of it"
            )
        if not os.path.lexists(text):
            raise VtccError(f"{text}: no such file or directory")
        inside = inputs.shards_of(Path(text))
        packed += inside
        if not inside:
            plain.append(item)
    files = list(
        dict.fromkeys(  # what two inputs hold counts once
            top / entry.path
            for part in inputs.parts(plain, None, any_name=False)
            for top in [part.top.resolve()]
            for entry in part.entries()
            if not entry.error
        )
    )
    packed = list({shard.resolve(): shard for shard in packed}.values())
    images = len(files)
    written: list[Path] = []
    for number, shard in enumerate(packed):
        target = room / str(number)
        target.mkdir()
        images += _of_shard(shard, target, most * (number + 1) // len(packed) - len(written))
        written += sorted(file for file in target.rglob("*") if file.is_file())
    files += written
    size = sum(shard.stat().st_size for shard in packed)
    return Peeked(images, len(packed), size, files)


def _of_shard(shard: Path, target: Path, most: int) -> int:
    """How many images a shard holds; the first of them are written to `target`."""
    if shard.suffix.lower() == shards.PARQUET:
        return shards.peeked(shard, target, most)
    names: set[PurePosixPath] = set()
    marks: list[PurePosixPath] = []

    def wanted(name: PurePosixPath) -> str | None:
        reason = unwanted(name)
        if marks_results(name):
            marks.append(name)
        if reason is None:
            names.add(name)
        return _LATER if reason is None and len(names) > most else reason

    archive.unpack(shard, target, wanted=wanted)
    return count(names, marks)
