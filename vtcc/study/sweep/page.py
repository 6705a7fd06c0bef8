"""`reports/sweep-NAME.html`: a sweep, with the sections of its search, on the page of a study."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vtcc import config, paths
from vtcc.atomic import write_text
from vtcc.pages import svg
from vtcc.progress import duration, several
from vtcc.study import records
from vtcc.study.page import Section, how, whole
from vtcc.study.sweep import draws, results
from vtcc.study.sweep.file import Sweep
from vtcc.study.sweep.space import Dimension
from vtcc.study.tables import DASH, Cell

Trial = dict[str, Any]
OBJECTIVE = (
    "The objective needs no label: what the cluster of one fixed view of an image tells of that of "
    "another view, and what it tells of the clusters of the nearest images by their pixels (mutual "
    "information over log K, mean of both; docs/sweeps.md). It is the same for all trials and "
    "bound to none of their losses."
)


def write(
    sweep: Sweep, trials: Sequence[Trial], importance: dict[str, float], project: Path
) -> Path:
    """Writes the page; returns its file."""
    file = project / paths.REPORTS / f"sweep-{sweep.name}.html"
    write_text(file, render(sweep, trials, importance))
    return file


def render(sweep: Sweep, trials: Sequence[Trial], importance: dict[str, float]) -> str:
    """The page as HTML, all in one.

    Args:
        sweep: it.
        trials: records, each with its `state`.
        importance: a weight by parameter, or {}.
    """
    best = draws.best(list(trials))
    number = best["number"] if best else None
    complete = [t for t in trials if t["state"] == "complete"]
    text = (
        f"{len(trials)} of {several(sweep.trials, 'trials')} of {several(sweep.epochs, 'epochs')}, "
        f"{len(complete)} complete; sampler {sweep.sampler}, pruning {sweep.pruning}. The trial of "
        "the highest objective is the winner" + (f": trial {number}." if best else ".")
    )
    drawn = _Plots(sweep, complete, number)
    sections = [
        Section(
            "What the parameters do", plots=drawn.slices(importance), **_weights(sweep, importance)
        ),
        _trials(sweep, trials, number),
    ]
    if complete:
        sections.insert(0, Section("The search", plots=[drawn.history()]))
    if sentences := results.sentences(trials):
        hint = "Labels were looked at when every trial was done. No choice on this page used them."
        title = "Afterwards: how good was the objective?"
        sections.append(Section(title, sentences, hint, plots=[drawn.afterwards()]))
    params = config.flatten(sweep.trial({}))
    for dimension in sweep.space:
        params.pop(dimension.key)
    title = "All parameters of a trial, but for what is searched"
    runs = [t for t in trials if t["state"] in draws.DONE]
    command = f"vtcc sweep {shlex.quote(sweep.file.as_posix())}"
    sections.append(how(command, runs, title, params))
    mixed = records.of_other_code((f"trial {t['number']}", t) for t in runs)
    shown = [text for text in (sweep.question, text, mixed) if text]
    return whole(sweep, "a search over parameters", shown, OBJECTIVE, sections)


def _weights(sweep: Sweep, importance: dict[str, float]) -> dict[str, Any]:
    if not importance:
        return {"hint": "Importance is shown from eight complete trials on."}
    searched = {d.key: results.searched(d.described()) for d in sweep.space}
    return {
        "hint": "Importance: share of the objective's variation (PED-ANOVA, Optuna). From few "
        "trials it is a hint, no finding.",
        "dense": True,
        "head": ["Parameter", "Importance", "Searched"],
        "rows": [
            [Cell(key, code=True), Cell(f"{w:.2f}", bar=w), Cell(searched[key], kind="free")]
            for key, w in importance.items()
        ],
    }


def _trials(sweep: Sweep, trials: Sequence[Trial], best: int | None) -> Section:
    head, rows = results.table(sweep, trials)
    ranked = results.ranked(trials)
    for t, cells in zip(ranked, rows, strict=True):
        seconds = sum(t.get("seconds", {}).values())
        cells.append(Cell(duration(seconds) if seconds else DASH))
    chosen = next((i for i, t in enumerate(ranked) if t["number"] == best), -1)
    return Section("Trials", head=[*head, "time"], rows=rows, chosen=chosen, dense=True)


class _Plots:
    """Scatter plots of the complete trials; None where there is nothing to draw."""

    def __init__(self, sweep: Sweep, complete: list[Trial], best: int | None) -> None:
        self.sweep, self.complete, self.best = sweep, complete, best

    def history(self) -> svg.Scatter | None:
        """The objective over the trials, and the best so far."""
        points = self._points(lambda t: t["number"])
        steps = [(x, max(y for _, y, *_ in points[: i + 1])) for i, (x, *_) in enumerate(points)]
        return svg.scatter("objective over trials", points, line=steps)

    def slices(self, importance: dict[str, float]) -> list[svg.Scatter | None]:
        """The objective over the values of each parameter, the most important first."""
        ordered = sorted(self.sweep.space, key=lambda d: -importance.get(d.key, 0.0))
        return [self._slice(dimension) for dimension in ordered]

    def _slice(self, d: Dimension) -> svg.Scatter | None:
        if not d.choices:
            return svg.scatter(d.key, self._points(lambda t: t["overrides"][d.key]), log=d.log)
        places = {json.dumps(c): i for i, c in enumerate(d.choices)}
        points = self._points(lambda t: places[json.dumps(t["overrides"][d.key])])
        return svg.scatter(d.key, points, names=[results.value(c) for c in d.choices])

    def afterwards(self) -> svg.Scatter | None:
        """ACC, which nobody looked at, over the objective."""
        scored = [t for t in self.complete if t.get("scores")]
        points = self._points(_objective, lambda t: t["scores"]["acc"], scored)
        return svg.scatter("ACC over objective, afterwards", points)

    def _points(
        self,
        across: Callable[[Trial], float],
        up: Callable[[Trial], float] | None = None,
        trials: list[Trial] | None = None,
    ) -> list[tuple[float, float, str, bool]]:
        up = up or _objective
        return [
            (across(t), up(t), _title(t), t["number"] == self.best)
            for t in (self.complete if trials is None else trials)
        ]


def _objective(trial: Trial) -> float:
    return trial["metrics"]["objective"]


def _title(trial: Trial) -> str:
    return f"trial {trial['number']}, {_objective(trial):.4f}: {results.shown(trial['overrides'])}"
