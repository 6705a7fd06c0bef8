"""`reports/study.html`: a study on one page, without any network."""

from collections.abc import Sequence
from typing import Any

from vtcc import config
from vtcc.pages import svg
from vtcc.pages.render import render as render_template
from vtcc.study import quoted, records, results, summary
from vtcc.study.plan import Study
from vtcc.study.summary import Row


def render(study: Study, rows: Sequence[Row], known: dict[str, list[dict[str, Any]]]) -> str:
    """The page as HTML, all in one.

    Args:
        study: it.
        rows: as `summary.rows` gives them.
        known: quoted figures by dataset.
    """
    main = summary.main_score(study, rows)
    every = [r for row in rows for r in row.runs.values()]
    reference = study.baseline or study.settings[0].name
    return render_template(
        "study.html",
        study=study,
        rows=rows,
        columns=summary.columns(rows),
        main=main,
        labelled=main in records.SCORES,
        plot=plot(rows, main),
        quotes=_quotes(study, known),
        runs=every,
        # They are written for Markdown.
        surroundings={
            k: v.replace("`", "") for k, v in (results.surroundings(every) if every else {}).items()
        },
        command=f"vtcc study {study.file.as_posix()}",
        difference=lambda row, key: summary.difference(study, rows, row, key),
        signed=summary.signed,
        shown=summary.shown,
        reference=reference,
        parameters=next(config.flatten(s.params) for s in study.settings if s.name == reference),
    )


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
