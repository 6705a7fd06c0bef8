"""A command with everything it starts: streamed line by line, and stopped without orphans."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

# Prefect kills a cancelled flow run after 30 s; a training writes its checkpoint in less.
GRACE = 25.0


def run(
    command: list[str],
    directory: Path,
    env: Mapping[str, str] | None,
    watch: Callable[[str], None],
    grace: float = GRACE,
    stopped: Callable[[], bool] | None = None,
) -> int:
    """Runs a command in a session of its own; on any exception its whole group ends first.

    Args:
        command: program and arguments.
        directory: where it runs.
        env: its environment; None for this process's.
        watch: gets every line of output without its newline.
        grace: seconds between asking a cancelled command to end and killing it.
        stopped: asked twice a second; True interrupts it, for threads, which no signal reaches.

    Returns:
        The exit status.

    Raises:
        KeyboardInterrupt: when `stopped` said so.
    """
    with interruptible():
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for line in _lines(process, stopped=stopped):
            watch(line)
        return process.wait()
    except BaseException:
        _stop(process, watch, grace)
        raise
    finally:
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Lets children be interrupted even when this process was started in the background.

    A shell without job control starts `command &` with SIGINT ignored, and that is inherited:
    a training below would never hear the request to stop.
    """
    main = threading.current_thread() is threading.main_thread()
    ignored = main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _lines(
    process: subprocess.Popen,
    deadline: float | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Iterator[str]:
    """Lines of a process's output until it ends, or until `deadline` (monotonic seconds).

    Ends with the process and not with the pipe, which a forgotten grandchild may hold open.
    A carriage return ends a line too, so that bars do not pile up.
    """
    assert process.stdout is not None
    stream = process.stdout.fileno()
    os.set_blocking(stream, False)
    rest = b""
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        while deadline is None or time.monotonic() < deadline:
            if stopped is not None and stopped():
                raise KeyboardInterrupt
            ended = process.poll() is not None
            chunk = b""
            if ready.select(timeout=0 if ended else 0.5):
                chunk = os.read(stream, 65536)
                if not chunk:
                    break
            elif ended:
                break
            *lines, rest = re.split(rb"\r\n|\n|\r", rest + chunk)
            for line in lines:
                yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def _stop(process: subprocess.Popen, watch: Callable[[str], None], grace: float) -> None:
    """Asks the process group to end, still reading what it says, then kills what is left.

    SIGINT goes to the group: DVC ignores it while its stage handles it, then releases its
    locks. A signal to DVC alone would orphan the stage and leave stale locks.
    """
    group = process.pid
    deadline = time.monotonic() + grace
    try:
        _signal(group, signal.SIGINT)
        for line in _lines(process, deadline):
            # A callback may be what failed; the stage's last words must not stop the stopping.
            with contextlib.suppress(Exception):
                watch(line)
        while _signal(group, 0) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.1)
    finally:
        _signal(group, signal.SIGKILL)
        process.wait()


def _signal(group: int, number: int) -> bool:
    """Sends a signal to a process group; False where nobody is left in it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
