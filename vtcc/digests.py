"""SHA-256 of files; the standard library alone."""

import hashlib
from functools import cache
from pathlib import Path

from vtcc.regular import regular


def sha256(file: Path) -> str:
    """Of a file's bytes, in hex; remembered while the file is unchanged."""
    return _sha256(file, *version(file))


def version(file: Path) -> tuple[int, int, int]:
    """Changes with a file."""
    state = file.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


@cache
def _sha256(file: Path, *version: int) -> str:
    with regular(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
