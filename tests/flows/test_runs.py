"""Recent runs as text."""

import pytest

from flows import runs
from vtcc.errors import VtccError

RUN = {
    "id": "1d8e",
    "name": "digits params.yaml seed 1",
    "start_time": "2026-01-02T03:04:05Z",
    "expected_start_time": "2026-01-02T03:04:00Z",
    "total_run_time": 75.4,
    "estimated_run_time": 75.4,
    "state": {"type": "FAILED", "name": "Failed", "message": "stage 'train' failed:\n too dark"},
}


def test_a_line_per_run() -> None:
    waiting = RUN | {
        "start_time": None,
        "state": {"type": "SCHEDULED", "name": "Late"} | {"message": "x"},
    }
    header, first, second = runs.table([RUN, waiting]).splitlines()
    assert header.split() == ["started", "run", "state", "took", "id", "message"]
    assert first.endswith("Failed  1:15  1d8e  stage 'train' failed: too dark")
    assert second.endswith("Late          1d8e")
    assert first.index("digits") == second.index("digits") == header.index("run")


def test_no_server_is_one_clear_line() -> None:
    with pytest.raises(VtccError, match=r"no Prefect server answers at http://127.0.0.1:9/api"):
        runs.recent("http://127.0.0.1:9/api", 3)
