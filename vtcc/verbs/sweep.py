"""`vtcc sweep FILE`: a search over parameters, shown to a person."""

from pathlib import Path
from typing import Any

from vtcc import paths
from vtcc.errors import VtccError
from vtcc.progress import note, several
from vtcc.study import tables, workers
from vtcc.study.sweep import file as sweep_file
from vtcc.study.sweep import planned, results, run


def start(
    file: Path,
    *,
    trials: int | None = None,
    write: Path | None = None,
    dry_run: bool = False,
    **how: Any,
) -> None:
    """Runs what a sweep file asks for and shows what is found.

    Args:
        file: the sweep file.
        trials, write: as of `vtcc.study.sweep.run`; they are checked in a plan too.
        dry_run: check and show the plan, run nothing.
        **how: as of `vtcc.study.sweep.run`.

    Raises:
        VtccError: on a file that is not right, or at the end when trials failed.
    """
    project = paths.project()
    if dry_run:
        sweep, _ = planned(file, project, trials=trials, write=write)
        _plan(sweep)
        return
    with workers.interruptible("what is found"):
        outcome = run(file, project=project, trials=trials, write=write, **how)
    head, rows = results.table(outcome.sweep, outcome.trials)
    note(f"\n{outcome.sweep.title}\n{tables.plain(head, rows[:10])}\n")
    for sentence in results.sentences(outcome.trials):
        note(sentence)
    if outcome.params is not None:
        note(f"the winner's parameters: {_near(outcome.params, project)}")
    note(f"look at {_near(outcome.page, project)}")
    if outcome.failed:
        first = next(iter(outcome.failed))
        raise VtccError(
            f"{len(outcome.failed)} trials failed, such as {first}: {outcome.failed[first]}; "
            "the same command tries others in their place"
        )


def _plan(sweep: sweep_file.Sweep) -> None:
    size = f"{several(sweep.trials, 'trials')} of {several(sweep.epochs, 'epochs')}"
    print(f"{sweep.title}: {size}, {sweep.sampler}")
    start = sweep.start()
    for dimension in sweep.space:
        print(f"  {dimension.key}: {results.searched(dimension.described())}")
    if sweep.sampler == "grid":
        print(f"the grid has {sum(1 for _ in sweep.grid())} combinations")
    elif start:
        print(f"the first trial is what the preset has: {results.shown(start)}")
    else:
        print("what the preset has lies outside this space; the first trial is drawn")


def _near(file: Path, project: Path) -> Path:
    return file.relative_to(project) if file.is_relative_to(project) else file
