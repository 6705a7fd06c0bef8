"""Connections to `vtcc api`: uvicorn's own wait for the silent, and refuse in plain text."""

import asyncio
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from vtcc import bounds
from vtcc.tracking import limits
from vtcc.tracking.room import CLOSE, Message, Receive, Send, later


async def _full(scope: Message, receive: Receive, send: Send) -> None:
    refused = later(f"all {bounds.CONNECTIONS} connections are in use", CLOSE)
    await limits.refuse(send, refused.status, refused.why, *refused.headers)


class Connection(H11Protocol):
    """Ends when a head takes `bounds.REQUEST_PAUSE`, or an answer's reading `REQUEST_SECONDS`.

    `limits.Limits` sees to the body between them.
    """

    _end: asyncio.TimerHandle | None = None
    _unread: Any = None  # the request whose answer the client reads slowly

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The head of the first request is waited for."""
        super().connection_made(transport)
        self._wait(bounds.REQUEST_PAUSE)

    def handle_events(self) -> None:
        """A request is not the app's where there are too many."""
        most = bounds.CONNECTIONS
        # A request of a client that is gone is answered all the same.
        full = len(self.connections) > most or len(self.tasks) >= most
        self.app = _full if full else self.config.loaded_app
        super().handle_events()

    def send_400_response(self, msg: str) -> None:
        """Says that this is no HTTP, unless another answer is under way."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers, body = limits.worded(msg, CLOSE)
            head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """The head of the next one is, once the client has read the answer."""
        super().on_response_complete()
        unread = self.transport.get_write_buffer_size()
        self._wait(bounds.REQUEST_SECONDS if unread else bounds.REQUEST_PAUSE)

    def pause_writing(self) -> None:
        """The client has not read what was sent so far."""
        super().pause_writing()
        if self._unread is not self.cycle:  # it may stop and go on many times
            self._unread = self.cycle
            self._wait(bounds.REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for."""
        super().connection_lost(exc)
        if self._end is not None:
            self._end.cancel()

    def _wait(self, seconds: float) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        answered = self.cycle is None or self.cycle.response_complete
        # The request may be one that waits behind an earlier answer, which is not read.
        unread = self._unread is self.cycle or self.flow.write_paused
        if answered or unread or self.transport.is_closing():
            self.transport.abort()
        else:  # the server is at work
            self._wait(bounds.REQUEST_SECONDS)


def configured(app: Any, **more: Any) -> uvicorn.Config:
    """uvicorn's settings; `more` are others, such as host and port."""
    return uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        **more,
    )
