"""`make soak`'s requests by the description of the routes."""

import re

import pytest

from benchmarks import openapi
from tests.benchmarks.test_hostile import ran


def finished(route, *statuses):
    answers = [{"response": status and {"status_code": status}} for status in statuses]
    interactions = dict(enumerate(answers))
    return {"ScenarioFinished": {"recorder": {"label": route, "interactions": interactions}}}


def test_answers_are_counted_by_route_and_status():
    events = [
        {"PhaseStarted": {}},
        {"ScenarioFinished": {"recorder": {"label": "GET /a"}}},
        finished("GET /a", 200, 405),
        finished("POST /b", 400, None),
        finished("GET /a", 200),
    ]
    assert openapi.statuses(events) == {
        "GET /a": {200: 2, 405: 1},
        "POST /b": {400: 1, "none": 1},
    }


def test_failures_errors_and_routes_that_nobody_asked_are_wrong():
    operations = {"total": 6, "tested": 6}
    good = {"failures": [], "errors": [], "operations": operations}
    assert openapi.failed(good) == []
    error = {"title": "Server error", "operations": ["GET /a", "POST /b"]}
    assert openapi.failed(good | {"failures": [error]}) == ["Server error: GET /a, POST /b"]
    unsent = {"title": "Connection failed", "count": 3}
    assert openapi.failed(good | {"errors": [unsent]}) == ["Connection failed, 3 times"]
    half = good | {"operations": {"total": 6, "tested": 5}}
    assert openapi.failed(half) == ["5 of 6 routes were asked"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not openapi.PACKAGES.is_dir(), reason="`make soak` installs schemathesis")
def test_some_requests_by_the_description():
    said = ran("benchmarks.openapi", "--minutes", "0.25", seconds=800)
    assert re.search(r"^POST /invocations +\d+  .*200: \d+", said, re.M)
    assert re.search(r"^requests: \d{2,}, failures: 0$", said, re.M)
