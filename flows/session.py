"""What every flow of vtcc does around its work."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Failed

from flows import hooks, limits, records, recover
from vtcc import paths
from vtcc.errors import VtccError

P = ParamSpec("P")
# Of every flow: they share a name, so that deployments are called vtcc/train, vtcc/study, ...
OPTIONS: dict[str, Any] = {
    "name": "vtcc",
    "on_running": [hooks.tell],
    "on_completion": [hooks.tell],
    "on_failure": [hooks.tell],
    "on_crashed": [hooks.tell, hooks.tidy],
    "on_cancellation": [hooks.tell, hooks.tidy],
}


def explained(work: Callable[P, Any]) -> Callable[P, Any]:
    """Of a flow or task: a user's mistake becomes a failed state with its one line.

    The message says what to do; a traceback would bury it.
    """

    @functools.wraps(work)
    def checked(*given: P.args, **named: P.kwargs) -> Any:
        try:
            return work(*given, **named)
        except VtccError as error:
            return Failed(message=str(error), data=error)

    return checked


@contextlib.contextmanager
def session(*, trains: bool, places: int = 1, tags: dict[str, str] | None = None) -> Iterator[int]:
    """Inside, the flow run is on record; those that were killed before are settled first.

    Args:
        trains: whether it waits for one of the places of trainings and holds it.
        places: how many of them, at most all there are.
        tags: shown with the flow run, beside those it has.

    Yields:
        How many places it holds.
    """
    recover.settle_here()
    identifier = str(flow_run.id)
    with records.held(paths.home(), identifier, PREFECT_API_URL.value()) as record:
        if tags:
            shown = {*flow_run.tags, *(f"{key}: {value}" for key, value in tags.items())}
            with get_client(sync_client=True) as client:
                client.update_flow_run(flow_run.id, tags=sorted(shown))
        with limits.place(record, places) if trains else contextlib.nullcontext(0) as held:
            yield held
