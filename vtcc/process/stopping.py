"""How a stage ends early: by a signal, or because what started it is gone.

Imports the standard library alone, as it is there before anything heavy is imported.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc.errors import SIGNAL
from vtcc.process import launch

if TYPE_CHECKING:
    import psutil

# Set by `vtcc.runner`: the process that a stage must not outlive, besides DVC.
RUNNER = "VTCC_RUNNER_PID"

_MARKS = Path(".vtcc/stages")
_LOOK_EVERY = 0.5  # seconds
_SETTLE = 0.5  # seconds until a signal to a whole group of processes has reached all
_AGAIN = 0.01  # seconds until a signal whose exception was lost is sent again
_PATIENCE = 300.0  # seconds from asking this process to end to ending it


class Stopped(BaseException):
    """A signal asked this process to end; what it was writing is cleared on the way out."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


@contextlib.contextmanager
def obeyed(stage: str, *, marked: bool = True) -> Iterator[None]:
    """Inside, SIGINT, SIGTERM and SIGHUP end the stage cleanly, and so does DVC's death.

    Args:
        stage: named in what is said.
        marked: note in `.vtcc` of the working directory that a stage runs there.

    Raises:
        SystemExit: with 128 + signal number, the convention of shells.
    """
    try:
        with signals(), _marked() if marked else contextlib.nullcontext():
            # Processes of a launcher end with it, and it ends with DVC: they would hear it twice.
            if "DVC_STAGE" in os.environ and launch.LAUNCHER not in os.environ:
                end_with(_starters())
            yield
    except Stopped as stop:
        with contextlib.suppress(OSError):  # a closed terminal takes no words
            print(f"{stage}: {stop}; run it again", file=sys.stderr)
        sys.exit(SIGNAL + stop.signum)


def stage_runs(directory: Path = Path()) -> bool:
    """Whether a stage runs in a directory now, by whatever command it was started."""
    from vtcc.process import locks

    return bool(locks.alive(directory / _MARKS))


@contextlib.contextmanager
def _marked() -> Iterator[None]:
    """Says so, for as long as this process lives; clears the marks of those that were killed."""
    from vtcc.process import locks

    mark = None
    with contextlib.suppress(OSError):  # a stage that may not write says so itself
        with locks.abandoned(_MARKS) as left:
            for stale in left:
                stale.remove()
        mark = locks.Mark(_MARKS / f"{uuid.uuid4().hex}.lock")
    try:
        yield
    finally:
        if mark is not None:
            mark.remove()


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Inside, the first signal raises `Stopped`, a second one kills.

    What was ignored before stays so: `nohup`, or SIGINT in a script's background. Where Python
    lets no exception out, such as in a `__del__`, or C code makes another one of it, as torch does,
    which is then taken for a damaged file, the signal is sent again a moment later. Where that
    other exception, or nothing, ends the block first, it ends by the signal.
    """
    previous: dict[int, Any] = {}
    told: list[int] = []
    raised: list[weakref.ref[Stopped]] = []
    unraisable = sys.unraisablehook
    timers: list[threading.Timer] = []

    def handle(signum: int, _frame: object) -> None:
        for number in previous:
            signal.signal(number, signal.SIG_DFL)
        told.append(signum)
        raise watched(Stopped(signum))

    def watched(stop: Stopped) -> Stopped:
        """The same, whose death before the block ends sends the signal again."""
        raised.append(weakref.ref(stop, again))
        return stop

    def again(_lost: object) -> None:
        # Python lets other threads set no handler: from there it ends the process at once.
        if threading.current_thread() is threading.main_thread():
            for number in previous:
                signal.signal(number, handle)
        timers.append(threading.Timer(_AGAIN, os.kill, (os.getpid(), told[-1])))
        timers[-1].start()

    def quietly(lost: Any) -> None:
        if not isinstance(lost.exc_value, Stopped):
            unraisable(lost)

    if threading.current_thread() is threading.main_thread():
        for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(wanted)
            if before is not signal.SIG_IGN:
                previous[wanted] = before
                signal.signal(wanted, handle)
        sys.unraisablehook = quietly
    try:
        yield
        if told:
            raise Stopped(told[0])
    except Exception as error:
        if told:
            raise Stopped(told[0]) from error
        raise
    finally:
        raised.clear()
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = unraisable
        for number, before in previous.items():
            signal.signal(number, before)


def follow_runner() -> None:
    """For verbs that are no stages: ends this process once the runner that started it is gone."""
    if os.environ.get(RUNNER, "").isdigit() and "DVC_STAGE" not in os.environ:
        end_with([int(os.environ[RUNNER])])


def follow_launcher() -> None:
    """In a process of `launch.run`: ends it once the launcher is gone; elsewhere does nothing."""
    if launch.LAUNCHER in os.environ:
        end_with([int(os.environ[launch.LAUNCHER])])


def end_with(pids: list[int]) -> None:
    """From now on this process ends, as by SIGTERM, once any of these processes is gone.

    A stage whose DVC was killed would else live on, and write into outs that the next
    `dvc repro` has deleted or is writing itself.
    """
    threading.Thread(target=_watch, args=(pids,), daemon=True, name="watch").start()


def _watch(pids: list[int]) -> None:
    gone = _wait_for_any(pids)
    _silence_broken_pipes()
    time.sleep(_SETTLE)
    if not _stops_already():  # what took the starter away may have told this process as well
        with contextlib.suppress(OSError):
            print(f"process {gone}, which started this one, is gone: stopping", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os._exit(SIGNAL + signal.SIGTERM)


def _stops_already() -> bool:
    engine = sys.modules.get("vtcc.engine.signals")
    return bool(engine and engine.Stop.under_way)


def _wait_for_any(pids: list[int]) -> int:
    """Returns the first that ends."""
    import psutil

    from vtcc.process import groups

    processes = []
    for pid in pids:
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            return pid
    while True:
        for process in processes:
            if not groups.runs(process):
                return process.pid
        time.sleep(_LOOK_EVERY)


def _silence_broken_pipes() -> None:
    """Points output that nobody reads any more to nowhere: it would break the checkpointing."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number, event in poll.poll(0):
        if event & (select.POLLERR | select.POLLHUP):
            os.dup2(nowhere, number)
    os.close(nowhere)


def _starters() -> list[int]:
    """This process's parent and those above it up to DVC; and the runner that started DVC.

    A shell may stand between DVC and its stage.

    Raises:
        Stopped: when they are gone already.
    """
    import psutil

    above = psutil.Process().parents()
    if not above or (above[0].pid == 1 and not _is_dvc(above[0])):
        raise Stopped(signal.SIGTERM)
    dvc = next((i for i, process in enumerate(above[:4]) if _is_dvc(process)), 0)
    pids = [process.pid for process in above[: dvc + 1]]
    if os.environ.get(RUNNER, "").isdigit():
        pids.append(int(os.environ[RUNNER]))
    return pids


def _is_dvc(process: "psutil.Process") -> bool:
    import psutil

    try:
        return "dvc" in " ".join(process.cmdline())
    except psutil.Error:
        return False
