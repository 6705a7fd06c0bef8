"""How many pixels a process decodes at a time, in all of its threads."""

from collections import deque
from threading import Condition
from typing import ClassVar


class Share:
    """What one decoding has of the pixels that all may have at a time, given back at its end.

    Whoever comes first is served first; an image is decoded alone rather than never.
    """

    _changed = Condition()
    _waiting: ClassVar[deque["Share"]] = deque()
    _in_use = 0

    def __init__(self, max_pixels: int):
        self.max_pixels = max_pixels
        self._mine = 0

    def __enter__(self) -> "Share":
        return self

    def __exit__(self, *_: object) -> None:
        self(0)

    def __call__(self, pixels: int) -> None:
        """Waits until so many pixels may be decoded, instead of those of the last call.

        As many or fewer may be at once, so that what is held for them never waits uncounted.
        """
        cls = Share
        with cls._changed:
            if 0 < pixels <= self._mine:
                cls._in_use -= self._mine - pixels
                self._mine = pixels
                cls._changed.notify_all()
                return
            cls._in_use -= self._mine
            self._mine = 0
            if pixels:
                cls._waiting.append(self)
                try:
                    cls._changed.wait_for(
                        lambda: (
                            cls._waiting[0] is self
                            and (not cls._in_use or cls._in_use + pixels <= self.max_pixels)
                        )
                    )
                finally:
                    cls._waiting.remove(self)
                cls._in_use += pixels
                self._mine = pixels
            cls._changed.notify_all()
