"""Bodies of many requests at a time, by a real server on a port of this machine."""

import asyncio
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


def test_room_is_taken_for_what_has_come_not_for_what_was_announced(server):
    server.gate.set()
    silent = [server.send(b"x" * FREE, length=LARGEST) for _ in range(4)]
    begun = server.send(b"x" * (FREE + 1), length=LARGEST)
    server.holds(FREE + 1)
    for _ in range(3):
        assert answer(server.send(BODY))[:2] == (200, {"predictions": [{"size": LARGEST}]})
    for sent in silent:
        sent.sendall(b"x" * (LARGEST - FREE))
        assert answer(sent)[:2] == (200, {"predictions": [{"size": LARGEST}]})
    begun.close()
    server.holds(0)


def test_bodies_that_come_together_do_not_wait_for_each_other(server):
    server.gate.set()
    together = [server.send(b"x" * (LARGEST // 2), length=LARGEST) for _ in range(6)]
    server.holds(5 * LARGEST // 2)  # the rest is what one of them needs to come to its end
    for sent in together:
        sent.sendall(b"x" * (LARGEST // 2))
    for sent in together:
        assert answer(sent)[:2] == (200, {"predictions": [{"size": LARGEST}]})
    server.holds(0)


def test_a_client_that_breaks_off_gives_its_room_back(server):
    unread = server.send(b"x" * (FREE + 1), length=LARGEST)
    server.holds(FREE + 1)
    answering = server.send(BODY)
    server.holds(FREE + 1 + LARGEST)
    unread.close()
    server.holds(LARGEST)
    answering.close()
    server.gate.set()  # its forward pass goes on until now
    server.holds(0)


def test_a_body_without_a_length_takes_what_has_come(server):
    sent = server.send(b"x" * FREE, length=0)
    time.sleep(0.05)
    assert server.held == 0
    sent.sendall(chunk(b"x" * 100))
    server.holds(FREE + 100)
    sent.sendall(chunk(b"x" * 100) + b"0\r\n\r\n")
    server.holds(FREE + 200)
    server.gate.set()
    assert answer(sent)[:2] == (200, {"predictions": [{"size": FREE + 200}]})
    server.holds(0)


def test_who_waits_for_room_goes_on_when_another_body_ends_below_its_most(monkeypatch):
    monkeypatch.setattr(bounds, "REQUESTS_BYTES", 10)
    monkeypatch.setattr(bounds, "REQUEST_FREE_BYTES", 0)

    async def both():
        place = room.Room(10)
        first, second = room.Share(place, 10), room.Share(place, 10)
        await first.cover(6, whole=False)
        waiting = asyncio.create_task(second.cover(3, whole=False))
        await asyncio.sleep(0.01)
        assert (place.held, waiting.done()) == (6, False)
        await first.cover(7, whole=True)
        await waiting
        assert (first.size, second.size) == (7, 3)

    asyncio.run(both())


def trickle(server, sent, pause, piece=b"x"):
    with contextlib.suppress(OSError):  # it is told while it sends
        while server.held:
            sent.sendall(piece)
            time.sleep(pause)


def test_a_slow_body_holds_no_room_for_ever(server, monkeypatch):
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0.2)
    sent = server.send(b"x" * (FREE + 1), length=LARGEST)
    server.holds(FREE + 1)
    trickle(server, sent, 0.01)
    status, told, headers = answer(sent)
    assert (status, headers["connection"]) == (408, "close")
    why = "the request was not there after 0.2 s; send fewer images at a time"
    assert told == {"error": why}


@pytest.mark.parametrize("kind", ["image/png", "application/json"])
@pytest.mark.parametrize("pause", [0.01, 5])
def test_a_body_that_makes_no_progress_is_not_waited_for(server, monkeypatch, pause, kind):
    monkeypatch.setattr(bounds, "REQUEST_PAUSE", 0.2)
    monkeypatch.setattr(bounds, "REQUEST_PROGRESS", 2 * FREE)
    begun = time.monotonic()
    sent = server.send(b"x" * (FREE + 1), length=LARGEST, kind=kind)
    server.holds(FREE + 1)
    if pause < 1:
        trickle(server, sent, pause)
    status, told, headers = answer(sent)
    assert (status, headers["connection"]) == (408, "close")
    why = "less than 7.8125 KiB of the request came in 0.2 s; send fewer images at a time"
    assert told == {"error": why}
    assert time.monotonic() - begun < 3
    server.holds(0)


def test_what_came_while_the_event_loop_stood_still_is_in_time(monkeypatch):
    monkeypatch.setattr(bounds, "REQUEST_PAUSE", 0.1)

    async def parts(second, third):
        """Two more come while nothing runs, or by and by after the first."""
        parts = asyncio.Queue()
        pace = room.Pace(parts.get)
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, time.sleep, 0.2)
        for after in (0.02, second, third):
            loop.call_later(after, parts.put_nowait, {"body": b"x", "more_body": True})
        return [await pace() for _ in range(3)]

    assert len(asyncio.run(parts(0.03, 0.04))) == 3
    with pytest.raises(room.RefusedError, match=r"^less than 10 KiB of the request came in 0.1 s"):
        asyncio.run(parts(0.03, 5))


def test_a_slow_body_that_makes_progress_is_answered(server, monkeypatch):
    monkeypatch.setattr(bounds, "REQUEST_PAUSE", 0.5)
    monkeypatch.setattr(bounds, "REQUEST_PROGRESS", FREE)
    server.gate.set()
    begun = time.monotonic()
    sent = server.send(b"", length=LARGEST)
    for at in range(0, LARGEST, FREE):
        time.sleep(0.07)
        sent.sendall(BODY[at : at + FREE])
    assert answer(sent)[:2] == (200, {"predictions": [{"size": LARGEST}]})
    assert time.monotonic() - begun > bounds.REQUEST_PAUSE


def test_time_that_a_body_waits_for_room_is_not_the_clients(server, monkeypatch):
    monkeypatch.setattr(bounds, "REQUEST_PAUSE", 0.3)
    monkeypatch.setattr(bounds, "REQUEST_PROGRESS", LARGEST)
    large = [server.send(BODY) for _ in range(3)]
    server.holds(3 * LARGEST)
    waiting = server.send(b"x" * (LARGEST // 2), length=LARGEST)
    time.sleep(0.5)
    server.gate.set()
    server.holds(LARGEST // 2)
    waiting.sendall(b"x" * (LARGEST // 2))
    assert [answer(sent)[0] for sent in (waiting, *large)] == [200] * 4


def test_the_rest_of_a_refused_body_is_not_waited_for_either(server, monkeypatch):
    monkeypatch.setattr(bounds, "REQUEST_PAUSE", 0.2)
    sent = server.send(b"x", length=LARGEST, kind="text/plain")
    heard = sent.recv(1 << 16)
    assert heard.startswith(b"HTTP/1.1 415 ")
    end = time.monotonic() + 3
    while server.connections:
        assert time.monotonic() < end
        time.sleep(0.005)
    sent.close()


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
