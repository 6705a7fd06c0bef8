"""Which thumbnails a contact sheet shows, and where."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from vtcc.grouping import assignments
from vtcc.pages import contact_sheet


def test_a_row_per_cluster_the_most_certain_first() -> None:
    grey = {"a": 10, "b": 60, "c": 110, "d": 160}
    found = [(3, 0.5, "a"), (1, 0.9, "b"), (3, 0.8, "c"), (1, 0.2, "d")]
    png = contact_sheet.draw(found, lambda key: np.full((4, 4, 1), grey[key], np.uint8))
    picture = np.asarray(Image.open(io.BytesIO(png)))
    assert picture.shape == (
        2 * contact_sheet.SIDE,
        contact_sheet.LABEL + contact_sheet.COLUMNS * contact_sheet.SIDE,
        3,
    )

    def at(line: int, column: int) -> int:
        y, x = (
            line * contact_sheet.SIDE + 20,
            contact_sheet.LABEL + column * contact_sheet.SIDE + 20,
        )
        return int(picture[y, x, 0])

    assert [at(0, 0), at(0, 1), at(0, 2)] == [60, 160, 255]
    assert [at(1, 0), at(1, 1), at(1, 2)] == [110, 10, 255]


def test_many_clusters_and_many_bands_are_cut() -> None:
    found = [(c, 0.5, c) for c in range(50)] + [(49, 0.6, 0)]
    read: list[int] = []

    def pixels(key: int) -> np.ndarray:
        read.append(key)
        return np.zeros((4, 4, 8), np.uint8)

    height = Image.open(io.BytesIO(contact_sheet.draw(found, pixels))).height
    assert height == contact_sheet.ROWS * contact_sheet.SIDE
    assert len(read) == contact_sheet.ROWS + 1  # the largest cluster is among them


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [assignments.Row("NA", 3, 0.75, ""), assignments.Row("b.png", None, None, "no image")]
    for suffix in assignments.SUFFIXES:
        out = tmp_path / f"t{suffix}"
        with assignments.writing(out) as table:
            table.write(rows)
        assert assignments.read(out) == rows
