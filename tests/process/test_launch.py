import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vtcc import config
from vtcc.errors import VtccError
from vtcc.process import launch

START = (
    "import sys; from vtcc.process import launch; launch.run([sys.executable, *sys.argv[2:]], 3)"
)


def environment():
    dropped = ("RANK", "WORLD_SIZE", launch.LAUNCHER, launch.PROCESSES)
    env = {k: v for k, v in os.environ.items() if k not in dropped}
    return env | {"PYTHONPATH": str(config.PRESETS.parents[1])}


def launched(code, *args, **options):
    """Three processes of `code`, by a launcher of its own."""
    command = [sys.executable, "-c", START, "-", "-c", code, *map(str, args)]
    return subprocess.Popen(command, env=environment(), text=True, **options)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie waits for its reaper only.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_every_process_knows_its_rank_and_where_to_meet(tmp_path):
    code = (
        "import json, os, sys, pathlib; e = os.environ; "
        "pathlib.Path(sys.argv[1], e['RANK']).write_text(json.dumps(dict(e)))"
    )
    assert launched(code, tmp_path).wait(30) == 0
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    for rank, env in enumerate(found):
        assert env["RANK"] == env["LOCAL_RANK"] == str(rank)
        assert env["WORLD_SIZE"] == env["LOCAL_WORLD_SIZE"] == "3"
        assert env["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
    assert len({env[launch.RENDEZVOUS] for env in found}) == 1
    assert not Path(found[0][launch.RENDEZVOUS]).parent.exists()


@pytest.mark.parametrize(("statuses", "expected"), [("0,0,7", 7), ("3,0,7", 3), ("-9,0,0", 137)])
def test_the_status_is_that_of_rank_0_or_of_the_one_that_failed(statuses, expected):
    code = (
        "import os, sys; s = int(sys.argv[1].split(',')[int(os.environ['RANK'])]); "
        "os.kill(os.getpid(), -s) if s < 0 else sys.exit(s)"
    )
    assert launched(code, statuses).wait(30) == expected


def test_one_that_failed_ends_those_that_would_wait_for_ever(monkeypatch):
    monkeypatch.setattr(launch, "ASK_AFTER", 0.2)
    monkeypatch.setattr(launch, "KILL_AFTER", 0.6)
    code = (
        "import os, signal, sys, time; rank = os.environ['RANK']; rank == '2' and sys.exit(5); "
        "rank == '1' and signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    )
    started = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        launch.run([sys.executable, "-c", code], 3)
    assert stop.value.code in (137, 143)  # rank 0, as it was ended
    assert time.monotonic() - started < 20


WAITING = """
import os, pathlib, signal, sys, time
from vtcc.process import stopping
stopping.follow_launcher()
got = []
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda n, _: got.append(n))
mine = pathlib.Path(sys.argv[1], os.environ["RANK"])
mine.write_text(str(os.getpid()))
while not got:
    time.sleep(0.02)
time.sleep(0.3)
mine.with_suffix(".got").write_text(str(len(got)))
sys.exit(130)
"""


def pids(place):
    """The processes' numbers, once all are there."""

    def there():
        return all((place / str(r)).exists() and (place / str(r)).read_text() for r in range(3))

    wait_for(there)
    return [int((place / str(rank)).read_text()) for rank in range(3)]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_group_reaches_every_process_once(tmp_path, signum):
    process = launched(WAITING, tmp_path, start_new_session=True)
    pids(tmp_path)
    os.killpg(process.pid, signum)
    assert process.wait(30) == 130
    assert [(tmp_path / f"{rank}.got").read_text() for rank in range(3)] == ["1"] * 3


def test_nothing_goes_on_when_the_launcher_is_killed(tmp_path):
    process = launched(WAITING, tmp_path)
    started = pids(tmp_path)
    process.kill()
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in started), 10)


def test_how_many_processes_are_wanted(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", launch.PROCESSES):
        monkeypatch.delenv(name, raising=False)
    assert (launch.wanted(), launch.wanted(3)) == (1, 3)
    monkeypatch.setenv(launch.PROCESSES, "4")
    assert (launch.wanted(), launch.wanted(3)) == (4, 3)
    for wrong in ("0", "two", "-1"):
        monkeypatch.setenv(launch.PROCESSES, wrong)
        with pytest.raises(VtccError, match=f"VTCC_PROCESSES: found '{wrong}'"):
            launch.wanted()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launch.wanted() == 1
    assert launch.wanted(2) == 1
    with pytest.raises(VtccError, match="--processes 3: started by another launcher"):
        launch.wanted(3)
