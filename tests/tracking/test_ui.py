import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from vtcc.errors import VtccError
from vtcc.tracking import store, ui


def test_busy_port_is_one_clear_line_before_anything_starts(elsewhere):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(VtccError, match=f"127.0.0.1:{port} is in use; .*--port {port + 1}"):
            ui.launch(port)
    assert not (elsewhere / "mlflow.db").exists()
    ui.check_port(port)


@pytest.mark.parametrize("host", ["::1", "::", "127.0.0.1", "localhost"])
def test_any_address_of_this_machine_is_tried(host):
    ui.check_port(0, "vtcc api", "make api API_PORT", host)
    family, kind, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as busy:
        busy.bind(where)
        busy.listen()
        port = busy.getsockname()[1]
        shown = re.escape(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        with pytest.raises(VtccError, match=f"{shown} is in use; .*--port {port + 1}"):
            ui.check_port(port, "vtcc api", "make api API_PORT", host)


def test_an_address_of_another_machine_is_one_clear_line():
    with pytest.raises(VtccError, match=r"--port: 192\.0\.2\.1:5002 cannot be used"):
        ui.check_port(5002, "vtcc api", "make api API_PORT", "192.0.2.1")


def test_impossible_port_is_refused(elsewhere):
    with pytest.raises(VtccError, match="found 70000; allowed: 1 to 65535"):
        ui.launch(70000)


def test_remote_store_has_its_own_pages(elsewhere, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:secret@host")
    with pytest.raises(VtccError, match="open https://host in a browser"):
        ui.launch()


@pytest.mark.slow
def test_pages_are_served_and_ctrl_c_stops_everything(here, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from vtcc.tracking import ui; ui.launch({port})"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=log, stderr=log, start_new_session=True
        )
        try:
            for _ in range(240):
                try:
                    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                    break
                except OSError:
                    assert process.poll() is None, (tmp_path / "log").read_text()
                    time.sleep(0.5)
            assert b"MLflow" in page
            assert store.pages() == f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGINT)
            assert process.wait(40) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in (tmp_path / "log").read_text()
    ui.check_port(port)  # nothing listens any more
