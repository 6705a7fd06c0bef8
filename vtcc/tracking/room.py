"""Bodies of requests to `vtcc api`: the limits of each, and room in memory for all together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from vtcc import bounds

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLOSE = (b"connection", b"close")
# Each value of those texts has one of these before or behind it; base64 has none. A value of two
# bytes becomes an object of a hundred and more, and a record of an image has three to ten.
_MARKS = (b",", b":", b"[", b"{", b"\n", b"\r")


class RefusedError(Exception):
    """A request that the app does not get, or not as a whole."""

    def __init__(self, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers


def _too_much(excess: str) -> RefusedError:
    return RefusedError(413, f"the request {excess}; send fewer images at a time")


def too_long(most: int) -> RefusedError:
    """Of a body above `most` bytes."""
    return _too_much(f"is larger than {most / 2**20:g} MiB")


class Room:
    """Bytes that may be held at a time: `bounds.requests_bytes`.

    Attributes:
        held: bytes that are taken now.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: of one body. It fits where no other is."""
        self.most, self.held = bounds.requests_bytes(max_bytes), 0
        self._freed = asyncio.Event()

    async def take(self, size: int) -> None:
        """Waits until `size` bytes are free. A smaller body that fits does not wait behind it.

        Raises:
            RefusedError: when they are not in `bounds.REQUEST_PATIENCE` seconds.
        """
        try:
            async with asyncio.timeout(bounds.REQUEST_PATIENCE):
                while self.held + size > self.most:
                    await self._freed.wait()
        except TimeoutError:
            after = str(bounds.REQUEST_PATIENCE)
            why = f"no room beside other large requests; send it again in {after} s"
            raise RefusedError(503, why, (b"retry-after", after.encode())) from None
        self.held += size

    def give(self, size: int) -> None:
        """Frees `size` bytes, and wakes those who wait: who has waited longest looks first."""
        self.held -= size
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()


class Share:
    """What one request has of the room. At the end of `with` it is given back.

    Attributes:
        size: bytes.
    """

    def __init__(self, room: Room) -> None:
        self._room, self.size = room, 0

    def covers(self, size: int) -> bool:
        """Whether a body of `size` bytes needs no more; a small one needs no room at all."""
        return size <= max(self.size, bounds.REQUEST_FREE_BYTES)

    async def cover(self, size: int) -> None:
        """Takes what a body of `size` bytes needs more.

        Raises:
            RefusedError: as of `Room.take`.
        """
        if not self.covers(size):
            await self._room.take(size - self.size)
            self.size = size

    def shrink(self, size: int) -> None:
        """Gives back what is above `size` bytes."""
        if self.size > size:
            self._room.give(self.size - size)
            self.size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shrink(0)


class Body:
    """The body of a request, within the limits.

    Attributes:
        refused: why it is not handed on to its end.
        asked: the client has been told to send it, where it waits for that.
        whole: it has been read to its end.
    """

    def __init__(
        self, receive: Receive, share: Share, declared: int, max_bytes: int, max_values: int
    ) -> None:
        self._receive, self._share, self._declared = receive, share, declared
        self._max_bytes, self._max_values = max_bytes, max_values
        self._seen, self._values, self.asked, self.whole = 0, 0, False, False
        self._end = asyncio.get_running_loop().time() + bounds.REQUEST_SECONDS
        self.refused: RefusedError | None = None

    async def __call__(self) -> Message:
        """The next part.

        Raises:
            RefusedError: where it is above a limit, late, or finds no room.
        """
        if self.whole:  # what follows is that the client is gone
            return await self._receive()
        try:
            return await self._part()
        except TimeoutError:
            why = f"the request was not there after {bounds.REQUEST_SECONDS} s"
            self.refused = RefusedError(408, f"{why}; send fewer images at a time", CLOSE)
        except RefusedError as refused:
            self.refused = refused
        raise self.refused

    async def _part(self) -> Message:
        await self._share.cover(self._declared)
        self.asked = True
        async with asyncio.timeout_at(self._end):
            message = await self._receive()
        self.whole = not message.get("more_body")
        body = message.get("body", b"")
        self._seen += message.get("image_bytes", len(body))
        self._values += sum(body.count(mark) for mark in _MARKS)
        if self._seen > self._max_bytes:
            raise too_long(self._max_bytes)
        if self._values > self._max_values:
            raise _too_much(f"holds more than {self._max_values} values")
        if self.whole:
            await self._share.cover(self._seen)
            self._share.shrink(self._seen)
        elif not self._share.covers(self._seen):  # it told no length: it may be of any
            await self._share.cover(self._max_bytes)
        return message
