"""`python -m vtcc <verb>`; also the console script `vtcc`."""

import errno
import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vtcc import extras, paths, quiet
from vtcc.errors import ERROR, VtccError


def main() -> None:
    """Runs one verb; errors a user can meet end in one line and exit status 1."""
    quiet.apply()
    _have_streams()
    if paths.here() is None and "--help" not in sys.argv and len(sys.argv) > 1:
        # torch would end the process: MKL, which it loads, asks for the directory.
        print(f"error: {paths.NOWHERE}", file=sys.stderr)
        sys.exit(ERROR)
    run: Callable[[], None]
    try:
        from vtcc.cli import app

        run = app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        # A GPU node often has torch and little else: the training must run there all the same.
        run = _without_typer
    try:
        run()
    except VtccError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except ModuleNotFoundError as error:
        lacking = extras.explained(error)
        if lacking is None:
            raise
        print(f"error: {lacking}", file=sys.stderr)
        sys.exit(lacking.status)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and (missing := _missing(error)):
            print(f"error: {missing}", file=sys.stderr)
            sys.exit(ERROR)
        # copytree gathers (from, to, reason) of each file that it could not copy, without a number.
        gathered = isinstance(error, shutil.Error) and isinstance(error.args[0], list)
        if not gathered and error.errno not in _SURROUNDINGS | _NAMES:
            raise
        reason = error.args[0][0][-1] if gathered else error
        what = "name another place" if error.errno in _NAMES else "free space or permissions"
        print(f"error: {reason}; {what}, then re-run", file=sys.stderr)
        sys.exit(ERROR)
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # of pathlib before Python 3.13
            raise
        print(f"error: {error}; name another place, then re-run", file=sys.stderr)
        sys.exit(ERROR)


def _missing(error: FileNotFoundError) -> str | None:
    """Which directory that every process needs is not there, where the error comes from that."""
    if paths.here() is None:
        return paths.NOWHERE
    if error.filename is None:  # as of `tempfile`
        try:
            tempfile.gettempdir()
        except FileNotFoundError:
            return paths.NO_TEMPORARY
    return None


def _have_streams() -> None:
    """Gives a closed stream a place to go, and makes what cannot be encoded no error.

    A file that is opened while a standard stream is closed would get its number, and the words.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, _outliving(stream))


class _Pipe(io.FileIO):
    """A pipe whose reader may leave, as `head` does: what is written after that goes nowhere."""

    def write(self, data: Any, /) -> int:
        """As of `FileIO`; never a BrokenPipeError, since the work is worth more than its words."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)


def _outliving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream, which outlives the reader of its pipe; itself where it is no pipe."""
    try:
        number = stream.fileno()
    except OSError:
        return stream
    mode = os.fstat(number).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return stream
    stream.flush()
    pipe = _Pipe(number, "w", closefd=False)
    return io.TextIOWrapper(
        pipe if isinstance(stream.buffer, io.FileIO) else io.BufferedWriter(pipe),  # type: ignore[type-var, unused-ignore]
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


# What the disk and its owner decide; any other OSError is ours, and its traceback is wanted.
_SURROUNDINGS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
}
# What a path cannot be.
_NAMES = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}


def _without_typer() -> None:
    verb, *rest = sys.argv[1:] or [""]
    if verb != "train" or (rest and (len(rest) != 2 or rest[0] != "--resume")):
        sys.exit(
            f"error: {sys.executable} lacks typer: activate the environment (source "
            ".venv/bin/activate, made by `make setup`); without it only `vtcc train "
            "[--resume FILE]` works"
        )
    from vtcc.process import stopping
    from vtcc.stages import train

    with stopping.obeyed("train"):
        train.run(resume=Path(rest[1]) if rest else None)


if __name__ == "__main__":
    main()
