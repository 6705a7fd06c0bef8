"""What stages share that go on where they were stopped: train and embed.

Needs the engine's libraries only, as `train` does.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vtcc import paths
from vtcc.atomic import write_text
from vtcc.errors import VtccError
from vtcc.progress import note

_FINISHED = "finished"


@contextlib.contextmanager
def unwritten(goes_on: str) -> Iterator[None]:
    """A full disk or a lack of permissions as one line.

    Args:
        goes_on: what the next run of the stage goes on from.
    """
    try:
        yield
    except OSError as error:
        raise VtccError(
            f"could not write: {error}; free space or permissions, then run the stage again: it "
            f"goes on from {goes_on}"
        ) from error


def check_writable(*directories: Path) -> None:
    """Finds out before hours of work, not after them."""
    for directory in directories:
        probe = directory / f".{os.getpid()}.building"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise VtccError(
                f"{directory}: cannot be written to ({error.strerror}); free space or "
                "permissions, then run the stage again"
            ) from None


@contextlib.contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Waits while another process does this very work: they share their scratch directory.

    Args:
        lock: a file. what: the work, such as "training".
    """
    from vtcc.process import locks

    waiting = f"the same {what} runs in another process; waiting for it ({lock})"
    with locks.exclusive(lock, on_wait=lambda: note(waiting)):
        yield


def finish(scratch: Path) -> None:
    """Deletes what a finished stage went on from; under DVC `forget` does that later.

    DVC has yet to note the outs, and deletes them if it is killed before.
    """
    if "DVC_STAGE" in os.environ:
        write_text(scratch / _FINISHED, str(Path.cwd()))
    else:
        shutil.rmtree(scratch, ignore_errors=True)


def forget(pattern: str = "*") -> None:
    """Deletes what stages that finished here went on from, once DVC has their outs.

    Args:
        pattern: of the directories' names.
    """
    for mark in paths.scratch().glob(f"{pattern}/{_FINISHED}"):
        with _unused(mark.parent) as free:
            if free and mark.is_file() and mark.read_text(encoding="utf-8") == str(Path.cwd()):
                shutil.rmtree(mark.parent, ignore_errors=True)


def drop(scratch: Path) -> None:
    """Deletes what nothing will go on from, unless another process does this very work now."""
    with _unused(scratch) as free:
        if free:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _unused(scratch: Path) -> Iterator[bool]:
    """Keeps others from a directory that is nobody's now; False where it is somebody's.

    Args:
        scratch: of `alone`, whose lock is named after it.
    """
    from vtcc.process import locks

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(
                locks.exclusive(scratch.with_name(f"{scratch.name}.lock"), wait=False)
            )
        except (locks.BusyError, OSError):  # OSError: not ours to write
            yield False
        else:
            yield True
