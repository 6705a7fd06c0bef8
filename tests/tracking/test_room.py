"""Bodies of many requests at a time, by a real server on a port of this machine."""

import contextlib
import http.client
import json
import socket
import threading
import time
from unittest.mock import create_autospec

import pandas as pd
import pytest

from vtcc import bounds
from vtcc.tracking import api, packaging, room

LARGEST, FREE = 40_000, 4_000  # bytes of a body; of one that needs no room
BODY = b"x" * LARGEST


class Running:
    """The server of a model whose answers to large images wait for `gate`."""

    def __init__(self):
        from mlflow.models import Model

        self.gate, self.failing = threading.Event(), False
        self.served = create_autospec(api.Served, instance=True)
        self.served.metadata = Model(signature=packaging.signature())
        self.served.predict.side_effect = self.predict
        settings = api.Settings(max_bytes=LARGEST, max_images=4)
        self.app = api.application(self.served, "127.0.0.1", settings)

    def predict(self, data, params=None):
        if self.failing:
            raise ValueError("a fault")
        sizes = [len(image) for image in data["image"]]
        if max(sizes) > FREE:
            assert self.gate.wait(20)
        return pd.DataFrame({"size": sizes})

    @property
    def held(self):
        return self.app.room.held

    def holds(self, size):
        end = time.monotonic() + 10
        while self.held != size:
            assert time.monotonic() < end, f"{self.held} bytes are held, not {size}"
            time.sleep(0.005)

    def send(self, body=b"", length=None, kind="image/png"):
        """Sends a request with these bytes of a body of this length: chunked where that is 0."""
        sent = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        size = f"Content-Length: {len(body) if length is None else length}"
        if length == 0:
            size, body = "Transfer-Encoding: chunked", chunk(body)
        head = (
            f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{size}\r\n"
        )
        sent.sendall(head.encode() + b"\r\n" + body)
        return sent


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(sent):
    """Status, what is said, and the headers."""
    with sent:
        told = http.client.HTTPResponse(sent)
        told.begin()
        return told.status, json.loads(told.read()), told.headers


@contextlib.contextmanager
def serving(app):
    """The port at which the app is served, and the connections to it."""
    import uvicorn

    from vtcc.tracking import connection

    process = uvicorn.Server(connection.configured(app, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=process.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1], process.server_state.connections
        finally:
            process.should_exit = True
            thread.join(20)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(bounds, "REQUESTS_BYTES", 3 * LARGEST)
    monkeypatch.setattr(bounds, "REQUEST_FREE_BYTES", FREE)
    running = Running()
    with serving(running.app) as (running.port, running.connections):
        yield running
        running.gate.set()


def test_a_body_for_which_there_is_no_room_waits_and_small_ones_pass(server, monkeypatch):
    monkeypatch.setattr(bounds, "REQUEST_PATIENCE", 0.2)
    large = [server.send(BODY) for _ in range(3)]
    server.holds(3 * LARGEST)
    status, told, headers = answer(server.send(BODY))
    assert (status, headers["retry-after"]) == (503, "0.2"), told
    assert told == {"error": "no room beside other large requests; send it again in 0.2 s"}
    monkeypatch.setattr(bounds, "REQUEST_PATIENCE", 20)
    waiting = server.send(BODY)
    small = answer(server.send(b"x" * FREE))[:2]
    assert small == (200, {"predictions": [{"size": FREE}]})
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as asks:
        asks.request("GET", "/ping", headers={"Host": "localhost"})
        assert asks.getresponse().status == 200
    assert server.held == 3 * LARGEST
    server.gate.set()
    for sent in (*large, waiting, server.send(BODY)):
        assert answer(sent)[:2] == (200, {"predictions": [{"size": LARGEST}]})
    server.holds(0)


def test_a_client_that_breaks_off_gives_its_room_back(server):
    unread = server.send(b"x", length=LARGEST)
    server.holds(LARGEST)
    answering = server.send(BODY)
    server.holds(2 * LARGEST)
    unread.close()
    server.holds(LARGEST)
    answering.close()
    server.gate.set()  # its forward pass goes on until now
    server.holds(0)


def test_a_body_without_a_length_counts_as_the_largest_until_it_is_there(server):
    sent = server.send(b"x" * FREE, length=0)
    time.sleep(0.05)
    assert server.held == 0
    sent.sendall(chunk(b"x" * 100))
    server.holds(LARGEST)
    sent.sendall(chunk(b"x" * 100) + b"0\r\n\r\n")
    server.holds(FREE + 200)
    server.gate.set()
    assert answer(sent)[:2] == (200, {"predictions": [{"size": FREE + 200}]})
    server.holds(0)


def test_a_slow_body_holds_no_room_for_ever(server, monkeypatch):
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0.2)
    sent = server.send(b"x", length=LARGEST)
    server.holds(LARGEST)
    with contextlib.suppress(OSError):  # it is told while it sends
        while server.held:
            sent.sendall(b"x")
            time.sleep(0.01)
    status, told, headers = answer(sent)
    assert (status, headers["connection"]) == (408, "close")
    why = "the request was not there after 0.2 s; send fewer images at a time"
    assert told == {"error": why}


@pytest.mark.parametrize(
    ("body", "length", "kind", "status"),
    [
        (BODY + b"x", 0, "image/png", 413),
        (b"[" * 10_000, None, "application/json", 413),
        (b"{" + b" " * 10_000, None, "application/json", 400),
        (BODY, None, "image/png", 400),
    ],
)
def test_what_is_refused_gives_its_room_back(server, body, length, kind, status):
    server.failing = True
    assert answer(server.send(body, length, kind))[0] == status
    server.holds(0)


def test_the_largest_body_fits_where_no_other_is(monkeypatch):
    monkeypatch.setattr(bounds, "REQUESTS_BYTES", 10)
    assert (room.Room(7).most, room.Room(11).most) == (10, 11)
