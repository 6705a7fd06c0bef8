"""`reports/sweep-NAME.html`: a sweep on one page, without any network."""

import json
from collections.abc import Callable
from typing import Any

from vtcc.pages import svg
from vtcc.pages.render import render as render_template

Trial = dict[str, Any]


def render(record: dict[str, Any]) -> str:
    """The page as HTML, all in one.

    Args:
        record: as `results.record` makes it.
    """
    from vtcc.study.sweep import results  # which writes this page

    complete = _complete(record)
    order = {"complete": 0, "pruned": 1, "failed": 2}
    ranked = sorted(
        record["trials"], key=lambda t: (order.get(t["state"], 3), -(t["objective"] or 0))
    )
    scored = [t for t in complete if t["scores"]]
    return render_template(
        "sweep.html",
        record=record,
        trials=ranked,
        complete=len(complete),
        scored=bool(scored),
        history=history(record),
        slices=[slice_of(record, key) for key in _by_importance(record)],
        against=svg.scatter(
            "ACC over objective, afterwards",
            _points(record, scored, lambda t: t["objective"], lambda t: t["scores"]["acc"]),
        ),
        sentences=results.sentences(record),
        short=lambda key: key.rpartition(".")[2],
        value=_value,
        searched=results.searched,
    )


def history(record: dict[str, Any]) -> svg.Scatter | None:
    """The objective over the trials, and the best so far."""
    points = _points(record, _complete(record), lambda t: t["number"])
    steps = [(x, max(y for _, y, *_ in points[: i + 1])) for i, (x, *_) in enumerate(points)]
    return svg.scatter("objective over trials", points, line=steps)


def slice_of(record: dict[str, Any], key: str) -> svg.Scatter | None:
    """The objective over the values of one parameter."""
    bounds, complete = record["space"][key], _complete(record)
    if "choices" in bounds:
        places = {json.dumps(c): i for i, c in enumerate(bounds["choices"])}
        points = _points(record, complete, lambda t: places[json.dumps(t["values"][key])])
        return svg.scatter(key, points, names=[_value(c) for c in bounds["choices"]])
    points = _points(record, complete, lambda t: t["values"][key])
    return svg.scatter(key, points, log=bounds.get("log", False))


def _points(
    record: dict[str, Any],
    trials: list[Trial],
    across: Callable[[Trial], float],
    up: Callable[[Trial], float] = lambda t: t["objective"],
) -> list[tuple[float, float, str, bool]]:
    return [(across(t), up(t), _title(t), t["number"] == record["best"]) for t in trials]


def _complete(record: dict[str, Any]) -> list[Trial]:
    return [t for t in record["trials"] if t["state"] == "complete"]


def _by_importance(record: dict[str, Any]) -> list[str]:
    weights = record["importance"]
    return sorted(record["space"], key=lambda key: -weights.get(key, 0.0))


def _title(trial: Trial) -> str:
    from vtcc.study.sweep import results

    return f"trial {trial['number']}, {trial['objective']:.4f}: {results.shown(trial['values'])}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
