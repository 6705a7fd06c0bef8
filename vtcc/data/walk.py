"""The one way through a folder: every verb finds the same images in it, by the same names."""

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vtcc.data import camera, images

STAMP = ".stamp"  # in an unpacked shard: size and time of its file
SPECIAL = "broken links, pipes and devices"
# What a folder holds that `vtcc cluster` wrote: the page's pictures and links by cluster in it are
# images once more.
_OF_RESULTS = {"summary.json", "report.html", "embedding.npz"}
RESULTS = "folders of results of vtcc"
# What people keep among their pictures and that is not read here, by suffix; the first two are
# with the extra.
_RAW = f"RAW (their previews are read after {camera.INSTALL})"
_FILMS = f"videos (their first frames are read after {camera.INSTALL})"
UNSUPPORTED = {
    **dict.fromkeys(camera.RAW, _RAW),
    **dict.fromkeys(camera.FILMS, _FILMS),
    **dict.fromkeys((".jp2", ".j2k", ".jxl"), "JPEG 2000 or XL (convert to JPEG or PNG)"),
    ".svg": "SVG (convert to JPEG or PNG)",
    ".psd": "Photoshop (convert to JPEG or PNG)",
}
# Cameras write these beside an image of the same name: one picture, or the film of a Live Photo.
_BESIDE_AN_IMAGE = {*camera.RAW, ".mov", ".mp4", ".aae", ".xmp"}
# Of the system, at the top of a disk; who may not look into them can neither change nor move them.
_OF_A_DISK = {"lost+found", "system volume information", "$recycle.bin"}
# Names that cameras give to a series of shots: its time before or after the word, and which of them
# was chosen as its picture.
_BURST = re.compile(r"(?P<before>.*?)[ _.-]?burst(?P<number>\d+)(?P<cover>[_.]cover)?")
_DATE, _TIME_DIGITS = re.compile(r"\d{8}"), 14
OF_A_BURST = "further shots of a burst"
# Of one file: the reasons of here, of `archive` and of `shards`.
_OF_ONE = {
    "other files": "other file",
    RESULTS: "folder of results of vtcc",
    SPECIAL: "broken link, pipe or device",
    OF_A_BURST: "further shot of a burst",
    _RAW: f"RAW (its preview is read after {camera.INSTALL})",
    _FILMS: f"video (its first frame is read after {camera.INSTALL})",
    "links and devices": "link or device",
    "sparse files": "sparse file",
    "earlier files of the same name": "earlier file of the same name",
    "rows without an image": "row without an image",
}
_ODD_BYTES = "[\udc80-\udcff]"  # how Python holds bytes of a name that are not UTF-8


@dataclass(frozen=True)
class Entry:
    """A file below a folder, or a folder that cannot be read.

    Attributes:
        path: relative to where the walk began, with slashes; odd bytes as surrogates.
        error: why the folder cannot be read; empty for a file.
        file: where it is, of a path that is only its name.
        more: columns of a table that named it.
    """

    path: str
    error: str = ""
    file: Path | None = None
    more: Mapping[str, Any] = field(default_factory=dict, compare=False)


def walk(
    root: Path, left_out: Counter[str] | None = None, *, images_only: bool = True
) -> Iterator[Entry]:
    """The files below a folder, each folder in name order, folders before links to folders.

    Hidden files, `__MACOSX`, broken links, pipes and devices are left out, results of `vtcc
    cluster` as a whole, a disk's own folders such as `lost+found` where they are closed, and,
    uncounted, a RAW file or the film of a Live Photo beside an image of the same name; a RAW file
    that is read is such an image where there is no other. Of a burst, known by its names, the cover
    is listed, or the first shot, and the others are counted as left out. Links are followed, never
    in circles: a folder that can be reached twice has the name without a link; a linked file is an
    image of its own.

    Args:
        root: the folder.
        left_out: counts what is left out, by reason.
        images_only: leave out what is no image by its suffix.
    """
    left_out = Counter() if left_out is None else left_out
    seen: set[tuple[int, int]] = set()
    waiting, linked = [""], deque[str]()
    while waiting or linked:
        inside = waiting.pop() if waiting else linked.popleft()
        directory = root / inside
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda e: e.name)
        except OSError as error:
            name = PurePosixPath(inside).name
            if name.lower() in _OF_A_DISK:
                left_out[f"closed {name}"] += 1
                continue
            yield Entry(inside, f"directory cannot be read ({error.strerror or error})")
            continue
        if {e.name for e in listed} >= _OF_RESULTS:
            left_out[RESULTS] += 1
            continue
        folders: list[str] = []
        pictured = _pictured(e.name for e in listed if _is(e.is_file)) if images_only else {}
        covers = _covers(pictured.values())
        for entry in listed:
            path = f"{inside}/{entry.name}" if inside else entry.name
            reason = unwanted(PurePosixPath(entry.name), images_only=images_only)
            if reason == "hidden":
                if entry.name != STAMP:
                    left_out[reason] += 1
            elif _is(entry.is_dir):
                (linked if entry.is_symlink() else folders).append(path)
            elif _is_part(entry.name, pictured):
                continue
            elif covers.get(_burst(entry.name), entry.name) != entry.name:
                left_out[OF_A_BURST] += 1
            elif reason:
                left_out[reason] += 1
            elif _is(entry.is_file):
                yield Entry(path)
            else:
                left_out[SPECIAL] += 1
        waiting += reversed(folders)


