"""A folder's images into the uint8 cache; what cannot be read is set aside with its reason."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.atomic import atomic_file
from vtcc.data import duplicates, folder
from vtcc.data.cache import Cache, CacheWriter, open_cache
from vtcc.data.decoding import decoded
from vtcc.data.images import UnreadableImage
from vtcc.errors import VtccError
from vtcc.grouping.options import LEAST_IMAGES
from vtcc.progress import note, track

_SKETCHES = "sketches.npy"


@dataclass(frozen=True)
class Listed:
    """The images of a folder.

    Attributes:
        root: the folder, absolute. names: N relative POSIX paths, as tables show them.
        files: where they are. labels: N class numbers by sub-folder, or None. classes: names.
        digest: of names, sizes and times of change: whether a run can go on.
        stamps: N sizes and times of change, by which `vtcc add` knows what has changed.
    """

    root: Path
    names: list[str]
    files: list[Path]
    labels: list[int] | None
    classes: list[str]
    digest: str
    stamps: list[str]


def existing(root: Path) -> Path:
    """The folder of the images, absolute and without links.

    Raises:
        VtccError: when it is no folder.
    """
    if not root.exists():
        raise VtccError(f"{root}: no such folder; give one with images in it")
    if not root.is_dir():
        raise VtccError(f"{root}: a file; give the folder that holds the images (unpack archives)")
    return root.resolve()


def listed(root: Path, least: int = LEAST_IMAGES) -> Listed:
    """Finds the images below a folder; sub-folders may be classes, which only describe.

    Args:
        root: the folder. least: images it must hold.

    Raises:
        VtccError: when it is no folder, holds fewer than `least` images, or cannot be read.
    """
    root = existing(root)
    found = folder.find(root, least=min(least, 2))
    for line in found.notes:
        note(line)
    if len(found.paths) < least:
        raise VtccError(
            f"{root}: {len(found.paths)} images, and grouping needs at least {least}; check the "
            "folder"
        )
    files = [Path(os.fspath(found.read(i))) for i in range(len(found.paths))]  # type: ignore[arg-type]
    labels = None if found.labels is None else list(found.labels)
    names = list(found.paths)
    stamps = [folder.stamp(file) for file in files]
    digest = folder.fingerprint(names, stamps)
    return Listed(root, names, files, labels, list(found.class_names), digest, stamps)


def located(root: Path, names: Sequence[str]) -> dict[str, Path]:
    """Where the files of an earlier listing are, by their names as tables show them.

    Args:
        root: the folder then. names: of `Listed`; bytes that are not UTF-8 are %XX in them.
    """
    files = {}
    for name in names:
        # `..` of a folder that was moved leads nowhere.
        file = Path(os.path.normpath(root / name))
        if "%" in name and not file.exists():
            odd = re.sub("%([89A-F][0-9A-F])", lambda m: chr(0xDC00 + int(m[1], 16)), name)
            file = Path(os.path.normpath(root / odd))
        files[name] = file
    return files


def cached(
    found: Listed,
    directory: Path,
    *,
    name: str,
    channels: int,
    size: int,
    max_pixels: int,
    **decoding: Any,
) -> tuple[Cache, np.ndarray, dict[str, str]]:
    """Decodes every image once.

    Args:
        found: the images. directory: of the cache; one that is there is used as it is.
        name: of the data set. channels, size, max_pixels: as of `vtcc.data.images.decode`.
        decoding: bands, stretch and stretch_range, likewise.

    Returns:
        The cache; a sketch (N, 8, 9) of each readable image; and name -> reason of the others.

    Raises:
        VtccError: when fewer than `LEAST_IMAGES` images can be read.
    """
    sketched = directory.with_name(_SKETCHES)
    if directory.exists() and sketched.exists():
        cache = open_cache(directory)
        sketches: np.ndarray = np.load(sketched, allow_pickle=False)
        if (cache.image_size, cache.channels, len(sketches)) == (size, channels, len(cache.paths)):
            return cache, sketches, _quarantined(directory)
    seen: list[np.ndarray] = []
    images_read = decoded(
        found.files, channels=channels, size=size, max_pixels=max_pixels, **decoding
    )
    with CacheWriter(
        directory, name=name, image_size=size, channels=channels, **decoding
    ) as writer:
        named = zip(found.names, images_read, strict=True)
        for path, (_, image) in track(named, "read", len(found.names)):
            if isinstance(image, UnreadableImage):
                writer.quarantine(path, image.reason)
                continue
            writer.add(path, "train", image.pixels)
            seen.append(duplicates.sketch(image.pixels))
        if len(seen) < LEAST_IMAGES:
            reasons = [f"{n!r}: {why}" for n, why in writer.quarantined[:3]]
            raise VtccError(
                f"{found.root}: {len(seen)} of {len(found.names)} images can be read, and "
                f"grouping needs at least {LEAST_IMAGES} (first: {'; '.join(reasons)})"
            )
        errors = dict(writer.quarantined)
        cache = writer.finish()
    with atomic_file(sketched) as building, building.open("wb") as file:
        np.save(file, np.stack(seen))
    for path, why in list(errors.items())[:10]:
        note(f"unreadable: {path!r}: {why}")
    if len(errors) > 10:
        note(f"unreadable: {len(errors) - 10} more, see the column error")
    return cache, np.stack(seen), errors


def _quarantined(directory: Path) -> dict[str, str]:
    import csv

    from vtcc.data.cache import QUARANTINE

    with (directory / QUARANTINE).open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}
