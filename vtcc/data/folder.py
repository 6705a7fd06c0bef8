"""A folder of one's own images, or a zip or tar of one, as a source.

The folder is only read. Nothing in it may break the stage: what is not an image by its suffix,
what is hidden and what is no regular file is left out, and counted in a note.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from vtcc.data import archive
from vtcc.data.found import Found
from vtcc.data.images import SUFFIXES
from vtcc.errors import VtccError


def find(path: Path, scratch: Path, least: int = 2) -> Found:
    """Lists the images of a folder or archive.

    If every image lies in a sub-folder and there are at least two of these, the first level of
    sub-folders is taken for class names; otherwise the images are unlabelled.

    Args:
        path: a directory, or a zip or tar (plain, gz, bz2, xz).
        scratch: an empty directory, to which archives are unpacked.
        least: images there must be.

    Raises:
        VtccError: when there are fewer images, a directory cannot be read, or the
            archive is damaged or hostile.
    """
    left_out: Counter[str] = Counter()
    root = path
    if not path.is_dir():
        left_out += archive.unpack(path, scratch, wanted=_wanted)
        root = scratch
    files = _walk(root, left_out)
    if len(files) < least:
        held = "no image" if not files else "a single image"
        needed = "clustering needs at least two" if least > 1 else "there must be one"
        rest = _in_words(left_out)
        raise VtccError(
            f"dataset.source: {held} in {path}, and {needed}; images are "
            f"known by {' '.join(sorted(SUFFIXES))}" + (f" (left out: {rest})" if rest else "")
        )
    names = readable_names(files)
    # People zip a folder, not its content: one folder around everything is no class.
    depth = wrappers(names) if root is scratch else 0
    labels, classes = first_level(names, depth)
    notes = [f"{path}: {len(files)} images"]
    if classes:
        notes[0] += f" in {len(classes)} sub-folders, taken for classes (used to evaluate only)"
    if left_out:
        notes.append(f"{path}: left out {_in_words(left_out)}")
    return Found(
        paths=names,
        read=lambda i: root / files[i],
        labels=labels,
        class_names=classes,
        notes=notes,
        ours=root is scratch,
    )


def _wanted(path: PurePosixPath) -> str | None:
    """Why a file is left out, or None when it is wanted."""
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return "other files"
    return None


def _walk(root: Path, left_out: Counter[str]) -> list[str]:
    """Relative paths of all images below `root`, following links but never in circles."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        directory = root / inside
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda e: (e.is_symlink(), e.name))
        except OSError as error:
            raise VtccError(
                f"{directory}: this directory cannot be read ({error.strerror or error}); "
                "change its permissions, or take it out of dataset.source"
            ) from None
        folders = []
        for entry in listed:
            path = f"{inside}/{entry.name}" if inside else entry.name
            reason = _wanted(PurePosixPath(entry.name))
            if reason == "hidden":
                left_out[reason] += 1
            elif _is(entry.is_dir):
                folders.append(path)
            elif reason:
                left_out[reason] += 1
            elif _is(entry.is_file):
                found.append(path)
            else:
                left_out["broken links, pipes and devices"] += 1
        waiting += reversed(folders)
    return sorted(found)


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:
        return False  # a link to itself, or into a place that is closed to us


def readable_names(files: list[str]) -> list[str]:
    """The same names, with bytes that are not UTF-8 written as %XX, as tables need text."""
    names = [
        re.sub("[\udc80-\udcff]", lambda m: f"%{ord(m[0]) - 0xDC00:02X}", name) for name in files
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise VtccError(
            f"dataset.source: two files would both be called {twice[0]!r}, since one of their "
            "names is not UTF-8; rename it"
        )
    return names


def wrappers(names: list[str]) -> int:
    """How many levels of folders lie around all images."""
    parts = [PurePosixPath(name).parts[:-1] for name in names]
    depth = 0
    while len({p[: depth + 1] for p in parts}) == 1 and len(min(parts, key=len)) > depth:
        depth += 1
    return depth


def first_level(names: list[str], depth: int) -> tuple[list[int] | None, list[str]]:
    """Labels and class names by the folder at `depth`; None and [] where that makes no classes."""
    parts = [PurePosixPath(name).parts for name in names]
    if any(len(p) < depth + 2 for p in parts):
        return None, []
    folders = [p[depth] for p in parts]
    classes = sorted(set(folders))
    if len(classes) < 2:
        return None, []
    number = {name: i for i, name in enumerate(classes)}
    return [number[folder] for folder in folders], classes


def _in_words(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
