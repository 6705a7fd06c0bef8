"""A hostile file made by hand, what must become of it, and what that takes in a process alone."""

import contextlib
import gc
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MOST_SECONDS = 5.0
MOST_MIB = 48
_KILLED_AFTER = 1800  # seconds, of which it may compute a tenth


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        kind: of harm, a row of the table. name: of the case, unique in its kind.
        build: makes the file.
        refused: words of the one line that refuses it; "" for any line. None: it is read.
        files: of an archive that is read, all files and what is in them; None: any, or a refusal
            as well, as versions of Python's libraries differ.
        seconds, mib: of the processor and of memory, that reading or refusing it takes at most.
        slow: not among the quick ones.
    """

    kind: str
    name: str
    build: Callable[[], bytes]
    refused: str | None = None
    files: dict[str, bytes] | None = None
    seconds: float = MOST_SECONDS
    mib: int = MOST_MIB
    slow: bool = False


@dataclass(frozen=True)
class Measured:
    """What a function in a process of its own said and took.

    Attributes:
        value: what it returned; None where the process did not get so far.
        seconds: of the processor. mib: by which the process's memory rose, at its peak.
        wrong: what it raised, or how its process ended; empty where it returned.
    """

    value: Any
    seconds: float
    mib: int
    wrong: str


def peak_mib() -> int:
    """The most memory this process had since `forget_peak`, or ever, in MiB.

    Linux counts the memory of the parent into getrusage's figure, not into this one.
    """
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def forget_peak() -> None:
    """Lets `peak_mib` begin with the memory of now, on Linux.

    What a forked process freed at once (libraries do so after a fork) would hide as much of its
    own work.
    """
    gc.freeze()  # what the parent left to be collected is not freed in the midst of the work
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measured(work: Callable[[], Any]) -> Measured:
    """Calls `work` in a forked process, which begins with the memory that this one has now."""
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(work, sender))
    process.start()
    sender.close()
    value, seconds, mib, wrong = None, _KILLED_AFTER, 0, f"no end after {_KILLED_AFTER} s"
    if receiver.poll(_KILLED_AFTER):
        with contextlib.suppress(EOFError):
            value, seconds, mib, wrong = receiver.recv()
        process.join(5)
        if process.exitcode:
            wrong = f"the process ended by status {process.exitcode}"
    process.kill()
    process.join()
    return Measured(value, seconds, mib, wrong)


def _call(work: Callable[[], Any], sender: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff says there what it finds damaged
    most = _KILLED_AFTER // 10
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    forget_peak()
    base, start, value, wrong = peak_mib(), time.process_time(), None, ""
    try:
        value = work()
    except BaseException as error:
        wrong = f"{type(error).__name__}: {error}"[:300]
    sender.send((value, time.process_time() - start, peak_mib() - base, wrong))
    os._exit(0)  # what the parent had registered for its own end is no part of the work
