"""Scores as MLflow runs: of a training's own evaluation, and of a model on other images.

`log_current` reads the pipeline's files, so it does not matter whether the stage `evaluate` ran
or DVC restored what it made; logging the same again changes nothing.
"""

import contextlib
import csv
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import config, json_file, paths, provenance
from vtcc.errors import VtccError
from vtcc.progress import note
from vtcc.tracking import run_locks, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

KIND, ADDITION = "assessment", "addition"
_STEP = "vtcc.scores_step"  # tag of a training: where its evaluation's scores lie
AGAIN = "run `dvc repro` first"  # where a file of the pipeline is not there
_FILES = (paths.METRICS, paths.ASSIGNMENTS, paths.CONFUSION, paths.GALLERY)


def log_current(directory: Path = Path()) -> str:
    """Logs the evaluation whose reports lie in `directory`, unless that was done before.

    Args:
        directory: holds params.yaml, reports/ and models/.

    Returns:
        The id of the run that carries the model.

    Raises:
        VtccError: when a file of the pipeline is missing, the reports are of another model or
            other images, or the store cannot be reached.
    """
    cache = json_file.read(directory / paths.CACHE / "cache.json", AGAIN)
    evaluated = json_file.read(directory / paths.EVALUATED, AGAIN)
    model = provenance.model_digest(directory / paths.MODEL)
    for what, place, digest in (
        ("model", paths.MODEL, model),
        ("images", paths.CACHE, cache["digest"]),
    ):
        if evaluated.get(what) != digest:
            raise VtccError(
                f"{directory / paths.METRICS}: not of the {what} in {place} now; {AGAIN} (or "
                "`vtcc evaluate`)"
            )
    file = directory / paths.RUN  # absent where the model was trained without tracking
    return log_evaluation(
        json_file.read(file, AGAIN) if file.is_file() else {},
        config.flatten({"evaluate": evaluated["evaluate"]}),
        json_file.read(directory / paths.METRICS, AGAIN),
        report_files(directory / paths.REPORTS),
        experiment=cache["name"],
        directory=directory,
    )


def log_evaluation(
    run: Mapping[str, Any],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Sequence[Path] = (),
    *,
    experiment: str | None = None,
    directory: Path = Path(),
) -> str:
    """Logs scores to a child run `evaluate` of the training's run, and to that run itself.

    The same training, parameters and scores again change nothing, but for the training's run,
    which shows the scores of the evaluation that was logged last. A training that this store
    does not know (untracked, or pulled from another machine) gets a run that says so and
    carries the model.

    Args:
        run: the content of models/run.json.
        params: of the evaluation, flat with dotted keys.
        metrics: flat scores; what is not a finite number is left out.
        artifacts: files for the child run.
        experiment: the dataset's name, where `run` has none.
        directory: holds the trained model in models/ and the training's curves in reports/.

    Returns:
        The id of the run that carries the model: `run["run_id"]` where the store knows it.

    Raises:
        VtccError: when the store cannot be reached.
    """
    with store.alone():  # so that two do not log the same
        client = store.client()
        with store.reachable(patient=True):
            parent = runs.known_run(client, run.get("run_id")) or adopt(
                client, experiment or run.get("experiment") or "vtcc", run, directory / paths.MODEL
            )
        with store.reachable():
            complete(client, parent, directory / paths.CURVES)
            training = client.get_run(parent)
            where, shown = training.info.experiment_id, training.data.tags
            scores = runs.finite(metrics)
            content = json.dumps([parent, dict(params), scores], sort_keys=True, default=str)
            fingerprint = hashlib.sha256(content.encode()).hexdigest()
            same = f"tags.`{runs.EVALUATION}` = '{fingerprint}'"
            if known := client.search_runs([where], same, max_results=1):
                if shown.get(runs.EVALUATED_BY) != known[0].info.run_id:
                    _copy_scores(client, parent, scores)  # back from other settings
                    client.set_tag(parent, runs.EVALUATED_BY, known[0].info.run_id)
                return parent
        tags = {
            runs.PARENT: parent,
            "mlflow.runName": "evaluate",
            **provenance.source_tags(runs.EVALUATE),
        }
        with _open_run(client, where, tags) as child:
            with store.reachable():
                runs.log_params(client, child, params)
                runs.log_scores(client, child, scores)
                epochs = _copy_scores(client, parent, scores)
            with store.reachable(patient=True):
                runs.log_files(client, child, artifacts)
                for picture in (p for p in artifacts if p.suffix == ".png" and p.exists()):
                    _log_figure(client, child, picture, epochs)
                # Last, so that an interrupted evaluation is logged again, not taken for complete.
                client.set_tag(parent, runs.EVALUATED_BY, child)
                client.set_tag(child, runs.EVALUATION, fingerprint)
        return parent


