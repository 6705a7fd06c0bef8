"""What clients do beside asking: say nothing, read nothing, say two things at once."""

import http.client
import socket
import time
import urllib.error
import urllib.request

import pandas as pd
import pytest

from tests.tracking.test_room import (  # noqa: F401 - a fixture
    FREE,
    LARGEST,
    answer,
    chunk,
    server,
    serving,
)
from vtcc import bounds
from vtcc.tracking import limits

PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n"


def connected(server):  # noqa: F811
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def until(true):
    end = time.monotonic() + 3
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("said", [b"", b"GET /ping HTTP/1.1\r\nHo", PING + b"GET "])
def test_a_client_that_is_silent_is_not_waited_for_for_ever(server, monkeypatch, said):  # noqa: F811
    monkeypatch.setattr(bounds, "REQUEST_PAUSE", 0.2)
    begun = time.monotonic()
    with connected(server) as silent:
        silent.sendall(said)
        heard = b""
        try:
            while part := silent.recv(1 << 16):
                heard += part
        except ConnectionResetError:
            pass
    assert heard.count(b"200 OK") == said.count(PING)
    assert time.monotonic() - begun < 3  # uvicorn ends a connection without a byte after 5


def test_an_answer_that_is_not_read_holds_no_room_for_ever(server, monkeypatch):  # noqa: F811
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0.3)
    long = pd.DataFrame({"size": ["x" * (20 << 20)]})
    server.served.predict.side_effect = lambda data, params=None: long
    unread = server.send(b"x" * LARGEST)
    server.holds(LARGEST)
    server.holds(0)
    unread.close()


def test_requests_behind_an_answer_that_is_not_read_hold_none_either(monkeypatch):
    """The answer is handed over in one piece, so the next one waits for it to be read."""
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(bounds, "REQUEST_FREE_BYTES", FREE)
    asked = []

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * (20 << 20)})

    limited = limits.Limits(app, LARGEST, 4)
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\nHost: x\r\n\r\n" % LARGEST + b"x" * LARGEST
    with (
        serving(limited) as (port, connections),
        socket.create_connection(("127.0.0.1", port)) as unread,
    ):
        unread.sendall(request * 2)
        until(lambda: len(asked) == 2)
        assert limited.room.held == LARGEST
        until(lambda: limited.room.held == 0 and not connections)


def test_a_request_that_is_none_behind_an_answer_that_is_not_read(server, monkeypatch):  # noqa: F811
    """The last one never gets its answer, and uvicorn was not told that much is unread."""
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0.5)
    long = pd.DataFrame({"size": ["x" * (20 << 20)]})
    server.served.predict.side_effect = lambda data, params=None: long
    head = POST + b"Content-Type: image/png\r\n"
    with connected(server) as unread:
        until(lambda: server.connections)
        next(iter(server.connections)).transport.set_write_buffer_limits(high=1 << 30)
        unread.sendall(head + b"Content-Length: 1\r\n\r\nx" + head + b"Transfer-Encoding: chunked")
        until(lambda: server.served.predict.call_count == 1)
        unread.sendall(b"\r\n\r\nno chunk\r\n")
        until(lambda: not server.connections)


@pytest.mark.parametrize("order", [1, -1])
def test_a_request_of_two_lengths_is_refused(server, order):  # noqa: F811
    """A proxy that goes by the other one would take what follows for another request."""
    lengths = [b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"][::order]
    with connected(server) as asks:
        asks.sendall(POST + b"".join(lengths) + b"\r\n0\r\n\r\n" + PING)
        told = http.client.HTTPResponse(asks)
        told.begin()
        assert (told.status, told.headers["connection"]) == (400, "close")
        why = "found Content-Length and Transfer-Encoding; send one of them"
        assert told.read().decode() == f'{{"error": "{why}"}}'
        assert asks.recv(10) == b""


def test_a_connection_too_many_is_told_so_as_all_else_is(server, monkeypatch):  # noqa: F811
    monkeypatch.setattr(bounds, "CONNECTIONS", 2)
    first, second = connected(server), connected(server)
    until(lambda: len(server.connections) == 2)
    with first, connected(server) as third:
        third.sendall(PING)
        status, told, headers = answer(third)
        assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "5")
        assert told == {"error": "all 2 connections are in use; send it again in 5 s"}
        second.sendall(PING)  # is answered all the same, and leaves a place
        assert second.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        second.close()
        until(lambda: len(server.connections) == 1)
        first.sendall(PING)
        assert first.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


