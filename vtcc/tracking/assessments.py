"""A model scored on images that it was not trained for, as an MLflow run of its own."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtcc.tracking import facts, runs, store

KIND = "assessment"


def log(
    model: str,
    dataset: str,
    digest: str,
    metrics: Mapping[str, float],
    artifacts: Sequence[Path] = (),
) -> str:
    """Logs figures and files to a new run in the experiment of the dataset.

    Args:
        model: what was scored, such as `models:/vtcc-digits/3`.
        dataset: name of the images.
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
        **facts.source_tags("vtcc assess"),
    }
    with store.reachable():
        where = store.experiment_id(client, dataset)
        run_id: str = client.create_run(where, tags=tags).info.run_id
    try:
        with store.reachable():
            finite = {k: float(v) for k, v in metrics.items() if runs.is_finite(v)}
            client.log_param(run_id, "model", model)
            runs.log_scores(client, run_id, finite)
            for path in artifacts:
                if path.exists():
                    client.log_artifact(run_id, str(path))
    except BaseException as error:
        with contextlib.suppress(Exception), store.quickly():
            _close(client, run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    _close(client, run_id, "FINISHED")
    return run_id


def _close(client: Any, run_id: str, status: str) -> None:
    client.set_terminated(run_id, status)
