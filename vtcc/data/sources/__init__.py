"""Where images come from: one function per loader, registered by its name.

A source says what it has (names, labels) before any image is written, so that a subset costs
no more than its images. To add one, register a function by `reader("name", function)`, write a
card with `loader: name`, and nothing else changes.
"""

from vtcc.data.catalog import Card
from vtcc.data.image_set import ImageSet
from vtcc.data.sources import arrays, class_folders, listed
from vtcc.data.sources.registry import Places, loaders
from vtcc.errors import VtccError

__all__ = ["ImageSet", "Places", "arrays", "class_folders", "find", "listed", "loaders"]


def find(card: Card, places: Places) -> ImageSet:
    """Asks the card's loader what it has.

    Raises:
        VtccError: when the card names no known loader, or the loader finds no data.
    """
    if card.loader not in loaders:
        raise VtccError(
            f"card {card.name}: found loader {card.loader!r}; allowed: {' | '.join(loaders)}"
        )
    return loaders[card.loader](card, places)
