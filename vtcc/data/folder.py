"""A folder of one's own images, or a zip or tar of one, as a source.

The folder is only read. Nothing in it may break the stage: what is not an image by its suffix,
what is hidden and what is no regular file is left out, and counted in a note.
"""

import filecmp
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vtcc.data import archive, images
from vtcc.data.image_set import ImageSet
from vtcc.data.walk import as_text, in_words, marks_results, results_in, unwanted, walk
from vtcc.errors import VtccError
from vtcc.progress import several


def find(path: Path, scratch: Path | None = None, least: int = 2) -> ImageSet:
    """Lists the images of a folder or archive.

    If every image lies in a sub-folder and there are at least two of these, the first level of
    sub-folders is taken for class names; otherwise the images are unlabelled.

    Args:
        path: a directory, or a zip or tar (plain, gz, bz2, xz).
        scratch: an empty directory, to which an archive is unpacked.
        least: images there must be.

    Raises:
        VtccError: when there are fewer images, a directory cannot be read, or the
            archive is damaged or hostile.
    """
    left_out: Counter[str] = Counter()
    unpacked = None
    if not path.is_dir():
        assert scratch is not None, path
        try:
            left_out += unpack(path, scratch)
        except archive.NoArchiveError:
            raise VtccError(
                f"dataset.source: {path} is neither a dataset card (.yaml) nor a folder, and not a "
                "zip or tar archive either, or a damaged one"
            ) from None
        unpacked = scratch
    root = unpacked or path
    files = listed(root, left_out)
    if len(files) < least:
        held = several(len(files), "images") if files else "no image"
        rest = in_words(left_out)
        raise VtccError(
            f"{held} in {path}, and grouping needs at least {least}; images are "
            f"known by {images.suffixes_in_words()}" + (f" (left out: {rest})" if rest else "")
        )
    names = readable_names(files)
    # People zip a folder, not its content: one folder around everything is no class.
    depth = wrappers(names) if unpacked else 0
    labels, classes = first_level(names, depth)
    notes = [f"{path}: {several(len(files), 'images')}"]
    if classes:
        notes[0] += f" in {len(classes)} sub-folders, taken for classes (used to evaluate only)"
    if left_out:
        notes.append(f"{path}: left out {in_words(left_out)}")
    return ImageSet(
        paths=names,
        read=lambda i: root / files[i],
        labels=labels,
        class_names=classes,
        notes=notes,
        ours=unpacked is not None,
    )


def unpack(path: Path, target: Path) -> Counter[str]:
    """Unpacks the images of an archive, so that `walk` finds what it would in the packed folder.

    Args:
        path, target: as of `archive.unpack`, as what is returned and raised.
    """
    marks: list[PurePosixPath] = []

    def wanted(name: PurePosixPath) -> str | None:
        if marks_results(name):
            marks.append(name)
        return unwanted(name)

    left_out = archive.unpack(path, target, wanted=wanted)
    results = results_in(marks)
    for mark in marks:  # empty, for `walk` to leave the folder out
        if mark.parent in results and (target / mark.parent).is_dir():
            (target / mark).touch()
    return left_out


def listed(
    root: Path, left_out: Counter[str] | None = None, *, images_only: bool = True
) -> list[str]:
    """Sorted paths relative to a folder of what `walk` finds below it.

    Raises:
        VtccError: when a directory cannot be read.
    """
    files = []
    for entry in walk(root, left_out, images_only=images_only):
        if entry.error:
            raise VtccError(
                f"{root / entry.path}: this {entry.error}; change its permissions, or take it out "
                "of the folder"
            )
        files.append(entry.path)
    return sorted(files)


def fingerprint(names: Sequence[str], stamps: Sequence[str]) -> str:
    """Of names, sizes and times of change: whether files are what they were, unread.

    Args:
        names: of N files. stamps: `stamp` of each.
    """
    sha = hashlib.sha256()
    for name, seen in zip(names, stamps, strict=True):
        parts = "\0".join([as_text(name), *seen.split()])
        sha.update(f"{parts}\n".encode())
    return sha.hexdigest()


def stamp(file: Path) -> str:
    """Size in bytes and time of change in nanoseconds: another one once a file has changed.

    A file that is not there has one of its own.
    """
    try:
        status = file.stat()
    except OSError:
        return "gone"
    return f"{status.st_size} {status.st_mtime_ns}"


def keep_time(file: Path, earlier: Path) -> None:
    """Gives a file the time of change of an earlier one with the same bytes, so `stamp` stays.

    Nothing is done to folders, and where there is no earlier file.
    """
    if file.is_file() and earlier.is_file() and filecmp.cmp(file, earlier, shallow=False):
        status = earlier.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def readable_names(files: list[str]) -> list[str]:
    """The same names, with bytes that are not UTF-8 written as %XX, as tables need text."""
    names = [as_text(name) for name in files]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise VtccError(
            f"two files would both be called {twice[0]!r}, since one of their "
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
