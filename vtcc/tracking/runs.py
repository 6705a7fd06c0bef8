"""A training as an MLflow run: `TrainingRun` is handed to the training loop as callbacks.

Scores are added later, by `vtcc.tracking.evaluations`. Importing this does not import MLflow.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import config, paths, provenance
from vtcc.data.cache import Cache
from vtcc.errors import without_passwords
from vtcc.progress import note
from vtcc.tracking import run_locks, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

PARENT = "mlflow.parentRunId"
EVALUATE = "vtcc evaluate"  # what made a run, by its tag mlflow.source.name
EVALUATION = "vtcc.evaluation"  # tag of a complete evaluation: digest of all that was logged
EVALUATED_BY = "vtcc.evaluated_by"  # tag of a training: the evaluation whose scores it shows

# After a failed delivery the next tries wait, so that a dead server costs a training little.
_PAUSE_SECONDS = 60.0

BATCH = 1000  # figures in a request, MLflow's limit


class TrainingRun:
    """One training as an MLflow run: the callbacks of the training loop.

    Once started, nothing that the store does stops the training: figures that cannot be
    delivered are kept and sent with the next ones. They survive a kill too, since the loop's
    checkpoint holds all of them; what is still missing at the end,
    `evaluations.complete` sends.

    Attributes:
        run_id: the MLflow run, or None before `on_start`.
        experiment: the experiment's name, that of the dataset.
    """

    def __init__(
        self, params: config.Params, cache: Cache, encoder: Mapping[str, Any] | None = None
    ) -> None:
        """Prepares the callbacks; the store is opened by `on_start`.

        Args:
            params: all of params.yaml.
            cache: the images trained on; names the experiment.
            encoder: record of a pretrained encoder, None without one.
        """
        self.run_id: str | None = None
        self.experiment = cache.name
        self._params = config.flatten(config.to_dict(params))
        self._cache = cache
        self._encoder = encoder
        self._client: MlflowClient  # from `on_start` on
        self._run_lock: run_locks.RunLock | None = None
        self._pending: list[tuple[str, float, int, int]] = []
        self._logged: dict[str, int] = {}  # last epoch per figure, delivered or pending
        self._retry_at = 0.0
        self._warnings: dict[str, str] = {}
        self._monitors: list[BaseMetricsMonitor] = []

    def on_start(self, info: Mapping[str, Any]) -> str:
        """Starts the run, or goes on with the one of an interrupted training.

        Args:
            info: `parameters`: number of trainable weights; `kernels`: what `auto` became;
                `resumed_run_id`: the run to go on with, or None; `curves`: rows of the epochs
                before a resume, of which what the run lacks is sent.

        Returns:
            The id of the run, to be kept for a resume.

        Raises:
            VtccError: when the store cannot be reached.
        """
        self._client = store.client()
        self._run_lock = run_locks.RunLock()
        self._monitors = _monitors()
        with store.reachable():
            resumed = info.get("resumed_run_id")
            run_id = known_run(self._client, resumed)
            if run_id:
                run_locks.reopen(self._client, run_id, self._run_lock)
                self._logged = last_steps(self._client, run_id)
            else:
                run_id = self._create(resumed)
            params = self._params | {"parameters": info["parameters"]}
            params |= {f"kernels.{k}": v for k, v in info.get("kernels", {}).items()}
            log_params(self._client, run_id, params)
        self.run_id = run_id
        for row in info.get("curves", []):
            self._keep(int(row["epoch"]), row)
        self._deliver()
        run_locks.close_abandoned()
        return run_id

    def on_epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Sends the figures of one epoch and what it used of the machine; what is not a finite
        number is left out.
        """
        self._keep(epoch, {**figures, **_system_figures(self._monitors)})
        if time.monotonic() >= self._retry_at:
            self._deliver()

    def _keep(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Queues what the run does not have: an epoch may be trained again, to the same bits."""
        now = int(time.time() * 1000)
        for key, value in figures.items():
            if key != "epoch" and is_finite(value) and epoch > self._logged.get(key, 0):
                self._pending.append((key, float(value), now, epoch))
                self._logged[key] = epoch

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
                    self._client.set_tag(str(self.run_id), key, text)
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
        if self.run_id is None:
            return
        delivered = self._deliver()
        self._deliver_warnings()
        if status == "KILLED" and not delivered:
            # Whoever stopped us waits some 25 s; the store has just shown that it needs longer.
            note("MLflow: the run stays open; going on with the training closes it")
            return
        with store.quickly() if status == "KILLED" else contextlib.nullcontext():
            self._send_files(artifacts or [], model_dir)
        if not (delivered or self._deliver()):
            note("MLflow: the run stays open; evaluate sends what it lacks and closes it")
            return
        try:
            with store.quickly():
                self._client.set_terminated(self.run_id, status)
        except Exception as error:
            note(f"MLflow: the run could not be closed ({store.reason(error)})")
        else:
            if self._run_lock:
                self._run_lock.release()

    def _send_files(self, artifacts: list[Path], model_dir: Path | None) -> None:
        from vtcc.tracking import packaging

        assert self.run_id is not None
        try:
            self._client.log_text(self.run_id, provenance.environment(), "environment.txt")
            log_files(self._client, self.run_id, artifacts)
            if model_dir is not None:
                digest = provenance.model_digest(model_dir)
                tags = self._client.get_run(self.run_id).data.tags
                if tags.get("vtcc.model_digest") == digest and model_id(self._client, self.run_id):
                    return  # saved again after a kill in the very end
                self._client.set_tag(self.run_id, "vtcc.model_digest", digest)
                step = max(self._logged.values(), default=0)
                packaging.log_model(self.run_id, model_dir, step=step)
        except Exception as error:
            note(
                f"MLflow: the run's files were not delivered ({store.reason(error)}); "
                "the model is safe in models/, evaluate sends it again"
            )

    def record(self) -> dict[str, str | None]:
        """What `models/run.json` keeps of the run."""
        uri = store.public_uri() if self.run_id else None
        return {"run_id": self.run_id, "tracking_uri": uri, "experiment": self.experiment}

    def _create(self, resumed: str | None) -> str:
        tags = {
            "mlflow.runName": f"{self.experiment} seed {self._params['train.seed']}",
            "vtcc.dataset": self.experiment,
            "vtcc.data_digest": self._cache.digest,
            **provenance.encoder_tags(self._encoder),
            **provenance.source_tags("vtcc train"),
            **(self._run_lock.tags if self._run_lock else {}),
        }
        if resumed:
            tags["vtcc.continues"] = resumed  # its first epochs are in a run this store lacks
        experiment_id = store.experiment_id(self._client, self.experiment)
        run_id = self._client.create_run(experiment_id, tags=tags).info.run_id
        _log_dataset(self._client, run_id, self._cache)
        return run_id

    def _deliver(self) -> bool:
        """Sends what is queued, in order; False when some of it has to stay."""
        try:
            with store.quickly():
                while self._pending:
                    log_figures(self._client, str(self.run_id), self._pending[:BATCH])
                    del self._pending[:BATCH]
        except Exception as error:
            self._retry_at = time.monotonic() + _PAUSE_SECONDS
            note(f"MLflow: figures kept for later ({store.reason(error)})")
            return False
        return True


def _monitors() -> "list[BaseMetricsMonitor]":
    """MLflow's own monitors of processor and GPUs, without the thread that it asks them in.

    That thread drops what the store does not take, and is waited for at the end of a training,
    which must not hang on a store that is away.
    """
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors: list[BaseMetricsMonitor] = [CPUMonitor()]
    with contextlib.suppress(ImportError, RuntimeError):  # no nvidia-ml-py, or no GPU
        monitors.append(GPUMonitor())
    _system_figures(monitors)  # the first answer means nothing
    return monitors


def _system_figures(monitors: "list[BaseMetricsMonitor]") -> dict[str, float]:
    """What the machine does now, by the names of MLflow's page "System metrics"."""
    figures: dict[str, float] = {}
    for monitor in monitors:
        with contextlib.suppress(Exception):  # a figure is worth no training
            monitor.collect_metrics()
            figures |= {f"system/{k}": v for k, v in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return figures


def known_run(client: "MlflowClient", run_id: str | None) -> str | None:
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


def training_of(client: "MlflowClient", run_id: str) -> str:
    """The training of an `evaluate` run, else the run itself: its parent may be a study."""
    tags = client.get_run(run_id).data.tags
    if tags.get("mlflow.source.name") == EVALUATE:
        return known_run(client, tags.get(PARENT)) or run_id
    return run_id


def _log_dataset(client: "MlflowClient", run_id: str, cache: Cache) -> None:
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


def log_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    """Logs what the run does not have yet: logged parameters cannot change; no passwords."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    new = [
        Param(key, without_passwords(str(value)))
        for key, value in params.items()
        if key not in known
    ]
    for i in range(0, len(new), 100):
        client.log_batch(run_id, params=new[i : i + 100])


def log_scores(
    client: "MlflowClient",
    run_id: str,
    scores: Mapping[str, float],
    model_id: str | None = None,
    step: int = 0,
) -> None:
    """Logs the finite ones of figures to a run, and to its model where one is named.

    Args:
        step: MLflow shows the figure of the highest one, where a name has several.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(k, v, now, step, model_id=model_id, run_id=run_id) for k, v in finite(scores).items()
    ]
    for i in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[i : i + BATCH])


