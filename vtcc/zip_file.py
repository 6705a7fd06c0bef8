"""The one reader of .npz files, and what Python raises of a damaged zip."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vtcc.errors import in_one_line

# RuntimeError: NotImplementedError and RecursionError with it; ValueError: UnicodeDecodeError.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError, LookupError, ArithmeticError),
)


def arrays(
    file: Path, names: Iterable[str], *, optional: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by name; nothing in it is run.

    Args:
        names: that it has to have. optional: that it may have.

    Raises:
        ValueError: why they could not be read, in one line.
    """
    try:
        # np.load takes what is no zip for a pickle, and says how to load one.
        with file.open("rb") as opened, np.lib.npyio.NpzFile(opened, allow_pickle=False) as saved:
            there = [*names, *(name for name in optional if name in saved.files)]
            return {name: saved[name] for name in there}
    except DAMAGED as error:
        raise ValueError(in_one_line(error)) from None
