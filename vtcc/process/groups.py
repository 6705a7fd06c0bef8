"""The end of a process group, and of all that its processes started."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

# Prefect kills a cancelled flow run after 30 s; a training writes its checkpoint in less.
GRACE = 25.0


def end(
    leader: subprocess.Popen,
    sign: int = signal.SIGINT,
    grace: float = GRACE,
    listen: Callable[[float], None] = lambda deadline: None,
) -> None:
    """Asks a group to end, waits, then kills what is left of it and of its descendants.

    The signal goes to the whole group: DVC ignores it while its stage handles it, then releases
    its locks. A signal to DVC alone would orphan the stage and leave stale locks.

    Args:
        leader: started with `start_new_session` or `process_group=0`.
        sign: how to ask.
        grace: seconds between asking and killing.
        listen: reads what the group still says, until it ends or `deadline` (monotonic seconds).
    """
    import psutil

    family: list[psutil.Process] = []
    if leader.poll() is None:  # else its number may be another's by now
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(leader.pid)
            family = [*parent.children(recursive=True), parent]
    deadline = time.monotonic() + grace
    try:
        tell(leader.pid, sign)
        listen(deadline)
        while (tell(leader.pid, 0) or any(map(runs, family))) and time.monotonic() < deadline:
            leader.poll()  # the leader stays a member until it is reaped
            time.sleep(0.1)
    finally:
        tell(leader.pid, signal.SIGKILL)
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()
        leader.wait()


def tell(group: int, sign: int) -> bool:
    """Sends a signal to a process group, 0 for none; False where nobody is left in it."""
    try:
        os.killpg(group, sign)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def runs(process: "psutil.Process") -> bool:
    """Whether it is that very process, not one that has its number since, and not a dead one."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
