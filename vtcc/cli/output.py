"""What a verb says, and where: stdout is for a person, or for one JSON document alone."""

import codecs
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

AsJson = Annotated[
    bool, typer.Option("--json", help="For programs: JSON alone on stdout, notes on stderr.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors alone; no progress, no notes.")]


@contextlib.contextmanager
def answering(as_json: bool, quiet: bool) -> Iterator[Callable[[Any], None]]:
    """Sends what is printed inside where it belongs.

    Args:
        as_json: stdout is kept for the answer; all else goes to stderr.
        quiet: nothing is printed but the answer, where it is asked for, and errors.

    Yields:
        A function that takes the verb's answer and prints it as JSON if `as_json`.
    """
    stdout = sys.stdout

    def answer(result: Any) -> None:
        if as_json:
            text = json.dumps(result, indent=2, ensure_ascii=not _is_utf8(stdout))
            print(text, file=stdout, flush=True)

    with contextlib.ExitStack() as stack:
        if quiet:
            nowhere = stack.enter_context(
                Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")
            )
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        elif as_json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield answer


def _is_utf8(stream: TextIO) -> bool:
    """Whether any text can be written; others escape what they lack, as JSON does not (`\\xe9`)."""
    return codecs.lookup(stream.encoding or "ascii").name == "utf-8"
