"""The one reader of .npz files, and what Python raises of a damaged zip."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np

from vtcc.errors import in_one_line
from vtcc.regular import regular

# RuntimeError: NotImplementedError and RecursionError with it; ValueError: UnicodeDecodeError.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError, LookupError, ArithmeticError),
)
_KINDS = {"float": "f", "int": "iu", "bool": "b", "bytes": "S"}


def arrays(
    file: Path, shapes: Mapping[str, str], *, optional: Container[str] = (), **sizes: int
) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by name, of the shapes that a reader needs; nothing in it is run.

    Args:
        shapes: name -> kind and sizes: "float N 2" is (N, 2) floats of any width. A size that is a
            word is one number wherever it stands.
        optional: names that may lack. sizes: word -> number, where it is known.

    Raises:
        ValueError: why they could not be read, or which is of another shape, in one line.
    """
    try:
        # np.load takes what is no zip for a pickle, and says how to load one.
        with (
            regular(file).open("rb") as opened,
            np.lib.npyio.NpzFile(opened, allow_pickle=False) as saved,
        ):
            there = [n for n in shapes if n not in optional or n in saved.files]
            found = {name: saved[name] for name in there}
    except DAMAGED as error:
        raise ValueError(in_one_line(error)) from None
    for name, array in found.items():
        kind, *words = shapes[name].split()
        if len(words) == array.ndim:
            sizes = dict(zip(words, array.shape, strict=True)) | sizes
        expected = [int(word) if word.isdecimal() else sizes.get(word, word) for word in words]
        if array.dtype.kind not in _KINDS[kind] or list(array.shape) != expected:
            shape = ", ".join(map(str, expected))
            raise ValueError(
                f"{name}: found {array.dtype} {array.shape}, expected {kind} ({shape})"
            )
    return found
