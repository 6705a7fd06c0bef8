"""A folder's images into the uint8 cache; what cannot be read is set aside with its reason."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from vtcc.atomic import atomic_file
from vtcc.data import duplicates, folder, inputs
from vtcc.data.cache import QUARANTINE, Cache, CacheWriter, open_cache, read_pairs
from vtcc.data.decoding import decoded
from vtcc.data.images import UnreadableImage
from vtcc.data.walk import as_text, in_words
from vtcc.errors import VtccError
from vtcc.grouping.options import LEAST_IMAGES
from vtcc.progress import note, note_unreadable, several, track
from vtcc.regular import regular

_SKETCHES = "sketches.npy"


@dataclass(frozen=True)
class Listed:
    """The images of a folder, or of all that was given.

    Attributes:
        root: the folder, absolute; of several inputs the one above all of them.
        names: N POSIX paths from there, sorted, as tables show them.
        files: where they are. labels: N class numbers by sub-folder, or None. classes: names.
        digest: of names, sizes and times of change: whether a run can go on.
        stamps: N sizes and times of change, by which `vtcc add` knows what has changed.
        columns: name -> values by names of images, of tables that were given.
    """

    root: Path
    names: list[str]
    files: Sequence[Path]
    labels: list[int] | None
    classes: list[str]
    digest: str
    stamps: list[str]
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def part(self, rows: np.ndarray) -> "Listed":
        """Some of the images; digest and columns stay those of all.

        Args:
            rows: (n,) ascending.
        """
        some = rows.tolist()
        return replace(
            self,
            names=[self.names[i] for i in some],
            files=_Files(len(some), lambda i: self.files[some[i]]),
            labels=None if self.labels is None else [self.labels[i] for i in some],
            stamps=[self.stamps[i] for i in some],
        )


class _Files(Sequence[Path]):
    """Paths that are made when they are asked for: a million of them would take half a gigabyte."""

    def __init__(self, count: int, file: Callable[[int], Any]):
        self._count, self._file = count, file

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, i: int) -> Path: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Path]: ...
    def __getitem__(self, i: int | slice) -> Path | Sequence[Path]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(self._count))]
        if not 0 <= i < self._count:
            raise IndexError(i)
        return Path(os.fspath(self._file(i)))


def listed(*given: inputs.Given, place: Path | None = None, least: int = LEAST_IMAGES) -> Listed:
    """Finds the images that are meant; sub-folders of one folder may be classes, which describe.

    Args:
        given: folders, files, lists, tables, shards and addresses (`vtcc.data.inputs`).
        place: a folder for what has to be unpacked or copied. least: images there must be.

    Raises:
        VtccError: when an input is none, holds no image, or cannot be read.
    """
    parts = inputs.parts(given, place, any_name=False)
    if len(parts) == 1 and parts[0].is_plain_folder:
        root = parts[0].top.resolve()
        files: Sequence[Path]
        found = folder.find(root, least=least)
        for line in found.notes:
            note(line)
        names, files = list(found.paths), _Files(len(found.paths), found.read)
        labels, classes = found.labels, list(found.class_names)
        columns: dict[str, dict[str, Any]] = {}
    else:
        root, names, files, columns = _together(parts)
        labels, classes = None, []
    if len(files) < least:
        where = as_text(", ".join(map(inputs.kept, given)))[:200]
        raise VtccError(
            f"{where}: {several(len(files), 'images')}, and grouping needs at least "
            f"{least}; check what is there"
        )
    stamps = [folder.stamp(file) for file in files]
    return Listed(
        root,
        names,
        files,
        None if labels is None else list(labels),
        classes,
        folder.fingerprint(names, stamps),
        stamps,
        columns,
    )


def of_files(files: Sequence[Path]) -> tuple[Listed, list[str]]:
    """Some files as they are, whatever they are called; one that is given twice counts once.

    Args:
        files: N of them, at least one; all are there.

    Returns:
        The images, and N names: what each file is called among them.
    """
    parents: dict[Path, Path] = {}
    whole: list[Path] = []
    for file in files:
        parent = file.absolute().parent
        if parent not in parents:
            parents[parent] = parent.resolve()
        whole.append(parents[parent] / file.name)
    root = Path(os.path.commonpath([*parents.values()]))
    paths = sorted({os.path.relpath(file, root) for file in whole})
    shown = dict(zip(paths, folder.readable_names(paths), strict=True))
    stamps = [folder.stamp(root / path) for path in paths]
    names = list(shown.values())
    listed = Listed(
        root,
        names,
        _Files(len(paths), lambda i: root / paths[i]),
        None,
        [],
        folder.fingerprint(names, stamps),
        stamps,
    )
    return listed, [shown[os.path.relpath(file, root)] for file in whole]


def _together(
    parts: Sequence[inputs.Part],
) -> tuple[Path, list[str], Sequence[Path], dict[str, dict[str, Any]]]:
    """The folder above all parts, names, files, and the columns of tables.

    A file that two inputs hold counts once.
    """
    root = Path(os.path.commonpath([part.root.resolve() for part in parts]))
    places: dict[str, tuple[Path, str]] = {}
    columns: dict[str, dict[str, Any]] = {}
    left_out: Counter[str] = Counter()
    for part in parts:
        top = part.top.resolve()
        paths = folder.listed(top, left_out) if part.names is None else part.names
        at = {path: os.path.relpath(top / path, root) for path in paths}
        places |= {name: (top, path) for path, name in at.items()}
        for column, values in part.columns.items():
            of = {as_text(at[p]): v for p, v in zip(paths, values, strict=True) if v is not None}
            columns.setdefault(column, {}).update(of)
    sorted_names = sorted(places)
    files = _Files(len(places), lambda i: Path(*places[sorted_names[i]]))
    shown = folder.readable_names(sorted_names)
    if left_out:
        note(f"left out {in_words(left_out)}")
    note(f"{root}: {several(len(files), 'images')} of {several(len(parts), 'inputs')}")
    return root, shown, files, columns


def existing(root: Path) -> Path:
    """A folder of images, absolute and without links.

    Raises:
        VtccError: when it is no folder.
    """
    if not root.exists():
        raise VtccError(f"{root}: no such folder; give one with images in it")
    if not root.is_dir():
        raise VtccError(f"{root}: a file; give the folder that holds the images")
    return root.resolve()


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
        try:
            cache = open_cache(directory)
            sketches: np.ndarray = np.load(regular(sketched), allow_pickle=False)
            unread = _quarantined(directory)
            if {*cache.paths, *unread} != set(found.names):
                raise ValueError("of other files")
            if sketches.shape != (len(cache.paths), 8, 9):
                raise ValueError(f"{_SKETCHES} of another shape, {sketches.shape}")
            if (cache.image_size, cache.channels) == (size, channels):
                return cache, sketches, unread
        except (VtccError, OSError, ValueError, EOFError) as error:
            note(f"{directory}: damaged ({error}), so the images are read again")
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
    note_unreadable(errors.items(), len(errors))
    return cache, np.stack(seen), errors


def _quarantined(directory: Path) -> dict[str, str]:
    return dict(read_pairs(directory / QUARANTINE, ("path", "reason")))
