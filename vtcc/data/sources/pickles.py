"""Pickles of arrays and plain values, read without running what else they may name.

By Python's own unpickler with few of its instructions: others fill gigabytes for a few bytes, and
keys that are tuples of tuples take for ever to hash.
"""

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.errors import VtccError
from vtcc.regular import regular


def read(path: Path) -> Any:
    """Reads a pickle of dicts, lists, bytes, text, numbers and numpy arrays of numbers.

    Text of Python 2 becomes bytes.

    Raises:
        VtccError: when it is damaged, or names anything to be called, which could be any program.
    """
    try:
        return _Unpickler(io.BytesIO(regular(path).read_bytes()), encoding="bytes").load()
    except VtccError as error:
        raise VtccError(f"{path}: {error}") from None
    except Exception as error:
        # Damaged pickles make the module raise anything from KeyError to MemoryError.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VtccError(f"{path}: not a readable pickle ({reason[:200]}); fetch it again") from None


class _Array:
    """An array before its content."""

    def built(self, state: Any) -> np.ndarray:
        _, shape, kind, fortran, content = state
        flat = np.frombuffer(content, np.dtype(kind.order + kind.code))
        return flat.reshape(shape, order="F" if fortran else "C")


class _Type:
    """A type of numbers, before its byte order."""

    def __init__(self, code: str | bytes, *_: Any):
        self.code, self.order = str(code, "latin1") if isinstance(code, bytes) else code, "="
        if not re.fullmatch("[biuf][1248]", self.code):
            raise pickle.UnpicklingError(f"an array of {self.code!r}")

    def built(self, state: Any) -> "_Type":
        order = state[1]
        self.order = str(order, "latin1") if isinstance(order, bytes) else order
        return self


class _Keyed(dict[Any, Any]):
    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, (bytes, str, int)):
            raise pickle.UnpicklingError(f"a key of type {type(key).__name__}")
        super().__setitem__(key, value)


def _empty_array(kind: Any, shape: Any, code: Any) -> _Array:
    """What numpy begins an array with; its content follows."""
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError("an array that begins with others than no numbers")
    return _Array()


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("text in another encoding than latin1")
    return text.encode("latin1")


_NDARRAY = object()
_ALLOWED = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("_codecs", "encode"): _encode,
}
_INSTRUCTIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
)


# The one whose instructions can be chosen.
_Whole: Any = pickle._Unpickler  # noqa: SLF001
_CODES = [getattr(pickle, name)[0] for name in _INSTRUCTIONS]


class _Unpickler(_Whole):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise VtccError(
                f"names {module}.{name}, which a pickle of images does not need and which could "
                "run any program; it is not read: fetch the file from its makers"
            )
        return _ALLOWED[module, name]

    def load_empty_dict(self) -> None:
        self.append(_Keyed())

    def load_dict(self) -> None:
        items, keyed = self.pop_mark(), _Keyed()
        for key, value in zip(items[::2], items[1::2], strict=True):
            keyed[key] = value
        self.append(keyed)

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Type)):
            raise pickle.UnpicklingError(f"a {type(self.stack[-1]).__name__} with a state")
        self.stack[-1] = self.stack[-1].built(state)

    dispatch = {  # noqa: RUF012
        **{code: reader for code, reader in _Whole.dispatch.items() if code in _CODES},
        pickle.EMPTY_DICT[0]: load_empty_dict,
        pickle.DICT[0]: load_dict,
        pickle.BUILD[0]: load_build,
    }
