"""`vtcc study FILE`: settings times seeds, recorded, compared, logged."""

import contextlib
from pathlib import Path
from typing import Any

from vtcc import paths, provenance
from vtcc.atomic import write_text
from vtcc.errors import VtccError
from vtcc.progress import note, several
from vtcc.study import page, plan, quoted, records, run, summary, tables, workers
from vtcc.study.tables import Cell
from vtcc.tracking.studies import StudyRun


def start(
    file: Path,
    *,
    only: list[str],
    seeds: str | None,
    again: bool = False,
    dry_run: bool = False,
    **how: int,
) -> None:
    """Runs what a study file asks for and shows what is recorded.

    Args:
        file: the study file.
        only: names of settings; empty for all.
        seeds: instead of the file's, such as `0-2`.
        again: run what is recorded too.
        dry_run: check and show the plan, run nothing.
        **how: jobs and threads, as of `run.Trainings`.

    Raises:
        VtccError: on a file that is not right, or at the end when runs failed.
    """
    project = paths.project()
    root = plan.root(project)
    study = plan.read(file, project)
    settings = plan.only(study, only)
    wanted = plan.parse_seeds(seeds, "--seeds") if seeds is not None else study.seeds
    if dry_run:
        _plan(study, settings, wanted, root, _code(project))
        if not again:
            run.check_records([run.Run(s, n) for n in wanted for s in settings], root)
        return
    baseline = {s.name: s for s in study.settings}.get(study.baseline or "", study.settings[0])
    experiment = baseline.params["dataset"]["name"]
    tracker = StudyRun(study.name, study.title, study.question, experiment)
    status = "FAILED"
    with workers.interruptible("what is recorded"):
        try:
            outcome = run.run(
                study, settings, wanted, project, root, again=again, tracker=tracker, **how
            )
            status = "FAILED" if outcome.failed else "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            rows, written = show(study, root, project)
            tracker.finish(status, summary.figures(rows), [written, project / study.file])
    if outcome.failed:
        total = len(settings) * len(wanted)
        first = next(iter(outcome.failed))
        raise VtccError(
            f"{len(outcome.failed)} of {total} runs failed, such as {first}: "
            f"{outcome.failed[first]}; the same command tries them again"
        )


def show(study: plan.Study, root: Path, project: Path) -> tuple[list[summary.Row], Path]:
    """Prints the table and writes the page of what is recorded so far."""
    rows = summary.rows(study, root, _code(project))
    head, table = summary.table(rows, study.baseline, summary.main_score(study, rows))
    note(f"\n{study.title}\n{tables.plain(head, table)}\n")
    for row in rows:
        for sentence in _outdated(row):
            note(sentence)
        for words in records.by_reason(summary.unpaired(rows, study.baseline, row)):
            note(f"{row.name}: not compared with {study.baseline}, {words}")
    file = project / paths.REPORTS / "study.html"
    write_text(file, page.render(study, rows, quoted.read(project)))
    note(f"look at {file.relative_to(project)}")
    return rows, file


def _outdated(row: summary.Row) -> list[str]:
    reasons = records.by_reason(row.outdated)
    return [f"{row.name}: recorded before, {words} than now" for words in reasons]


def _code(project: Path) -> dict[str, Any] | None:
    """The project's code now; None outside git, where a plan can be made all the same."""
    with contextlib.suppress(VtccError):
        return provenance.commit(project)
    return None


def _plan(
    study: plan.Study,
    settings: list[plan.Setting],
    seeds: list[int],
    root: Path,
    code: dict[str, Any] | None,
) -> None:
    head, lines = ["setting", "seeds", "recorded", "parameters that differ"], []
    rows = {row.name: row for row in summary.rows(study, root, code)}
    for setting in settings:
        row = rows[setting.name]
        known = [s for s in row.runs if s in seeds and s not in row.outdated]
        words = (setting.name, _list(seeds), _list(known) or "none", summary.shown(row.changed))
        lines.append([Cell(text or tables.DASH) for text in words])
    print(f"{study.title}\n{tables.plain(head, lines)}")
    for setting in settings:
        for sentence in _outdated(rows[setting.name]):
            print(sentence)
    runs = len(settings) * len(seeds)
    print(f"{several(runs, 'runs')}; records in {root}")


def _list(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))
