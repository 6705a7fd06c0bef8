"""`python -m flows.serve`: a Prefect server on this machine, with all deployments served.

One terminal holds all of it: the server, unless one answers already, and the process that
starts flow runs. Either is started again when it dies; Ctrl-C ends what was started here,
nothing else.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from flows import server
from flows.processes import STOP_SECONDS, start_server
from vtcc import paths
from vtcc.errors import VtccError
from vtcc.process import groups

READY_SECONDS = 180.0
RESTARTS, WITHIN = 3, 600.0  # a process that dies more often than that has a reason
PAUSE_SECONDS = 5.0  # after a start that failed, and between questions to a server that is away


def main(arguments: list[str] | None = None) -> None:
    """Serves until Ctrl-C or SIGTERM; exits 1 with one line when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=4200, help="of the server; PREFECT_API_URL overrides it"
    )
    parser.add_argument(
        "--limit", type=int, help="trainings at a time; others wait (as before, at first 1)"
    )
    given = parser.parse_args(arguments)
    if not 0 < given.port < 65536:
        parser.error(f"--port: expected 1 to 65535, found {given.port}")
    if given.limit is not None and given.limit < 1:
        parser.error(f"--limit: expected 1 or more, found {given.limit}")
    # A shell without job control starts `command &` deaf to SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    served = None
    try:
        served = Served(_project(), server.api_url(given.port), given.limit)
        served.start()
        _say(served)
        served.watch()
    except VtccError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopping; a training in progress keeps its checkpoint", flush=True)
    finally:
        # A second request must not leave half of it running.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if served is not None:
            served.stop()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


class Served:
    """The processes of `make serve`.

    Attributes:
        project: directory of `params.yaml`.
        url: of the Prefect API.
        limit: trainings at a time, known once started.
    """

    def __init__(self, project: Path, url: str, limit: int | None) -> None:
        self.project, self.url, self.limit = project, url, limit
        self._server: subprocess.Popen | None = None
        self._runner: subprocess.Popen | None = None
        self._started = False
        self._died: dict[str, list[float]] = {}

    def start(self) -> None:
        """Starts the server, unless one answers, and the runner; returns when runs are accepted.

        Raises:
            VtccError: when one of them does not start.
        """
        self._server = start_server(self.url, self.project)
        self._start_runner()

    def _start_runner(self) -> None:
        ready = self.project / ".vtcc" / "runner.ready"
        ready.parent.mkdir(parents=True, exist_ok=True)
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "flows.runner", "--ready", str(ready)]
        # Once: it may be set otherwise, in Prefect, before the runner is started again.
        command += ["--limit", str(self.limit)] if self.limit and not self._started else []
        self._runner = subprocess.Popen(
            command,
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"PREFECT_API_URL": self.url},
        )
        deadline = time.monotonic() + READY_SECONDS
        while not ready.is_file():
            if (status := self._runner.poll()) is not None:
                raise VtccError(f"`flows.runner` ended with status {status}; its output is above")
            if time.monotonic() > deadline:
                groups.end(self._runner)  # it has started no run yet
                raise VtccError(f"`flows.runner` was not ready after {READY_SECONDS:.0f} s")
            time.sleep(0.1)
        self.limit, self._started = int(ready.read_text(encoding="utf-8") or 1), True
        ready.unlink(missing_ok=True)

    def watch(self) -> NoReturn:
        """Starts again what dies by itself, until it dies too often.

        While the server is away no runner is started, and flow runs that a dead one left go on.

        Raises:
            VtccError: when something died too often.
        """
        away = False
        while True:
            time.sleep(PAUSE_SECONDS if away else 0.5)
            if self._server is not None and self._server.poll() is not None:
                self._again("the Prefect server", self._server, self._start_server_again)
            if self._runner is None or self._runner.poll() is None:
                continue
            if server.answers(self.url):
                if away:  # a runner ends without its server: no death of its own
                    self._died.pop("flows.runner", None)
                away = False
                self._again("flows.runner", self._runner, self._start_runner)
            elif not away:
                away = True
                print(
                    f"no Prefect server answers at {self.url}: waiting for it; flow runs that are "
                    "under way go on",
                    flush=True,
                )

    def _start_server_again(self) -> None:
        self._server = start_server(self.url, self.project)

    def _again(self, name: str, process: subprocess.Popen, start: Callable[[], None]) -> None:
        """Starts a process that died; a start that fails is one more death."""
        now = time.monotonic()
        died = [at for at in self._died.get(name, []) if now - at < WITHIN]
        self._died[name] = [*died, now]
        ended = f"{name} ended with status {process.returncode}"
        if len(died) >= RESTARTS:
            raise VtccError(
                f"{ended}, {len(died) + 1} times in {WITHIN / 60:.0f} minutes; its output is above "
                f"or in {self.project / '.vtcc' / server.LOG}"
            )
        print(f"{ended}: starting it again", flush=True)
        try:
            start()
        except VtccError as error:
            print(f"{error}; trying again", flush=True)
            time.sleep(PAUSE_SECONDS)

    def stop(self) -> None:
        """Ends what was started: flow runs before the server that keeps their states."""
        for process in (self._runner, self._server):
            if process is not None:
                groups.end(process, grace=STOP_SECONDS)


def _project() -> Path:
    project = paths.project()
    if not (project / paths.PARAMS).is_file():
        raise VtccError(f"{project}: no {paths.PARAMS} here; change to the project's directory")
    return project


def _say(served: Served) -> None:
    default = server.configured_url(served.project, environment=False)
    elsewhere = "" if served.url == default else f"export PREFECT_API_URL={served.url}\n  "
    activate = "" if shutil.which("prefect") else "source .venv/bin/activate\n  "
    print(
        f"\nserving vtcc/train, vtcc/evaluate, vtcc/study, vtcc/sweep, vtcc/assign, vtcc/add\n"
        f"from {served.project}, "
        f"{served.limit} training{'s' if served.limit != 1 else ''} at a time\n"
        f"pages: {served.url.removesuffix('/api')}\n"
        f"in another terminal, in {served.project}:\n\n  {activate}{elsewhere}"
        "prefect deployment run vtcc/train --watch\n\nCtrl-C stops.",
        flush=True,
    )


if __name__ == "__main__":
    main()
