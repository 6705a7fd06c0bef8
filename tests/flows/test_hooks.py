"""Hooks as Prefect's own runner calls them: by keyword, after a crash and on cancellation."""

import asyncio
import logging
from unittest.mock import create_autospec
from uuid import uuid4

import httpx
import pytest
from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.runner._hook_runner import HookRunner

from flows import deployments, hooks, recover
from tests.fakes import stand_in


def run_hooks(flow, state: State) -> None:
    async def resolve(flow_run: FlowRun):
        return flow

    runner = HookRunner(resolve_flow=resolve)
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="some run")
    ran = runner.run_crashed_hooks if state.is_crashed() else runner.run_cancellation_hooks
    asyncio.run(ran(flow_run, state))


@pytest.mark.parametrize("kind", [StateType.CRASHED, StateType.CANCELLING])
@pytest.mark.parametrize("deployment", deployments.known(), ids=lambda d: d.name)
def test_what_a_killed_run_left_is_settled_by_prefects_runner(
    deployment, kind, monkeypatch, caplog
) -> None:
    settled = stand_in(monkeypatch, recover, "settle_here", lambda: [])
    logger = logging.getLogger("prefect.flow_runs")
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.INFO, logger="prefect.flow_runs"):
        run_hooks(deployment.flow, State(type=kind))
    errors = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert [(r.getMessage(), r.exc_info) for r in errors] == []
    settled.assert_called_once_with()


@pytest.mark.parametrize(
    ("address", "answer", "line"),
    [
        (
            "https://hooks.example/services/S3CRET",
            403,
            "VTCC_WEBHOOK at hooks.example: HTTP status 403",
        ),
        (
            "https://ann:S3CRET@hooks.example/S3CRET",
            httpx.ConnectError("no route to https://hooks.example/S3CRET"),
            "VTCC_WEBHOOK at hooks.example: ConnectError",
        ),
        (
            "S3CRET",
            httpx.UnsupportedProtocol("'S3CRET' lacks http://"),
            "VTCC_WEBHOOK at an address without a host: UnsupportedProtocol",
        ),
        (
            "http://[S3CRET",
            httpx.InvalidURL("http://[S3CRET"),
            "VTCC_WEBHOOK at an address that cannot be read: InvalidURL",
        ),
    ],
)
def test_a_webhooks_address_is_not_in_the_log(address, answer, line, monkeypatch, caplog) -> None:
    def post(url, **given):
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, request=httpx.Request("POST", url))

    stand_in(monkeypatch, httpx, "post", post)
    monkeypatch.setenv("VTCC_WEBHOOK", address)
    monkeypatch.setattr(logging.getLogger("prefect.vtcc"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", True)
    flow = create_autospec(Flow, instance=True)
    flow.name = "vtcc"
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="some run")
    hooks.tell(flow, flow_run, State(type=StateType.FAILED))
    assert [record.getMessage() for record in caplog.records] == [line]


def test_a_webhook_gets_no_password_of_the_run(monkeypatch) -> None:
    def post(url, **given):
        return httpx.Response(200, request=httpx.Request("POST", url))

    posted = stand_in(monkeypatch, httpx, "post", post)
    monkeypatch.setenv("VTCC_WEBHOOK", "https://hooks.example/S3CRET")
    flow = create_autospec(Flow, instance=True)
    flow.name = "vtcc"
    given = {
        "overrides": {"download.mirror": "https://ann:secret@host/x", "train.epochs": 2},
        "tags": ["http://token@host"],
    }
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="some run", parameters=given)
    failed = State(type=StateType.FAILED, message="GET https://ann:secret@host/x: 403")
    hooks.tell(flow, flow_run, failed)
    (call,) = posted.call_args_list
    assert call.kwargs["json"] == {
        "text": "some run: Failed (GET https://host/x: 403)",
        "flow": "vtcc",
        "flow_run": "some run",
        "flow_run_id": str(flow_run.id),
        "state": "Failed",
        "message": "GET https://host/x: 403",
        "parameters": {
            "overrides": {"download.mirror": "https://host/x", "train.epochs": 2},
            "tags": ["http://host"],
        },
    }
