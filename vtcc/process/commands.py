"""A command with everything it starts: streamed line by line, and stopped without orphans."""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vtcc.process import groups

Line = Callable[[str], None]
Progress = Callable[[dict[str, Any]], None]


class Reader:
    """Reads what a command of vtcc says line by line.

    Attributes:
        error: the last line that began with `error: `, without that; None where none did.
        last: the last lines that are no progress.
    """

    def __init__(self, on_line: Line, on_progress: Progress | None = None) -> None:
        """Reads nothing yet.

        Args:
            on_line: gets every line with words in it but for progress lines.
            on_progress: gets the content of `{"progress": {...}}` lines; None drops them.
        """
        self.error: str | None = None
        self.last: deque[str] = deque(maxlen=20)
        self._on_line, self._on_progress = on_line, on_progress

    def __call__(self, line: str) -> None:
        """Takes the next line."""
        if line.startswith('{"progress":'):
            with contextlib.suppress(ValueError, KeyError):
                progress = json.loads(line)["progress"]
                if self._on_progress is not None:
                    self._on_progress(progress)
                return
        if line.startswith("error: "):
            self.error = line.removeprefix("error: ").strip()
        if line.strip():
            self.last.append(line.strip())
            self._on_line(line)


def run(
    command: list[str],
    directory: Path,
    env: Mapping[str, str] | None,
    watch: Line,
    grace: float = groups.GRACE,
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
        groups.end(process, signal.SIGINT, grace, lambda until: _listen(process, until, watch))
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


def _listen(process: subprocess.Popen, deadline: float, watch: Line) -> None:
    """Hands on the last words of a process that was asked to end."""
    for line in _lines(process, deadline):
        # A callback may be what failed; that must not stop the stopping.
        with contextlib.suppress(Exception):
            watch(line)
