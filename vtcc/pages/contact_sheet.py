"""A contact sheet: one row of thumbnails per cluster, its number in front, as a PNG."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vtcc import paths
from vtcc.pages import thumbnails
from vtcc.regular import regular

Key = TypeVar("Key")  # by which an image is read: a row, a path

SIDE = 56  # pixels of a thumbnail
COLUMNS, ROWS = 14, 30
LABEL = 40  # pixels for the number of the cluster


def of_cache(directory: Path, reports: Path = paths.REPORTS) -> bytes:
    """The sheet of `data/cache` by `reports/assignments.csv`.

    Args:
        directory: of the pipeline, with both.
        reports: where the assignments lie in it.

    Returns:
        A PNG.

    Raises:
        VtccError: when the cache is not there.
        OSError: when the assignments are not.
    """
    from vtcc.data.cache import open_cache
    from vtcc.data.spreadsheet import path_of

    cache = open_cache(directory / paths.CACHE)
    row_of = {path: row for row, path in enumerate(cache.paths)}
    with regular(directory / reports / paths.ASSIGNMENTS.name).open(
        encoding="utf-8", newline=""
    ) as file:
        assigned = [
            (int(line["cluster"]), float(line["confidence"]), row_of[path_of(line["path"])])
            for line in csv.DictReader(file)
            if line["cluster"]  # images of excluded clusters have none
        ]
    return draw(assigned, lambda row: cache.images[row])


def of_files(images: Iterable[tuple[int, float, str]], decoding: Mapping[str, Any]) -> bytes:
    """The sheet of image files.

    Args:
        images: cluster, confidence (0-1) and path of each.
        decoding: keywords of `vtcc.data.images.load`, those of the model.

    Returns:
        A PNG.
    """
    from vtcc.data.images import load

    return draw(images, lambda path: load(Path(path), **decoding))


def draw(images: Iterable[tuple[int, float, Key]], read: Callable[[Key], np.ndarray]) -> bytes:
    """Clusters from top to bottom, the most certain images of each from left to right.

    Args:
        images: cluster, confidence (0-1) and a key of each image.
        read: from a key to pixels (S, S, C) uint8; called for the images shown alone.

    Returns:
        A PNG of at most `ROWS` clusters, the largest ones, with `COLUMNS` images each.
    """
    from PIL import Image, ImageDraw

    members: dict[int, list[tuple[float, Key]]] = {}
    for cluster, confidence, key in images:
        members.setdefault(cluster, []).append((confidence, key))
    largest = sorted(members, key=lambda c: (-len(members[c]), c))[:ROWS]
    size = (LABEL + COLUMNS * SIDE, max(len(largest), 1) * SIDE)
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for line, cluster in enumerate(sorted(largest)):
        pen.text((6, line * SIDE + SIDE // 2 - 6), str(cluster), fill="black")
        certain = sorted(members[cluster], key=lambda m: (-m[0], str(m[1])))[:COLUMNS]
        for column, (_, key) in enumerate(certain):
            tile = thumbnails.thumbnail(read(key), SIDE - 2)
            picture.paste(tile, (LABEL + column * SIDE, line * SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
