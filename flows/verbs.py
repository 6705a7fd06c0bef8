"""A verb of `vtcc` as a subprocess, its output in the run's log."""

import os
import re
import sys
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import session, stages
from flows.progress import ProgressArtifact
from vtcc import paths
from vtcc.errors import VtccError
from vtcc.process import commands
from vtcc.process.stopping import RUNNER
from vtcc.runner.workspace import environment


def run(
    arguments: list[str],
    directory: Path,
    *,
    env: dict[str, str] | None = None,
    on_line: commands.Line | None = None,
    on_progress: commands.Progress | None = None,
) -> None:
    """Runs `vtcc ARGUMENTS`; interrupted like a stage when the flow run is cancelled.

    Args:
        arguments: the verb and what it is given.
        directory: where it runs.
        env: of the subprocess; by default that of a stage in `directory`.
        on_line: gets every line but those of progress, after the log has it.
        on_progress: gets the content of `{"progress": {...}}` lines.

    Raises:
        VtccError: with the verb's own `error:` line, or its last one.
    """
    logger = get_run_logger()

    def logged(line: str) -> None:
        logger.info("%s", line)
        if on_line is not None:
            on_line(line)

    watch = commands.Reader(logged, on_progress)
    # It ends with this process, should that be killed: see `vtcc.process.stopping`.
    env = (env or environment(paths.home(directory))) | {RUNNER: str(os.getpid())}
    command = [sys.executable, "-m", "vtcc", *arguments]
    if status := commands.run(command, directory, env, watch):
        last = [f"vtcc {arguments[0]}: exit status {status}", *watch.last][-1]
        raise VtccError(watch.error or last)


def run_task(
    name: str,
    arguments: list[str],
    directory: Path,
    *,
    env: dict[str, str] | None = None,
    counts_lines: bool = False,
) -> None:
    """Runs a verb as a task of the flow, with its progress.

    Args:
        name: of the task and of its progress.
        arguments: the verb and what it is given.
        directory: where it runs.
        env: as of `run`.
        counts_lines: the progress is in lines such as `3/12 conv seed 2, about 10 min left`.

    Raises:
        VtccError: as `run`.
    """
    show = ProgressArtifact(name)

    def count(line: str) -> None:
        if match := re.match(r"(\d+)/(\d+) (.+)", line):
            done, total = int(match[1]) - 1, int(match[2])
            show({"stage": name, "done": done, "total": total, "now": match[3]})

    how: dict[str, Any] = {"on_line": count} if counts_lines else {"on_progress": show}
    stages.done(_verb.with_options(name=name)(arguments, directory, {"env": env, **how}))


@task(name="verb", cache_policy=NO_CACHE)
@session.explained
def _verb(arguments: list[str], directory: Path, how: dict[str, Any]) -> Any:
    """A verb; a failed one is a state, not a traceback."""
    run(arguments, directory, **how)
