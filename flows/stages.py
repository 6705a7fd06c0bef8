"""The stages of the pipeline as Prefect tasks. Called, never submitted: only the main thread
hears a request to stop."""

import functools
import importlib
import json
import threading
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State
from prefect.tasks import exponential_backoff

from flows import artifacts, session
from flows.progress import ProgressArtifact
from vtcc import paths
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.runner import dvc, experiments, workspace


# DVC is the cache: it knows what a stage depends on, Prefect would only know its arguments.
@task(name="stage", cache_policy=NO_CACHE)
def _stage(name: str, where: workspace.Workspace) -> Any:
    """Runs a stage, its output in the task's log; a failed one is a state, not a traceback."""
    logger = get_run_logger()
    try:
        done = dvc.run_stage(
            name,
            where.directory,
            env=where.env,
            on_line=lambda line: logger.info("%s", line),
            on_progress=ProgressArtifact(name),
        )
    except VtccError as error:
        if name in RETRIED and isinstance(error, dvc.StageError) and error.temporary:
            raise
        return Failed(message=str(error), data=error)
    logger.info("%s: %s in %.1f s", name, done.how, done.seconds)
    if done.how == "ran":
        return done
    by = ""
    if name in ("train", "evaluate") and (run_id := mlflow_run(where.directory)):
        by = f"; computed before, in MLflow run {run_id}"
    return Completed(name="Cached", message=f"{done.how}{by}", data=done)


def mlflow_run(directory: Path) -> str | None:
    """The MLflow run of the training in a directory, by `models/run.json`."""
    file = directory / paths.RUN
    return json.loads(file.read_text(encoding="utf-8"))["run_id"] if file.is_file() else None


def _may_help(task: Task, task_run: TaskRun, state: State) -> bool:
    """Whether to try a failed download again: not where the user has to change something."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, dvc.StageError) and error.temporary


# What is tried again where that may help, and how.
RETRIED: dict[str, dict[str, Any]] = {
    "download": {
        "retries": 3,
        "retry_delay_seconds": exponential_backoff(backoff_factor=10),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": _may_help,
    }
}


def run(name: str, where: workspace.Workspace) -> dvc.StageRun:
    """Runs a stage as a task of its name.

    Raises:
        VtccError: when it failed.
    """
    how = RETRIED.get(name, {})
    stage_run: dvc.StageRun = done(_stage.with_options(name=name, **how)(name, where))
    return stage_run


@task(name="save experiment", cache_policy=NO_CACHE)
def save(where: workspace.Workspace, label: str | None) -> str | None:
    """The run as a DVC experiment of the project; None where that failed, which is told."""
    try:
        return experiments.save(where, label)
    except VtccError as error:
        get_run_logger().warning("%s", error)
        return None


@task(name="register", cache_policy=NO_CACHE)
@session.explained
def register(
    where: workspace.Workspace,
    run_tags: dict[str, str],
    version_tags: dict[str, str],
    group: str | None = None,
) -> Any:
    """The registered version of the model, whichever stages ran or were cached.

    Args:
        where: the pipeline's directory.
        run_tags: further tags of the MLflow run.
        version_tags: further tags of the version.
        group: an MLflow run of this name becomes the training's parent, where it has none.

    Returns:
        `tracking.registry.Registered`, and the address of the MLflow run's page.
    """
    from vtcc.tracking import registry, store

    version = registry.register_current(where.directory)
    client = store.client()
    with store.reachable():
        for key, value in run_tags.items():
            client.set_tag(version.run_id, key, value)
        experiment = client.get_run(version.run_id).info.experiment_id
    with store.reachable(registry=True):
        for key, value in version_tags.items():
            client.set_model_version_tag(version.name, version.version, key, value)
    if group:
        _put_below(group, where, version.run_id)
    return version, artifacts.run_url(experiment, version.run_id)


def _put_below(group: str, where: workspace.Workspace, run_id: str) -> None:
    """Makes a training a child of its group's run; one process at a time, or there would be two."""
    from vtcc.tracking import studies

    with locks.exclusive(where.home / ".vtcc" / "groups.lock"):
        title = f"trainings of the group {group}"
        parent = studies.StudyRun(group, title, "", where.params["dataset"]["name"], kind="group")
        parent.adopt(f"seed {where.params['train']['seed']}", run_id)
        parent.finish("FINISHED", {})


def import_mlflow_meanwhile() -> None:
    """Starts the import that `register` waits for; the stages before run in other processes."""
    importing = functools.partial(importlib.import_module, "mlflow")
    threading.Thread(target=importing, daemon=True, name="import mlflow").start()


def done(result: Any) -> Any:
    """What a task gave, or raised here: a task that returns a failed state hands that back."""
    return result.result(raise_on_failure=True) if isinstance(result, State) else result
