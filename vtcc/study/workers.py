"""Several trainings side by side, each job in a worktree of its own: for studies and sweeps."""

import contextlib
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from vtcc.errors import SIGNAL
from vtcc.process import commands
from vtcc.progress import describe, duration, note
from vtcc.runner import dvc
from vtcc.runner.workspace import Workspace

DATA, MODEL = ("download", "validate"), ("embed", "train", "evaluate")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextlib.contextmanager
def places(
    project: Path, params: dict[str, Any], jobs: int, threads: int
) -> Iterator[list[Workspace]]:
    """One private worktree per job; SIGTERM and SIGHUP end the block like Ctrl-C.

    All runs of a job share its worktree: they must not differ in code edited meanwhile.

    Args:
        project: directory of `params.yaml`, absolute.
        params: complete parameters to begin with.
        jobs: how many.
        threads: processor threads of a stage; 0 leaves it to the libraries.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(commands.interruptible())
        stack.enter_context(_terminable())
        workspaces = []
        for _ in range(jobs):
            place = stack.enter_context(Workspace(project=project, private=True, params=params))
            if threads:
                place.env |= dict.fromkeys(THREADS, str(threads))
            workspaces.append(place)
        yield workspaces


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP end a study like Ctrl-C: alone they would orphan the trainings.

    What was ignored before stays so, as `nohup` has it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, _frame: object) -> None:
        raise KeyboardInterrupt(signum)

    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    obeyed = [number for number, handler in former.items() if handler is not signal.SIG_IGN]
    for number in obeyed:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in obeyed:
            signal.signal(number, former[number])


@contextlib.contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Says how to go on after Ctrl-C, SIGTERM or SIGHUP, and exits with 128 + its number.

    Args:
        kept: such as `what is recorded`.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):  # a closed terminal takes no words
            print(f"interrupted; {kept} is kept, the same command goes on", file=sys.stderr)
        sys.exit(SIGNAL + (stop.args[0] if stop.args else signal.SIGINT))


class Workers:
    """Threads that work in worktrees, and what they say.

    Attributes:
        jobs: how many threads.
        data: held while images are fetched, which must not happen twice at once.
        seconds: that each training of this call took.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.data = threading.Lock()
        self.seconds: list[float] = []
        self._stop = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether everybody is asked to end."""
        return self._stop.is_set()

    def say(self, text: str) -> None:
        """One line for whoever watches."""
        note(text)

    def left(self, count: int, before: Sequence[float]) -> str:
        """How long so many more trainings may take, as the end of a line.

        Args:
            count: of trainings. before: seconds of earlier ones, where none has run yet.
        """
        taken = self.seconds or before
        if not taken:
            return ""
        return f", about {duration(statistics.fmean(taken) * count / self.jobs)} left"

    def play(self, places: list[Workspace], work: Callable[[Workspace], None]) -> None:
        """Runs `work` in every worktree at once, a thread each, until all return.

        Raises:
            KeyboardInterrupt: after the stages in progress have ended.
            BaseException: the first that a thread met; the others are stopped.
        """
        with ThreadPoolExecutor(len(places)) as pool:
            try:
                for ended in as_completed([pool.submit(work, place) for place in places]):
                    ended.result()
            except BaseException as error:
                self._stop.set()
                if isinstance(error, KeyboardInterrupt):
                    self.say("stopping; a training in progress keeps its checkpoint")
                raise

    def stage(
        self,
        stage: str,
        where: Workspace,
        who: str,
        *,
        on_progress: Callable[[dict[str, Any]], None] = lambda progress: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> dvc.StageRun:
        """Runs a stage in a worktree and says how it goes.

        Args:
            stage: its name.
            where: the worktree.
            who: the run, for people.
            on_progress: gets the stage's progress too.
            stopped: a further reason to interrupt it, asked twice a second.

        Raises:
            VtccError: as `dvc.run_stage`.
            KeyboardInterrupt: when everybody, or this stage, was asked to end.
        """
        label = "    " if self.jobs == 1 else f"    {who}: "
        shown = _Shown(stage, lambda line: self.say(f"{label}{line}"))

        def progressed(progress: dict[str, Any]) -> None:
            shown(progress)
            on_progress(progress)

        done = dvc.run_stage(
            stage,
            where.directory,
            env=where.env,
            on_line=lambda line: self.say(f"{label}{line}"),
            on_progress=progressed,
            stopped=lambda: self.stopping or stopped(),
        )
        self.say(f"  {who}: {stage} {done.how} in {done.seconds:.1f} s")
        return done


class _Shown:
    """One line of progress in a while: a log of a long training stays readable."""

    def __init__(self, stage: str, say: Callable[[str], None], every: float = 30.0) -> None:
        self.stage, self.say, self.every = stage, say, every
        self._last = time.monotonic()

    def __call__(self, progress: dict[str, Any]) -> None:
        if time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self.say(describe(self.stage, progress))
