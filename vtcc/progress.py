"""Progress of a stage: a bar on a terminal, JSON lines everywhere else.

The JSON lines (`{"progress": {"stage": "train", "done": 3, "total": 100, ...}}`) are what
flows and other programs read. Nothing heavy is imported: a GPU node may have no `rich`.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def report(stage: str, done: int, total: int, **figures: Any) -> None:
    """Says that `done` of `total` is done, with figures such as losses or images/s."""
    if sys.stdout.isatty():
        shown = "  ".join(f"{k} {_short(v)}" for k, v in figures.items())
        filled = 24 * done // max(total, 1)
        line = f"{stage} [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}  {shown}"
        end = "\n" if done >= total else ""
        _say(f"\r\033[K{line[:158]}", end)
    else:
        record = {"stage": stage, "done": done, "total": total, **figures}
        _say(json.dumps({"progress": record}))


def note(text: str) -> None:
    """One line for a person, not in the way of the bar or of the JSON lines."""
    _say(text)


def _say(text: str, end: str = "\n") -> None:
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        # Whoever read this is gone; a training is worth more than its words.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def track(items: Iterable[T], stage: str, total: int, every: int = 1000) -> Iterator[T]:
    """Yields `items`, reporting every so many and at the end, with images/s and time left."""
    start = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if done % every == 0 or done == total:
            rate = done / max(time.monotonic() - start, 1e-9)
            report(
                stage,
                done,
                total,
                images_per_second=round(rate, 1),
                seconds_left=round((total - done) / rate, 1),
            )


def duration(seconds: float) -> str:
    """Such as `80 s`, `5 min` or `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
