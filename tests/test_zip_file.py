"""Zip archives, and arrays in them, that are damaged."""

import io
import random
import re
from pathlib import Path

import numpy as np
import pytest

from vtcc import zip_file

ARRAYS = {"h": np.arange(36, dtype=np.float32).reshape(9, 4), "files": np.array([b"a", b"bc"])}


def stored(save=np.savez) -> bytes:
    file = io.BytesIO()
    save(file, **ARRAYS)
    return file.getvalue()


def test_arrays_are_read_by_name(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(stored())
    shapes = {"h": "float N 4", "files": "bytes M", "norm": "float N"}
    found = zip_file.arrays(file, shapes, optional=("files", "norm"))
    assert found.keys() == {"h", "files"}
    np.testing.assert_array_equal(found["h"], ARRAYS["h"])
    assert found["files"].tolist() == [b"a", b"bc"]


def member(content: bytes, at: int, value: int) -> bytes:
    """With a byte of what the central directory says of the first file set."""
    damaged = bytearray(content)
    damaged[content.index(b"PK\x01\x02") + at] = value
    return bytes(damaged)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "File is not a zip file"),
        (b"no zip", "File is not a zip file"),
        (b"PK\x03\x04", "File is not a zip file"),
        (member(stored(), 10, 9), "compression method is not supported"),
        (member(stored(), 8, 1), "encrypted"),
        (member(stored(np.savez_compressed), 16, 0), "Bad CRC-32"),
        (stored().replace(b"h.npy", b"i.npy"), "h is not a file in the archive"),
    ],
)
def test_damage_is_one_error_with_its_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(reason)):
        zip_file.arrays(file, {"h": "float N d"})


@pytest.mark.parametrize(
    ("shapes", "sizes", "reason"),
    [
        ({"h": "float N d", "files": "bytes N"}, {}, "files: found |S2 (2,), expected bytes (9)"),
        ({"h": "float N d"}, {"N": 8}, "h: found float32 (9, 4), expected float (8, 4)"),
        ({"h": "float N 5"}, {}, "h: found float32 (9, 4), expected float (9, 5)"),
        ({"h": "float N"}, {}, "h: found float32 (9, 4), expected float (N)"),
        ({"h": "int N d"}, {}, "h: found float32 (9, 4), expected int (9, 4)"),
    ],
)
def test_arrays_of_other_shapes_are_named(tmp_path: Path, shapes, sizes, reason: str) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(stored())
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        zip_file.arrays(file, shapes, **sizes)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_odd_bytes_end_in_another_error(tmp_path: Path, save) -> None:
    file, draw, whole = tmp_path / "a.npz", random.Random(0), stored(save)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 3))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        file.write_bytes(damaged)
        try:
            zip_file.arrays(file, {"h": "float N d", "files": "bytes M"})
        except ValueError:
            refused += 1
    assert refused > 75