def _copy_scores(client: "MlflowClient", training: str, scores: Mapping[str, float]) -> int:
    """Logs an evaluation's scores to the training's run too, and to its model.

    They lie one step beyond its epochs, as MLflow shows the figure of the highest step and the
    curves have some of the same names (confidence, entropy, sizes of clusters).

    Returns:
        The training's last epoch, 0 where the run has none.
    """
    tags = client.get_run(training).data.tags
    last = max(runs.last_steps(client, training).values(), default=0)
    step = int(tags.get(_STEP, last + 1))  # the same for a second evaluation
    client.set_tag(training, _STEP, str(step))
    client.set_tag(training, runs.EVALUATED_BY, "")  # named once all of it is there
    model = runs.model_id(client, training)
    runs.log_scores(client, training, scores, model_id=model, step=step)
    return step - 1


def log_assessment(
    model: str,
    dataset: str,
    digest: str,
    metrics: Mapping[str, float],
    artifacts: Sequence[Path] = (),
) -> str:
    """Logs the scores of a model on images it was not trained for: a run of its own.

    Args:
        model: what was scored, such as `models:/vtcc-digits/3`.
        dataset: name of the images, and of the experiment.
        digest: of the images.
        metrics: flat figures; what is not a finite number is left out.
        artifacts: files; those that do not exist are left out.

    Returns:
        The id of the run.

    Raises:
        VtccError: when the store cannot be reached.
    """
    client = store.client()
    tags = {
        "mlflow.runName": f"{model} on {dataset}",
        "vtcc.kind": KIND,
        "vtcc.model": model,
        "vtcc.dataset": dataset,
        "vtcc.data_digest": digest,
        **provenance.source_tags("vtcc assess"),
    }
    with store.reachable():
        where = store.experiment_id(client, dataset)
    with _open_run(client, where, tags) as run_id, store.reachable(patient=True):
        client.log_param(run_id, "model", model)
        runs.log_scores(client, run_id, metrics)
        runs.log_files(client, run_id, artifacts)
    return run_id


def log_addition(title: str, made: Mapping[str, Any], results: Path) -> str:
    """Logs what `vtcc add` brought to results: a run of its own.

    Args:
        title: of the results, and name of the experiment.
        made: the record, as `additions` in summary.json has it. results: their folder.

    Returns:
        The id of the run.

    Raises:
        VtccError: when the store cannot be reached.
    """
    client, drift = store.client(), made["drift"]
    tags = {
        "mlflow.runName": f"add to {results.name}",
        "vtcc.kind": ADDITION,
        "vtcc.verdict": drift["verdict"],
        "vtcc.drift": drift["level"],
        "vtcc.dataset": title,
        **provenance.source_tags("vtcc add"),
    }
    figures = {k: made[k] for k in ("new", "changed", "gone", "unreadable", "images", "seconds")}
    figures["proposed"] = len(made["proposed"])
    for line in drift["lines"]:
        name = "all" if line["cluster"] is None else f"cluster_{line['cluster']}"
        figures |= {
            f"{name}.{key}": value
            for key, value in line.items()
            if key not in ("cluster", "name") and value is not None
        }
    with store.reachable():
        where = store.experiment_id(client, title)
    with _open_run(client, where, tags) as run_id, store.reachable():
        client.log_param(run_id, "results", str(results))
        runs.log_scores(client, run_id, runs.finite(figures))
        client.log_dict(run_id, dict(made), "addition.json")
    return run_id


