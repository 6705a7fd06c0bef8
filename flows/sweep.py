"""The deployment `vtcc/sweep`: a search over parameters by an objective that needs no label."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows import artifacts, session, verbs
from flows.parameters import Jobs, Trials, YamlFile
from vtcc import paths


def run_name() -> str:
    """The sweep file's name and the number of trials where it is given."""
    given = flow_run.parameters
    trials = f" to {given['trials']} trials" if given.get("trials") else ""
    return f"sweep {Path(str(given.get('file') or '?')).stem}{trials}"


@flow(**session.OPTIONS, flow_run_name=run_name)
@session.explained
def sweep(
    file: YamlFile,
    trials: Trials | None = None,
    jobs: Jobs = 1,
    register_winner: bool = False,
    again: bool = False,
) -> Any:
    """Searches the space that a sweep file declares; trials train in private worktrees.

    The record, its page and the winner's parameters go to reports/sweep, as with `vtcc sweep`;
    the same again goes on.

    Args:
        file: the sweep, such as benchmarks/sweeps/digits.yaml; see docs/sweeps.md.
        trials: how many there are to be in the end, instead of the file's number.
        jobs: trials at a time, at most as many as the limit has places; they hold as many.
        register_winner: train the winner in full and register its model.
        again: forget the trials that there are.

    Returns:
        Number, objective and values of the best trial; None while none is complete.

    Raises:
        VtccError: on a file that is not right, or when trials failed.
    """
    from vtcc.study.sweep import draws, read, results, root

    project = paths.project()
    asked = read(Path(file), project)
    options = ["--trials", str(trials)] if trials else []
    options += ["--register"] if register_winner else []
    options += ["--again"] if again else []
    with session.session(trains=True, places=jobs) as places:
        arguments = ["sweep", file, "--jobs", str(places), *options]
        try:
            verbs.run_task("trials", arguments, project, counts_lines=True)
        finally:
            recorded = draws.load(root(asked.name, project))
            page = project / paths.REPORTS / f"sweep-{asked.name}.html"
            lines = [asked.title, f"- page: `{page}`"]
            lines += [f"- {sentence}" for sentence in results.sentences(recorded)]
            table = rows(recorded)
            if table:
                artifacts.table("vtcc-sweep", table, "\n\n".join(lines))
    best = draws.best(recorded)
    return best and next(row for row in table if row["trial"] == best["number"])


def rows(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trials, the best objective first; what labels say afterwards beside it."""
    from vtcc.study.sweep import results

    return [
        {
            "trial": t["number"],
            "state": t["state"],
            "objective": t.get("metrics", {}).get("objective"),
            **{f"{s} (afterwards)": v for s, v in t.get("scores", {}).items()},
            **t["overrides"],
        }
        for t in results.ranked(trials)
    ]
