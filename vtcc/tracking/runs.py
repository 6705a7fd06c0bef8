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

from vtcc import config, paths
from vtcc.data.cache import Cache
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
        experiment: the experiment's name, that of the dataset.
    """

    def __init__(self, params: config.Params, cache: Cache) -> None:
        """Prepares the callbacks; the store is opened by `on_start`.

        Args:
            params: all of params.yaml.
            cache: the images trained on; names the experiment.
        """
        self.run_id: str | None = None
        self.experiment = cache.name
        self._params = config.flatten(config.to_dict(params))
        self._cache = cache
        self._client: Any = None
        self._pending: list[tuple[str, float, int, int]] = []
        self._logged_epoch = 0
        self._retry_at = 0.0
        self._warnings: dict[str, str] = {}

    def on_start(self, info: Mapping[str, Any]) -> str:
        """Starts the run, or goes on with the one of an interrupted training.

        Args:
            info: `parameters`: number of trainable weights; `kernels`: what `auto` became;
                `resumed_run_id`: the run to go on with, or None.

        Returns:
            The id of the run, to be kept for a resume.

        Raises:
            VtccError: when the store cannot be reached.
        """
        self._client = store.client()
        with store.reachable():
            resumed = info.get("resumed_run_id")
            run_id = known_run(self._client, resumed)
            if run_id:
                self._client.update_run(run_id, status="RUNNING")
                self._logged_epoch = _last_step(self._client, run_id)
            else:
                run_id = self._create(resumed)
            params = self._params | {"parameters": info["parameters"]}
            params |= {f"kernels.{k}": v for k, v in info.get("kernels", {}).items()}
            _log_params(self._client, run_id, params)
        self.run_id = run_id
        return run_id

    def on_epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Sends the figures of one epoch; what is not a finite number is left out."""
        if epoch <= self._logged_epoch:
            return  # trained again after a resume from an older checkpoint, bit-identical
        now = int(time.time() * 1000)
        self._pending += [(k, float(v), now, epoch) for k, v in figures.items() if is_finite(v)]
        self._logged_epoch = epoch
        if time.monotonic() >= self._retry_at:
            self._deliver()

    def on_warning(self, warned: Any) -> None:
        """Keeps a warning of the guard as the tag `vtcc.warning.<kind>`, sent now or at the end.

        Args:
            warned: has `kind`, `epoch` and `text`.
        """
        self._warnings[f"vtcc.warning.{warned.kind}"] = f"epoch {warned.epoch}: {warned.text}"
        self._deliver_warnings()

    def _deliver_warnings(self) -> None:
        try:
            with store.quickly():
                for key, text in list(self._warnings.items()):
                    self._client.set_tag(self.run_id, key, text)
                    del self._warnings[key]
        except Exception as error:
            note(f"MLflow: warnings kept for later ({store.reason(error)})")

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
        self._deliver_warnings()
        try:
            self._client.log_text(self.run_id, facts.environment(), "environment.txt")
            for path in artifacts or []:
                if Path(path).exists():
                    self._client.log_artifact(self.run_id, str(path))
            if model_dir is not None:
                digest = facts.model_digest(model_dir)
                self._client.set_tag(self.run_id, "vtcc.model_digest", digest)
                packaging.log_model(self.run_id, model_dir, step=self._logged_epoch)
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

    def _create(self, resumed: str | None) -> str:
        tags = {
            "mlflow.runName": f"{self.experiment} seed {self._params['train.seed']}",
            "vtcc.dataset": self.experiment,
            "vtcc.data_digest": self._cache.digest,
            **facts.source_tags("vtcc train"),
        }
        if resumed:
            tags["vtcc.continues"] = resumed  # its first epochs are in a run this store lacks
        experiment_id = store.experiment_id(self._client, self.experiment)
        run_id = self._client.create_run(experiment_id, tags=tags).info.run_id
        _log_dataset(self._client, run_id, self._cache)
        return run_id

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
            self._retry_at = time.monotonic() + _PAUSE_SECONDS
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
        parent = known_run(client, run.get("run_id")) or adopt(client, name, run, model_dir)
        info = client.get_run(parent).info
        scores = {k: float(v) for k, v in metrics.items() if is_finite(v)}
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
        log_scores(client, child, scores)
        log_scores(client, parent, scores, model_id=model_id(client, parent))
    for path in artifacts or []:
        if Path(path).exists():
            client.log_artifact(child, str(path))
    # Last, so that an interrupted evaluation is logged again rather than taken for complete.
    client.set_tag(child, "vtcc.evaluation", fingerprint)
    client.set_terminated(child, "FINISHED")
    return parent


def known_run(client: Any, run_id: str | None) -> str | None:
    """`run_id` if the store has that run and it was not deleted, else None."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        active = client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if store.missing(error):
            return None
        raise
    return run_id if active else None


def adopt(client: Any, experiment: str, run: Mapping[str, Any], model_dir: Path) -> str:
    """The id of a top-level run for a model that was trained out of this store's sight.

    The same model gets the same run again.
    """
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


def _log_dataset(client: Any, run_id: str, cache: Cache) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = {"num_rows": len(cache.paths), "image_size": cache.image_size}
    entry = Dataset(
        name=cache.name,
        digest=cache.digest[:36],  # MLflow's limit; the tag vtcc.data_digest has all of it
        source_type="local",
        source=json.dumps({"uri": paths.CACHE.as_posix()}),
        profile=json.dumps(profile | {"channels": cache.channels}),
    )
    client.log_inputs(run_id, [DatasetInput(entry, [InputTag("mlflow.data.context", "training")])])


def _log_params(client: Any, run_id: str, params: Mapping[str, Any]) -> None:
    """Logs what the run does not have yet: logged parameters cannot change."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    new = [Param(key, str(value)) for key, value in params.items() if key not in known]
    for i in range(0, len(new), 100):
        client.log_batch(run_id, params=new[i : i + 100])


def log_scores(
    client: Any, run_id: str, scores: Mapping[str, float], model_id: str | None = None
) -> None:
    """Logs figures to a run, and to its model where one is named."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(k, v, now, 0, model_id=model_id, run_id=run_id) for k, v in scores.items()]
    for i in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[i : i + 1000])


def model_id(client: Any, run_id: str) -> str | None:
    """The id of the model that a run has logged last, or None."""
    outputs = client.get_run(run_id).outputs
    models = outputs.model_outputs if outputs else []
    return models[-1].model_id if models else None


def _last_step(client: Any, run_id: str) -> int:
    """The last epoch whose figures the run has, or 0."""
    names = client.get_run(run_id).data.metrics
    return max(
        (m.step for name in names for m in client.get_metric_history(run_id, name)), default=0
    )


def is_finite(value: Any) -> bool:
    """Whether a figure can be logged: a number, and neither NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def _fingerprint(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