def unwanted(path: PurePosixPath, *, images_only: bool = True) -> str | None:
    """Why a file is left out by its name, or None when it is wanted."""
    if any(map(is_hidden, path.parts)):
        return "hidden"
    suffix = path.suffix.lower()
    if images_only and suffix not in images.suffixes():
        return UNSUPPORTED.get(suffix, "other files")
    return None


def marks_results(path: PurePosixPath) -> bool:
    """Whether a file has one of the names that results of vtcc are known by."""
    return path.name in _OF_RESULTS


def is_results(folder: Path) -> bool:
    """Whether a folder on the disk holds results of vtcc."""
    here = (os.path.join(folder, name) for name in _OF_RESULTS)  # noqa: PTH118 - Path.is_file raises
    return all(map(os.path.isfile, here))


def results_in(paths: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """The folders of results of vtcc, by the paths of the files in them."""
    names: dict[PurePosixPath, set[str]] = {}
    for path in paths:
        if marks_results(path):
            names.setdefault(path.parent, set()).add(path.name)
    return {folder for folder, marks in names.items() if marks == _OF_RESULTS}


def count(paths: Iterable[PurePosixPath], marks: Iterable[PurePosixPath]) -> int:
    """How many of these files `walk` lists, once they are on the disk.

    Args:
        paths: that are wanted. marks: files beside them that results are known by.
    """
    folders: dict[str, set[str]] = {}
    results = results_in(marks)
    for path in paths:
        if results.isdisjoint(path.parents):
            folders.setdefault(str(path.parent), set()).add(path.name)
    listed = 0
    for names in folders.values():
        pictured = _pictured(sorted(names))
        covers = _covers(pictured.values())
        listed += sum(
            not _is_part(name, pictured) and covers.get(_burst(name), name) == name
            for name in names
        )
    return listed


def _pictured(names: Iterable[str]) -> dict[str, str]:
    """Stem of files in one folder -> the first image of that name, a RAW file only without one."""
    first: dict[str, str] = {}
    raw: dict[str, str] = {}
    for name in names:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in images.SUFFIXES and not is_hidden(name):
            first.setdefault(_stem(name), name)
        elif suffix in camera.RAW and suffix in camera.suffixes():
            raw.setdefault(_stem(name), name)
    return raw | first


def _is_part(name: str, pictured: dict[str, str]) -> bool:
    """Whether a camera's file belongs to another one, which is the picture."""
    if not is_beside(Path(name)):
        return False
    return pictured.get(_stem(name), name) != name


def shot(file: Path) -> tuple[Path, str]:
    """What a camera's files of one picture have in common: their folder, and the name."""
    return file.parent, _stem(file.name)


def burst(file: Path) -> tuple[Path, str] | None:
    """What the shots of one burst have in common: their folder, and the name; None without one."""
    name = _burst(file.name)
    return (file.parent, name) if name else None


def is_beside(file: Path) -> bool:
    """Whether a file is of a kind that is part of an image of its name, where there is one."""
    return file.suffix.lower() in _BESIDE_AN_IMAGE


def _covers(names: Iterable[str]) -> dict[str, str]:
    """Burst -> the image that stands for it, of the images of one folder."""
    covers: dict[str, str] = {}
    for name in sorted(names, key=lambda n: (not _stem(n).endswith("cover"), n)):
        if burst := _burst(name):
            covers.setdefault(burst, name)
    return covers


def _burst(name: str) -> str:
    """What the shots of one burst have in common; empty where a name says of none.

    `00002IMG_00002_BURST20171111030039_COVER.jpg`, `IMG_20180914_094602_BURST001.jpg`.
    """
    parts = _BURST.fullmatch(_stem(name))
    if not parts:
        return ""
    if len(parts["number"]) >= _TIME_DIGITS:
        return parts["number"]
    return parts["before"] if _DATE.search(parts["before"]) else ""


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.casefold()


def is_hidden(name: str) -> bool:
    """Whether it is one of those files that systems leave about."""
    return name.startswith(".") or name == "__MACOSX"


def in_words(left_out: Counter[str]) -> str:
    """What was left out, for people."""
    return ", ".join(
        f"{count} {_OF_ONE.get(reason, reason) if count == 1 else reason}"
        for reason, count in sorted(left_out.items())
    )


def as_text(path: str) -> str:
    """A path with slashes, and bytes that are not UTF-8 as %XX: tables and pages need text."""
    return re.sub(_ODD_BYTES, lambda m: f"%{ord(m[0]) - 0xDC00:02X}", path.replace(os.sep, "/"))


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:
        return False  # a link to itself, or into a place that is closed to us
