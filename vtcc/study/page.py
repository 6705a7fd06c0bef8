"""`reports/study.html`: a study on one page, without any network; a sweep has the same page."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vtcc import config
from vtcc.analysis.scores import COMPARED
from vtcc.pages import svg
from vtcc.pages.render import render as render_template
from vtcc.progress import duration, several
from vtcc.study import quoted, records, results, summary, tables
from vtcc.study.plan import Plan, Study
from vtcc.study.summary import Row
from vtcc.study.tables import DASH, Cell


@dataclass(frozen=True)
class Section:
    """A panel of the page: title, plots, a table, all of them optional.

    Attributes:
        title: of the panel.
        text: sentences above the plots.
        hint: small, above the table.
        lanes: one dot per seed and setting.
        plots: scatter plots, side by side.
        head: of the table's columns.
        rows: of the table.
        chosen: the row that is set apart, by its index.
        dense: many narrow columns.
        below: title and rows of a table that is folded away.
    """

    title: str = ""
    text: Sequence[str] = ()
    hint: str = ""
    lanes: svg.Lanes | None = None
    plots: Sequence[svg.Scatter | None] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    chosen: int = -1
    dense: bool = False
    below: tuple[str, list[list[Cell]]] | None = None


def whole(
    plan: Plan, kind: str, text: Sequence[str], hint: str, sections: Sequence[Section]
) -> str:
    """The page of a study or a sweep as HTML, all in one."""
    shown = {"title": plan.title, "kind": kind, "text": text, "hint": hint, "sections": sections}
    return render_template("study.html", **shown)


def render(study: Study, rows: Sequence[Row], known: dict[str, list[dict[str, Any]]]) -> str:
    """The page of a study as HTML, all in one.

    Args:
        study: it.
        rows: as `summary.rows` gives them.
        known: quoted figures by dataset.
    """
    main = summary.main_score(study, rows)
    every = [r for row in rows for r in row.runs.values()]
    reference = study.baseline or study.settings[0].name
    params = next(config.flatten(s.params) for s in study.settings if s.name == reference)
    labels = (
        "Labels score at the end and do nothing else."
        if main in COMPARED
        else "No labels: figures that need none."
    )
    hint = (
        f"{several(len(every), 'recorded runs')}. {labels} Mean ± sample standard deviation "
        "(n − 1) over seeds, below it minimum and maximum."
    )
    named = ((f"{row.name} seed {n}", r) for row in rows for n, r in row.runs.items())
    hint = " ".join(filter(None, (hint, records.of_other_code(named))))
    sections = [_settings(study, rows, main, reference)]
    if drawn := plot(rows, main):
        words = f"{main}: a dot per seed, the mean, ± one standard deviation."
        sections.insert(0, Section(hint=words, lanes=drawn))
    sections += [_quoted(name, entries) for name, entries in _quotes(study, known).items()]
    command = f"vtcc study {shlex.quote(study.file.as_posix())}"
    sections.append(how(command, every, f"All parameters of {reference}", params))
    return whole(study, "settings compared over seeds", [study.question], hint, sections)


def _settings(study: Study, rows: Sequence[Row], main: str, reference: str) -> Section:
    head, table = summary.table(rows, study.baseline, main)
    for row, cells in zip(rows, table, strict=True):
        taken = row.seconds()
        bad = [f"seed {seed} failed: {reason}" for seed, reason in row.failed.items()]
        bad += [f"{words} than the study has now" for words in records.by_reason(row.outdated)]
        cells.append(Cell(duration(taken.mean) if taken else "cached"))
        cells.append(Cell(summary.shown(row.changed) or DASH, bad=tuple(bad), code=True))
    head += ["time per run", f"differs from {reference} in"]
    return Section("Settings", head=head, rows=table)


def plot(rows: Sequence[Row], key: str) -> svg.Lanes | None:
    """A figure of every run, a lane per setting; None where no run has it."""
    values = {
        row.name: {s: r["metrics"][key] for s, r in row.runs.items() if key in r["metrics"]}
        for row in rows
    }
    scores = {row.name: row.score(key) for row in rows}
    return svg.lanes(key, values, {k: (s.mean, s.std) if s else None for k, s in scores.items()})


def _quotes(study: Study, known: dict[str, list[dict[str, Any]]]) -> dict[str, list]:
    quotes = {}
    for setting in study.settings:
        flat = config.flatten(setting.params)
        if entries := quoted.of(flat, known):
            quotes[str(flat["dataset.name"])] = entries
    return quotes


def _quoted(name: str, entries: list[dict[str, Any]]) -> Section:
    rows = [
        [
            Cell(f"{entry['method']} (quoted)"),
            *(tables.quoted(entry.get(score)) for score in COMPARED),
            Cell(entry["source"]),
        ]
        for entry in entries
    ]
    hint = "Figures of others, printed elsewhere; not run here."
    head = ["Method", *COMPARED, "Source"]
    return Section(f"Quoted for {name}", hint=hint, head=head, rows=rows)


def how(command: str, runs: list[dict[str, Any]], title: str, params: dict[str, Any]) -> Section:
    """The last section: the command, where the runs were recorded, and parameters.

    Args:
        command: that does it again.
        runs: records.
        title: of the parameters.
        params: flat.
    """
    rows = [[Cell("Again"), Cell(command, code=True, kind="free")]]
    # The words are written for Markdown.
    origin = {k: v.replace("`", "") for k, v in results.surroundings(runs).items()} if runs else {}
    rows += [[Cell(key), Cell(value, kind="free")] for key, value in origin.items()]
    listed = [[Cell(k, code=True), Cell(str(v), code=True)] for k, v in params.items()]
    return Section("How", rows=rows, below=(title, listed))
