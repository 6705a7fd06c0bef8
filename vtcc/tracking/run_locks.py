"""Which runs a living process writes to, and the end of those whose process is gone.

The process of a run holds a lock on a file below `<home>/.vtcc/runs`, which the kernel releases
however the process ends. The file is named by a random token that the run carries as a tag, so
neither tells anything of the machine or its user. It is there before the run is.
"""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from vtcc import paths
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.progress import note, several
from vtcc.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

HOLDER, ABANDONED = "vtcc.holder", "vtcc.abandoned"


class RunLock:
    """Says that this process writes to a run, until `release` or the end of the process.

    Attributes:
        tags: to be set on the run, best when it is created.
    """

    def __init__(self) -> None:
        token = uuid.uuid4().hex
        self.tags = {HOLDER: token}
        self._mark: locks.Mark | None = None
        try:
            self._mark = locks.Mark(_marks(paths.home()) / f"{token}.lock", store.public_uri())
        except OSError as error:
            note(f"MLflow: a kill would leave this run open ({error})")

    def release(self) -> None:
        """The run has ended; without this call it counts as abandoned once the process is gone."""
        if self._mark is not None:
            self._mark.remove()


def close_abandoned(home: Path | None = None) -> list[str]:
    """Ends, as KILLED, the runs of this project that no living process writes to.

    MLflow is imported only where a process was killed. A store that cannot be reached is
    noted; the next call tries again.

    Args:
        home: the main checkout; `paths.home()` unless told.

    Returns:
        The ids of the runs that were ended. Training on makes them RUNNING again.
    """
    here = store.public_uri()
    with locks.abandoned(_marks(home or paths.home())) as left:
        left = [mark for mark in left if mark.text == here]
        if not left:
            return []
        try:
            with store.alone():
                ended = _end(store.client(), {mark.path.stem for mark in left})
        except VtccError as error:
            note(f"MLflow: runs of killed processes stay open for now ({error})")
            return []
        for mark in left:
            mark.remove()
    if ended:
        runs = several(len(ended), "runs")
        note(f"MLflow: ended {runs} whose process is gone: {', '.join(ended)}")
    return ended


def _marks(home: Path) -> Path:
    return home / ".vtcc" / "runs"


def _end(client: "MlflowClient", tokens: set[str]) -> list[str]:
    with store.reachable():
        everywhere = [e.experiment_id for e in store.every(client.search_experiments)]
        running = "attributes.status = 'RUNNING'"
        # All before the first is ended: that would shift the pages that follow.
        runs = list(store.every(client.search_runs, everywhere, running, max_results=1000))
        ended = [run for run in runs if run.data.tags.get(HOLDER) in tokens]
        for run in ended:
            _kill(client, run)
        return [run.info.run_id for run in ended]


def reopen(client: "MlflowClient", run_id: str, run_lock: RunLock) -> None:
    """Makes a run RUNNING again, by the process of `run_lock`."""
    for key, value in run_lock.tags.items():
        client.set_tag(run_id, key, value)
    client.update_run(run_id, status="RUNNING")
    forget(client, client.get_run(run_id))


def forget(client: "MlflowClient", run: "Run") -> None:
    """Takes back that a run was abandoned."""
    if ABANDONED in run.data.tags:
        client.delete_tag(run.info.run_id, ABANDONED)


def _kill(client: "MlflowClient", run: "Run") -> None:
    """Marks a run as killed, when its last figure came."""
    names = run.data.metrics
    histories = (client.get_metric_history(run.info.run_id, name) for name in names)
    stamps = [metric.timestamp for history in histories for metric in history]
    client.set_tag(run.info.run_id, ABANDONED, "its process was gone")
    client.set_terminated(run.info.run_id, "KILLED", max([run.info.start_time, *stamps]))
