"""The stages of the pipeline as Prefect tasks. Called, never submitted: only the main thread
hears a request to stop."""

import functools
import importlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State
from prefect.tasks import exponential_backoff

from flows.progress import ProgressArtifact
from vtcc import paths
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.runner import dvc, experiments, workspace


def _stage(name: str, where: workspace.Workspace, *, retried: bool = False) -> Any:
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
        if retried and isinstance(error, dvc.StageError) and error.temporary:
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


# DVC is the cache: it knows what a stage depends on, Prefect would only know its arguments.
@task(
    name="download",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_help,
)
def download(where: workspace.Workspace) -> Any:
    """Images, manifest and labels."""
    return _stage("download", where, retried=True)


@task(name="validate", cache_policy=NO_CACHE)
def validate(where: workspace.Workspace) -> Any:
    """Every image decoded once, expectations, the uint8 cache."""
    return _stage("validate", where)


@task(name="embed", cache_policy=NO_CACHE)
def embed(where: workspace.Workspace) -> Any:
    """Features of a frozen encoder; without one a moment."""
    return _stage("embed", where)


@task(name="train", cache_policy=NO_CACHE)
def train(where: workspace.Workspace) -> Any:
    """The paper's method, without labels."""
    return _stage("train", where)


@task(name="evaluate", cache_policy=NO_CACHE)
def evaluate(where: workspace.Workspace) -> Any:
    """Scores, baselines, pictures."""
    return _stage("evaluate", where)


@dataclass(frozen=True)
class Version:
    """What the registry says of a run's model.

    Attributes:
        model: such as `vtcc-digits version 3`.
        champion: `yes`, or `no: ` and the reason.
        run: the MLflow run.
        experiment: the id of its MLflow experiment.
        tracking: the store, without passwords.
    """

    model: str
    champion: str
    run: str
    experiment: str
    tracking: str


@task(name="save experiment", cache_policy=NO_CACHE)
def save(where: workspace.Workspace, label: str | None) -> str | None:
    """The run as a DVC experiment of the project; None where that failed, which is told."""
    try:
        return experiments.save(where, label)
    except VtccError as error:
        get_run_logger().warning("%s", error)
        return None


@task(name="register", cache_policy=NO_CACHE)
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
    """
    from vtcc.tracking import registry, store

    try:
        done = registry.register_current(where.directory)
        client = store.client()
        with store.reachable():
            for key, value in run_tags.items():
                client.set_tag(done.run_id, key, value)
            for key, value in version_tags.items():
                client.set_model_version_tag(done.name, done.version, key, value)
            experiment = client.get_run(done.run_id).info.experiment_id
    except VtccError as error:
        return Failed(message=str(error), data=error)
    if group:
        _put_below(group, where, done.run_id)
    return Version(
        f"{done.name} version {done.version}",
        "yes" if done.champion else f"no: {done.reason}",
        done.run_id,
        experiment,
        store.public_uri(),
    )


def _put_below(group: str, where: workspace.Workspace, run_id: str) -> None:
    """Makes a training a child of its group's run; one process at a time, or there would be two."""
    from vtcc.tracking import studies

    with locks.exclusive(where.home / ".vtcc" / "groups.lock"):
        title = f"trainings of the group {group}"
        parent = studies.StudyRun(group, title, "", where.params["dataset"]["name"])
        parent.adopt(f"seed {where.params['train']['seed']}", run_id)
        parent.finish("FINISHED", {})


def import_mlflow_meanwhile() -> None:
    """Starts the import that `register` waits for; the stages before run in other processes."""
    importing = functools.partial(importlib.import_module, "mlflow")
    threading.Thread(target=importing, daemon=True, name="import mlflow").start()


def done(result: Any) -> Any:
    """What a task gave, or raised here: a task that returns a failed state hands that back."""
    return result.result(raise_on_failure=True) if isinstance(result, State) else result
