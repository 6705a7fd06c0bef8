"""One DVC stage as a subprocess: streamed, understood, and stopped without leaving orphans."""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vtcc import yaml_file
from vtcc.errors import TemporaryError, VtccError
from vtcc.process import commands
from vtcc.process.commands import Line, Progress
from vtcc.process.groups import GRACE
from vtcc.process.stopping import RUNNER
from vtcc.runner.locks import release_stale_locks

# Advice that DVC repeats after every stage, for people at a prompt.
CHATTER = (
    "Use `dvc push`",
    "To track the changes with git",
    "\tgit add ",
    "To enable auto staging",
    "\tdvc config core.autostage",
)


class StageError(VtccError):
    """A stage ended with an error.

    Attributes:
        stage: its name.
        status: exit status of the stage's command, or of DVC where DVC itself failed.
        explained: whether the stage said what was wrong in an `error:` line, so that trying
            again with the same input is pointless.
    """

    def __init__(self, stage: str, status: int, reason: str, *, explained: bool) -> None:
        super().__init__(f"stage {stage!r} failed: {reason}")
        self.stage, self.status, self.explained = stage, status, explained

    @property
    def temporary(self) -> bool:
        """Whether trying again may help: it said so, or it crashed without an explanation."""
        return self.status == TemporaryError.status or not self.explained


@dataclass(frozen=True)
class StageRun:
    """How a stage came to its results.

    Attributes:
        stage: its name.
        how: `ran`; `restored` from the cache; `unchanged`.
        seconds: wall time.
    """

    stage: str
    how: str
    seconds: float


def run_stage(
    stage: str,
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    on_line: Line = print,
    on_progress: Progress | None = None,
    wait_busy: float = 600.0,
    grace: float = GRACE,
    stopped: Callable[[], bool] | None = None,
) -> StageRun:
    """Brings one stage up to date: `dvc repro --single-item STAGE`.

    Args:
        stage: a name from `dvc.yaml`.
        directory: the one with `dvc.yaml`.
        env: environment of the subprocess; default: this process's.
        on_line: gets every line of output, without its newline, but for progress lines and
            DVC's advice on what to do next.
        on_progress: gets the content of `{"progress": {...}}` lines; None drops them.
        wait_busy: seconds to wait while another DVC command uses the directory.
        grace: seconds between asking a cancelled stage to end and killing it.
        stopped: asked twice a second; True interrupts the stage as Ctrl-C would, for threads,
            which no signal reaches.

    Returns:
        How it went.

    Raises:
        StageError: with the stage's own `error:` line, when it ended with an error.
        VtccError: when the directory stayed busy.
        KeyboardInterrupt: when `stopped` said so.
    """
    start = time.monotonic()
    # The stage ends with this process, should that be killed: see `vtcc.process.stopping`.
    env = dict(os.environ if env is None else env) | {RUNNER: str(os.getpid())}
    while True:
        release_stale_locks(directory)
        watch = _Watch(stage, on_line, on_progress)
        status = commands.run(_command(stage, directory), directory, env, watch, grace, stopped)
        if status == 0:
            return StageRun(stage, watch.how, time.monotonic() - start)
        if not watch.busy:
            raise StageError(
                stage,
                watch.stage_status or status,
                watch.error or watch.complaint or f"exit status {status}",
                explained=watch.error is not None,
            )
        left = wait_busy - (time.monotonic() - start)
        if left <= 0:
            raise VtccError(
                f"{directory}: another DVC command has been running for {wait_busy:.0f} s "
                f"(`dvc repro` there says which); wait for it, then start {stage!r} again"
            )
        on_line(f"another DVC command is running in {directory}; waiting up to {left:.0f} s more")
        time.sleep(min(5.0, left))


def _command(stage: str, directory: Path) -> list[str]:
    # What these depend on is looked at each time.
    first = ["source"] if stage in ("download", "embed") and _has_source(directory) else []
    return [sys.executable, "-m", "dvc", "repro", "--single-item", *first, stage]


def _has_source(directory: Path) -> bool:
    stages = yaml_file.read(directory / "dvc.yaml").get("stages")
    return isinstance(stages, dict) and "source" in stages


class _Watch(commands.Reader):
    """Reads DVC's and the stage's output line by line."""

    def __init__(self, stage: str, on_line: Line, on_progress: Progress | None) -> None:
        super().__init__(
            lambda line: None if line.startswith(CHATTER) else on_line(line), on_progress
        )
        self.how, self._stage = "unchanged", stage
        self.busy = False
        self.stage_status: int | None = None
        self._started = False

    def __call__(self, line: str) -> None:
        if line.startswith("Running stage '"):
            self._started = True
            if f"'{self._stage}'" in line:
                self.how = "ran"
        elif line.startswith(f"Stage '{self._stage}'") and "is cached - skipping run" in line:
            self.how = "restored"
        elif not self._started and ("Unable to acquire lock" in line or "' is busy, " in line):
            self.busy = True
        elif match := re.search(r"failed to run: .*exited with (-?\d+)", line):
            self.stage_status = int(match[1])
        super().__call__(line)

    @property
    def complaint(self) -> str | None:
        """What looks like the reason: the stage's last line, or what DVC said instead."""
        if not self._started:
            return " ".join(line.removeprefix("ERROR: ") for line in self.last)[:500] or None
        own = [line for line in self.last if not line.startswith("ERROR: failed to reproduce")]
        return own[-1] if own else None


def share_cache(project: Path, worktree: Path) -> None:
    """Points the worktree's DVC at the cache that the project uses, wherever that is.

    Raises:
        VtccError: in DVC's words, when its configuration is wrong.
    """
    from configobj import ConfigObj
    from dvc.config import Config, ConfigError

    try:  # in this process, as asking `dvc cache dir` takes a second
        known = Config(str(project / ".dvc"))
    except (ConfigError, OSError) as error:
        raise VtccError(f"{project}: DVC does not know its cache: {error}") from None
    cache = project / known["cache"].get("dir", ".dvc/cache")
    local = project / ".dvc" / "config.local"
    settings = ConfigObj(str(local) if local.is_file() else None, encoding="utf-8")
    settings.setdefault("cache", {})["dir"] = str(cache.resolve())
    target = worktree / ".dvc" / "config.local"
    target.parent.mkdir(exist_ok=True)
    settings.filename = str(target)
    settings.write()
