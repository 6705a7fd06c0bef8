"""Where the results go, and the directory that keeps the work of an interrupted run."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vtcc import atomic, json_file
from vtcc.atomic import sole_writer, write_text
from vtcc.data import inputs, remote
from vtcc.engine.signals import Interrupted
from vtcc.errors import SIGNAL, VtccError
from vtcc.grouping import only_read
from vtcc.grouping.options import Options
from vtcc.grouping.summary import FILE
from vtcc.process.stopping import Stopped
from vtcc.progress import note
from vtcc.regular import regular
from vtcc.version import __version__

if TYPE_CHECKING:
    from vtcc.grouping.intake import Listed

T = TypeVar("T")


def place(options: Options) -> Path:
    """Where the results go; of a file not in its folder, where images may be.

    Raises:
        VtccError: where there is no such place.
    """
    home, given = inputs.home(options.folder), inputs.absolute(options.folder)
    if not home.name:
        raise VtccError(
            f"{home}: is all there is, which leaves no place for results; give folders in it"
        )
    if options.out is not None:
        out = inputs.absolute(options.out)
        if not out.name:
            raise VtccError(f"--out: {out} cannot be a folder of results; name one in it")
    else:
        # A file right below the root has no folder that could have another beside it.
        folder = given.parent.name if given.is_file() else ""
        where = given.parent.parent if folder else home.parent
        out = atomic.beside(where / home.name, "", "-clusters")
    if not out.parent.is_dir():
        raise VtccError(f"--out: the folder {out.parent} does not exist; create it first")
    return out


def refuse_taken(out: Path, options: Options) -> None:
    """Refuses to write over anything; nobody else may be writing there.

    Raises:
        VtccError: where there are results already, or other files.
    """
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


def refuse_inside(options: Options, out: Path) -> None:
    """Refuses results among the images, or in other results, and images in these results."""
    inputs_given = (options.folder, *options.others)
    only_read.check(out, only_read.folders(inputs_given))
    whole = out.resolve()
    for given in inputs_given:
        is_path = not remote.is_address(os.fspath(given))
        if is_path and Path(given).resolve().is_relative_to(whole):
            raise VtccError(
                f"--out: {out} holds {given}, which is only read; name a place beside it"
            )


def refuse_holding(out: Path, listed: "Listed") -> None:
    """Refuses to replace a folder that an image lies in, by its path or by that of a link's file.

    Raises:
        VtccError: naming one of them.
    """
    if not out.is_dir():
        return
    whole = out.resolve()
    is_inside: dict[Path, bool] = {}  # of each folder
    for name, file in zip(listed.names, listed.files, strict=True):
        folder = file.parent
        if folder not in is_inside:
            is_inside[folder] = folder.resolve().is_relative_to(whole)
        if is_inside[folder] or (file.is_symlink() and file.resolve().is_relative_to(whole)):
            raise VtccError(
                f"--out: {out} holds the image {name!r}, which is only read; name a place beside it"
            )


def beside(out: Path) -> Path:
    """The work directory of an output folder."""
    return atomic.beside(out, ".", ".work")


def images(out: Path) -> Path:
    """Where images lie that had to be unpacked or copied; results lead to them, so they stay."""
    return atomic.beside(out, "", "-images")


def kept_images(summary: dict[str, Any], results: Path) -> Path | None:
    """Where the images of results lie that were unpacked or copied; None where there are none.

    That does not change with the name of the results' folder.

    Args:
        summary: of the results. results: their folder, absolute.
    """
    known = (Path(summary["unpacked"]),) if "unpacked" in summary else ()
    return next((place for place in (*known, images(results)) if place.is_dir()), None)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """No other process writes an output folder, or goes on from its work directory, meanwhile.

    Raises:
        VtccError: when another one does, or nothing can be written there.
    """
    busy = (
        f"{out}: another `vtcc cluster`, `add` or `refine` is at work on it; wait for it, or give "
        "another --out"
    )
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(sole_writer(out, busy))
        except OSError as error:
            raise VtccError(
                f"{out.parent}: cannot be written to ({error.strerror}); give --out elsewhere"
            ) from None
        yield


@contextlib.contextmanager
def interruptible(out: Path, *, begun: bool = False, folders: bool = False) -> Iterator[None]:
    """Says what is kept after a signal, and exits with 128 + its number.

    Args:
        out: the output folder.
        begun: its work directory is of these images and options, by `resume_or_restart`.
        folders: the last step writes folders by cluster into it.
    """
    try:
        yield
    except (Interrupted, Stopped) as stop:
        places = (beside(out), out / FILE, images(out))
        there = next((place for place in places if place.exists()), None)
        if there is None:
            kept = "nothing is kept yet; run it again"
        elif there == out / FILE:
            kept = f"the results in {out} are whole"
            kept += ", but for folders by cluster" if begun and folders else ""
        elif there == beside(out) and not begun:
            kept = f"run it again, which goes on from {there} if images and options are the same"
        else:
            kept = f"the same command goes on from here ({there})"
        with contextlib.suppress(OSError):  # a closed terminal takes no words
            print(f"{stop}; {kept}", file=sys.stderr)
        sys.exit(SIGNAL + stop.signum)


def resume_or_restart(work: Path, options: Options, digest: str) -> None:
    """Makes the directory, or empties it: where images or options are not the interrupted run's.

    Args:
        digest: of the images (`intake.Listed`).
    """
    asked = {
        "version": __version__,
        "images": digest,
        "clusters": options.clusters,
        "seed": options.seed,
        "overrides": options.overrides,
        "sample": options.sample,
        "encoder": [options.encoder, str(options.weights or ""), options.finetune],
    }
    key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    work.mkdir(exist_ok=True)
    file = work / "key"
    known = regular(file).read_text(encoding="utf-8", errors="replace") if file.exists() else ""
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
    return read_as(file, dict)


def read_as(file: Path, made: Callable[[dict[str, Any]], T]) -> T | None:
    """As `read_json`, of a kind of its own.

    Args:
        made: of the named values; may raise TypeError, LookupError or ValueError: others are none.
    """
    try:
        content = json_file.parsed(file)
        return made(json_file.checked(content, {}))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError):
        note(f"{file}: cannot be read, so this step is done again")
        return None


def numbers(values: dict[str, Any]) -> dict[str, Any]:
    """The same values, where all are numbers.

    Raises:
        ValueError: naming one that is none.
    """
    return json_file.checked(values, dict.fromkeys(values, int | float))


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Keeps it for a run that goes on, in one step."""
    write_text(file, json.dumps(content) + "\n")
