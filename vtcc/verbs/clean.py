"""`vtcc clean`: what unfinished and killed runs hold on the disk, shown and freed."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from vtcc import paths
from vtcc.atomic import leftovers, remove, restore
from vtcc.process import locks, stopping
from vtcc.runner.locks import release_stale_locks
from vtcc.tracking.run_locks import close_abandoned

_ROOMS = {
    "scratch": "what a training or an embedding that is not finished goes on from",
    "worktrees": "a run's private directory",
    "downloads": "downloaded files, whole or cut off",
}
_OUTPUTS = (
    paths.MANIFEST.parent.parent,
    paths.MODEL.parent,
    paths.REPORTS,
)


@dataclass(frozen=True)
class Leftover:
    """Something on the disk: where, what it is for, whether a process uses it now."""

    path: Path
    what: str
    used: bool

    @property
    def bytes(self) -> int:
        """Of all files in it."""
        return size(self.path)


def run(*, confirmed: bool = False) -> None:
    """Shows what can be freed, asks, and frees it; what a process uses stays.

    MLflow runs whose process was killed are ended.

    Args:
        confirmed: do not ask.

    Raises:
        typer.Abort: when the answer is no.
    """
    home = paths.home()
    _release_locks()
    close_abandoned(home)
    everything = [*_rooms(home / ".vtcc"), *_temporary()]
    free = [leftover for leftover in everything if not leftover.used]
    for leftover in everything:
        print(
            _line(leftover.bytes, leftover.path, "in use, kept" if leftover.used else leftover.what)
        )
    _show_caches(home)
    if not free:
        print(f"nothing to clean in {home / '.vtcc'}")
        return
    total = sum(leftover.bytes for leftover in free)
    if not confirmed:
        typer.confirm(
            f"Delete {len(free)}, {total / 2**20:.1f} MiB? Interrupted trainings then start afresh",
            abort=True,
        )
    for leftover in free:
        _delete(leftover.path)
    with contextlib.suppress(OSError):  # without git
        subprocess.run(["git", "worktree", "prune"], cwd=home, capture_output=True)


def _release_locks() -> None:
    """Of a DVC that was killed; a running one keeps its own."""
    if gone := release_stale_locks(Path.cwd()):
        print(f"released {gone} locks of a DVC that was killed")


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a directory; links count for nothing."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(f.lstat().st_size for f in files if f.is_file() and not f.is_symlink())


def _rooms(state: Path) -> Iterator[Leftover]:
    for room, what in _ROOMS.items():
        for path in sorted((state / room).glob("*")):
            if path.is_dir() and not path.is_symlink():
                yield Leftover(path, what, _used(path))


def _temporary() -> Iterator[Leftover]:
    """Half-written files of killed stages; any stage that runs here may be writing them."""
    if not paths.PARAMS.is_file():
        return
    used = stopping.stage_runs()
    for path in [path for place in _OUTPUTS for path in leftovers(place)]:
        if path.suffix == ".old" and not used:
            restore(path.with_name(path.name.removesuffix(".old")[1:]))
        if path.exists():
            yield Leftover(path, "left by a killed stage", used)
    if (scratch := _OUTPUTS[0] / ".download").is_dir():
        yield Leftover(scratch, "left by a killed download", used)


def _show_caches(home: Path) -> None:
    """What other commands free."""
    for path, how in (
        (Path(".dvc/cache"), "DVC's cache; old versions: dvc gc --workspace"),
        (home / "mlartifacts", "MLflow's files; of deleted runs: mlflow gc"),
    ):
        if path.is_dir():
            print(_line(size(path), path, how))


def _line(number: int, path: Path, what: str) -> str:
    return f"{number / 2**20:9.1f} MiB  {path}  ({what})"


def _delete(path: Path) -> None:
    try:
        with _held(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                remove(path)
            print(f"deleted {path.name}")
    except locks.BusyError:
        print(f"{path.name}: in use, kept")


def _used(path: Path) -> bool:
    try:
        with _held(path):
            return False
    except locks.BusyError:
        return True


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Holds what the processes that use a directory hold; raises BusyError where one does."""
    if path.parent.name not in _ROOMS:  # temporary files have no lock of their own
        if stopping.stage_runs():
            raise locks.BusyError(path)
        yield
        return
    with locks.exclusive(path.with_name(f"{path.name}.lock"), wait=False):
        yield
