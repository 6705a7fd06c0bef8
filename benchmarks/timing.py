"""Timing side by side: turns A B C A B C ..., so that a change of the machine's mood meets all."""

import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

RECORDS = Path(__file__).parent / "records" / "performance"


class Turn(Protocol):
    """Something that can be timed: started, stepped, stopped."""

    def start(self) -> None:
        """Before a turn: threads, workers."""

    def step(self) -> int:
        """One unit of work; how many images it did."""

    def stop(self) -> None:
        """After a turn: nothing may go on running beside the others."""


def interleaved(turns: Mapping[str, Turn], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Images per second by name, one figure per round.

    The first step of every turn is not counted: it warms up, and fills queues of workers.

    Args:
        turns: by name. rounds: of all. seconds: at least, per turn.
    """
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            rates[name].append(rate(turn, seconds))
    return rates


def rate(turn: Turn, seconds: float) -> float:
    """Images per second over one turn."""
    turn.start()
    try:
        turn.step()
        wait()
        began, images = time.perf_counter(), 0
        while time.perf_counter() - began < seconds or not images:
            images += turn.step()
        wait()
        return images / (time.perf_counter() - began)
    finally:
        turn.stop()


def wait() -> None:
    """Until a GPU, where one is in use, has done what it was told."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        wait()
        self._began = time.perf_counter()

    def read(self) -> float:
        """Seconds, what a GPU still has to do included."""
        wait()
        return time.perf_counter() - self._began


def resident() -> float:
    """Memory of this process in MB, as it is now; nan where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Median and range of the quotients, round by round."""
    return summary([a / b for a, b in zip(ours, theirs, strict=True)])


def machine(device: str) -> str:
    """The name of the processor or GPU, and what vector instructions torch uses on it."""
    import torch

    from vtcc.provenance import cpu

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu()}, {torch.backends.cpu.get_cpu_capability()}"


def facts() -> dict[str, Any]:
    """Machine, versions and day of a measurement; nothing that names the machine's owner."""
    import numpy
    import torch
    import torchvision

    cuda = torch.cuda.is_available()
    return {
        "machine": machine("cpu"),
        "gpu": machine("cuda") if cuda else None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "load": round(os.getloadavg()[0], 2),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": numpy.__version__,
        },
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def write(name: str, record: dict[str, Any], out: Path | None = None) -> Path:
    """Writes `NAME.json` of benchmarks/records/performance, or to `out`.

    A `quick` record measures nothing: without `out` it goes to the system's temporary files.
    """
    from vtcc.atomic import write_text

    place = Path(tempfile.gettempdir()) if record.get("quick") else RECORDS
    file = out or place / f"{name}.json"
    write_text(file, json.dumps(record, indent=1) + "\n")
    return file
