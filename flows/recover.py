"""After a crash: flow runs that nobody runs any more get a final state, their places are freed."""

import contextlib
import logging
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed, Scheduled

from flows import records
from vtcc import paths
from vtcc.runner import workspace
from vtcc.runner.locks import release_stale_locks
from vtcc.tracking import run_locks

MESSAGE = (
    "its process is gone; run it again (prefect flow-run retry {id}): a training goes on from "
    "its last checkpoint"
)
_OPEN = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
logger = logging.getLogger("prefect.vtcc")


def settle(home: Path) -> list[str]:
    """Settles what killed runs of this machine left: states, places, worktrees, locks, MLflow runs.

    Args:
        home: the main checkout.

    Returns:
        The names of the flow runs that were closed.
    """
    workspace.prune(home)
    release_stale_locks(home)
    run_locks.close_abandoned(home)
    with records.dead(home, PREFECT_API_URL.value()) as dead:
        if not dead:
            return []
        with get_client(sync_client=True) as client:
            for record in dead:
                if record.lease:
                    with contextlib.suppress(ObjectNotFound):
                        client.release_concurrency_slots_with_lease(UUID(record.lease))
            return [_close(client, run) for run in _open_runs(client, dead)]


def settle_here() -> list[str]:
    """`settle` for the project around the working directory; a failure is told, never raised."""
    try:
        closed = settle(paths.home())
    except Exception as error:
        logger.warning("flow runs of before could not be closed: %s", error)
        return []
    for name in closed:
        logger.warning("flow run %s: its process is gone; closed", name)
    return closed


def restart_pending(deployments: list[UUID]) -> int:
    """Hands runs back that a killed runner had taken but not started; returns how many.

    Args:
        deployments: those of which this process is the only runner.
    """
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=deployments),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING])),
    )
    with get_client(sync_client=True) as client:
        pending = client.read_flow_runs(flow_run_filter=wanted)
        for run in pending:
            again: State = Scheduled(message="its runner was ended before it started")
            client.set_flow_run_state(run.id, again, force=True)
    return len(pending)


def _open_runs(client: SyncPrefectClient, dead: list[records.Record]) -> list[FlowRun]:
    wanted = FlowRunFilter(
        id=FlowRunFilterId(any_=[UUID(record.flow_run) for record in dead]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_OPEN)),
    )
    return client.read_flow_runs(flow_run_filter=wanted)


def _close(client: SyncPrefectClient, run: FlowRun) -> str:
    state: State = Crashed(message=MESSAGE.format(id=run.id))
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_OPEN))
        ),
    )
    for task in tasks:
        client.set_task_run_state(task.id, state, force=True)
    if run.state_type == StateType.CANCELLING:
        state = Cancelled(message="it was to be cancelled, and its process is gone")
    client.set_flow_run_state(run.id, state, force=True)
    return run.name
