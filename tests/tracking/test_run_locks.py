"""Runs whose process is gone do not stay RUNNING."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import stand_in
from tests.tracking import toy
from vtcc import paths
from vtcc.tracking import evaluations, run_locks, runs, store


@pytest.fixture(autouse=True)
def nothing_else(here):
    """What trainings of other tests left open is none of these tests' business."""
    for path in (here / ".vtcc" / "runs").glob("*.lock"):
        path.unlink()


def start(cache, resumed=None):
    tracker = runs.TrainingRun(params=toy.params(), cache=cache)
    tracker.on_start({"parameters": 1, "resumed_run_id": resumed})
    return tracker


def die(tracker):
    """What the kernel does for a process that is killed."""
    tracker._run_lock._mark._lock.release()


def status(client, run_id):
    return client.get_run(run_id).info.status


def test_a_killed_run_is_ended_once_and_a_living_one_left_alone(client, cache, here, capsys):
    dead, living = start(cache), start(cache)
    dead.on_epoch(1, {"loss": 3.0})
    die(dead)
    assert run_locks.close_abandoned(here) == [dead.run_id]
    assert f"ended 1 run whose process is gone: {dead.run_id}" in capsys.readouterr().out
    assert status(client, dead.run_id) == "KILLED"
    (last,) = client.get_metric_history(dead.run_id, "loss")
    assert client.get_run(dead.run_id).info.end_time == last.timestamp
    assert status(client, living.run_id) == "RUNNING"
    assert run_locks.close_abandoned(here) == []
    living.on_end("FINISHED", [], None)
    assert status(client, living.run_id) == "FINISHED"
    assert list((here / ".vtcc" / "runs").iterdir()) == []


def test_going_on_reopens_the_run_and_it_finishes(client, cache, here):
    dead = start(cache)
    die(dead)
    assert run_locks.close_abandoned(here) == [dead.run_id]
    again = start(cache, dead.run_id)
    assert again.run_id == dead.run_id
    assert status(client, dead.run_id) == "RUNNING"
    assert run_locks.ABANDONED not in client.get_run(dead.run_id).data.tags
    assert run_locks.close_abandoned(here) == []
    again.on_end("FINISHED", [], None)
    assert status(client, dead.run_id) == "FINISHED"


def test_the_next_training_ends_what_was_killed(client, cache, here):
    dead = start(cache)
    die(dead)
    other = start(cache)
    assert status(client, dead.run_id) == "KILLED"
    third = start(cache, dead.run_id)  # the same training goes on: not ended by itself
    assert status(client, dead.run_id) == "RUNNING"
    for tracker in (other, third):
        tracker.on_end("FINISHED", [], None)


def test_a_finished_training_taken_for_killed_is_completed_by_evaluate(
    client, here, cache, monkeypatch
):
    tracker = start(cache)

    def away(*args, **kwargs):
        raise ConnectionError("server went away")

    with monkeypatch.context() as patch:
        for name in ("log_batch", "log_text", "set_terminated"):
            stand_in(patch, tracker._client, name, away)
        tracker.on_epoch(1, {"loss": 3.0})
        tracker.on_end("FINISHED", [], None)
    die(tracker)
    assert run_locks.close_abandoned(here) == [tracker.run_id]
    paths.CURVES.parent.mkdir(exist_ok=True)
    paths.CURVES.write_text("epoch,loss\n1,3\n")
    try:
        evaluations.log_evaluation(tracker.record(), {"evaluate.seed": 0}, {"acc": 0.5})
    finally:
        paths.CURVES.unlink()
    assert status(client, tracker.run_id) == "FINISHED"
    assert [m.value for m in client.get_metric_history(tracker.run_id, "loss")] == [3.0]
    assert run_locks.ABANDONED not in client.get_run(tracker.run_id).data.tags


def test_runs_of_another_store_wait_until_it_is_used_again(client, cache, here, monkeypatch):
    dead = start(cache)
    die(dead)
    with monkeypatch.context() as patch:
        stand_in(patch, store, "public_uri", lambda uri=None: "http://elsewhere")
        assert run_locks.close_abandoned(here) == []
    assert status(client, dead.run_id) == "RUNNING"
    assert run_locks.close_abandoned(here) == [dead.run_id]


def test_a_store_that_is_away_is_noted_and_tried_again(client, cache, here, monkeypatch, capsys):
    from vtcc.errors import VtccError

    dead = start(cache)
    die(dead)

    def away():
        raise VtccError("no route to host")

    with monkeypatch.context() as patch:
        stand_in(patch, store, "client", away)
        assert run_locks.close_abandoned(here) == []
    assert "stay open for now (no route to host)" in capsys.readouterr().out
    assert run_locks.close_abandoned(here) == [dead.run_id]


def test_the_file_tells_nothing_of_the_machine(cache, here):
    tracker = start(cache)
    (file,) = (here / ".vtcc" / "runs").iterdir()
    assert file.read_text().strip() == store.public_uri()
    assert file.stem == tracker._run_lock.tags[run_locks.HOLDER]
    assert len(file.stem) == 32
    tracker.on_end("FINISHED", [], None)


def test_nothing_killed_costs_no_import(elsewhere):
    code = "import sys\nfrom vtcc.tracking.run_locks import close_abandoned\nclose_abandoned()\n"
    code += "sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_kill_9_in_mid_training(client, here):
    code = (
        "import time\n"
        "from tests.tracking import toy\n"
        "from vtcc import paths\n"
        "from vtcc.data.cache import open_cache\n"
        "from vtcc.tracking import runs\n"
        "tracker = runs.TrainingRun(params=toy.params(), cache=open_cache(paths.CACHE))\n"
        "print(tracker.on_start({'parameters': 1, 'resumed_run_id': None}), flush=True)\n"
        "time.sleep(600)\n"
    )
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    )
    try:
        run_id = process.stdout.readline().strip()
        assert run_locks.close_abandoned(here) == []
        assert status(client, run_id) == "RUNNING"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert run_locks.close_abandoned(here) == [run_id]
    assert status(client, run_id) == "KILLED"
