"""Small pictures of images: alone, side by side in a sprite, and the sprite files of a page."""

import base64
import functools
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = 16  # tiles a side of a sprite file
QUALITY = 82
LARGEST = 64  # pixels of a tile in a sprite file


def displayable(pixels: np.ndarray) -> np.ndarray:
    """(..., C) -> (..., 3) of the same type.

    Of one or two bands the first is shown as grey; of more the first three are, as of satellite
    images in the usual order of files.
    """
    if pixels.shape[-1] < 3:
        return np.repeat(pixels[..., :1], 3, axis=-1)
    return np.ascontiguousarray(pixels[..., :3])


def thumbnail(pixels: np.ndarray, side: int) -> "Image.Image":
    """(S, S, C) uint8 -> a square picture of `side` pixels, grey or RGB."""
    from PIL import Image

    shown = displayable(np.asarray(pixels))
    picture = Image.fromarray(shown[..., 0] if pixels.shape[-1] < 3 else shown)
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    return picture


def tile(pixels: np.ndarray, side: int) -> np.ndarray:
    """(S, S, C) uint8 -> (side, side, 3) uint8, as a sprite shows it."""
    return np.asarray(thumbnail(pixels, side).convert("RGB"))


def sprite(images: Iterable[np.ndarray], count: int, side: int, columns: int) -> "Image.Image":
    """Images side by side in rows, from left to right and from top to bottom.

    Args:
        images: `count` of them, (S, S, C) uint8. side: pixels of a tile. columns: tiles of a row.
    """
    from PIL import Image

    picture = Image.new("RGB", (columns * side, -(-count // columns) * side))
    for place, pixels in enumerate(images):
        at = (place % columns * side, place // columns * side)
        picture.paste(thumbnail(pixels, side), at)
    return picture


def data_url(picture: "Image.Image", kind: str = "PNG", **options: object) -> str:
    """The picture as a data URL; `options` are those of Pillow's writer."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def places(cluster: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The place of each image in the sprite files: by cluster, then the most certain first.

    Args:
        cluster, confidence: (N,).

    Returns:
        (N,) int64, a permutation.
    """
    by = np.lexsort((np.arange(len(cluster)), -confidence, cluster))
    place = np.empty(len(by), np.int64)
    place[by] = np.arange(len(by))
    return place


def write_sprites(
    directory: Path,
    read: Callable[[np.ndarray], np.ndarray],
    place: np.ndarray,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Writes `s0.jpg`, `s1.jpg`, ... of 16 x 16 tiles: some hundred files for many thousand images.

    Args:
        directory: made when needed.
        read: rows -> (n, S, S, C) uint8 images.
        place: (N,) of `places`. on_progress: gets how many images are written, and of how many.

    Returns:
        The side of a tile in pixels.
    """
    directory.mkdir(parents=True, exist_ok=True)
    row_at = np.argsort(place)
    per = COLUMNS * COLUMNS
    side = 0
    for number, start in enumerate(range(0, len(row_at), per)):
        images = read(row_at[start : start + per])
        side = min(images.shape[1], LARGEST)
        _save(directory, number, list(images), side)
        on_progress(min(start + per, len(row_at)), len(row_at))
    return side


def append_sprites(directory: Path, images: np.ndarray, tiles: int, side: int) -> None:
    """Adds images behind the tiles of `write_sprites`; those in full files stay as they are.

    Args:
        images: (n, S, S, C) uint8. tiles: how many there are. side: of each.
    """
    if not len(images):
        return
    per = COLUMNS * COLUMNS
    number, there = divmod(tiles, per)
    read = sprite_reader(directory, np.arange(tiles), side)
    before = list(read(np.arange(tiles - there, tiles))) if there else []
    start = 0
    while start < len(images):
        some = images[start : start + per - len(before)]
        _save(directory, number, [*before, *some], side)
        start, number, before = start + len(some), number + 1, []


def _save(
    directory: Path, number: int, images: np.ndarray | Sequence[np.ndarray], side: int
) -> None:
    # Not optimized: Pillow's buffer is too small for that where the images are noise.
    sprite(images, len(images), side, COLUMNS).save(
        directory / f"s{number}.jpg", "JPEG", quality=QUALITY, subsampling=0
    )


def sprite_reader(
    directory: Path, place: np.ndarray, side: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Reads images back from what `write_sprites` wrote: rows -> (n, side, side, 3) uint8."""
    from PIL import Image

    @functools.lru_cache(maxsize=64)
    def pixels(number: int) -> np.ndarray:
        with Image.open(directory / f"s{number}.jpg") as picture:
            return np.asarray(picture.convert("RGB"))

    def read(rows: np.ndarray) -> np.ndarray:
        tiles = []
        for at in place[np.asarray(rows)]:
            number, within = divmod(int(at), COLUMNS * COLUMNS)
            y, x = divmod(within, COLUMNS)
            tiles.append(
                pixels(number)[y * side : (y + 1) * side, x * side : (x + 1) * side],
            )
        return np.stack(tiles)

    return read
