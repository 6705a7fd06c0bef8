"""A training and its evaluations as MLflow runs.

`TrainingRun` is handed to the training loop as callbacks; `log_evaluation` adds scores later.
Importing this module does not import MLflow.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtcc import paths
from vtcc.progress import note
from vtcc.tracking import facts, store
from vtcc.tracking.store import tracking_uri

__all__ = ["TrainingRun", "log_evaluation", "tracking_uri"]

# After a failed delivery the next tries wait, so that a dead server costs a training little.
_PAUSE_SECONDS = 60.0


class TrainingRun:
    """One training as an MLflow run: the callbacks of the training loop.

    Once started, nothing that the store does stops the training: figures that cannot be
    delivered are kept and sent with the next ones.

    Attributes:
        run_id: the MLflow run, or None before `on_start`.
        experiment: the experiment's name, or None before `on_start`.
    """

    def __init__(self) -> None:
        import mlflow  # noqa: F401  (the train stage goes untracked where this fails)

        self.run_id: str | None = None
        self.experiment: str | None = None
        self._client: Any = None
        self._pending: list[tuple[str, float, int, int]] = []
        self._logged_epoch = -1
        self._quiet_until = 0.0

    def on_start(self, info: dict[str, Any]) -> str | None:
        """Starts the run, or goes on with the one of an interrupted training.

        Args:
            info: `params`: all of params.yaml, flat with dotted keys; `dataset`: `name`,
                `digest`, `images`, `image_size`; `parameters`: number of trainable weights;
                `run_id`: the run to go on with, or None.

        Returns:
            The id of the run.

        Raises:
            VtccError: when the store cannot be reached.
        """
        dataset = info["dataset"]
        self.experiment = dataset["name"]
        self._client = store.client()
        with store.reachable():
            resumed = info.get("run_id")
            if resumed and _alive(self._client, resumed):
                self.run_id = resumed
                self._client.update_run(resumed, status="RUNNING")
                self._logged_epoch = _last_step(self._client, resumed)
            else:
                self.run_id = _create(self._client, dataset, info.get("params", {}))
                if resumed:
                    self._client.set_tag(self.run_id, "vtcc.continues", resumed)
                _log_dataset(self._client, self.run_id, dataset)
            params = dict(info.get("params", {}))
            if info.get("parameters") is not None:
                params["parameters"] = info["parameters"]
            _log_params(self._client, self.run_id, params)
        return self.run_id

    def on_epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Sends the figures of one epoch; what is not a finite number is left out."""
        if epoch <= self._logged_epoch:
            return  # trained again after a resume from an older checkpoint, bit-identical
        now = int(time.time() * 1000)
        self._pending += [(k, float(v), now, epoch) for k, v in figures.items() if _finite(v)]
        self._logged_epoch = epoch
        if time.monotonic() >= self._quiet_until:
            self._deliver()

    def on_end(
        self, status: str, artifacts: list[Path] | None = None, model_dir: Path | None = None
    ) -> None:
        """Ends the run and sends its files; a store that fails is noted, never raised.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
            artifacts: files to keep with the run; those that do not exist are left out.
            model_dir: the trained model (`models/model`), logged as a pyfunc.
        """
        if self._client is None or self.run_id is None:
            return
        from vtcc.tracking import packaging

        self._deliver()
        try:
            self._client.log_text(self.run_id, facts.environment(), "environment.txt")
            for path in artifacts or []:
                if Path(path).exists():
                    self._client.log_artifact(self.run_id, str(path))
            if model_dir is not None:
                packaging.log_model(self.run_id, model_dir, step=max(self._logged_epoch, 0))
        except Exception as error:
            note(
                f"MLflow: the run's files were not delivered ({store.reason(error)}); "
                "the model is safe in models/, evaluate sends it again"
            )
        try:
            with store.quickly():
                self._client.set_terminated(self.run_id, status)
        except Exception as error:
            note(f"MLflow: the run could not be closed ({store.reason(error)})")

    def record(self) -> dict[str, str | None]:
        """What `models/run.json` keeps of the run."""
        uri = store.public_uri() if self.run_id else None
        return {"run_id": self.run_id, "tracking_uri": uri, "experiment": self.experiment}

    def _deliver(self) -> None:
        from mlflow.entities import Metric

        if not self._pending:
            return
        metrics = [Metric(k, v, stamp, step) for k, v, stamp, step in self._pending]
        try:
            with store.quickly():
                for i in range(0, len(metrics), 1000):
                    self._client.log_batch(self.run_id, metrics=metrics[i : i + 1000])
        except Exception as error:
            self._quiet_until = time.monotonic() + _PAUSE_SECONDS
            note(f"MLflow: figures kept for later ({store.reason(error)})")
        else:
            self._pending = []


