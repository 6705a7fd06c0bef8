"""`edits.json`, which the page exports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import json_file
from vtcc.errors import VtccError
from vtcc.grouping.edit_state import as_json
from vtcc.schema import nearest

FORMAT = 1
_FIELDS = ("format", "model", "next", "edits")


@dataclass(frozen=True)
class Wanted:
    """What a file asks for.

    Attributes:
        edits: in their order.
        following: the number that the first new cluster had in the page they were made in; None
            in files of before it was kept.
    """

    edits: list[dict[str, Any]]
    following: int | None = None


def read(path: Path, digest: str) -> Wanted:
    """The edits of a file.

    Args:
        digest: of the model and clusters they are to be applied to.

    Raises:
        VtccError: when it is no such file, or meant for another model or state.
    """
    try:
        content = json_file.parsed(path)
    except FileNotFoundError:
        raise VtccError(f"--edits: {path}: no such file; export it from report.html") from None
    except (OSError, ValueError) as error:
        raise VtccError(f"--edits: {path}: not readable as JSON ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("edits"), list):
        raise VtccError(f"--edits: {path}: not an edits.json; export it from report.html")
    for name in content:
        if name not in _FIELDS:
            raise VtccError(
                f"--edits: {path}: unknown field {name!r:.100}; {nearest(name, _FIELDS)}"
            )
    if content.get("format") != FORMAT:
        raise VtccError(
            f"--edits: {path}: format {as_json(content.get('format'))}; this vtcc reads {FORMAT}"
        )
    if content.get("model") != digest:
        raise VtccError(
            f"--edits: {path} was made for another model or before other edits (its model is "
            f"{as_json(content.get('model'))}, here it is {as_json(digest)}); open the present "
            "report.html and make the edits again"
        )
    if not content["edits"]:
        raise VtccError(f"--edits: {path} holds no edits")
    following = content.get("next")
    if following is not None and (not isinstance(following, int) or isinstance(following, bool)):
        raise VtccError(f"--edits: {path}: found next {as_json(following)}; allowed: a number")
    return Wanted(content["edits"], following)