@contextlib.contextmanager
def _open_run(client: "MlflowClient", experiment_id: str, tags: Mapping[str, str]) -> Iterator[str]:
    """A new run, closed at the end of the block as FINISHED, FAILED or KILLED; yields its id."""
    run_lock = run_locks.RunLock()
    with store.reachable():
        tags = {**tags, **run_lock.tags}
        run_id = client.create_run(experiment_id, tags=tags).info.run_id
    try:
        yield run_id
    except BaseException as error:
        with contextlib.suppress(Exception), store.quickly():
            client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            run_lock.release()
        raise
    with store.reachable():
        client.set_terminated(run_id, "FINISHED")
    run_lock.release()


def report_files(reports: Path) -> list[Path]:
    """What the stage `evaluate` leaves in `reports` for a run to keep, the pictures last."""
    pictures = sorted((reports / paths.PLOTS.name).glob("*.png"))
    return [*(reports / file.name for file in _FILES), *pictures]


def adopt(client: "MlflowClient", experiment: str, run: Mapping[str, Any], model_dir: Path) -> str:
    """The id of a top-level run for a model that was trained out of this store's sight.

    The same model gets the same run again.
    """
    from vtcc.tracking import packaging

    digest = provenance.model_digest(model_dir)
    experiment_id = store.experiment_id(client, experiment)
    same = f"tags.`vtcc.model_digest` = '{digest}' and attributes.status = 'FINISHED'"
    if known := client.search_runs([experiment_id], same, max_results=1):
        return known[0].info.run_id
    origin = "untracked training"
    if run.get("run_id"):
        origin = f"run {run['run_id']} of {run.get('tracking_uri') or 'another store'}"
    tags = {
        "mlflow.runName": f"{experiment} (imported)",
        "vtcc.origin": origin,
        "vtcc.model_digest": digest,
        **provenance.encoder_tags(packaging.model_info(model_dir).get("encoder")),
        **provenance.source_tags(runs.EVALUATE),
    }
    adopted = client.create_run(experiment_id, tags=tags).info.run_id
    packaging.log_model(adopted, model_dir)
    client.set_terminated(adopted, "FINISHED")
    note(f"MLflow: this store does not know the training ({origin}); logged the model as {adopted}")
    return adopted


def complete(client: "MlflowClient", run_id: str, curves: Path) -> None:
    """Sends a finished training's figures that its run lacks, and closes the run.

    Either is so when the store was away at the training's end, whether or not the run was
    taken for abandoned since.

    Args:
        curves: `reports/curves.csv` of that training.
    """
    run = client.get_run(run_id)
    unfinished = run.info.status == "RUNNING" or run_locks.ABANDONED in run.data.tags
    if not unfinished or not curves.is_file():
        return
    known, now = runs.last_steps(client, run_id), int(time.time() * 1000)
    with curves.open(encoding="utf-8", newline="") as file:
        table = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    rows = [
        (key, value, now, int(row["epoch"]))
        for row in table
        for key, value in row.items()
        if key != "epoch" and runs.is_finite(value) and row["epoch"] > known.get(key, 0)
    ]
    runs.log_figures(client, run_id, rows)
    run_locks.forget(client, run)
    client.set_terminated(run_id, "FINISHED")
    note(f"MLflow: sent {len(rows)} figures that the training could not deliver")


def _log_figure(client: "MlflowClient", run_id: str, path: Path, step: int) -> None:
    """A picture by its epoch: MLflow shows those of several runs beside each other."""
    from PIL import Image

    with Image.open(path) as image:
        client.log_image(run_id, image.convert("RGB"), key=path.stem, step=step)
