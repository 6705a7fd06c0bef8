"""`reports/sweep-NAME.html`: a sweep on one page, without any network."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vtcc.study.page import TEMPLATES

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 30


@dataclass(frozen=True)
class Dot:
    """A trial in a plot, in pixels."""

    x: float
    y: float
    title: str
    best: bool


@dataclass(frozen=True)
class Tick:
    """A mark of an axis, in pixels along it."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Dots over two axes; `line` are points of a polyline, "" for none."""

    title: str
    dots: list[Dot]
    across: list[Tick]
    up: list[Tick]
    line: str = ""


def render(record: dict[str, Any]) -> str:
    """The page as HTML, all in one.

    Args:
        record: as `results.record` makes it.
    """
    import jinja2

    from vtcc.study.sweep import results

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    complete = [t for t in record["trials"] if t["state"] == "complete"]
    order = {"complete": 0, "pruned": 1, "failed": 2}
    ranked = sorted(
        record["trials"], key=lambda t: (order.get(t["state"], 3), -(t["objective"] or 0))
    )
    scored = [t for t in complete if t["scores"]]
    return environment.get_template("sweep.html").render(
        record=record,
        trials=ranked,
        complete=len(complete),
        scored=bool(scored),
        history=history(record),
        slices=[slice_of(record, key) for key in _by_importance(record)],
        against=_against(record, scored),
        sentences=results.sentences(record),
        short=lambda key: key.rpartition(".")[2],
        value=_value,
        searched=results.searched,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        floor=HEIGHT - BOTTOM,
    )


def history(record: dict[str, Any]) -> Plot | None:
    """The objective over the trials, and the best so far."""
    points = [(t["number"], t["objective"], t) for t in record["trials"] if _complete(t)]
    best, steps = -math.inf, []
    for number, objective, _ in points:
        best = max(best, objective)
        steps.append((number, best))
    return _plot("objective over trials", points, record, line=steps)


def slice_of(record: dict[str, Any], key: str) -> Plot | None:
    """The objective over the values of one parameter."""
    bounds = record["space"][key]
    found = [t for t in record["trials"] if _complete(t)]
    if "choices" in bounds:
        places = {json.dumps(c): i for i, c in enumerate(bounds["choices"])}
        points = [(places[json.dumps(t["values"][key])], t["objective"], t) for t in found]
        names = [_value(c) for c in bounds["choices"]]
        return _plot(key, points, record, names=names)
    points = [(t["values"][key], t["objective"], t) for t in found]
    return _plot(key, points, record, log=bounds.get("log", False))


def _against(record: dict[str, Any], scored: list[dict[str, Any]]) -> Plot | None:
    points = [(t["objective"], t["scores"]["acc"], t) for t in scored]
    return _plot("ACC over objective, afterwards", points, record)


def _complete(trial: dict[str, Any]) -> bool:
    return trial["state"] == "complete"


def _by_importance(record: dict[str, Any]) -> list[str]:
    weights = record["importance"]
    return sorted(record["space"], key=lambda key: -weights.get(key, 0.0))


def _plot(
    title: str,
    points: Sequence[tuple[float, float, dict[str, Any]]],
    record: dict[str, Any],
    *,
    log: bool = False,
    names: Sequence[str] = (),
    line: Sequence[tuple[float, float]] = (),
) -> Plot | None:
    if not points:
        return None
    scale = math.log10 if log else float
    xs = [scale(x) for x, _, _ in points]
    low, high = (-0.5, len(names) - 0.5) if names else _padded(xs)
    below, above = _padded([y for _, y, _ in points])

    def across(x: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (x - low) / (high - low), 1)

    def up(y: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (y - below) / (above - below), 1)

    dots = [
        Dot(across(x), up(y), _told(t), t["number"] == record["best"])
        for x, (_, y, t) in zip(xs, points, strict=True)
    ]
    if names:
        ticks = [Tick(across(i), name) for i, name in enumerate(names)]
    elif log:
        ticks = [Tick(across(x), f"{10**x:.2g}") for x in _inner(low, high)]
    else:
        ticks = [Tick(across(x), f"{x:.4g}") for x in _inner(low, high)]
    drawn = " ".join(f"{across(x)},{up(y)}" for x, y in line)
    return Plot(title, dots, ticks, [Tick(up(y), f"{y:.3g}") for y in _inner(below, above)], drawn)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low or abs(high) or 1.0) * 0.08
    return low - pad, high + pad


def _inner(low: float, high: float) -> list[float]:
    """A few round numbers between two."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(k * step, 10) for k in range(first, last + 1)]


def _told(trial: dict[str, Any]) -> str:
    from vtcc.study.sweep import results

    return f"trial {trial['number']}, {trial['objective']:.4f}: {results.shown(trial['values'])}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
