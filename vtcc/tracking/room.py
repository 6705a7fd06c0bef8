"""Room in memory for the bodies of requests to `vtcc api`, of all of them together."""

import asyncio
from typing import Self

from vtcc import bounds


class BusyError(Exception):
    """Other bodies held the room for as long as a request waits."""


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
            BusyError: when they are not in `bounds.REQUEST_PATIENCE` seconds.
        """
        try:
            async with asyncio.timeout(bounds.REQUEST_PATIENCE):
                while self.held + size > self.most:
                    await self._freed.wait()
        except TimeoutError:
            raise BusyError from None
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
            BusyError: as of `Room.take`.
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
