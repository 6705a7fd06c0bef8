"""`vtcc params`: the parameters in force, and why they are so."""

import shutil
import textwrap

from vtcc import config
from vtcc.errors import VtccError


def run(match: str = "", *, explain: bool = False) -> None:
    """Checks params.yaml and prints it.

    Args:
        match: only keys that contain this. explain: with reasons and allowed values.

    Raises:
        VtccError: when params.yaml is wrong, or no key matches.
    """
    values = config.flatten(config.to_dict(config.load()))
    rows = [row for row in config.explain(config.Params) if match in row.key]
    if not rows:
        raise VtccError(f"{match}: no parameter's name contains it; see `vtcc params`")
    width = shutil.get_terminal_size((100, 24)).columns
    for row in rows:
        print(f"{row.key}: {values[row.key]}")
        if explain:
            text = f"{row.why} [{row.allowed or row.kind}]"
            print(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    "))
