"""What a JPEG costs to decode, read from its bytes before any decoder sees them.

A progressive JPEG is decoded once per scan, and a scan of nothing takes ten bytes: a megabyte of
them would take minutes.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from vtcc import bounds
from vtcc.data.raster import UnreadableImage

_SCAN, _EXIF = b"\xff\xda", b"Exif\0\0"
_PIECE = 1 << 20
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # of 0xC0 to 0xCF: tables and what is reserved
_WITH_LENGTH = frozenset((*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE))


@dataclass(frozen=True)
class Headers:
    """What stands before the pixels of a JPEG.

    Attributes:
        width: in pixels, 0 where no frame says it. height: likewise.
        single_scan: whether a decoder stops at the end of the first scan.
        exif: segments of EXIF.
    """

    width: int
    height: int
    single_scan: bool
    exif: int


def headers(file: BinaryIO) -> Headers | None:
    """The headers, or None where they are not as they should be.

    Args:
        file: at the JPEG's beginning; left anywhere.
    """
    file.seek(2, 1)
    width = height = components = exif = 0
    baseline = False
    while len(segment := file.read(10)) == 10 and segment[0] == 0xFF:
        kind, length = struct.unpack_from(">xBH", segment)
        if kind not in _WITH_LENGTH or length < 2:
            return None
        if kind == 0xDA:
            single = baseline and segment[4] == components
            return Headers(width, height, single, exif)
        if 0xC0 <= kind <= 0xCF and kind not in _NO_FRAMES:
            height, width, components = struct.unpack_from(">HHB", segment, 5)
            baseline = kind in (0xC0, 0xC1)
        exif += kind == 0xE1 and segment[4:] == _EXIF
        file.seek(length - 8, 1)
    return None


def check(file: BinaryIO) -> int:
    """Refuses EXIF in very many pieces, each of which Pillow copies together with all before.

    Args:
        file: at its beginning, and again afterwards.

    Returns:
        At most how many scans a decoder goes through.

    Raises:
        UnreadableImage: with the reason.
    """
    before = headers(file)
    file.seek(0)
    exif = _count(file, _EXIF) if before is None else before.exif
    if exif > bounds.JPEG_EXIF_SEGMENTS:
        raise UnreadableImage(f"more than {bounds.JPEG_EXIF_SEGMENTS} segments of EXIF")
    return 1 if before is not None and before.single_scan else _count(file, _SCAN)


def check_scans(pixels: int, max_pixels: int) -> None:
    """Refuses a JPEG that takes too long.

    Args:
        pixels: of all scans together. max_pixels: of an image.

    Raises:
        UnreadableImage: with the reason.
    """
    if pixels > bounds.JPEG_SCANS * max_pixels:
        raise UnreadableImage(
            f"a JPEG whose scans have {pixels} pixels, more than {bounds.JPEG_SCANS} x "
            f"validate.max_pixels ({max_pixels})"
        )


def _count(file: BinaryIO, needle: bytes) -> int:
    """How often some bytes come in a file."""
    times, tail = 0, b""
    while piece := file.read(_PIECE):
        times += (tail + piece).count(needle)
        tail = piece[1 - len(needle) :]
    file.seek(0)
    return times
