"""`make serve` as users run it, in a clone: real stages, real kills. Minutes."""

import contextlib
import datetime
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows import server
from tests.browser import Browser
from tests.runner import toy

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FINAL = {"Completed", "Failed", "Crashed", "Cancelled"}


class Live:
    """A clone with a server of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "project"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.log = directory / "serve.log"
        own = {
            "PREFECT_HOME": str(directory / "prefect"),
            "PREFECT_API_URL": self.url,
            "PYTHONPATH": str(self.directory),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        foreign = ("VTCC_HOME", "MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE")
        self.env = {k: v for k, v in os.environ.items() if k not in foreign} | own
        self.process: subprocess.Popen | None = None

    def clone(self) -> None:
        toy.git(ROOT, "clone", "-q", str(ROOT), str(self.directory))
        if edits := toy.git(ROOT, "diff", "HEAD", "--binary"):
            patch = self.directory.with_name("edits.patch")
            patch.write_text(edits + "\n")
            toy.git(self.directory, "apply", str(patch))
        short = ["--set", "train.epochs=2", "--set", "evaluate.baselines=[kmeans_pixels]"]
        self.run("vtcc", "use", "digits", *short)
        toy.git(self.directory, "add", "-A")
        toy.git(self.directory, "commit", "-qm", "two epochs")

    def serve(self) -> float:
        """Starts it; seconds until runs are accepted."""
        started = time.monotonic()
        with self.log.open("ab") as out:
            size = out.tell()
            command = [sys.executable, "-m", "flows.serve", "--port", str(self.port)]
            self.process = subprocess.Popen(
                [*command, "--limit", "2"],
                cwd=self.directory,
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(lambda: "Ctrl-C stops" in self.log.read_text()[size:], 120)
        return time.monotonic() - started

    def run(self, *command: str, status: int = 0) -> str:
        words = [sys.executable, "-m", *command]
        done = subprocess.run(
            words,
            cwd=self.directory,
            env=self.env | {"COLUMNS": "200"},  # tables are cut to it
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def submit(self, **parameters: Any) -> str:
        """The flow run's id."""
        words = [f"{key}={json.dumps(value)}" for key, value in parameters.items()]
        given = [part for word in words for part in ("--param", word)]
        said = self.run("prefect", "deployment", "run", "vtcc/train", *given)
        return said.partition("UUID:")[2].split()[0]

    def flow(self, identifier: str) -> dict[str, Any]:
        wanted = {"flow_runs": {"id": {"any_": [identifier]}}}
        (found,) = self.ask("/flow_runs/filter", wanted)
        return found

    def ask(self, path: str, wanted: dict[str, Any]) -> Any:
        answer = httpx.post(f"{self.url}{path}", json=wanted, timeout=30)
        return answer.raise_for_status().json()

    def state(self, identifier: str) -> str:
        return self.flow(identifier)["state"]["name"]

    def ends(self, identifier: str, seconds: float = 400) -> str:
        until(lambda: self.state(identifier) in FINAL, seconds)
        return self.state(identifier)

    def trains(self, seed: int) -> psutil.Process:
        """The process of a training that has written a checkpoint."""

        def found() -> psutil.Process | None:
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    inside = Path(process.cwd()).is_relative_to(self.directory / ".vtcc")
                    if inside and process.cmdline()[-2:] == ["vtcc", "train"]:
                        saved = list((self.directory / ".vtcc/scratch").glob("*/last.pt"))
                        return process if saved and self.epochs(seed) > 0 else None
            return None

        return until(found, 200)

    def epochs(self, seed: int) -> int:
        query = (
            "select max(m.step) from latest_metrics m join runs r on r.run_uuid = m.run_uuid "
            f"where m.key = 'cluster_loss' and r.name = 'digits seed {seed}'"
        )
        return (self.store(query) or [(0,)])[0][0] or 0

    def store(self, query: str) -> list[Any]:
        if not (self.directory / "mlflow.db").is_file():
            return []
        with contextlib.closing(sqlite3.connect(self.directory / "mlflow.db")) as opened:
            return opened.execute(query).fetchall()

    def tracked(self, seed: int) -> list[str]:
        """Statuses of the MLflow runs of a seed's training."""
        found = self.store(f"select status from runs where name = 'digits seed {seed}'")
        return [status for (status,) in found]

    def family(self) -> list[psutil.Process]:
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def left(self) -> list[Path]:
        """What only a run in progress has."""
        state = self.directory / ".vtcc"
        return [*state.glob("worktrees/*"), *state.glob("flow-runs/*"), *state.glob("runs/*.lock")]


