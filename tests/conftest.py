"""Tests run alike, however they are started."""

import signal
from pathlib import Path
from typing import Any

import pytest

from vtcc import quiet

# Before any library is imported, as in `vtcc` and `flows`.
quiet.apply()

HERE = Path(__file__).parent
# One worker takes all of a room, or of these files: they share a store or imports of seconds.
ROOMS = ("grouping", "tracking")
EXPECTATIONS = (
    "data/test_expectations.py",
    "stages/test_validate.py",
    "stages/test_many_bands.py",
)
# Begun last, one of them would go on alone when the other workers have nothing left to do.
LONGEST = (
    "test_pipeline.py",
    "grouping/test_run.py",  # with all of its room
    "tracking/test_registry.py",
    "flows/test_train_flow.py",
    "kill/test_kill.py",
    "data/test_expectations.py",
    "runner/test_dvc.py",
    "stages/test_train.py",
)


def pytest_configure() -> None:
    """Signals that a script's background or `nohup` ignores count again, here and in children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`: a file's tests go to one worker, and so do those of some files."""
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrRoom(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            _, room, *_ = Path(file).parts
            if room in ROOMS:
                return room
            return "expectations" if file.endswith(EXPECTATIONS) else file

    return ByFileOrRoom(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first; workers take files in this order."""
    place = {HERE / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
