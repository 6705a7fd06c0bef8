"""Bodies of requests to `vtcc api`: the limits of each, and room in memory for all together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from vtcc import bounds

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

CLOSE: Header = (b"connection", b"close")
# Each value of those texts has one of these before or behind it; base64 has none. A value of two
# bytes becomes an object of a hundred and more, and a record of an image has three to ten.
_MARKS = (b",", b":", b"[", b"{", b"\n", b"\r")
_STILL = 0.05  # seconds that a timer is late by where the event loop stood still


class RefusedError(Exception):
    """A request that the app does not get, or not as a whole."""

    def __init__(self, status: int, why: str, *headers: Header) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers


def _too_much(excess: str) -> RefusedError:
    return RefusedError(413, f"the request {excess}; send fewer images at a time")


def too_long(most: int) -> RefusedError:
    """Of a body above `most` bytes."""
    return _too_much(f"is larger than {most / 2**20:g} MiB")


def later(why: str, *headers: Header) -> RefusedError:
    """Of a request that may find room when it is sent again."""
    after = str(bounds.REQUEST_PATIENCE)
    headers = ((b"retry-after", after.encode()), *headers)
    return RefusedError(503, f"{why}; send it again in {after} s", *headers)


class Room:
    """Bytes that may be held at a time: `bounds.requests_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: of one body. It fits where no other is."""
        self.most = bounds.requests_bytes(max_bytes)
        self._shares: set[Share] = set()
        self._freed = asyncio.Event()

    @property
    def held(self) -> int:
        """Bytes that are taken now."""
        return sum(share.size for share in self._shares)

    async def take(self, share: "Share", size: int) -> None:
        """Waits until there is room for `size` bytes of a body, and takes it.

        A smaller body that fits does not wait behind it.

        Raises:
            RefusedError: when there is none in `bounds.REQUEST_PATIENCE` seconds.
        """
        try:
            async with asyncio.timeout(bounds.REQUEST_PATIENCE):
                while not self._fits(share, size):
                    await self._freed.wait()
        except TimeoutError:
            raise later("no room beside other large requests") from None
        share.size = size
        self._shares.add(share)

    def _fits(self, share: "Share", size: int) -> bool:
        """Whether all bodies can still come to their end, one after the other, beside that.

        Else each could wait for the room of the others, until all are refused.
        """
        sizes = {each: each.size for each in self._shares} | {share: size}
        free = self.most - sum(sizes.values())
        for needed, held in sorted((each.most - here, here) for each, here in sizes.items()):
            if needed > free:
                return False
            free += held
        return True

    def give(self, share: "Share") -> None:
        """Frees what a body has."""
        self._shares.discard(share)
        self.wake()

    def wake(self) -> None:
        """Lets those look who wait: who has waited longest looks first."""
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()


class Share:
    """What one request has of the room. At the end of `with` it is given back.

    Attributes:
        most: bytes that its body may come to.
        size: bytes of room that it has.
    """

    def __init__(self, room: Room, most: int) -> None:
        self._room, self.most, self.size = room, most, 0

    async def cover(self, size: int, *, whole: bool) -> None:
        """Takes what the `size` bytes that have come need more; a small body needs no room.

        Args:
            size: bytes. whole: no more will come.

        Raises:
            RefusedError: as of `Room.take`.
        """
        if whole and size < self.most:
            self.most = size
            self._room.wake()
        if size > max(self.size, bounds.REQUEST_FREE_BYTES):
            await self._room.take(self, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.give(self)


class Pace:
    """Waits for the parts of a body: not for ever, and not long for one that makes no progress."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._whole = receive, False
        self._end = asyncio.get_running_loop().time() + bounds.REQUEST_SECONDS
        # Seconds that are left for bytes that are due.
        self._left, self._due = float(bounds.REQUEST_PAUSE), bounds.REQUEST_PROGRESS

    async def __call__(self) -> Message:
        """The next part.

        Raises:
            RefusedError: where it is late.
        """
        if self._whole:  # what follows is that the client is gone
            return await self._receive()
        now = asyncio.get_running_loop().time
        begun = now()
        while True:
            until = min(begun + self._left, self._end)
            try:
                async with asyncio.timeout_at(until):
                    message = await self._receive()
                break
            except TimeoutError:
                late = now() - until
                if late < _STILL:
                    raise self._refused(until) from None
            # What came meanwhile could not be seen.
            self._left += late
            self._end += late
        self._whole = not message.get("more_body")
        self._left -= now() - begun
        self._due -= len(message.get("body", b""))
        if self._due <= 0:
            self._left, self._due = float(bounds.REQUEST_PAUSE), bounds.REQUEST_PROGRESS
        return message

    def _refused(self, until: float) -> RefusedError:
        pause, due = bounds.REQUEST_PAUSE, bounds.REQUEST_PROGRESS
        why = f"the request was not there after {bounds.REQUEST_SECONDS} s"
        if until < self._end:
            why = f"less than {due / 1024:g} KiB of the request came in {pause} s"
        return RefusedError(408, f"{why}; send fewer images at a time", CLOSE)


class Body:
    """The body of a request, within the limits.

    Attributes:
        refused: why it is not handed on to its end.
        whole: it has been read to its end.
    """

    def __init__(self, receive: Receive, share: Share, max_bytes: int, max_values: int) -> None:
        self._receive, self._share = receive, share
        self._max_bytes, self._max_values = max_bytes, max_values
        self._seen, self._values, self.whole = 0, 0, False
        self.refused: RefusedError | None = None

    async def __call__(self) -> Message:
        """The next part.

        Raises:
            RefusedError: where it is above a limit, late, or finds no room.
        """
        if self.whole:
            return await self._receive()
        try:
            return await self._part()
        except RefusedError as refused:
            self.refused = refused
            raise

    async def _part(self) -> Message:
        message = await self._receive()
        self.whole = not message.get("more_body")
        body = message.get("body", b"")
        self._seen += message.get("image_bytes", len(body))
        self._values += sum(body.count(mark) for mark in _MARKS)
        if self._seen > self._max_bytes:
            raise too_long(self._max_bytes)
        if self._values > self._max_values:
            raise _too_much(f"holds more than {self._max_values} values")
        await self._share.cover(self._seen, whole=self.whole)
        return message
