"""Some of the hostile files and requests of `make fuzz` and `make soak`."""

import multiprocessing.util
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from benchmarks import soak
from benchmarks.fuzz import case, hand_made, samples, texts, worker
from tests.test_pipeline import TOP


def ran(*words, seconds=240):
    """The rows that `python -m WORDS` prints, split; it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_some_files_made_by_hand_are_refused_or_read_within_their_bounds():
    rows = ran("benchmarks.fuzz", "--hand-made", "--every", "16").splitlines()[1:]
    kinds = Counter(row.split(":")[0] for row in rows)
    assert kinds == {"zip": 11, "tar": 10, "image": 10}
    failed = [int(re.split(r"\s{2,}", row)[3]) for row in rows]
    assert failed == [0] * 31


def test_there_are_hundreds_and_each_has_a_name_of_its_own():
    made = [(c.kind, c.name) for room in hand_made.ROOMS.values() for c in room()]
    assert [pair for pair, times in Counter(made).items() if times > 1] == []
    counts = Counter(kind.split(":")[0] for kind, _ in made)
    assert counts["zip"] + counts["tar"] > 500 and counts["image"] > 300


@pytest.mark.parametrize("kind", ["edits", "params"])
def test_edits_and_parameters_are_good_before_they_are_changed(kind, tmp_path):
    files = texts.texts_of(kind)
    for data in files:
        texts.read_text(kind, data, tmp_path)
    changed = [samples.sample(kind, files, 0, number) for number in range(20)]
    assert sum(data not in files for data, _ in changed) > 15
    for data, rng in changed:
        worker.READERS[kind](data, rng, tmp_path)


def test_what_a_process_took_is_measured():
    took = case.measured(lambda: len(bytes(64 << 20).replace(b"\0", b"1")))
    assert (took.value, took.wrong) == (64 << 20, "")
    assert 60 <= took.mib < 160 and 0 <= took.seconds < 5
    assert case.measured(lambda: 1 / 0).wrong == "ZeroDivisionError: division by zero"
    assert "ended by status" in case.measured(lambda: __import__("os")._exit(3)).wrong


def test_what_is_freed_after_the_fork_hides_nothing():
    held = [bytearray(b"x" * (100 << 20))]
    os.register_at_fork(after_in_child=held.clear)
    took = case.measured(lambda: len(bytes(64 << 20).replace(b"\0", b"1")))
    held.clear()
    assert 60 <= took.mib < 160


def test_what_the_parent_does_at_its_end_is_not_measured(monkeypatch):
    monkeypatch.setattr(multiprocessing.util, "_exit_function", lambda: 1 / 0)
    assert case.measured(lambda: 1).wrong == ""


def test_memory_that_grows_is_seen():
    flat = [(float(i), 100 + i % 2) for i in range(30)]
    assert soak.growth(flat) == 1
    grows = [(float(i), 100 + i) for i in range(30)]
    assert round(soak.growth(grows), 3) == round(124.5 / 104.5, 3) > soak.MOST_GROWTH


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_seconds_of_good_and_hostile_requests():
    said = ran("benchmarks.soak", "--minutes", "0.17", seconds=800)
    assert re.search(r"^an image +\d+  200: \d+$", said, re.M)
    assert re.search(r"^memory: flat, ", said, re.M)
    assert re.search(r"^failed: 0 of \d{2,}$", said, re.M)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_files_made_by_hand():
    ran("benchmarks.fuzz", "--hand-made", seconds=800)
