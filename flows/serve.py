"""`python -m flows.serve`: a Prefect server on this machine, with `vtcc/train` deployed.

One terminal holds all of it: the server, unless one answers already, and the process that
starts flow runs. Ctrl-C ends what was started here, nothing else.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from flows import server
from vtcc import paths
from vtcc.errors import VtccError

START_SECONDS = 180.0
# A stage has 25 s to write its checkpoint and DVC a few to release its locks.
STOP_SECONDS = 40.0
SERVER_LOG = "prefect-server.log"


def main(arguments: list[str] | None = None) -> None:
    """Serves until Ctrl-C or SIGTERM; exits 1 with one line when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=4200, help="of the server; PREFECT_API_URL overrides it"
    )
    parser.add_argument(
        "--limit", type=int, default=1, help="flow runs at a time; others wait (default 1)"
    )
    given = parser.parse_args(arguments)
    if not 0 < given.port < 65536:
        parser.error(f"--port: expected 1 to 65535, found {given.port}")
    if given.limit < 1:
        parser.error(f"--limit: expected 1 or more, found {given.limit}")
    # A shell without job control starts `command &` deaf to SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    started: list[subprocess.Popen] = []
    try:
        project = _project()
        url = api_url(given.port)
        prefect = start_server(url, project / ".vtcc")
        started += [prefect] if prefect else []
        started.append(_start_runner(url, project, given.limit))
        _say(url, project, given.limit)
        _watch(started, project)
    except VtccError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopping; a training in progress keeps its checkpoint", flush=True)
    finally:
        # A second request must not leave half of it running.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # Flow runs end before the server that keeps their states.
        for process in reversed(started):
            end(process)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _start_runner(url: str, project: Path, limit: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.runner", "--limit", str(limit)],
        cwd=project,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PREFECT_API_URL": url},
    )


def _watch(started: list[subprocess.Popen], project: Path) -> NoReturn:
    """Waits for the first of our processes to end, which none should by itself."""
    while True:
        for process in started:
            try:
                process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            name = " ".join(process.args[2:4]) if isinstance(process.args, list) else ""
            raise VtccError(
                f"`{name}` ended with status {process.returncode}; its output is above or in "
                f"{project / '.vtcc' / SERVER_LOG}"
            )


def _project() -> Path:
    project = paths.project()
    if not (project / paths.PARAMS).is_file():
        raise VtccError(f"{project}: no {paths.PARAMS} here; change to the project's directory")
    return project


def api_url(port: int) -> str:
    """`PREFECT_API_URL` where it is set, else this machine's server at `port`."""
    given = os.environ.get("PREFECT_API_URL", "").strip().rstrip("/")
    return given or f"http://127.0.0.1:{port}/api"


def start_server(url: str, log_directory: Path) -> subprocess.Popen | None:
    """Starts a Prefect server at `url` and waits until it is healthy.

    Args:
        url: its API address.
        log_directory: gets the server's output, `prefect-server.log`.

    Returns:
        Its process, or None when a Prefect server answers there already.

    Raises:
        VtccError: when something else holds the port, the address is another machine's, or
            the server does not become healthy.
    """
    found = server.probe(url)
    if found == "prefect":
        print(f"using the Prefect server that answers at {url}", flush=True)
        return None
    host, port = urlsplit(url).hostname, urlsplit(url).port
    if host not in ("127.0.0.1", "localhost") or port is None:
        raise VtccError(
            f"PREFECT_API_URL: no Prefect server answers at {url}, and only one at "
            "http://127.0.0.1:PORT/api can be started here; start it there, or unset the variable"
        )
    if found == "other" or _taken(host, port):
        raise VtccError(
            f"port {port} is in use by something that is not a Prefect server; stop it, "
            "or choose another: make serve PREFECT_PORT=4300"
        )
    log_directory.mkdir(parents=True, exist_ok=True)
    log = log_directory / SERVER_LOG
    print(f"starting a Prefect server at {url} (log: {log})", flush=True)
    command = [sys.executable, "-m", "prefect", "server", "start"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", host, "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            # Its own group: Ctrl-C reaches us alone, and running flows end before the server.
            start_new_session=True,
            env=os.environ | {"PREFECT_API_URL": url, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
        )
    try:
        _wait_until_healthy(process, url, log)
    except BaseException:
        end(process)
        raise
    return process


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _wait_until_healthy(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise VtccError(
                f"the Prefect server ended while starting: {(said or [''])[-1]} ({log})"
            )
        if server.probe(url, timeout=2.0) == "prefect":
            return
        time.sleep(0.5)
    raise VtccError(f"the Prefect server was not healthy after {START_SECONDS:.0f} s; see {log}")


def end(process: subprocess.Popen, grace: float = STOP_SECONDS) -> None:
    """Ends a process started here with all its descendants, asking first.

    SIGINT reaches flow runs, which end their stage: a training writes a checkpoint.
    """
    import psutil

    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [*parent.children(recursive=True), parent]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    _, left = psutil.wait_procs(family, timeout=grace)
    for member in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def _say(url: str, project: Path, limit: int) -> None:
    elsewhere = "" if url == _default_url(project) else f"export PREFECT_API_URL={url}\n  "
    activate = "" if shutil.which("prefect") else "source .venv/bin/activate\n  "
    print(
        f"\nserving vtcc/train from {project}, {limit} at a time\n"
        f"pages: {url.removesuffix('/api')}\n"
        f"in another terminal, in {project}:\n\n  {activate}{elsewhere}"
        "prefect deployment run vtcc/train --watch\n\nCtrl-C stops.",
        flush=True,
    )


def _default_url(project: Path) -> str:
    without = os.environ.pop("PREFECT_API_URL", None)
    try:
        return server.configured_url(project)
    finally:
        if without is not None:
            os.environ["PREFECT_API_URL"] = without


if __name__ == "__main__":
    main()
