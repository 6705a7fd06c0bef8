"""Locks between processes, and marks of living ones; the kernel releases both with their process.

A lock (`exclusive`) is a file that stays; who holds it is alone with what it stands for. A mark
(`Mark`) is a file that is there, and locked, for as long as its process works at something: one
that nobody holds was left by a process that was killed, and says what is to be settled.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from vtcc.errors import VtccError

_MADE = ".new"  # of marks that are not locked yet, which no search matches


class BusyError(VtccError):
    """Another process holds the lock."""


@contextlib.contextmanager
def exclusive(
    path: Path,
    *,
    wait: bool = True,
    busy: str = "",
    on_wait: Callable[[], object] = lambda: None,
    nests: bool = False,
    keep: bool = True,
) -> Iterator[bool]:
    """Holds a lock; its directory is made when needed.

    Args:
        path: the lock's file.
        wait: for as long as another process holds it. busy: what the error says where it may not.
        on_wait: called once before waiting.
        nests: the same thread may enter again.
        keep: leave the file afterwards.

    Yields:
        Whether this thread did not hold it before.

    Raises:
        BusyError: when it is held and `wait` is False.
        OSError: when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=nests)
    if not (_acquired(lock) or _acquired_anew(lock, path)):
        if not wait:
            raise BusyError(busy or path)
        on_wait()
        lock.acquire()
    try:
        yield lock.lock_counter == 1
    finally:
        if not keep and lock.lock_counter == 1:
            path.unlink(missing_ok=True)  # while it is held: whoever waits makes a new one
        lock.release()


def _acquired(lock: BaseFileLock) -> bool:
    """Whether it was free."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _acquired_anew(lock: BaseFileLock, path: Path) -> bool:
    """Whether it was free after all: its file is gone, so its holder has ended.

    Or no file can be made there (in /proc), which filelock takes for a lock that is held.
    """
    if path.exists():
        return False
    path.touch()
    return _acquired(lock)


class Mark:
    """A file that is locked as long as this process lives, or until `remove`.

    It is locked under another name and then renamed: nobody can meet it unlocked before.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, text: str = "") -> None:
        """Makes the mark, and its directory when needed.

        Args:
            path: where nothing is yet.
            text: for whoever settles what a dead process left.

        Raises:
            OSError: when it cannot be written, or the file system has no locks.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{uuid.uuid4().hex}{_MADE}")
        self._lock = FileLock(new, thread_local=False)
        self._lock.acquire(timeout=0)
        try:
            new.write_text(f"{text}\n", encoding="utf-8")
            new.rename(path)
        except BaseException:
            new.unlink(missing_ok=True)
            self._lock.release()
            raise

    def write(self, text: str) -> None:
        """Replaces the text, in place: another file would not be the locked one."""
        with self.path.open("r+", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.truncate()  # last, so that a kill never leaves an empty mark

    def remove(self) -> None:
        """The work is done: takes the mark away. Again does nothing."""
        if self._lock.is_locked:
            self.path.unlink(missing_ok=True)
            self._lock.release()


class Abandoned:
    """A mark whose process is gone, held by this one: nobody else settles it meanwhile.

    Attributes:
        path: of the file. text: what the process had written, cut off if it was killed then.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def remove(self) -> None:
        """What it stood for is settled."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def abandoned(directory: Path, pattern: str = "*.lock") -> Iterator[list[Abandoned]]:
    """The marks in a directory whose processes are gone; those not removed stay as they were.

    Args:
        directory: of the marks; may be missing.
        pattern: of their names.
    """
    with contextlib.ExitStack() as held:
        found = []
        for path in sorted(directory.glob(pattern)):
            with contextlib.suppress(BusyError, OSError):  # OSError: not ours to read
                held.enter_context(exclusive(path, wait=False))
                if (text := _text(path)) is not None:
                    found.append(Abandoned(path, text))
        yield found


def alive(directory: Path, pattern: str = "*.lock") -> list[str]:
    """The texts of the marks in a directory that living processes hold."""
    texts = []
    for path in sorted(directory.glob(pattern)):
        with contextlib.suppress(OSError):
            try:
                with exclusive(path, wait=False):
                    _text(path)
            except BusyError:
                texts.append(path.read_text(encoding="utf-8").rstrip("\n"))
    return texts


def _text(path: Path) -> str | None:
    """The text of a mark that was just locked; None where it was settled since it was listed.

    Then locking has made the file anew, and it is taken away again.
    """
    text = path.read_text(encoding="utf-8")
    if not text:
        path.unlink()
        return None
    return text.rstrip("\n")
