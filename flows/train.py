"""The flow `vtcc`: the pipeline as a Prefect flow, one task per DVC stage.

    python -m flows.train --preset digits --seed 1 --set train.epochs=2

runs it once, without a server being set up. `flows.serve` and `prefect.yaml` deploy it as
`vtcc/train`.
"""

import argparse
import json
import sys
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Failed, State
from prefect.tasks import exponential_backoff

from flows import server
from flows.parameters import Overrides, Preset, Processes, Seed
from flows.progress import ProgressArtifact
from vtcc import config, launch, paths
from vtcc.errors import VtccError
from vtcc.runner import dvc, workspace

SCORES = ("acc", "nmi", "ari", "fmi")
# A name, so that the default is not a literal shared between calls by accident.
NOTHING: dict[str, Any] = {}


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
    return done


def _may_help(_task: Any, _run: Any, state: Any) -> bool:
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


@task(name="train", cache_policy=NO_CACHE)
def train_model(where: workspace.Workspace) -> Any:
    """The paper's method, without labels."""
    return _stage("train", where)


@task(name="evaluate", cache_policy=NO_CACHE)
def evaluate(where: workspace.Workspace) -> Any:
    """Scores, baselines, pictures, registration."""
    return _stage("evaluate", where)


@task(name="register", cache_policy=NO_CACHE)
def register(where: workspace.Workspace) -> Any:
    """The registered version of the model: a cached or restored stage registers nothing.

    `evaluate` has done it already where it ran; the same run again is the same version.
    """
    from vtcc.tracking import registry, store

    try:
        done = registry.register_current(where.directory)
    except VtccError as error:
        return Failed(message=str(error), data=error)
    return {
        "model": f"{done.name} version {done.version}",
        "champion": "yes" if done.champion else f"no: {done.reason}",
        "run": done.run_id,
        "tracking": store.public_uri(),
    }


# Called, never submitted: only the main thread hears a request to stop.
STAGES = (download, validate, train_model, evaluate)


def _done(result: Any) -> Any:
    """What a task gave, or raised here: a task that returns a failed state hands that back."""
    return result.result(raise_on_failure=True) if isinstance(result, State) else result


def _run_name() -> str:
    """Dataset, preset and seed; a name must never be what fails a run."""
    given = flow_run.parameters
    try:
        params = workspace.resolve(given.get("preset"), given.get("overrides"), given.get("seed"))
    except VtccError:
        return f"{given.get('preset') or 'params.yaml'} refused"
    seed = params["train"]["seed"]
    return f"{params['dataset']['name']} {given.get('preset') or 'params.yaml'} seed {seed}"


@flow(name="vtcc", flow_run_name=_run_name)
def train(
    preset: Preset | None = None,
    overrides: Overrides = NOTHING,
    seed: Seed | None = None,
    processes: Processes | None = None,
) -> Any:
    """Downloads, validates, trains and evaluates; what DVC has already is not done again.

    Without parameters it runs in the project directory, as `dvc repro` would. With any that
    differ from `params.yaml` it runs in a private worktree, so that `params.yaml` and the
    files of the project stay as they are; results are in MLflow and in DVC's cache.

    Args:
        preset: name of a run preset; without it, `params.yaml` as it is.
        overrides: dotted parameters and their values, such as {"train.epochs": 2}.
        seed: train.seed.
        processes: that train together, one per GPU for example; what they learn is the same
            training, so DVC does not repeat one for another number.

    Returns:
        The content of reports/metrics.json.

    Raises:
        VtccError: on parameters that are not allowed, or when a stage fails.
    """
    logger = get_run_logger()
    try:
        with workspace.Workspace(preset, overrides, seed) as where:
            if processes:
                where.env[launch.PROCESSES] = str(processes)
            logger.info("%s %s", "in the project" if where.in_place else "in", where.directory)
            runs: list[Any] = [_done(stage(where)) for stage in STAGES]
            metrics = json.loads((where.directory / paths.METRICS).read_text(encoding="utf-8"))
            registered: Any = _done(register(where))
    except VtccError as error:
        # The user's to mend: the message says how, a traceback would bury it.
        return Failed(message=str(error), data=error)
    create_table_artifact(
        key="vtcc-scores", table=score_table(metrics), description=_summary(runs, registered)
    )
    logger.info("%s", _one_line(metrics, registered))
    return metrics


def score_table(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for the model, one for its held-out images and one per baseline."""
    rows = [("vtcc", ""), ("vtcc, held-out", "holdout_")]
    known = {
        key.removeprefix("baseline_").rpartition("_")[0]: None
        for key in metrics
        if key.startswith("baseline_") and key.rpartition("_")[2] in SCORES
    }
    rows += [(name, f"baseline_{name}_") for name in known]
    return [
        {"method": name} | {s: _rounded(metrics.get(prefix + s)) for s in SCORES}
        for name, prefix in rows
        if any(prefix + s in metrics for s in SCORES)
    ]


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _summary(runs: list[dvc.StageRun], registered: dict[str, Any]) -> str:
    stages = ", ".join(f"{r.stage} {r.how} ({r.seconds:.0f} s)" for r in runs)
    facts = "\n".join(f"- {key}: `{value}`" for key, value in registered.items())
    return f"Stages: {stages}\n\n{facts}"


def _one_line(metrics: dict[str, Any], registered: dict[str, Any]) -> str:
    scores = " ".join(f"{s} {metrics[s]:.4f}" for s in SCORES if s in metrics)
    model = " ".join(f"{k} {v}" for k, v in registered.items())
    return " · ".join(part for part in (scores or "no labels, no scores", model) if part)


def main(arguments: list[str] | None = None) -> None:
    """Runs the flow once; exits 1 with one line when it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m flows.train", description="Run the pipeline.")
    parser.add_argument("--preset", help=f"one of: {', '.join(workspace.presets())}")
    parser.add_argument("--seed", type=int, help="train.seed")
    parser.add_argument("--processes", type=int, help="that train together")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as train.epochs=2"
    )
    given = parser.parse_args(arguments)
    try:
        overrides = config.parse_assignments(given.set)
        workspace.resolve(given.preset, overrides, given.seed)
        with server.or_ephemeral(paths.project()):
            train(given.preset, overrides, given.seed, given.processes)
    except VtccError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
