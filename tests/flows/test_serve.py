"""Finding out what answers at an address, without a server of our own."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from flows import deployments, processes, runner, serve, server
from tests.fakes import answering, stand_in
from vtcc.errors import VtccError


@pytest.fixture
def website(request: pytest.FixtureRequest) -> Iterator[str]:
    status, body = request.param

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/api"
        httpd.shutdown()


@pytest.mark.parametrize(
    ("website", "found"),
    [
        ((200, b"true"), True),
        ((401, b""), True),
        ((200, b"<html>"), False),
        ((404, b""), False),
    ],
    indirect=["website"],
)
def test_which_servers_are_prefects(website: str, found: bool) -> None:
    assert server.answers(website) is found


def test_a_port_that_speaks_no_http_is_no_prefect() -> None:
    with answering(b"SSH-2.0-OpenSSH_9.6\r\n") as port:
        assert not server.answers(f"http://127.0.0.1:{port}/api")


@pytest.mark.parametrize("website", [(404, b"")], indirect=True)
def test_a_port_in_use_is_one_clear_line(website: str, tmp_path: Path) -> None:
    with pytest.raises(VtccError, match=r"is in use; .*make serve PREFECT_PORT=\d+"):
        processes.start_server(website, tmp_path)
    assert not server.answers("http://127.0.0.1:9/api")


@pytest.mark.parametrize("website", [(200, b"true")], indirect=True)
def test_a_running_server_is_used(website: str, tmp_path: Path) -> None:
    assert processes.start_server(website, tmp_path) is None


def test_another_machines_server_is_not_started_here(tmp_path: Path) -> None:
    with pytest.raises(VtccError, match="PREFECT_API_URL: no Prefect server answers"):
        processes.start_server("http://127.0.0.2:9/api", tmp_path)


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert server.configured_url(tmp_path) == "http://127.0.0.1:4200/api"
    (tmp_path / "pyproject.toml").write_text('[tool.prefect.api]\nurl = "http://a:1/api/"\n')
    assert server.configured_url(tmp_path) == "http://a:1/api"
    assert server.api_url(4300) == "http://127.0.0.1:4300/api"
    monkeypatch.setenv("PREFECT_API_URL", "http://b:2/api/")
    assert server.configured_url(tmp_path) == "http://b:2/api"
    assert server.api_url(4300) == "http://b:2/api"


def test_what_dies_is_started_again_but_not_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve.Served(tmp_path, "http://127.0.0.1:9/api", 1)
    dead = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    dead.wait()
    started: list[int] = []
    for _ in range(serve.RESTARTS):
        served._again("the Prefect server", dead, lambda: started.append(1))
    assert len(started) == serve.RESTARTS
    assert "the Prefect server ended with status 3: starting it again" in capsys.readouterr().out
    with pytest.raises(VtccError, match="ended with status 3, 4 times in 10 minutes"):
        served._again("the Prefect server", dead, lambda: started.append(1))
    assert len(started) == serve.RESTARTS


def test_a_server_that_is_away_is_waited_for_and_a_failed_start_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = create_autospec(subprocess.Popen, instance=True)
    dead.poll.return_value = dead.returncode = 1
    served = serve.Served(tmp_path, "http://team.example:4200/api", 1)
    served._runner = dead
    served._died["flows.runner"] = [time.monotonic()] * serve.RESTARTS  # in outages before
    there = iter([False, False, False, True, True])
    slept = create_autospec(time.sleep)
    monkeypatch.setattr(serve.time, "sleep", slept)
    stand_in(monkeypatch, server, "answers", lambda url, timeout=5.0: next(there))
    starts = iter([VtccError("`flows.runner` ended with status 1"), KeyboardInterrupt()])

    def start(self: serve.Served) -> None:
        raise next(starts)

    stand_in(monkeypatch, serve.Served, "_start_runner", start)
    with pytest.raises(KeyboardInterrupt):
        served.watch()
    output = capsys.readouterr().out.splitlines()
    assert output == [
        "no Prefect server answers at http://team.example:4200/api: waiting for it; flow runs "
        "that are under way go on",
        "flows.runner ended with status 1: starting it again",
        "`flows.runner` ended with status 1; trying again",
        "flows.runner ended with status 1: starting it again",
    ]
    assert len(served._died["flows.runner"]) == 2
    pauses = [call.args[0] for call in slept.call_args_list]
    assert pauses == [0.5, 5.0, 5.0, 5.0, 5.0, 0.5]


def test_a_limit_that_was_set_in_prefect_outlives_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    process = create_autospec(subprocess.Popen, instance=True)

    def start(command: list[str], **given: Any) -> Any:
        commands.append(command)
        Path(command[command.index("--ready") + 1]).write_text("2")
        return process

    stand_in(monkeypatch, serve.subprocess, "Popen", start)
    served = serve.Served(tmp_path, "http://127.0.0.1:9/api", 1)
    served._start_runner()
    served._start_runner()
    assert [command[-2:] == ["--limit", "1"] for command in commands] == [True, False]
    assert served.limit == 2


def test_prefect_yaml_has_the_deployments_that_are_served() -> None:
    written = yaml.safe_load(deployments.FILE.read_text())
    found = {d["name"]: d for d in written["deployments"]}
    served = deployments.known()
    trains = {"train": True, "evaluate": False, "study": True, "sweep": True, "assign": False}
    trains["add"] = False
    assert {one.name: one.trains for one in served} == trains
    for one in served:
        entry = found[one.name]
        assert entry["entrypoint"] == f"flows/{one.name}.py:{one.flow.fn.__name__}"
        assert (one.flow.name, entry["description"]) == ("vtcc", one.description)
        assert entry["enforce_parameter_schema"] is True
        assert entry["work_pool"]["name"] == "vtcc"


@pytest.mark.parametrize(
    "when",
    [
        {"interval": 21600, "parameters": {"results": "photos-clusters"}},
        {"interval": 0.5, "slug": "often"},
        {"interval": "PT6H", "timezone": "Europe/Berlin"},
        {"interval": "06:00:00", "anchor_date": "2026-01-01T03:00:00Z"},
        {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "day_or": False, "active": False},
        {"rrule": "FREQ=DAILY;INTERVAL=2"},
    ],
)
def test_a_schedule_is_what_prefect_deploy_reads(
    when: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.cli.deploy._models import RawScheduleConfig
    from prefect.cli.deploy._schedules import _schedule_config_to_deployment_schedule

    written = yaml.safe_load(deployments.FILE.read_text())
    (entry,) = [d for d in written["deployments"] if d["name"] == "add"]
    entry["schedules"] = [when]
    monkeypatch.setattr(deployments, "FILE", tmp_path / "prefect.yaml")
    deployments.FILE.write_text(yaml.safe_dump({"deployments": [entry]}))
    (served,) = deployments.known()
    made = served.flow.to_deployment("add", schedules=served.schedules).schedules
    read = RawScheduleConfig(**when).model_dump(exclude_none=True)
    theirs = _schedule_config_to_deployment_schedule(read)
    ours, expected = made[0].schedule, theirs["schedule"]
    assert type(ours) is type(expected)
    for name in ("cron", "interval", "timezone", "day_or"):
        assert getattr(ours, name, None) == getattr(expected, name, None)
    if "rrule" in when:  # where it begins stands before it
        assert ours.rrule.endswith(f"\n{expected.rrule}")
    if "anchor_date" in when:
        assert ours.anchor_date == expected.anchor_date
    assert made[0].parameters == when.get("parameters", {})
    assert (made[0].active, made[0].slug) == (when.get("active", True), when.get("slug"))


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"interval": "often"}, "a schedule of add .*: interval Input should be a valid timedelta"),
        ({"every": 3600}, "'every' is unknown; allowed: interval, cron, rrule"),
        ({"parameters": {}}, "says no time; give cron, rrule or an interval above 0"),
        ({"cron": None}, "says no time"),
        ({"interval": 0}, "says no time"),
        ({"interval": "PT0S"}, r"a schedule of add \(.*PT0S.*\): .*interval"),
        ({"interval": -5}, ": interval Input should be greater than 0"),
        ({"interval": 3600, "timezone": "Mars/X"}, ": Value error, Invalid timezone: .Mars/X."),
        ({"cron": "0 3 * *"}, "cron .*0 3 "),
        ({"rrule": "FREQ=NEVER"}, ": Value error, Invalid RRule string .*NEVER"),
        ({"cron": "0 3 * * *", "interval": 1}, "Only one schedule type"),
        ("daily", "no mapping"),
    ],
)
def test_what_is_no_schedule_is_one_line(when: Any, message: str) -> None:
    with pytest.raises(VtccError, match=message):
        deployments._schedule("add", when)


@pytest.mark.parametrize(
    ("name", "description", "seconds", "refused"),
    [
        ("train", "the pipeline (desk:/b)", 2, True),
        ("train", "the pipeline (desk:/b)", 300, False),  # its `make serve` was stopped
        ("train", "the (b) pipeline (desk:/a (1))", 2, False),  # this very project
        ("train", "the pipeline (/a (1))", 2, False),  # of a version that named no machine
        ("train", "the pipeline (pool:/a (1))", 2, True),  # the same path of another machine
        ("train", "the pipeline", 2, False),  # of a work pool, by `prefect deploy`
        ("other", "the pipeline (desk:/b)", 2, False),
    ],
)
def test_two_projects_do_not_serve_the_same_deployments(
    name: str, description: str, seconds: int, refused: bool
) -> None:
    client = create_autospec(SyncPrefectClient, instance=True)
    polled = datetime.now(UTC) - timedelta(seconds=seconds)
    there = DeploymentResponse(
        id=uuid4(), flow_id=uuid4(), name=name, description=description, last_polled=polled
    )
    never = there.model_copy(update={"last_polled": None, "description": "never (desk:/c)"})
    client.read_deployments.return_value = [never, there]
    if refused:
        with pytest.raises(VtccError, match=r"vtcc/train is served from \S+:/(a \(1\)|b) on this"):
            runner.check_alone(client, {"train", "add"}, "desk:/a (1)")
    else:
        runner.check_alone(client, {"train", "add"}, "desk:/a (1)")
