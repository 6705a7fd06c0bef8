"""Which thumbnails a contact sheet shows, and where."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from vtcc import sheet
from vtcc.stages import tables


def test_a_row_per_cluster_the_most_certain_first() -> None:
    grey = {"a": 10, "b": 60, "c": 110, "d": 160}
    found = [(3, 0.5, "a"), (1, 0.9, "b"), (3, 0.8, "c"), (1, 0.2, "d")]
    png = sheet.sheet(found, lambda key: np.full((4, 4, 1), grey[key], np.uint8))
    picture = np.asarray(Image.open(io.BytesIO(png)))
    assert picture.shape == (2 * sheet.SIDE, sheet._LABEL + sheet.COLUMNS * sheet.SIDE, 3)

    def at(line: int, column: int) -> int:
        y, x = line * sheet.SIDE + 20, sheet._LABEL + column * sheet.SIDE + 20
        return int(picture[y, x, 0])

    assert [at(0, 0), at(0, 1), at(0, 2)] == [60, 160, 255]
    assert [at(1, 0), at(1, 1), at(1, 2)] == [110, 10, 255]


def test_many_clusters_and_many_bands_are_cut() -> None:
    found = [(c, 0.5, c) for c in range(50)] + [(49, 0.6, 0)]
    read: list[int] = []

    def pixels(key: int) -> np.ndarray:
        read.append(key)
        return np.zeros((4, 4, 8), np.uint8)

    height = Image.open(io.BytesIO(sheet.sheet(found, pixels))).height
    assert height == sheet.ROWS * sheet.SIDE
    assert len(read) == sheet.ROWS + 1  # the largest cluster is among them


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [tables.Row("NA", 3, 0.75, ""), tables.Row("b.png", None, None, "no image")]
    for suffix in tables.SUFFIXES:
        out = tmp_path / f"t{suffix}"
        with tables.writing(out) as table:
            table.write(rows)
        assert tables.read(out) == rows
