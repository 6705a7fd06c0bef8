"""`vtcc train --processes N`: the same training as N processes on this machine.

torchrun does the same for one machine and for many; this launcher is for one, without a port
that others could reach, and keeps what the runner relies on: a signal to it reaches the
training, the training's exit status is its own, and nothing goes on when it is killed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from vtcc.errors import VtccError
from vtcc.process import groups

PROCESSES = "VTCC_PROCESSES"
# A file to meet at, so that no port is opened for others to reach.
RENDEZVOUS = "VTCC_RENDEZVOUS"
LAUNCHER = "VTCC_LAUNCHER"
# After a failure the others see it by themselves and end their MLflow run; not on a hung GPU.
ASK_AFTER, KILL_AFTER = 15.0, 30.0
STOP_AFTER = 300.0  # from a signal on: by then the checkpoint is written, or never will be


def wanted(given: int = 0) -> int:
    """How many processes to start: `given`, else by VTCC_PROCESSES, else 1.

    1 in a process that torchrun, accelerate or this launcher started: the start is done.

    Raises:
        VtccError: when the variable is no number above 0, or `--processes` is used within
            another launcher.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        if given and given != int(os.environ["WORLD_SIZE"]):
            raise VtccError(
                f"--processes {given}: started by another launcher with WORLD_SIZE="
                f"{os.environ['WORLD_SIZE']}; give the number to that one alone"
            )
        return 1
    if given:
        return given
    text = os.environ.get(PROCESSES, "").strip() or "1"
    if not text.isdecimal() or int(text) < 1:
        raise VtccError(f"{PROCESSES}: found {text!r}; allowed: a number of processes, 1 or more")
    return int(text)


def check_batch(images: int, processes: int) -> None:
    """Raises VtccError where BatchNorm would see fewer than two images in a process."""
    if processes > 1 and images < 2 * processes:
        raise VtccError(
            f"train.batch_size: {images} images for {processes} processes; BatchNorm needs two in "
            f"each, so use at most {max(1, images // 2)} processes"
        )


def run(command: list[str], processes: int) -> NoReturn:
    """Runs `command` as `processes` processes that know of each other, in place of this one.

    SIGINT, SIGTERM and SIGHUP are handed on. When one fails, the others are ended.

    Raises:
        SystemExit: when all have ended, with the status of rank 0, else of another that failed.
    """
    pending: list[int] = []

    def remember(signum: int, _frame: FrameType | None) -> None:
        pending.append(signum)

    # Under `nohup` a closed terminal is to change nothing.
    hang_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    stops = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hang_up else []))
    previous = {number: signal.signal(number, remember) for number in stops}
    children: list[subprocess.Popen] = []
    try:
        with tempfile.TemporaryDirectory(prefix="vtcc-") as place:
            meeting = Path(place) / "meeting"
            for rank in range(processes):
                children.append(
                    subprocess.Popen(
                        command,
                        env=_environment(rank, processes, meeting),
                        stdin=subprocess.DEVNULL,
                        # Of its own, so that a signal to our group comes once: through us.
                        process_group=0,
                    )
                )
            status = _wait(children, pending)
    finally:
        for child in children:
            if child.poll() is None:
                groups.end(child, signal.SIGKILL)
        for number, handler in previous.items():
            signal.signal(number, handler)
    sys.exit(status)


def _environment(rank: int, processes: int, meeting: Path) -> dict[str, str]:
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    return {
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        **os.environ,
        "RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(processes),
        RENDEZVOUS: str(meeting),
        LAUNCHER: str(os.getpid()),
    }


def _wait(children: list[subprocess.Popen], pending: list[int]) -> int:
    """Waits until all have ended; the exit status that speaks for them."""
    failed_at: float | None = None
    asked, stopping = False, 0.0
    while any(child.poll() is None for child in children):
        while pending:
            stopping = stopping or time.monotonic()
            _send(children, pending.pop(0))
        if stopping and time.monotonic() - stopping > STOP_AFTER:
            _send(children, signal.SIGKILL)
        if failed_at is None and any(child.poll() for child in children):
            failed_at = time.monotonic()
        # Told to stop, rank 0 still writes its checkpoint after the others have ended.
        if failed_at is not None and not stopping:
            since = time.monotonic() - failed_at
            if since > ASK_AFTER and not asked:
                asked = True
                _send(children, signal.SIGTERM)
            if since > KILL_AFTER:
                _send(children, signal.SIGKILL)
        time.sleep(0.05)
    statuses = [c.returncode if c.returncode >= 0 else 128 - c.returncode for c in children]
    return next(filter(None, statuses), 0)


def _send(children: list[subprocess.Popen], signum: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(signum)