def until(found: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    one = Live(tmp_path_factory.mktemp("live"))
    one.clone()
    print(f"ready in {one.serve():.1f} s")
    yield one
    assert one.process is not None
    family = one.family()
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(60) == 0
    assert not any(process.is_running() for process in family)


def test_a_run_from_submission_to_experiment(live: Live) -> None:
    before = toy.git(live.directory, "status", "--short")
    given = ["--param", "seed=1", "--param", 'tags={"why": "test"}', "--watch"]
    live.run("prefect", "deployment", "run", "vtcc/train", *given)
    (name,) = live.run("dvc", "exp", "list", "--name-only").split()
    assert name.startswith("digits-params-seed1-")
    assert toy.git(live.directory, "status", "--short") == before
    tag = "select value from model_version_tags where key = 'dvc_experiment'"
    assert live.store(tag) == [(name,)]
    assert live.tracked(1) == ["FINISHED"]
    again = live.submit(seed=1)
    assert live.ends(again) == "Completed"
    wanted = {"flow_runs": {"id": {"any_": [again]}}}
    tasks = live.ask("/task_runs/filter", wanted)
    cached = {t["name"].rpartition("-")[0] for t in tasks if t["state"]["name"] == "Cached"}
    assert cached == {"download", "validate", "embed", "train", "evaluate"}
    assert live.run("dvc", "exp", "list", "--name-only").split() == [name]
    assert again in live.run("prefect", "flow-run", "ls", "--flow-name", "vtcc")
    for wrong in ('overrides={"train.epoch": 2}', 'overrides={"train.epochs": "x"}', "preset=no"):
        refused = ["prefect", "deployment", "run", "vtcc/train", "--param", wrong]
        assert "Validation failed" in live.run(*refused, status=1)


def test_the_pages_of_a_flow_run(live: Live, tmp_path: Path) -> None:
    """Screenshots are kept in $VTCC_SCREENSHOTS when it is set."""
    run = live.submit(seed=1)
    assert live.ends(run) == "Completed"
    name = live.flow(run)["name"]
    pages = f"http://127.0.0.1:{live.port}"
    with Browser(Path(os.environ.get("VTCC_SCREENSHOTS", tmp_path))) as browser:
        page = f"{pages}/runs/flow-run/{run}"
        browser.look(page, "flow-run", (name, "Completed", "evaluate"))
        shown = ("vtcc-scores", "vtcc-mlflow", "vtcc-confusion", "vtcc-gallery")
        browser.look(page, "flow-run-artifacts", (name, *shown), press="Artifacts")
        browser.look(f"{pages}/deployments", "deployments", ("train", "sweep", "assign"))


def test_three_at_once_keep_the_limit_and_do_not_meet(live: Live) -> None:
    ids = [live.submit(seed=seed, group="three") for seed in (11, 12, 13)]
    assert [live.ends(one, 600) for one in ids] == ["Completed"] * 3
    runs = [live.flow(one) for one in ids]
    changes = [(when(run[key]), step) for run in runs for key, step in EDGES]
    at_once, most = 0, 0
    for _, step in sorted(changes):
        at_once += step
        most = max(most, at_once)
    assert most == 2
    parents = (
        "select distinct t.value from tags t join runs r on r.run_uuid = t.run_uuid where "
        "t.key = 'mlflow.parentRunId' and r.name in "
        "('digits seed 11', 'digits seed 12', 'digits seed 13')"
    )
    assert len(live.store(parents)) == 1
    assert [live.tracked(seed) for seed in (11, 12, 13)] == [["FINISHED"]] * 3


EDGES = (("start_time", 1), ("end_time", -1))


def when(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def test_cancelling_leaves_a_checkpoint_and_nothing_else(live: Live) -> None:
    run = live.submit(seed=21, overrides={"train.epochs": 30})
    training = live.trains(21)
    started = time.monotonic()
    live.run("prefect", "flow-run", "cancel", run)
    assert live.ends(run, 40) == "Cancelled"
    assert time.monotonic() - started < 25
    assert not training.is_running()
    assert live.left() == []
    assert live.tracked(21) == ["KILLED"]
    assert "worktrees" not in toy.git(live.directory, "worktree", "list")
    size = live.log.stat().st_size
    live.run("prefect", "flow-run", "retry", run)
    until(lambda: "resuming at step" in live.log.read_text()[size:], 200)
    # Another training, the server killed under it.
    (killed,) = [p for p in live.family() if "uvicorn" in p.cmdline() or "server" in p.cmdline()][
        :1
    ]
    killed.kill()
    until(lambda: server.answers(live.url), 60)
    assert live.ends(run) == "Completed"
    assert live.tracked(21) == ["FINISHED"]


def test_everything_killed_at_once(live: Live) -> None:
    run = live.submit(seed=31, overrides={"train.epochs": 30})
    training = live.trains(31)
    for process in [*live.family(), training]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert live.process is not None
    live.process.wait()
    until(lambda: not training.is_running(), 20)
    live.serve()
    assert live.state(run) == "Crashed"
    assert live.tracked(31) == ["KILLED"]
    assert live.left() == []
    size = live.log.stat().st_size
    live.run("prefect", "flow-run", "retry", run)
    assert live.ends(run) == "Completed"
    assert "resuming at step" in live.log.read_text()[size:]
    assert live.tracked(31) == ["FINISHED"]
