"""The deployment `vtcc/add`: results of `vtcc cluster` follow their folder, once or by schedule."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows import artifacts, session, stages, verbs
from flows.parameters import BatchSize, Folder
from vtcc import paths
from vtcc.data import remote
from vtcc.data.walk import as_text
from vtcc.grouping import summary


def run_name() -> str:
    """The results, and what is added."""
    given = flow_run.parameters
    return f"add to {Path(str(given.get('results') or '?')).name}"


@flow(**session.OPTIONS, flow_run_name=run_name)
@session.explained
def add(
    results: Folder,
    folder: Folder | None = None,
    allow_gone: bool = False,
    batch_size: BatchSize = 512,
) -> Any:
    """Brings results up to date with the images of a folder, and logs what moved to MLflow.

    Args:
        results: of `vtcc cluster`, relative to the project.
        folder: images, relative to the project; without it what was clustered.
        allow_gone: go on though more than half of the images have gone.
        batch_size: images per forward pass.

    Returns:
        The record of this addition, with its verdict; None where nothing had changed.

    Raises:
        VtccError: when there are no such results or images.
    """
    project = paths.project()
    where = project / results
    before = summary.read(where)
    sources = [str(project / folder)] if folder else _sources(before)
    with session.session(trains=False):
        command = ["add", str(where), *sources, "--batch-size", str(batch_size)]
        verbs.run_task("add", command + ["--allow-gone"] * allow_gone, project)
        after = summary.read(where)
        if len(after.get("additions", [])) == len(before.get("additions", [])):
            get_run_logger().info("%s: nothing is new, changed or gone", where)
            return None
        made: dict[str, Any] = after["additions"][-1]
        drift = made["drift"]
        told = f"- {drift['verdict']}\n- page: `{as_text(str(where / 'report.html'))}`\n- images: "
        told += ", ".join(f"`{as_text(source)}`" for source in sources)
        artifacts.table("vtcc-drift", drift["lines"], told)
        run_id = stages.done(log(where, after["title"], made))
        get_run_logger().info("%s (MLflow run %s)", drift["verdict"], run_id)
    return {key: value for key, value in made.items() if key != "files"}


def _sources(summary: dict[str, Any]) -> list[str]:
    """What was clustered, as far as it is there; the folder of the images where nothing is."""
    inputs = summary.get("inputs", [])
    there = [given for given in inputs if remote.is_address(given) or Path(given).exists()]
    if away := [given for given in inputs if given not in there]:
        shown = as_text(", ".join(away))
        get_run_logger().warning("no longer there, so not looked through: %s", shown)
    return there or [summary["root"]]


@task(name="log", cache_policy=NO_CACHE)
@session.explained
def log(where: Path, title: str, made: dict[str, Any]) -> Any:
    """An MLflow run of its own in the experiment named like the images."""
    from vtcc.tracking import evaluations

    return evaluations.log_addition(title, made, where)
