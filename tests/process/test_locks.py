"""Locks and marks between processes: alone, never met unlocked, never lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from vtcc.process import locks

TOP = Path(__file__).parents[2]
PROC = Path("/proc/.vtcc.lock")  # nobody can make it, and the kernel says "no such file"

# Each round takes the lock, in which a plain counter is read and written, and makes a mark that
# all others must find alive from the moment it is there. An abandoned mark is a wrong verdict.
WORKER = """
import sys
from pathlib import Path
from vtcc.process import locks

room, me, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
counter = room / "counter"
for i in range(rounds):
    mark = locks.Mark(room / "marks" / f"{me}-{i}.lock", me)
    with locks.abandoned(room / "marks") as left:
        for one in left:
            print("wrong verdict", one.path.name, repr(one.text), flush=True)
            one.remove()
    assert me in locks.alive(room / "marks")
    with locks.exclusive(room / "alone.lock"):
        counter.write_text(str(int(counter.read_text() or 0) + 1))
    try:
        with locks.exclusive(room / "brief.lock", wait=False, keep=False):
            (room / "inside").mkdir()  # fails where another is inside too
            (room / "inside").rmdir()
    except locks.BusyError:
        pass
    mark.remove()
"""


def stress(room: Path, processes: int, rounds: int) -> None:
    (room / "counter").write_text("0")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(room), str(number), str(rounds)],
            cwd=TOP,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]
    said = [worker.communicate()[0] for worker in workers]
    assert said == [""] * processes
    assert [worker.returncode for worker in workers] == [0] * processes
    assert (room / "counter").read_text() == str(processes * rounds)
    assert list((room / "marks").iterdir()) == []


def test_no_wrong_verdict_between_processes(tmp_path: Path) -> None:
    stress(tmp_path, processes=4, rounds=25)


@pytest.mark.slow
def test_no_wrong_verdict_between_eight_processes(tmp_path: Path) -> None:
    stress(tmp_path, processes=8, rounds=200)


def test_a_killed_process_leaves_its_mark_with_what_it_wrote(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from vtcc.process import locks\n"
        "mark = locks.Mark(Path(sys.argv[1]), 'first, and much longer'); mark.write('last')\n"
        "os._exit(9)"
    )
    path = tmp_path / "room" / "a.lock"
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=TOP)
    assert done.returncode == 9
    assert not locks.alive(path.parent)
    with locks.abandoned(path.parent) as left:
        assert [(one.path, one.text) for one in left] == [(path, "last")]
    with locks.abandoned(path.parent) as left:  # nothing was settled
        assert len(left) == 1
        left[0].remove()
    assert list(path.parent.iterdir()) == []


def test_a_mark_that_was_settled_meanwhile_is_not_made_anew(tmp_path: Path, monkeypatch) -> None:
    gone = tmp_path / "gone.lock"
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [gone])
    with locks.abandoned(tmp_path) as left:
        assert left == []
    assert not locks.alive(tmp_path)
    assert not gone.exists()


def test_who_waits_is_told_and_who_does_not_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "a.lock"
    told: list[str] = []
    with (
        locks.exclusive(lock, on_wait=lambda: told.append("waits")),
        pytest.raises(locks.BusyError),
        locks.exclusive(lock, wait=False),
    ):
        pass
    assert told == [] and lock.exists()
    with locks.exclusive(lock, keep=False):
        pass
    assert not lock.exists()
    with locks.exclusive(lock, nests=True), locks.exclusive(lock, nests=True):
        pass


def test_no_lock_is_taken_by_hand() -> None:
    """One room for them: flock and filelock are used by `vtcc.process` alone."""
    files = [*(TOP / "vtcc").rglob("*.py"), *(TOP / "flows").rglob("*.py")]
    own = [f for f in files if "fcntl" in (text := f.read_text()) or "filelock" in text]
    assert [f.relative_to(TOP).as_posix() for f in own] == ["vtcc/process/locks.py"]
    group = [f for f in files if "killpg" in f.read_text()]
    assert [f.relative_to(TOP).as_posix() for f in group] == ["vtcc/process/groups.py"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no place that takes no file")
@pytest.mark.parametrize("wait", [True, False])
def test_a_place_that_takes_no_file_is_not_taken_for_a_held_lock(wait: bool) -> None:
    with pytest.raises(OSError, match="/proc") as caught, locks.exclusive(PROC, wait=wait):
        pass
    assert not isinstance(caught.value, TimeoutError)
    assert caught.value.strerror
