"""A verb of `vtcc` as a subprocess, its output in the run's log."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.logging import get_run_logger

from vtcc.errors import VtccError
from vtcc.process import commands
from vtcc.process.stopping import RUNNER
from vtcc.runner.workspace import environment


def run(
    arguments: list[str],
    directory: Path,
    *,
    env: dict[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
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
    said: list[str] = []

    def watch(line: str) -> None:
        if line.startswith('{"progress":'):
            if on_progress is not None:
                on_progress(json.loads(line)["progress"])
            return
        if line.strip():
            said.append(line.strip())
            del said[:-20]
            logger.info("%s", line)
            if on_line is not None:
                on_line(line)

    # It ends with this process, should that be killed: see `vtcc.process.stopping`.
    env = (env or environment(directory)) | {RUNNER: str(os.getpid())}
    command = [sys.executable, "-m", "vtcc", *arguments]
    if status := commands.run(command, directory, env, watch):
        errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
        raise VtccError((errors or said or [f"vtcc {arguments[0]}: exit status {status}"])[-1])
