"""`reports/study.html`: a study on one page, without any network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.progress import duration
from vtcc.study import quoted, records, results, summary
from vtcc.study.plan import Study
from vtcc.study.summary import Row

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, LEFT, LINE = 760, 190, 26  # of the plot, in pixels


@dataclass(frozen=True)
class Mark:
    """Something on a line of the plot: `x` in pixels, and what it is."""

    x: float
    title: str


@dataclass(frozen=True)
class Lane:
    """One setting in the plot; `low` to `high` is mean ± standard deviation, in pixels."""

    name: str
    y: int
    dots: list[Mark]
    mean: float | None
    low: float
    high: float


def render(study: Study, rows: Sequence[Row], known: dict[str, list[dict[str, Any]]]) -> str:
    """The page as HTML, all in one.

    Args:
        study: it.
        rows: as `summary.rows` gives them.
        known: quoted figures by dataset.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    main = summary.main_score(study, rows)
    every = [r for row in rows for r in row.runs.values()]
    lanes, ticks = plot(rows, main)
    return environment.get_template("study.html").render(
        study=study,
        rows=rows,
        columns=summary.columns(rows),
        main=main,
        labelled=main in records.SCORES,
        lanes=lanes,
        ticks=ticks,
        width=WIDTH,
        left=LEFT,
        height=LINE * len(lanes) + 40,
        quotes=_quotes(study, known),
        runs=every,
        facts=results.surroundings(every) if every else {},
        command=f"vtcc study {study.file.as_posix()}",
        difference=lambda row, key: summary.difference(study, rows, row, key),
        signed=summary.signed,
        shown=summary.shown,
        number=number,
        seconds=seconds,
        parameters={
            s.name: config.flatten(s.params)
            for s in study.settings
            if s.name == (study.baseline or study.settings[0].name)
        },
    )


def plot(rows: Sequence[Row], key: str) -> tuple[list[Lane], list[Mark]]:
    """Every seed as a dot, the mean as a line: a lane per setting, and the axis."""
    values = [r["metrics"][key] for row in rows for r in row.runs.values() if key in r["metrics"]]
    if not values:
        return [], []
    low, high = min(values), max(values)
    pad = (high - low or abs(high) or 1.0) * 0.08
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        inside = min(max(value, low), high)
        return round(LEFT + (WIDTH - LEFT - 20) * (inside - low) / (high - low), 1)

    lanes = []
    for i, row in enumerate(rows):
        s = row.score(key)
        dots = [
            Mark(x(r["metrics"][key]), f"seed {seed}: {r['metrics'][key]:.4f}")
            for seed, r in row.runs.items()
            if key in r["metrics"]
        ]
        std = 0.0 if s is None or math.isnan(s.std) else s.std
        mean = s.mean if s else low
        lanes.append(
            Lane(
                name=row.name,
                y=20 + LINE * i,
                dots=dots,
                mean=x(mean) if s else None,
                low=x(mean - std),
                high=x(mean + std),
            )
        )
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= next(m for m in (1, 2, 5) if (high - low) / (step * m) <= 8)
    first = math.ceil(low / step)
    ticks = [
        Mark(x(k * step), f"{k * step:.4g}") for k in range(first, math.floor(high / step) + 1)
    ]
    return lanes, ticks


def _quotes(study: Study, known: dict[str, list[dict[str, Any]]]) -> dict[str, list]:
    found = {}
    for setting in study.settings:
        flat = config.flatten(setting.params)
        if rows := quoted.of(flat, known):
            found[str(flat["dataset.name"])] = rows
    return found


def number(value: Any) -> str:
    """A quoted figure as it was printed."""
    return f"{value:.3f}" if isinstance(value, int | float) else "–"


def seconds(row: Row) -> str:
    """Time per run of a setting."""
    s = row.seconds()
    return "cached" if s is None else duration(s.mean)
