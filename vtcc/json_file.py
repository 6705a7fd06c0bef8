"""The one reader of JSON that may come from someone else."""

import json
import re
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


def read(file: Path, remedy: str) -> Any:
    """The values in a file of the pipeline.

    Args:
        remedy: what to do where there are none, such as "run `dvc repro`".

    Raises:
        VtccError: when it is missing or damaged.
    """
    try:
        return parse(regular(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VtccError(f"{file}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        raise VtccError(f"{file}: not readable as JSON ({error}); {remedy}") from None
