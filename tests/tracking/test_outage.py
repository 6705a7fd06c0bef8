"""A real MLflow server that goes away in the middle of a training and comes back."""

import os
import socket
import subprocess
import sys
import time

import pytest
import requests

from tests.tracking import toy
from vtcc.data.cache import open_cache
from vtcc.errors import VtccError
from vtcc.tracking import evaluations, runs, store

pytestmark = pytest.mark.slow


class Server:
    """`mlflow server` on a port of its own, with what it keeps in a directory."""

    def __init__(self, directory):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.directory, self.uri = directory, f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        store_uri = f"sqlite:///{self.directory}/server.db"
        command = ["-m", "mlflow", "server", "--backend-store-uri", store_uri]
        command += ["--artifacts-destination", str(self.directory / "files")]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--port", str(self.port), "--workers", "1"],
            cwd=self.directory,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(240):
            try:
                if requests.get(f"{self.uri}/health", timeout=5).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.5)
        raise AssertionError("the server did not start")

    def kill(self):
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(elsewhere, monkeypatch):
    toy.project(elsewhere)
    made = Server(elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    monkeypatch.setattr(runs, "_PAUSE_SECONDS", 0.0)
    try:
        yield made
    finally:
        made.kill()


@pytest.mark.timeout(900)
def test_a_server_that_goes_and_comes_back_has_every_figure(server, elsewhere, capsys):
    cache = open_cache(elsewhere / "data/cache")
    tracker = runs.TrainingRun(params=toy.params(), cache=cache)
    start = {"parameters": 1, "resumed_run_id": None, "curves": []}
    # At the start a store is required: a training that nobody can find is of no use.
    with pytest.raises(VtccError, match=f"MLflow store {server.uri}: .*start that server, or"):
        tracker.on_start(start)
    server.start()
    tracker.on_start(start)
    slowest = 0.0
    for epoch in range(1, 10):
        if epoch == 3:
            server.kill()
        if epoch == 6:
            server.start()
        began = time.monotonic()
        tracker.on_epoch(epoch, {"loss": 1.0 / epoch, "rate": 5.0})
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 25, "an outage must not hold up a training"
    server.kill()
    tracker.on_epoch(10, {"loss": 0.1, "rate": 5.0})
    tracker.on_end("FINISHED", [], None)
    assert "evaluate sends what it lacks" in capsys.readouterr().out
    (elsewhere / "reports").mkdir(exist_ok=True)
    rows = "".join(f"{e},{1 / e},5\n" for e in range(1, 11))
    (elsewhere / "reports/curves.csv").write_text(f"epoch,loss,rate\n{rows}")
    server.start()
    evaluations.log_evaluation(tracker.record(), {"evaluate.seed": 0}, {"acc": 0.5})
    client = store.client()
    for name in ("loss", "rate"):
        steps = [m.step for m in client.get_metric_history(tracker.run_id, name)]
        assert steps == list(range(1, 11)), name
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
