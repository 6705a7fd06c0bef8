"""`make chaos`, for two minutes of `vtcc add`: its results are the old or the new ones."""

import re
import subprocess
import sys

import pytest

from tests.test_pipeline import TOP


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_and_interruptions_of_add_lose_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill.chaos", "2", "0", "add"],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names, row = (line.split() for line in done.stdout.splitlines()[-2:])
    assert names[:4] == ["verb", "time", "operation", "interrupt"] and row[0] == "add"
    assert int(row[-1]) == 0, done.stdout
    kills, moments = sum(map(int, row[1:3])), sum(map(int, re.findall(r"\d+", " ".join(row))))
    assert kills >= 2 and moments >= 5
