"""`vtcc params`: the parameters in force, and why they are so."""

import shutil
import textwrap

from vtcc import bounds, config, paths
from vtcc.config import compose
from vtcc.errors import VtccError


def run(match: str = "", *, explain: bool = False) -> None:
    """Checks params.yaml and prints it.

    Args:
        match: only keys that contain this. explain: with reasons and allowed values; where there
            is no params.yaml, those of the preset `folder`, which `vtcc cluster --set` changes.

    Raises:
        VtccError: when params.yaml is wrong, or no key matches.
    """
    if explain and not paths.PARAMS.exists():
        print("no params.yaml here: these are the values of the preset `folder`")
        values = config.flatten(compose.compose("folder"))
    else:
        values = config.flatten(config.to_dict(config.load()))
    rows = [row for row in config.explain(config.Params) if match in row.key]
    if not rows:
        raise VtccError(f"{match}: no parameter's name contains it; see `vtcc params`")
    width = shutil.get_terminal_size((100, 24)).columns
    for row in rows:
        print(f"{row.key}: {values[row.key]}")
        if explain:
            print(_indented(f"{row.why} [{row.allowed or row.kind}]", width))
    if explain and not match:
        print("\nBounds on what others wrote, which no parameter sets (docs/security.md):")
        for what, most in bounds.IN_WORDS:
            print(f"{what}:")
            print(_indented(most, width))


def _indented(text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    ")
