"""`python -m flows.serve`: a Prefect server on this machine, with `vtcc/train` deployed.

One terminal holds all of it: the server, unless one answers already, and the process that
starts flow runs. Ctrl-C ends what was started here, nothing else.
"""

import argparse
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
STOP_SECONDS = 10.0


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
    # Stopped like Ctrl-C by whoever ends services, so that the server ends with us.
    signal.signal(signal.SIGTERM, _interrupt)
    started = None
    try:
        project = _project()
        url = api_url(given.port)
        started = start_server(url, project / ".vtcc")
        os.environ["PREFECT_API_URL"] = url
        os.chdir(project)
        _serve(url, project, given.limit)
    except VtccError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        if started is not None:
            stop_server(started)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


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
        log_directory: gets `prefect-server.log`.

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
    log = log_directory / "prefect-server.log"
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
        stop_server(process)
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


def stop_server(process: subprocess.Popen) -> None:
    """Ends a server that `start_server` started, and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
    process.wait()


def _serve(url: str, project: Path, limit: int) -> None:
    # Prefect reads PREFECT_API_URL when it is imported.
    from flows.train import train

    elsewhere = "" if url == _default_url(project) else f"export PREFECT_API_URL={url}\n  "
    activate = "" if shutil.which("prefect") else "source .venv/bin/activate\n  "
    print(
        f"\nserving vtcc/train from {project}, {limit} at a time\n"
        f"pages: {url.removesuffix('/api')}\n"
        f"in another terminal, in {project}:\n\n  {activate}{elsewhere}"
        "prefect deployment run vtcc/train --watch\n\nCtrl-C stops.",
        flush=True,
    )
    train.serve(
        name="train",
        description="download, validate, train, evaluate, register",
        limit=limit,
        print_starting_message=False,
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
