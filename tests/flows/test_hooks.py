"""Hooks as Prefect's own runner calls them: by keyword, after a crash and on cancellation."""

import asyncio
import logging
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.runner._hook_runner import HookRunner

from flows import deployments, recover
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
