"""Files and directories that appear whole or not at all, replaced by one process at a time."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vtcc.errors import VtccError

# File systems that have no locks: there `sole_writer` settles nothing, as others may be at work.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# A name has at most 255 bytes, a character of it at most 4.
_LONGEST, _SHOWN = 220, 40


@contextmanager
def sole_writer(target: Path, busy: str = "") -> Iterator[None]:
    """Alone with a file or directory that is looked at, and then replaced.

    First it is settled what a killed writer left beside it: a directory that had stepped aside for
    one that never came is back, and what is half-written is gone. The same thread may enter again.

    Args:
        target: may be missing; the directory it is in may not.
        busy: what is said where another process writes it; empty: wait for that one.

    Raises:
        VtccError: where another process writes it.
        OSError: when nothing can be written beside it.
    """
    from vtcc.process import locks

    target = _named(target)
    lock = _beside(target, "lock")
    with contextlib.ExitStack() as held:
        try:
            exclusive = locks.exclusive(lock, wait=not busy, busy=busy, nests=True, keep=False)
            if held.enter_context(exclusive):
                _settle(target)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yields an empty directory beside `target`, for `replace_directory` inside the block.

    Its name is its own: what two processes write could not be mixed even where a file system has
    no locks. It is deleted where it did not become `target`.
    """
    target = _named(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(target):
        place = _unused(target)
        try:
            place.mkdir()
            yield place
        finally:
            _clear(place)


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yields an empty directory that becomes `target` when the block ends without an error.

    It is built as a hidden sibling, so that the final renaming stays on one file system. An
    existing `target` is replaced as a whole; after an error it is left as it was. Another process
    that writes `target` is waited for.
    """
    with building(target) as place:
        yield place
        replace_directory(place, target)


def replace_directory(place: Path, target: Path) -> None:
    """Renames `place` to `target` on the same file system, replacing what is there.

    After a kill `sole_writer` brings the former `target` back, after an error it never left.
    """
    target = _named(target)
    if os.path.lexists(target):
        # A directory cannot be renamed over one with content: that one steps aside first.
        old = _beside(target, "old")
        remove(old)
        try:
            target.replace(old)
            place.replace(target)
        except BaseException:
            _bring_back(old, target)
            raise
        _discard(old, target)
    else:
        place.replace(target)
    sync_directory(target.parent)


def restore(target: Path) -> None:
    """Brings a directory back that a killed writer left aside; a writer at work is waited for.

    For those who only read: without a leftover nothing is touched.
    """
    target = _named(target)
    if not os.path.lexists(target) and os.path.lexists(_beside(target, "old")):
        with sole_writer(target):
            pass


def _settle(target: Path) -> None:
    """Ends what killed writers of `target` began; nobody else may be writing it."""
    old = _beside(target, "old")
    if os.path.lexists(old):
        if os.path.lexists(target):
            _discard(old, target)
        else:
            _bring_back(old, target)
    ours = re.compile(rf"\.{re.escape(_short(target.name))}\.[0-9a-f]{{8}}\.building")
    with os.scandir(target.parent) as entries:
        left = [Path(entry) for entry in entries if ours.fullmatch(entry.name)]
    for path in left:
        try:
            remove(path)
        except OSError as error:
            raise VtccError(
                f"{path}: left by a killed process, and cannot be deleted "
                f"({error.strerror or error}); delete it, then re-run"
            ) from None


def _bring_back(old: Path, target: Path) -> None:
    if os.path.lexists(old) and not os.path.lexists(target):
        old.replace(target)


def _discard(old: Path, target: Path) -> None:
    """Deletes it under another name: what is called .old is whole at any moment."""
    place = _unused(target)
    try:
        old.replace(place)
    finally:
        _clear(place)


def _clear(place: Path) -> None:
    """Removes it though a signal comes meanwhile, which is heard afterwards."""
    try:
        remove(place)
    except Exception:
        raise
    except BaseException:  # KeyboardInterrupt, process.stopping.Stopped
        remove(place)
        raise


def _named(target: Path) -> Path:
    """Absolute, so that all who mean it have one name for its lock."""
    whole = Path(os.path.abspath(target))  # noqa: PTH100 - a link is replaced, not what it means
    if not whole.name:
        raise VtccError(f"{target}: cannot be replaced; name a folder or file in it")
    return whole


def refuse_link(option: str, out: Path) -> None:
    """Raises VtccError where what an option names is a link, which would be replaced itself."""
    if out.is_symlink():
        whole = os.path.realpath(out)
        raise VtccError(f"{option}: {out} is a link; name what it leads to, {whole}")


def beside(target: Path, before: str, after: str) -> Path:
    """A path beside `target` that is called after it, by a part of its name where that is long."""
    return target.with_name(f"{before}{_short(target.name)}{after}")


def _short(name: str) -> str:
    """The same for the same name, and short enough for `before` and `after` of `beside`."""
    if len(os.fsencode(name)) <= _LONGEST:
        return name
    return f"{name[:_SHOWN]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def _beside(target: Path, ending: str) -> Path:
    return beside(target, ".", f".{ending}")


def _unused(target: Path) -> Path:
    return _beside(target, f"{secrets.token_hex(4)}.building")


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yields a path beside `target` that becomes it, flushed to the disk, when the block ends.

    After an error `target` is what it was, and nothing else is left.
    """
    target = _named(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    place = _unused(target)
    try:
        yield place
        with place.open("rb") as file:
            os.fsync(file.fileno())
        place.replace(target)
        sync_directory(target.parent)
    finally:
        place.unlink(missing_ok=True)


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
    """Settles what killed writers of these files or directories left, as `sole_writer` does."""
    for target in targets:
        if target.parent.is_dir():
            with sole_writer(target):
                pass


def write_text(target: Path, text: str) -> None:
    """Writes a UTF-8 file in one step, making its directory when needed."""
    with atomic_file(target) as place:
        place.write_text(text, encoding="utf-8", newline="")


def remove(path: Path) -> None:
    """Removes a file, a link or a whole directory; what is not there is fine."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        make_writable(path)
        shutil.rmtree(path)


def make_writable(directory: Path) -> None:
    """Lets this user write in a directory and those below, which may have the modes of a copy."""
    directory.chmod(directory.stat().st_mode | stat.S_IRWXU)
    for here, inside, _ in os.walk(directory):
        for path in (Path(here, name) for name in inside):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | stat.S_IRWXU)


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
