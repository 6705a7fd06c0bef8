"""`vtcc ui`: MLflow's pages over the project's own store, on this machine only."""

import errno
import signal
import socket
import subprocess
import sys
import uuid

from vtcc import paths, quiet
from vtcc.errors import VtccError
from vtcc.process import groups, locks
from vtcc.progress import note
from vtcc.tracking import store

HOST = "127.0.0.1"


def launch(port: int = 5000) -> None:
    """Serves the tracking store until Ctrl-C.

    Raises:
        VtccError: when the port is taken, or the store is a server that has pages of its own.
    """
    uri = store.tracking_uri()
    if uri.startswith(("http://", "https://", "databricks")):
        raise VtccError(
            f"MLFLOW_TRACKING_URI names a server: open {store.public_uri(uri)} in a browser, or "
            "unset the variable to see the local store"
        )
    check_port(port)
    quiet.apply()
    store.client()  # creates or checks the database here, where an error is one clear line
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", uri),
        *("--default-artifact-root", (paths.home() / store.ARTIFACTS).as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
    ]
    note(f"MLflow: http://{HOST}:{port} (Ctrl-C stops it)")
    # `kill` and a closed terminal end it like Ctrl-C, or the server would live on.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    # A session of its own: Ctrl-C reaches us alone, and we stop all of its workers.
    address = f"http://{HOST}:{port}"
    mark = locks.Mark(store.ui_marks() / f"{port}-{uuid.uuid4().hex}.lock", address)
    server = subprocess.Popen(command, start_new_session=True)
    try:
        status = server.wait()
    except KeyboardInterrupt:
        status = 0
    finally:
        # Politely first, but not by SIGINT, at which it prints a traceback.
        groups.end(server, signal.SIGTERM, grace=8.0)
        mark.remove()
    if status:
        raise VtccError(f"the MLflow server ended with status {status}; its lines above say why")


def check_port(
    port: int, command: str = "vtcc ui", make: str = "make ui MLFLOW_PORT", host: str = HOST
) -> None:
    """Raises VtccError when nothing can listen on `port` of this machine.

    Args:
        port: wanted.
        command, make: how to choose another, up to the number.
        host: to listen on.
    """
    if not 0 <= port < 65536:
        raise VtccError(f"--port: found {port}; allowed: 1 to 65535")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # as servers listen: `::` takes no port of IPv4
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(where)
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
        raise VtccError(
            f"--port: {address(host, port)} {why}; stop what runs there, or choose another: "
            f"{command} --port {port + 1} ({make}={port + 1})"
        ) from None


def address(host: str, port: int) -> str:
    """`host:port` as it stands in a URL, where IPv6 has brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
