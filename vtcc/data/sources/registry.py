"""The loaders by name, and how one that reads files goes about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtcc.data.catalog import Card
from vtcc.data.image_set import ImageSet
from vtcc.data.sources.tree import Tree
from vtcc.errors import VtccError


@dataclass(frozen=True)
class Places:
    """Where a source may look and write.

    Attributes:
        mirror: a directory, or the address of one, tried before the network; None for none.
        scratch: an empty directory that is deleted when the images are in place.
        downloads: a directory in which downloads are kept, whatever happens.
    """

    mirror: Path | str | None
    scratch: Path
    downloads: Path


Source = Callable[[Card, Places], ImageSet]
# Reads the files if they are arranged as it knows them, else None.
Layout = Callable[[Card, Tree], ImageSet | None]
loaders: dict[str, Source] = {}


def source(name: str) -> Callable[[Source], Source]:
    """Registers a loader under the name that cards call it by."""

    def register(function: Source) -> Source:
        loaders[name] = function
        return function

    return register


def reader(name: str, *layouts: Layout, skip: Sequence[str] = ()) -> None:
    """Registers a loader of files that come in any of these layouts.

    Args:
        name: that cards call it by.
        layouts: tried in order; the first that knows the files reads them.
        skip: names of files and folders that are not unpacked.
    """

    def read(card: Card, places: Places) -> ImageSet:
        from vtcc.data.sources import obtain

        tree = obtain.obtain(card, places, frozenset(skip))
        for layout in layouts:
            if (found := layout(card, tree)) is not None:
                return found
        raise VtccError(
            f"dataset {card.name!r}: {tree.place} holds {tree.summary()}; expected {card.layout}, "
            f"or one folder of images for each class below {card.name}/"
        )

    loaders[name] = read