def log_files(client: "MlflowClient", run_id: str, files: Iterable[Path]) -> None:
    """Logs those of the files that exist."""
    for file in files:
        if file.exists():
            client.log_artifact(run_id, str(file))


def model_id(client: "MlflowClient", run_id: str) -> str | None:
    """The id of the model that a run has logged last, or None."""
    outputs = client.get_run(run_id).outputs
    models = outputs.model_outputs if outputs else []
    return models[-1].model_id if models else None


def last_steps(client: "MlflowClient", run_id: str) -> dict[str, int]:
    """The last epoch that the run has of each figure."""
    names = client.get_run(run_id).data.metrics
    steps = {name: [m.step for m in client.get_metric_history(run_id, name)] for name in names}
    return {name: max(epochs) for name, epochs in steps.items() if epochs}


def log_figures(
    client: "MlflowClient", run_id: str, rows: Sequence[tuple[str, float, int, int]]
) -> None:
    """Logs (name, value, timestamp in ms, epoch), as many in a request as MLflow takes."""
    from mlflow.entities import Metric

    for i in range(0, len(rows), BATCH):
        client.log_batch(run_id, metrics=[Metric(*row) for row in rows[i : i + BATCH]])


def is_finite(value: Any) -> bool:
    """Whether a figure can be logged: a number, and neither NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def finite(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures that can be logged."""
    return {key: float(value) for key, value in figures.items() if is_finite(value)}
