"""Progress of a stage: a bar on a terminal, JSON lines everywhere else.

The JSON lines (`{"progress": {"stage": "train", "done": 3, "total": 100, ...}}`), about one a
second, are what flows and other programs read. Nothing heavy is imported: a GPU node may have no
`rich`.
"""

import contextlib
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
NAMED = 10  # unreadable files told by name; all are in the table


def report(stage: str, done: int, total: int, **figures: Any) -> None:
    """Says that `done` of `total` is done, with figures such as losses or images/s."""
    if sys.stdout is not None and sys.stdout.isatty():
        width = shutil.get_terminal_size((100, 24)).columns - 1  # the last column may wrap
        end = "\n" if done >= total else ""
        _write(f"\r\033[K{_bar(stage, done, total, figures, width)}", end)
    else:
        record = {"stage": stage, "done": done, "total": total, **figures}
        _lines.add(stage, done, total, json.dumps({"progress": record}))


class _Lines:
    """JSON lines of progress: of each phase the first, the last, and at most one a second."""

    def __init__(self) -> None:
        self.out: object = None  # where the phase was written to
        self.stage, self.done, self.at, self.waiting = "", 0, 0.0, ""

    def add(self, stage: str, done: int, total: int, line: str) -> None:
        """Writes a line now, or if no other comes: before a note and before the next phase."""
        same = sys.stdout is self.out and stage == self.stage and self.done < done
        if not same:
            self.flush()
        now = time.monotonic()
        if same and done < total and now - self.at < 1:
            self.waiting = line
        else:
            self.at, self.waiting = now, ""
            _write(line)
        self.out, self.stage, self.done = sys.stdout, stage, done

    def flush(self) -> None:
        """Writes what waits."""
        if self.waiting and sys.stdout is self.out:
            _write(self.waiting)
        self.waiting = ""


_lines = _Lines()


def _bar(stage: str, done: int, total: int, figures: dict[str, Any], width: int) -> str:
    """A line of at most `width` characters; the time left comes first and is never cut."""
    left = figures.get("seconds_left")
    named = [f"{k} {_short(v)}" for k, v in figures.items() if k != "seconds_left"]
    counted = f"{done}/{total}" + (f"  {duration(left)} left" if left is not None else "")
    for cells in (24, 10, 0):
        filled = cells * done // max(total, 1)
        bar = f"[{'#' * filled}{'.' * (cells - filled)}] " if cells else ""
        line = f"{stage} {bar}{counted}"
        if len(line) <= width:
            break
    for figure in named:
        if len(line) + 2 + len(figure) > width:
            break
        line += f"  {figure}"
    return line[:width]


def describe(stage: str, progress: dict[str, Any]) -> str:
    """`train 3/100 · instance_loss 4.21 · 1830 images/s · 2 min left`."""
    parts = [f"{stage} {progress.get('done', 0)}/{progress.get('total', 0)}"]
    for key, value in progress.items():
        if key in ("stage", "done", "total"):
            continue
        shown = _short(value)
        if key == "images_per_second":
            parts.append(f"{shown} images/s")
        elif key == "seconds_left" and isinstance(value, int | float):
            parts.append(f"{duration(value)} left")
        else:
            parts.append(f"{key} {shown}")
    return " · ".join(parts)


def note(text: str) -> None:
    """One line for a person, not in the way of the bar or of the JSON lines."""
    _lines.flush()
    _write(text)


def note_unreadable(named: Iterable[tuple[str, str]], total: int) -> None:
    """Names the first files that cannot be read, and says how many more there are.

    Args:
        named: a file and why, at least of the first `NAMED`. total: of all.
    """
    for name, why in itertools.islice(named, NAMED):
        note(f"unreadable: {name!r}: {why}")
    if total > NAMED:
        note(f"unreadable: {total - NAMED} more, see the column error")


def _write(text: str, end: str = "\n") -> None:
    """Prints what can be printed: a training is worth more than its words."""
    if sys.stdout is None or getattr(sys.stdout, "closed", False):
        return
    try:
        try:
            print(text, end=end, flush=True)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            plain = text.encode(encoding, "backslashreplace").decode(encoding)
            print(plain, end=end, flush=True)
    except OSError:
        # Whoever read this is gone, the terminal or the disk behind it too.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def report_rate(stage: str, done: int, total: int, start: float, before: int = 0) -> None:
    """`report` with images/s and the time left.

    Args:
        done, total: images. start: when it began, on `time.monotonic`'s clock.
        before: images that were done then.
    """
    rate = (done - before) / max(time.monotonic() - start, 1e-9)
    left = round(max(total - done, 0) / rate, 1)
    report(stage, done, total, images_per_second=round(rate, 1), seconds_left=left)


def track(items: Iterable[T], stage: str, total: int, every: int = 1000) -> Iterator[T]:
    """Yields `items`, reporting every so many and at the end, with images/s and time left."""
    start = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if done % every == 0 or done == total:
            report_rate(stage, done, total, start)


def duration(seconds: float) -> str:
    """Such as `80 s`, `5 min` or `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def several(n: int, things: str) -> str:
    """Such as `1 image` or `2100 images`, of a regular plural."""
    return f"{n} {things.removesuffix('s') if n == 1 else things}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