def test_requests_whose_clients_are_gone_count_while_they_are_answered(server, monkeypatch):  # noqa: F811
    monkeypatch.setattr(bounds, "CONNECTIONS", 2)
    for _ in range(2):
        held = server.held
        gone = server.send(b"x" * LARGEST)
        server.holds(held + LARGEST)
        gone.close()
    with connected(server) as asks:
        until(lambda: len(server.connections) == 1)
        asks.sendall(PING)
        assert answer(asks)[0] == 503


@pytest.mark.parametrize("said", [b"no HTTP\r\n\r\n", POST + b"Content-Length: -5\r\n\r\n"])
def test_what_is_no_request_is_told_so_as_all_else_is(server, said):  # noqa: F811
    with connected(server) as asks:
        asks.sendall(said)
        status, told, headers = answer(asks)
        assert (status, headers["connection"]) == (400, "close")
        assert headers["content-type"] == "application/json"
        assert told == {"error": "Invalid HTTP request received."}


def test_what_is_no_request_behind_a_refusal_ends_the_connection(server, caplog):  # noqa: F811
    with connected(server) as asks:
        asks.sendall(POST + b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        told = http.client.HTTPResponse(asks)
        told.begin()
        length = told.length
        assert (told.status, len(told.read(length))) == (415, length)
        asks.sendall(b"no chunk\r\n")
        assert asks.recv(10) == b""
    assert not [record for record in caplog.records if record.exc_info]


def test_a_client_that_sends_all_before_it_reads_hears_why(server):  # noqa: F811
    for size, kind, status in ((5 << 20, "image/png", 413), (LARGEST, "text/plain", 415)):
        asked = urllib.request.Request(  # with `Connection: close`
            f"http://127.0.0.1:{server.port}/invocations", b"x" * size, {"Content-Type": kind}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=10)
        assert refused.value.code == status


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"Content-Type: application/json\r\nContent-Length: 1000\r\n", b"[" * 1000, 413),
        (b"Content-Type: image/png\r\nContent-Length: 90000\r\n", b"x" * 90_000, 413),
        (b"Content-Type: text/plain\r\nContent-Length: 3\r\n", b"abc", 415),
        (b"Content-Type: image/png\r\nContent-Length: 3\r\n", b"abc", 200),
        (b"Content-Type: image/png\r\nContent-Length: 3\r\nContent-Length: 3\r\n", b"abc", 200),
    ],
)
def test_the_next_request_of_a_connection_is_answered_at_once(server, head, body, status):  # noqa: F811
    begun = time.monotonic()
    with connected(server) as asks:
        asks.sendall(POST + head + b"\r\n" + body + PING)
        heard = b""
        while heard.count(b"HTTP/1.1 ") < 2:  # an `HTTPResponse` may take a part of the next one
            heard += asks.recv(1 << 16)
            assert time.monotonic() - begun < 3
    assert [int(said[:3]) for said in heard.split(b"HTTP/1.1 ")[1:]] == [status, 200]
    assert time.monotonic() - begun < 3


def test_a_client_that_asks_first_is_told_first(server):  # noqa: F811
    head = POST + b"Content-Type: image/png\r\nExpect: 100-continue\r\nContent-Length: "
    with connected(server) as asks:
        asks.sendall(head + b"%d\r\n\r\n" % (LARGEST + 1))
        assert answer(asks)[0] == 413
    with connected(server) as asks:
        asks.sendall(head + b"%d\r\n\r\n" % FREE)
        assert asks.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        asks.sendall(b"x" * FREE)
        assert answer(asks)[:2] == (200, {"predictions": [{"size": FREE}]})


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_client_that_was_told_to_send_hears_why_it_is_refused_then(server, expect):  # noqa: F811
    head = b"Content-Type: image/png\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    with connected(server) as asks:
        asks.sendall(POST + head + expect + b"\r\n")
        if expect:
            assert asks.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        asks.sendall(chunk(b"x" * (5 << 20)) + chunk(b""))
        assert answer(asks)[0] == 413
