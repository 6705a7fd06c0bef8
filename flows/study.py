"""The deployment `vtcc/study`: a study file's settings times seeds, recorded and compared."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows import artifacts, session, verbs
from flows.parameters import Jobs, Seeds, SettingNames, YamlFile
from vtcc import paths
from vtcc.study import plan, summary


def run_name() -> str:
    """The study file's name and the seeds where they are given."""
    given = flow_run.parameters
    seeds = f" seeds {given['seeds']}" if given.get("seeds") else ""
    return f"study {Path(str(given.get('file') or '?')).stem}{seeds}"


@flow(**session.OPTIONS, flow_run_name=run_name)
@session.explained
def study(
    file: YamlFile,
    only: SettingNames | None = None,
    seeds: Seeds | None = None,
    jobs: Jobs = 1,
    again: bool = False,
) -> Any:
    """Runs what a study file asks for and is not recorded yet, each in a private worktree.

    Records go to benchmarks/records and the table to reports/study.html, as with `vtcc study`;
    the same again goes on.

    Args:
        file: the study, such as benchmarks/studies/stem.yaml; see docs/studies.md.
        only: names of settings; without it, all.
        seeds: instead of the file's, such as 0-2 or 0,3,7.
        jobs: trainings at a time, at most as many as the limit has places; they hold as many.
        again: run what is recorded too.

    Returns:
        The table's rows: setting, seeds recorded and scores.

    Raises:
        VtccError: on a file that is not right, or when runs failed.
    """
    project = paths.project()
    asked = plan.read(Path(file), project)
    plan.only(asked, only or [])
    options = [word for name in only or () for word in ("--only", name)]
    options += ["--seeds", seeds] if seeds else []
    options += ["--again"] if again else []
    with session.session(trains=True, places=jobs) as places:
        arguments = ["study", file, "--jobs", str(places), *options]
        try:
            verbs.run_task("runs", arguments, project, counts_lines=True)
        finally:
            table = rows(summary.rows(asked, plan.root(project)))
            description = f"{asked.title}\n\n- page: `{project / paths.REPORTS / 'study.html'}`"
            artifacts.table("vtcc-study", table, description)
    return table


def rows(settings: list[summary.Row]) -> list[dict[str, Any]]:
    """The settings with how many seeds are recorded and their mean scores."""
    return [
        {"setting": row.name, "seeds": len(row.runs)}
        | {s: round(spread.mean, 4) for s in artifacts.SCORES if (spread := row.score(s))}
        for row in settings
    ]