def log_evaluation(
    run: Mapping[str, Any],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: list[Path] | None = None,
    *,
    experiment: str | None = None,
    model_dir: Path = paths.MODEL,
) -> str | None:
    """Logs scores to a child run `evaluate` of the training's run, and to that run itself.

    The same training, parameters and scores again change nothing. A training that this store
    does not know (untracked, or pulled from another machine) gets a run that says so and
    carries the model.

    Args:
        run: the content of models/run.json.
        params: of the evaluation, flat with dotted keys.
        metrics: flat scores; what is not a finite number is left out.
        artifacts: files for the child run.
        experiment: the dataset's name, where `run` has none.
        model_dir: the trained model.

    Returns:
        The id of the run that carries the model: `run["run_id"]` where the store knows it.

    Raises:
        VtccError: when the store cannot be reached.
    """
    client = store.client()
    name = experiment or run.get("experiment") or "vtcc"
    with store.reachable():
        parent = known_run(client, run.get("run_id")) or _adopt(client, name, run, model_dir)
        info = client.get_run(parent).info
        scores = {k: float(v) for k, v in metrics.items() if _finite(v)}
        fingerprint = _fingerprint([parent, dict(params), scores])
        same = f"tags.`vtcc.evaluation` = '{fingerprint}'"
        if client.search_runs([info.experiment_id], same, max_results=1):
            return parent
        tags = {
            "mlflow.parentRunId": parent,
            "mlflow.runName": "evaluate",
            **facts.source_tags("vtcc evaluate"),
        }
        child = client.create_run(info.experiment_id, tags=tags).info.run_id
        _log_params(client, child, params)
        _log_scores(client, child, scores)
        _log_scores(client, parent, scores, model_id=_model_id(client, parent))
    for path in artifacts or []:
        if Path(path).exists():
            client.log_artifact(child, str(path))
    # Last, so that an interrupted evaluation is logged again rather than taken for complete.
    client.set_tag(child, "vtcc.evaluation", fingerprint)
    client.set_terminated(child, "FINISHED")
    return parent


def known_run(client: Any, run_id: str | None) -> str | None:
    """`run_id` if the store has that run and it was not deleted, else None."""
    return run_id if run_id and _alive(client, run_id) else None


def _adopt(client: Any, experiment: str, run: Mapping[str, Any], model_dir: Path) -> str:
    """A top-level run for a model that was trained out of this store's sight."""
    from vtcc.tracking import packaging

    digest = facts.model_digest(model_dir)
    experiment_id = store.experiment_id(client, experiment)
    same = f"tags.`vtcc.model_digest` = '{digest}' and attributes.status = 'FINISHED'"
    if found := client.search_runs([experiment_id], same, max_results=1):
        return found[0].info.run_id
    origin = "untracked training"
    if run.get("run_id"):
        origin = f"run {run['run_id']} of {run.get('tracking_uri') or 'another store'}"
    tags = {
        "mlflow.runName": f"{experiment} (imported)",
        "vtcc.origin": origin,
        "vtcc.model_digest": digest,
        **facts.source_tags("vtcc evaluate"),
    }
    adopted = client.create_run(experiment_id, tags=tags).info.run_id
    packaging.log_model(adopted, model_dir)
    client.set_terminated(adopted, "FINISHED")
    note(f"MLflow: this store does not know the training ({origin}); logged the model as {adopted}")
    return adopted


def _create(client: Any, dataset: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    seed = params.get("train.seed")
    tags = {
        "mlflow.runName": dataset["name"] + ("" if seed is None else f" seed {seed}"),
        "vtcc.dataset": dataset["name"],
        "vtcc.data_digest": str(dataset["digest"]),
        **facts.source_tags("vtcc train"),
    }
    experiment_id = store.experiment_id(client, dataset["name"])
    return client.create_run(experiment_id, tags=tags).info.run_id


def _log_dataset(client: Any, run_id: str, dataset: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    images, size = dataset.get("images"), dataset.get("image_size")
    entry = Dataset(
        name=dataset["name"],
        digest=_short_digest(dataset["digest"]),
        source_type="local",
        source=json.dumps({"uri": paths.CACHE.as_posix()}),
        profile=json.dumps({"num_rows": images, "image_size": size}),
    )
    context = InputTag("mlflow.data.context", "training")
    client.log_inputs(run_id, [DatasetInput(entry, [context])])


def _short_digest(digest: Any) -> str:
    return str(digest)[:36]  # MLflow's limit; the whole digest is in the tag vtcc.data_digest


def _log_params(client: Any, run_id: str, params: Mapping[str, Any]) -> None:
    """Logs what the run does not have yet: logged parameters cannot change."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    new = [Param(key, str(value)) for key, value in params.items() if key not in known]
    for i in range(0, len(new), 100):
        client.log_batch(run_id, params=new[i : i + 100])


def _log_scores(
    client: Any, run_id: str, scores: Mapping[str, float], model_id: str | None = None
) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(k, v, now, 0, model_id=model_id, run_id=run_id) for k, v in scores.items()]
    for i in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[i : i + 1000])


def _model_id(client: Any, run_id: str) -> str | None:
    outputs = client.get_run(run_id).outputs
    models = outputs.model_outputs if outputs else []
    return models[-1].model_id if models else None


def _alive(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if store.missing(error) or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
            return False
        raise


def _last_step(client: Any, run_id: str) -> int:
    """The last epoch whose figures the run has, or -1."""
    names = client.get_run(run_id).data.metrics
    return max(
        (m.step for name in names for m in client.get_metric_history(run_id, name)), default=-1
    )


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _fingerprint(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
