"""What follows a state change: a webhook (off unless VTCC_WEBHOOK names one), tidying up.

Prefect passes the arguments of a hook by name, so they are called as it calls them.
"""

import os
from typing import Any
from urllib.parse import urlsplit

from prefect import Flow, State
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_logger

from vtcc.errors import without_passwords

WEBHOOK = "VTCC_WEBHOOK"
SECONDS = 10.0


def tell(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Posts what became of a flow run as JSON; a webhook that fails is told, nothing else.

    `text` is one line, which chat services show; the other keys are for programs. Addresses in
    them are without user and password.
    """
    address = os.environ.get(WEBHOOK, "").strip()
    if not address:
        return
    import httpx

    body = {
        "text": f"{flow_run.name}: {state.name}" + (f" ({state.message})" if state.message else ""),
        "flow": flow.name,
        "flow_run": flow_run.name,
        "flow_run_id": str(flow_run.id),
        "state": state.name,
        "message": state.message,
        "parameters": flow_run.parameters,
    }
    try:
        httpx.post(address, json=_public(body), timeout=SECONDS).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # What httpx says has the whole address, and a webhook's path is its password.
        status = isinstance(error, httpx.HTTPStatusError) and error.response.status_code
        why = f"HTTP status {status}" if status else type(error).__name__
        get_logger("vtcc").warning("%s at %s: %s", WEBHOOK, _host(address), why)


def _public(value: Any) -> Any:
    """Values of JSON, their addresses without user and password."""
    if isinstance(value, dict):
        return {key: _public(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_public(v) for v in value]
    return without_passwords(value) if isinstance(value, str) else value


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or "an address without a host"
    except ValueError:
        return "an address that cannot be read"


def tidy(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Settles at once what a killed run left: its runner calls this when the process is gone."""
    from flows import recover

    recover.settle_here()
