"""Many files to what a model says of them, a block at a time: memory stays flat."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from vtcc.data.images import Decoded, UnreadableImage

if TYPE_CHECKING:
    from vtcc.engine.predict import Prediction, Predictor

T = TypeVar("T")
_BLOCK_BYTES = 256 << 20


@dataclass(frozen=True)
class Block(Generic[T]):
    """Some items, in order.

    Attributes:
        items: all of them. errors: place among them -> why there is no image.
        pixels: (n, S, S, C) uint8 of the n others. prediction: of these; None where n is 0.
    """

    items: Sequence[T]
    errors: dict[int, str]
    pixels: np.ndarray
    prediction: "Prediction | None"

    @property
    def readable(self) -> list[T]:
        """The n items that have an image."""
        return [item for i, item in enumerate(self.items) if i not in self.errors]


def blocks(
    items: Iterable[T],
    predictor: "Predictor",
    *,
    batch_size: int = 512,
    source: Callable[[T], Any] = lambda item: item,
) -> Iterator[Block[T]]:
    """Decodes and predicts items, as many at a time as a forward pass takes.

    Args:
        items: read as blocks are asked for. predictor: of a model.
        batch_size: images per forward pass, fewer where they are large.
        source: as of `vtcc.data.decoding.decoded`.
    """
    from vtcc.data.decoding import decoded

    side, channels = predictor.cache_size, predictor.channels
    size = max(1, min(batch_size, _BLOCK_BYTES // (side**2 * channels)))
    images = decoded(items, source, **predictor.decoding)
    while part := list(itertools.islice(images, size)):
        read = [image.pixels for _, image in part if isinstance(image, Decoded)]
        pixels = np.stack(read) if read else np.empty((0, side, side, channels), np.uint8)
        yield Block(
            items=[item for item, _ in part],
            errors={
                i: image.reason
                for i, (_, image) in enumerate(part)
                if isinstance(image, UnreadableImage)
            },
            pixels=pixels,
            prediction=predictor.predict(pixels, batch_size=batch_size) if read else None,
        )
