"""The Prefect server of `make serve`: one that answers already, or a new one."""

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from flows import server
from vtcc.errors import VtccError
from vtcc.process import groups
from vtcc.tracking.ui import check_port

START_SECONDS = 180.0
# A stage has 25 s to write its checkpoint and DVC a few to release its locks.
STOP_SECONDS = 40.0


def start_server(url: str, project: Path) -> subprocess.Popen | None:
    """Starts a Prefect server at `url` and waits until it is healthy.

    Args:
        url: its API address.
        project: holds `.vtcc`, which gets the server's output.

    Returns:
        Its process, or None when a Prefect server answers there already.

    Raises:
        VtccError: when something else holds the port, the address is another machine's, or
            the server does not become healthy.
    """
    if server.answers(url):
        print(f"using the Prefect server that answers at {url}", flush=True)
        return None
    host, port = urlsplit(url).hostname, urlsplit(url).port
    if host not in ("127.0.0.1", "localhost") or port is None:
        raise VtccError(
            f"PREFECT_API_URL: no Prefect server answers at {url}, and only one at "
            "http://127.0.0.1:PORT/api can be started here; start it there, or unset the variable"
        )
    check_port(port, "python -m flows.serve", "make serve PREFECT_PORT", host)
    log = project / ".vtcc" / server.LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"starting a Prefect server at {url} (log: {log})", flush=True)
    command = [sys.executable, "-m", "prefect", "server", "start"]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*command, "--host", host, "--port", str(port)],
            cwd=project,  # its pyproject.toml has settings of the server
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            # Its own group: Ctrl-C reaches us alone, and running flows end before the server.
            start_new_session=True,
            env=os.environ | {"PREFECT_API_URL": url},
        )
    try:
        _wait_until_healthy(process, url, log)
    except BaseException:
        groups.end(process, grace=STOP_SECONDS)
        raise
    return process


def _wait_until_healthy(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise VtccError(
                f"the Prefect server ended while starting: {(lines or [''])[-1]} ({log})"
            )
        if server.answers(url, timeout=2.0):
            return
        time.sleep(0.5)
    raise VtccError(f"the Prefect server was not healthy after {START_SECONDS:.0f} s; see {log}")
