"""Thumbnails in sprites: some hundred pictures to load instead of many thousand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

COLUMNS = 16  # tiles a side of a sprite
QUALITY = 82
LARGEST = 64  # pixels of a tile


def order(cluster: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The place of each image's tile: by cluster, then the most certain first.

    Args:
        cluster, confidence: (N,).

    Returns:
        (N,) int64, a permutation.
    """
    by = np.lexsort((np.arange(len(cluster)), -confidence, cluster))
    place = np.empty(len(by), np.int64)
    place[by] = np.arange(len(by))
    return place


def write(
    directory: Path,
    read: Callable[[np.ndarray], np.ndarray],
    place: np.ndarray,
    said: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Writes `s0.jpg`, `s1.jpg`, ... of 16 x 16 tiles.

    Args:
        directory: made when needed.
        read: rows -> (n, S, S, C) uint8 images.
        place: (N,) of `order`. said: told of progress in images.

    Returns:
        The side of a tile in pixels.
    """
    from PIL import Image

    directory.mkdir(parents=True, exist_ok=True)
    row_at = np.argsort(place)
    per = COLUMNS * COLUMNS
    side = 0
    for number, start in enumerate(range(0, len(row_at), per)):
        rows = row_at[start : start + per]
        images = displayable(read(rows))
        side = min(images.shape[1], LARGEST)
        lines = -(-len(rows) // COLUMNS)
        picture = Image.new("RGB", (COLUMNS * side, lines * side))
        for i, image in enumerate(images):
            tile = Image.fromarray(image)
            if tile.size != (side, side):
                tile = tile.resize((side, side), Image.Resampling.BOX)
            picture.paste(tile, (i % COLUMNS * side, i // COLUMNS * side))
        # Not optimized: Pillow's buffer is too small for that where the images are noise.
        picture.save(directory / f"s{number}.jpg", "JPEG", quality=QUALITY, subsampling=0)
        said(min(start + per, len(row_at)), len(row_at))
    return side


def displayable(images: np.ndarray) -> np.ndarray:
    """(n, S, S, C) uint8 -> (n, S, S, 3): grey as grey, of many bands the first three."""
    channels = images.shape[3]
    if channels == 1:
        return np.repeat(images, 3, axis=3)
    if channels == 2:
        return np.concatenate([images, np.zeros_like(images[..., :1])], axis=3)
    return np.ascontiguousarray(images[..., :3])
