"""Pickles of arrays and plain values, read without running what else they may name."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.errors import VtccError

DEEPEST = 20  # containers in containers; the pickles of data sets have fewer than 5


def read(path: Path) -> Any:
    """Reads a pickle of dicts, lists, bytes, text, numbers and numpy arrays, nothing else.

    Text of Python 2 becomes bytes.

    Raises:
        VtccError: when it is damaged, names anything to be called, which could be any program, or
            would take memory or time out of proportion to its size.
    """
    try:
        content = path.read_bytes()
        _check_structure(content)
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except VtccError as error:
        raise VtccError(f"{path}: {error}") from None
    except Exception as error:
        # Damaged pickles make the module raise anything from KeyError to MemoryError.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VtccError(f"{path}: not a readable pickle ({reason}); fetch it again") from None


# pickletools' names of what changes the container below the values on the stack.
_FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}
_SETS = {"EMPTY_SET", "ADDITEMS", "FROZENSET"}
# Where the keys are among the values that each of these takes.
_KEYS = {"SETITEM": slice(1, 2), "SETITEMS": slice(1, None, 2), "DICT": slice(0, None, 2)}


def _check_structure(content: bytes) -> None:
    """Reads the operations of a pickle without running them.

    Python's reader grows its memo to any index that is written, and hashes a key however deep
    it is: some bytes could take all memory, or for ever.

    Raises:
        pickle.UnpicklingError: on nesting beyond DEEPEST, a key that is not plain, or an index
            that a file of this size cannot need.
    """
    stack: list[int | None] = []  # depth of each value, None for a mark
    memo: dict[int, int] = {}
    for operation, given, _ in pickletools.genops(content):
        name = operation.name
        if name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            index = len(memo) if given is None else given
            if not 0 <= index <= len(content):
                raise pickle.UnpicklingError(f"index {index} in a file of {len(content)} bytes")
            memo[index] = stack[-1] or 0
            continue
        if name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(given or 0)])
            continue
        values: list[int] = []
        count = len(operation.stack_before)
        if pickletools.markobject in operation.stack_before:
            while (depth := stack.pop()) is not None:
                values.append(depth)
            values.reverse()
            count = operation.stack_before.index(pickletools.markobject)
        values[:0] = [stack.pop() or 0 for _ in range(count)][::-1]
        if name in _SETS or any(values[_KEYS.get(name, slice(0))]):
            raise pickle.UnpicklingError("a set, or a key that is not plain")
        if name == "REDUCE":  # what may be called returns no container
            depth = 0
        elif name in _FILLS:
            depth = max(values[0], 1 + max(values[1:], default=0))
        else:
            depth = 1 + max(values) if values else _is_container(name)
        if depth > DEEPEST:
            raise pickle.UnpicklingError(f"nested more than {DEEPEST} deep")
        for kind in operation.stack_after:
            stack.append(None if kind is pickletools.markobject else depth)


def _is_container(name: str) -> int:
    return int(name.startswith("EMPTY_") or name in ("LIST", "TUPLE", "DICT"))


class _Array(np.ndarray):
    """An array whose content is all there, as bytes: numpy takes memory for it only then."""

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[4], bytes)):
            raise pickle.UnpicklingError("an array whose content is not bytes")
        super().__setstate__(state)


_NDARRAY = object()  # stands for numpy.ndarray, which called would take memory of any size


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """What numpy begins an array with; its content follows."""
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError("an array that does not begin empty")
    return _Array((0,), np.int8)


def _dtype(code: Any, *flags: Any) -> np.dtype:
    """A plain type of numbers or of fixed-length bytes."""
    text = code.decode("latin1") if isinstance(code, bytes) else code
    kind = np.dtype(text) if isinstance(text, str) and len(text) < 8 else None
    if kind is None or kind.kind not in "biufSUV" or kind.subdtype or kind.fields:
        raise pickle.UnpicklingError("an array of something other than numbers")
    return kind


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("text in another encoding than latin1")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
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
