"""What a killed DVC leaves locked never blocks the next one."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.runner.test_dvc import run
from vtcc.runner import locks


def entry(pid):
    return {"pid": pid, "cmd": "dvc repro train"}


@pytest.fixture
def rwlock(tmp_path):
    file = tmp_path / ".dvc/tmp/rwlock"
    file.parent.mkdir(parents=True)
    return file


def write(file, entries, *, age=0.0):
    file.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    then = time.time() - age
    os.utime(file, (then, then))


def test_entries_of_the_dead_and_of_strangers_go(tmp_path, rwlock):
    """A number that another process has got since: started later, or no Python at all."""
    alive = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stranger = subprocess.Popen(["sleep", "60"])
    dead = subprocess.Popen(["true"])
    dead.wait()
    try:
        held = {
            "write": {"/a": entry(alive.pid), "/b": entry(dead.pid), "/c": entry(stranger.pid)},
            "read": {"/d": [entry(dead.pid), entry(alive.pid)], "/e": [entry(stranger.pid)]},
        }
        write(rwlock, held)
        assert locks.release_stale_locks(tmp_path) == 4
        expected = {"write": {"/a": entry(alive.pid)}, "read": {"/d": [entry(alive.pid)]}}
        assert json.loads(rwlock.read_text()) == expected
        assert locks.release_stale_locks(tmp_path) == 0
        # Written an hour before that process was started.
        write(rwlock, expected, age=3600)
        assert locks.release_stale_locks(tmp_path) == 2
        assert json.loads(rwlock.read_text()) == {"write": {}, "read": {}}
    finally:
        for process in (alive, stranger):
            process.kill()
            process.wait()


def test_a_file_that_was_cut_off_in_writing_goes(tmp_path, rwlock):
    write(rwlock, '{"write": {"/a": {"pid": 1')
    assert locks.release_stale_locks(tmp_path) == 1
    assert not rwlock.exists()
    assert locks.release_stale_locks(tmp_path) == 0


def test_a_stage_runs_over_what_a_killed_dvc_left(project):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (project / ".dvc/tmp").mkdir(exist_ok=True)
        file = project / ".dvc/tmp/rwlock"
        write(file, {"write": {str(project / "data/raw"): entry(stranger.pid)}, "read": {}})
        assert run(project, "download", wait_busy=0)[0].how == "ran"
    finally:
        stranger.kill()
        stranger.wait()
