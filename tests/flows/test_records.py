"""Which flow runs of this machine are dead, told by a lock; places that living ones hold."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from flows import limits, records
from tests.fakes import stand_in
from vtcc.process.stopping import RUNNER

HOLD = """
import sys, time, pathlib
from flows import records
with records.held(pathlib.Path(sys.argv[1]), "a", "http://x/api") as held:
    held.write("lease")
    print("held", flush=True)
    time.sleep(60)
"""


def dead(home: Path, server: str | None) -> list[records.Record]:
    with records.dead(home, server) as found:
        return list(found)


def test_a_killed_process_leaves_its_record_and_a_living_one_is_not_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert dead(tmp_path, "http://x/api") == []
    finally:
        process.kill()
        process.wait()
    assert dead(tmp_path, "http://other/api") == []  # not ours to settle
    assert dead(tmp_path, "http://x/api") == [records.Record("a", "http://x/api", "lease")]
    assert dead(tmp_path, "http://x/api") == []


def test_a_record_is_gone_with_its_block(tmp_path: Path) -> None:
    with records.held(tmp_path, "b"):
        assert (tmp_path / records.DIRECTORY / "b.json").is_file()
    assert list((tmp_path / records.DIRECTORY).iterdir()) == []


def test_what_could_not_be_settled_stays(tmp_path: Path) -> None:
    file = tmp_path / records.DIRECTORY / "c.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")  # killed while writing
    try:
        with records.dead(tmp_path) as found:
            assert found == [records.Record("c")]
            raise RuntimeError
    except RuntimeError:
        pass
    assert file.exists()
    assert dead(tmp_path, None) == [records.Record("c")]
    assert not file.exists()


@pytest.mark.parametrize(
    ("limit", "asked", "refused", "held"),
    [
        ([1], 1, 0, [1]),
        ([2], 4, 0, [2]),
        ([0, 0, 1], 1, 0, [1]),  # a pause
        ([4, 1, 1], 4, 1, [4, 1]),  # made lower while it waited
        ([1, 0, 0, 2], 3, 1, [1, 2]),  # a pause that began while it waited
    ],
)
def test_places_are_waited_for_whatever_becomes_of_the_limit(
    limit: list[int],
    asked: int,
    refused: int,
    held: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, slots = iter(limit), create_autospec(limits.concurrency)
    error = limits.ConcurrencySlotAcquisitionError("more than the limit")
    slots.side_effect = [error] * refused + [contextlib.nullcontext()]
    monkeypatch.setattr(limits, "concurrency", slots)
    monkeypatch.setattr(limits.time, "sleep", create_autospec(time.sleep))
    stand_in(monkeypatch, limits, "ensure", lambda limit=None: next(left))
    record = create_autospec(records.LiveRecord, instance=True)
    with limits.place(record, asked) as places:
        assert places == held[-1]
    assert [call.kwargs["occupy"] for call in slots.call_args_list] == held
    assert list(left) == []


def test_a_place_that_the_server_refuses_for_another_reason_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = create_autospec(limits.concurrency)
    slots.side_effect = limits.ConcurrencySlotAcquisitionError("no such limit")
    monkeypatch.setattr(limits, "concurrency", slots)
    stand_in(monkeypatch, limits, "ensure", lambda limit=None: 1)
    record = create_autospec(records.LiveRecord, instance=True)
    with pytest.raises(limits.ConcurrencySlotAcquisitionError), limits.place(record):
        pass


def test_a_verb_ends_with_the_flow_that_started_it(tmp_path: Path) -> None:
    """A study or a prediction must not go on alone when its flow's process is killed."""
    runner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    verb = (
        "import time; from vtcc.process import stopping; stopping.follow_runner(); time.sleep(60)"
    )
    env = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"}
    followed = subprocess.Popen(
        [sys.executable, "-c", verb], env=env | {RUNNER: str(runner.pid)}, stderr=subprocess.PIPE
    )
    try:
        time.sleep(1.0)
        assert followed.poll() is None
        runner.kill()
        runner.wait()
        assert followed.wait(10) == -signal.SIGTERM
    finally:
        followed.kill()
        followed.communicate()
