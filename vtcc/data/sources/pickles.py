"""Pickles of arrays and plain values, read without running what else they may name."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.errors import VtccError


def read(path: Path) -> Any:
    """Reads a pickle of dicts, lists, bytes, text, numbers and numpy arrays, nothing else.

    Text of Python 2 becomes bytes.

    Raises:
        VtccError: when it is damaged, or names anything to be called, which could be any program.
    """
    try:
        return _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except VtccError as error:
        raise VtccError(f"{path}: {error}") from None
    except Exception as error:
        # Damaged pickles make the module raise anything from KeyError to MemoryError.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VtccError(f"{path}: not a readable pickle ({reason}); fetch it again") from None


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """What numpy begins an array with; its content follows."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"an array that begins with {shape!r}")
    return np.ndarray((0,), np.int8)


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise VtccError(
                f"names {module}.{name}, which a pickle of images does not need and which could "
                "run any program; it is not read: fetch the file from its makers"
            )
        return _ALLOWED[module, name]
