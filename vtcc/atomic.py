"""Files and directories that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yields an empty directory that becomes `target` when the block ends without an error.

    It is built as a hidden sibling, so that the final renaming stays on one file system. An
    existing `target` is replaced as a whole; after an error it is left as it was. What a killed
    run left behind is cleared by the next one.
    """
    building = target.with_name(f".{target.name}.building")
    remove(building)
    building.mkdir(parents=True)
    try:
        yield building
    except BaseException:
        remove(building)
        raise
    replace_directory(building, target)


def replace_directory(building: Path, target: Path) -> None:
    """Renames `building` to `target` on the same file system, replacing what is there."""
    if os.path.lexists(target):
        # A directory cannot be renamed over one with content: that one steps aside first.
        old = target.with_name(f".{target.name}.old")
        remove(old)
        target.replace(old)
        building.replace(target)
        remove(old)
    else:
        building.replace(target)
    sync_directory(target.parent)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yields a path beside `target` that becomes it, flushed to the disk, when the block ends.

    After an error `target` is what it was, and nothing else is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{target.name}.building")
    try:
        yield building
        with building.open("rb") as file:
            os.fsync(file.fileno())
        building.replace(target)
        sync_directory(target.parent)
    finally:
        building.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Flushes a directory to the disk: without it a renaming may not outlast a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot; they promise nothing either way.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(handle)


def sync_files(directory: Path) -> None:
    """Flushes the files right in `directory` to the disk."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def leftovers(directory: Path) -> list[Path]:
    """What killed writers left right in `directory`: none of it is whole or of use."""
    if not directory.is_dir():
        return []
    return sorted(p for e in ("building", "old") for p in directory.glob(f".*.{e}"))


def sweep(*targets: Path) -> None:
    """Clears what killed writers of these files or directories left beside them.

    A directory whose replacement was cut off between two renamings gets its old content back.
    """
    for target in targets:
        restore(target)
        for end in ("building", "old"):
            with contextlib.suppress(NotADirectoryError):
                remove(target.with_name(f".{target.name}.{end}"))


def restore(target: Path) -> None:
    """Puts a directory back that stepped aside for one that never came."""
    old = target.with_name(f".{target.name}.old")
    if os.path.lexists(old) and not os.path.lexists(target):
        old.replace(target)


def write_text(target: Path, text: str) -> None:
    """Writes a UTF-8 file in one step, making its directory when needed."""
    with atomic_file(target) as building:
        building.write_text(text, encoding="utf-8", newline="")


def remove(path: Path) -> None:
    """Removes a file, a link or a whole directory; what is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """Yields an empty directory and deletes it afterwards, whatever happens."""
    remove(path)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        remove(path)


def umask() -> int:
    """The permission bits that new files of this process lack."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
