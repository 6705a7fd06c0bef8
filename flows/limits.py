"""One place in the queue: the concurrency limit of trainings, made by whoever needs it first."""

import contextlib
import time
from collections.abc import Iterator

from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.context import ConcurrencyContext
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.records import LiveRecord

LIMIT = "vtcc-training"
DEFAULT = 1
# A killed run's place is free again after this; a server may be away for about as long.
LEASE_SECONDS = 120.0
PAUSE_SECONDS = 5.0  # between two looks at a limit of no places


def ensure(limit: int | None = None) -> int:
    """Creates the limit where it is missing; sets it where `limit` is given.

    Args:
        limit: trainings at a time; None leaves an existing limit as it is.

    Returns:
        Trainings at a time, from now on.
    """
    with get_client(sync_client=True) as client:
        try:
            existing = client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            with contextlib.suppress(ObjectAlreadyExists):
                client.upsert_global_concurrency_limit_by_name(LIMIT, limit or DEFAULT)
            return limit or DEFAULT
        if limit is not None and existing.limit != limit:
            client.upsert_global_concurrency_limit_by_name(LIMIT, limit)
        return limit or existing.limit


@contextlib.contextmanager
def place(record: LiveRecord, places: int = 1) -> Iterator[int]:
    """Holds places of `vtcc-training`, waiting for them as long as it takes.

    A lease that cannot be renewed (the server is away) ends no training: at worst one more
    than allowed runs for a while.

    Args:
        record: where the lease is noted, so that it can be released for a run that was killed.
        places: how many, at most all there are.

    Yields:
        How many are held.
    """
    with contextlib.ExitStack() as stack:
        while not (held := _hold(stack, places)):
            time.sleep(PAUSE_SECONDS)
        context = ConcurrencyContext.get()
        leases = context.cleanup_lease_ids if context else []
        record.write(str(leases[-1]) if leases else None)
        stack.callback(record.write, None)
        yield held


def _hold(stack: contextlib.ExitStack, places: int) -> int:
    """How many places are held now; 0 where there are none, or fewer than when it began to wait."""
    if not (held := min(places, ensure())):
        return 0  # a limit of 0 is a pause
    try:
        stack.enter_context(
            concurrency(
                LIMIT,
                occupy=held,
                lease_duration=LEASE_SECONDS,
                strict=True,
                raise_on_lease_renewal_failure=False,
            )
        )
    except ConcurrencySlotAcquisitionError:
        if held <= ensure():
            raise
        return 0
    return held
