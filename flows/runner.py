"""The process that starts flow runs of all deployments; `flows.serve` starts and ends it."""

import argparse
import asyncio
import contextlib
import logging
import platform
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.runner import Runner

from flows import deployments, limits, recover
from vtcc import paths
from vtcc.errors import VtccError
from vtcc.process import locks

# Runs that do not train are short and never wait behind those that do.
OTHERS = 2
QUERY_SECONDS = 1.0
SERVED_SECONDS = 60  # after which Prefect takes a deployment that nobody asks about for unserved


def _worth_reading(record: logging.LogRecord) -> bool:
    """Not the line, every few seconds, that a run is waiting for its turn."""
    return "scheduled runs skipped" not in record.msg


def check_alone(client: SyncPrefectClient, names: set[str], here: str) -> None:
    """Raises VtccError where another project serves deployments of these names now.

    Both would take each other's runs: a server knows a deployment by its name alone.

    Args:
        client: of the server.
        names: of the deployments.
        here: machine and main checkout, as the descriptions end in them.
    """
    ours = FlowFilter(name=FlowFilterName(any_=["vtcc"]))
    for there in client.read_deployments(flow_filter=ours):
        description = there.description or ""
        where = re.search(r"\(((?:[^()\s]+:)?/.+)\)$", description)  # none: of a work pool
        if where is None or there.name not in names:
            continue
        if where[1] in (here, here.partition(":")[2]):  # older versions named no machine
            continue
        polled = there.last_polled
        if polled and datetime.now(UTC) - polled < timedelta(seconds=SERVED_SECONDS):
            raise VtccError(
                f"vtcc/{there.name} is served from {where[1]} on this Prefect server, and either "
                "would run the other's runs; stop that `make serve` and wait a minute, or give "
                "this project a server and a database of its own: "
                "PREFECT_HOME=$PWD/.vtcc/prefect make serve PREFECT_PORT=4300"
            )


def main() -> None:
    """Serves the deployments at `PREFECT_API_URL` until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m flows.runner", description=__doc__)
    parser.add_argument("--limit", type=int, help="trainings at a time")
    parser.add_argument("--ready", type=Path, help="file to write once runs are accepted")
    given = parser.parse_args()
    logging.getLogger("prefect.runner").addFilter(_worth_reading)
    home = paths.home()
    here = f"{platform.node()}:{home}"
    try:
        listed = deployments.known()
        with get_client(sync_client=True) as client:
            check_alone(client, {known.name for known in listed}, here)
    except VtccError as error:
        sys.exit(f"error: {error}")
    limit = limits.ensure(given.limit)
    recover.settle_here()
    # Schedules stay as they are over a restart: a pause would have to be undone by hand.
    given_both: dict[str, Any] = {"query_seconds": QUERY_SECONDS, "pause_on_shutdown": False}
    runners = {
        # One that waits for the end of a pause (a limit of 0) does so in its process.
        True: Runner(name="vtcc trainings", limit=max(limit, 1), **given_both),
        False: Runner(name="vtcc others", limit=OTHERS, **given_both),
    }
    served: list[UUID] = []
    for known in listed:
        deployment = known.flow.to_deployment(
            known.name,
            description=f"{known.description} ({here})",
            schedules=known.schedules or None,
        )
        served.append(cast(UUID, runners[known.trains].add_deployment(deployment)))
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(locks.BusyError):  # another runner would lose its runs
            stack.enter_context(locks.exclusive(home / ".vtcc" / "runner.lock", wait=False))
            recover.restart_pending(served)
        if given.ready:
            given.ready.write_text(str(limit), encoding="utf-8")
        try:
            asyncio.run(_start(list(runners.values())))
        except KeyboardInterrupt:
            sys.exit(130)


async def _start(runners: list[Runner]) -> None:
    await asyncio.gather(*(runner.start() for runner in runners))


if __name__ == "__main__":
    main()
