"""The one reader of JSON that may come from someone else."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtcc.errors import VtccError
from vtcc.regular import regular

DEEPEST = 50  # lists in lists; no file of ours has 10
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|([\[{])|([\]}])', re.DOTALL)


def parse(text: str) -> Any:
    """The values in a text.

    Raises:
        ValueError: when it is not JSON, or nested so deeply that reading or printing it could
            exhaust the stack.
    """
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += bool(match[1]) - bool(match[2])
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
    return json.loads(text)


def parsed(file: Path) -> Any:
    """The values in a file.

    Raises:
        OSError: when it cannot be read. ValueError: as of `parse`, or when it is not UTF-8.
    """
    return parse(regular(file).read_text(encoding="utf-8"))


def checked(values: Any, types: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, which are named and of the types that a reader needs.

    Args:
        types: key -> type; one that may lack can be None. `part.key` is of what is called `part`,
            which comes before it, where that does not lack.

    Raises:
        ValueError: naming what is not so.
    """
    if not isinstance(values, dict):
        raise ValueError(f"found {values!r:.60}, expected named values")
    for key, kind in types.items():
        part, _, name = key.rpartition(".")
        within = values.get(part) if part else values
        if within is not None and not isinstance(within.get(name), kind):
            value = f"{key}: found {within[name]!r:.60}" if name in within else f"without {key}"
            raise ValueError(value)
    return values


def read(file: Path, remedy: str, types: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The named values in a file of the pipeline.

    Args:
        remedy: what to do where there are none, such as "run `dvc repro`".
        types: as of `checked`.

    Raises:
        VtccError: when it is missing, damaged, or holds others.
    """
    try:
        values = parsed(file)
    except FileNotFoundError:
        raise VtccError(f"{file}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        raise VtccError(f"{file}: not readable as JSON ({error}); {remedy}") from None
    try:
        return checked(values, types or {})
    except ValueError as error:
        raise VtccError(f"{file}: {error}; {remedy}") from None
