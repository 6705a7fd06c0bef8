"""Where the results go, and the directory that keeps the work of an interrupted run."""

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vtcc.atomic import write_text
from vtcc.errors import SIGNAL, VtccError
from vtcc.grouping.options import Options
from vtcc.grouping.summary import FILE
from vtcc.progress import note
from vtcc.version import __version__


def place(options: Options) -> Path:
    """Where the results go, checked before any work.

    Raises:
        VtccError: when they cannot go there.
    """
    folder = options.folder.absolute()
    out = (options.out or folder.with_name(f"{folder.name}-clusters")).absolute()
    if out.exists() and not out.is_dir():
        raise VtccError(f"--out: {out} is a file; name a folder")
    if out.exists() and any(out.iterdir()):
        if not (out / FILE).exists():
            raise VtccError(
                f"--out: {out} holds other files; name a new folder, or empty this one yourself"
            )
        if not options.overwrite:
            raise VtccError(
                f"{out}: there are results already; look at {out / 'report.html'}, give another "
                "--out, or --overwrite"
            )
    if not out.parent.is_dir():
        raise VtccError(f"--out: the folder {out.parent} does not exist; create it first")
    return out


def refuse_inside(root: Path, out: Path) -> None:
    """Refuses results among the images, which are only read."""
    if out.resolve() == root or root in out.resolve().parents:
        raise VtccError(
            f"--out: {out} lies inside the images' folder, which is only read; name a place beside "
            "it"
        )


def beside(out: Path) -> Path:
    """The work directory of an output folder."""
    return out.with_name(f".{out.name}.work")


@contextlib.contextmanager
def exclusive(work: Path) -> Iterator[None]:
    """Makes the directory, for this process alone.

    Raises:
        VtccError: when another process works there, or it cannot be written to.
    """
    from vtcc.process import locks

    try:
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise VtccError(
            f"{work.parent}: cannot be written to ({error.strerror}); give --out elsewhere"
        ) from None
    lock = work.with_name(f"{work.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.exclusive(lock, wait=False, keep=False))
        except locks.BusyError:
            raise VtccError(
                f"{work}: another `vtcc cluster` is at work on this output; wait for it, or give "
                "another --out"
            ) from None
        yield


@contextlib.contextmanager
def interruptible(work: Path) -> Iterator[None]:
    """Says how to go on after a signal, and exits with 128 + its number."""
    from vtcc.engine.loop import Interrupted

    try:
        yield
    except Interrupted as stop:
        note(f"{stop}; the same command goes on from here ({work})")
        sys.exit(SIGNAL + stop.signum)


def resume_or_restart(work: Path, options: Options, digest: str) -> None:
    """Empties the directory where images or options are not those of the interrupted run.

    Args:
        digest: of the images (`intake.Listed`).
    """
    asked = {
        "version": __version__,
        "images": digest,
        "clusters": options.clusters,
        "minutes": options.minutes,
        "seed": options.seed,
        "overrides": options.overrides,
        "encoder": [options.encoder, str(options.weights or ""), options.finetune],
    }
    key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    file = work / "key"
    known = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    if known == key:
        note(f"going on with an interrupted run ({work})")
        return
    if known:
        note("the images or the options have changed: starting afresh")
    shutil.rmtree(work)
    work.mkdir()
    write_text(file, key)


def remove_if_empty(work: Path) -> None:
    """Removes the directory where a mistake ended the run before any image was kept in it."""
    if not (work / "cache").exists():
        shutil.rmtree(work, ignore_errors=True)


def read_json(file: Path) -> dict[str, Any] | None:
    """What an interrupted run kept; None where there is nothing, or nothing that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        content = None
    if isinstance(content, dict):
        return content
    note(f"{file}: cannot be read, so this step is done again")
    return None


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Keeps it for a run that goes on, in one step."""
    write_text(file, json.dumps(content) + "\n")
