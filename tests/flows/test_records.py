"""Which flow runs of this machine are dead, told by a lock."""

import subprocess
import sys
from pathlib import Path

from flows import records

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
