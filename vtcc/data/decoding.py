"""Many files to pixels: the one loop that decodes in threads.

Pillow lets go of the interpreter while it works, so threads pay for real photos.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from vtcc.data import camera, images
from vtcc.data.images import Decoded, UnreadableImage
from vtcc.engine import cpus
from vtcc.process.stopping import Stopped

T = TypeVar("T")
R = TypeVar("R")
_MOST_THREADS = 16
_BATCH = 16  # items of a thread's turn


def decoded(
    items: Iterable[T], source: Callable[[T], Any] = lambda item: item, **how: Any
) -> Iterator[tuple[T, Decoded | UnreadableImage]]:
    """Each item with its image, or with why there is none, in order.

    Args:
        items: read some ahead of what has come out.
        source: of an item: a file or its bytes; may raise UnreadableImage.
        how: keywords of `vtcc.data.images.decode`.
    """

    def attempt(item: T) -> Decoded | UnreadableImage:
        try:
            return images.decode(source(item), **how)
        except UnreadableImage as error:
            return error

    return in_threads(attempt, items)


def channels_of(how: Mapping[str, Any], otherwise: int) -> int:
    """How many channels `decode` gives with these keywords: of its bands, where some are chosen."""
    return len(how.get("bands", ())) or otherwise


def in_threads(
    function: Callable[[T], R], items: Iterable[T], batch: int = _BATCH
) -> Iterator[tuple[T, R]]:
    """Each item with `function(item)`, in order, computed some items ahead.

    What waits is bounded, and dropped when the caller stops early.
    """

    def results(part: list[T]) -> list[tuple[T, R]]:
        return [(item, function(item)) for item in part]

    workers = min(cpus.usable(), _MOST_THREADS)
    waiting: deque[Future[list[tuple[T, R]]]] = deque()
    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        try:
            while part := list(itertools.islice(remaining, batch)):
                waiting.append(pool.submit(results, part))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except (KeyboardInterrupt, SystemExit, Stopped):
            camera.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
