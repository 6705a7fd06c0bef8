"""What a JPEG costs to decode, read from its bytes before any decoder sees them.

A progressive JPEG is decoded once per scan, and a scan of nothing takes ten bytes. Of each segment
before the pixels, which may take four bytes, Pillow keeps an object.
"""

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from vtcc import bounds
from vtcc.data.raster import UnreadableImage

_EXIF = b"Exif\0\0"
# Pixels hold no such bytes.
_SCANS, _EXIFS = re.compile(b"\xff\xda"), re.compile(_EXIF)
_SEGMENTS = re.compile(b"\xff[\xc0-\xcf\xdb-\xfe]")
_MARKER = re.compile(b"\xff[\x01-\xfe]")
_PIECE, _LOOK = 1 << 20, 1 << 12
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # of 0xC0 to 0xCF: tables and what is reserved
_WITH_LENGTH = frozenset((*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE))


@dataclass(frozen=True)
class Headers:
    """What stands before the pixels of a JPEG.

    Attributes:
        width: in pixels, 0 where no frame says it. height: likewise.
        single_scan: whether a decoder stops at the end of the first scan.
        exif: segments of EXIF.
        segments: of all kinds.
    """

    width: int
    height: int
    single_scan: bool
    exif: int
    segments: int


def headers(file: BinaryIO) -> Headers | None:
    """The headers, or None where they are not as they should be, or too many.

    Args:
        file: at the JPEG's beginning; left anywhere.
    """
    file.seek(2, 1)
    width = height = components = exif = segments = 0
    baseline = False
    while len(segment := file.read(10)) == 10 and segment[0] == 0xFF:
        segments += 1
        kind, length = struct.unpack_from(">xBH", segment)
        if kind not in _WITH_LENGTH or length < 2 or segments > bounds.IMAGE_PARTS:
            return None
        if kind == 0xDA:
            single = baseline and segment[4] == components
            return Headers(width, height, single, exif, segments)
        if 0xC0 <= kind <= 0xCF and kind not in _NO_FRAMES:
            height, width, components = struct.unpack_from(">HHB", segment, 5)
            baseline = kind in (0xC0, 0xC1)
        exif += kind == 0xE1 and segment[4:] == _EXIF
        file.seek(length - 8, 1)
    return None


def check(file: BinaryIO) -> int:
    """Refuses very many segments, and EXIF in many: Pillow copies each with all before it.

    Args:
        file: at its beginning, and again afterwards.

    Returns:
        At most how many scans a decoder goes through.

    Raises:
        UnreadableImage: with the reason.
    """
    before = headers(file)
    file.seek(0)
    if (_count(file, _EXIFS) if before is None else before.exif) > bounds.JPEG_EXIF_SEGMENTS:
        raise UnreadableImage(f"more than {bounds.JPEG_EXIF_SEGMENTS} segments of EXIF")
    if before is None and _count(file, _SEGMENTS) > bounds.IMAGE_PARTS:
        raise UnreadableImage(f"more than {bounds.IMAGE_PARTS} segments")
    if before is None and _has_junk(file):
        raise UnreadableImage(f"more than {bounds.JPEG_JUNK_BYTES} bytes between segments")
    return 1 if before is not None and before.single_scan else _count(file, _SCANS)


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


def _has_junk(file: BinaryIO) -> bool:
    """Whether too much that is no segment lies before the pixels: fillers, zeros, restarts."""
    at, junk = 2, 0
    while junk <= bounds.JPEG_JUNK_BYTES:
        file.seek(at)
        piece = file.read(_LOOK)
        if len(piece) < 4:
            break
        if (marker := _MARKER.match(piece)) and piece[1] in _WITH_LENGTH:
            if piece[1] == 0xDA:
                break
            at += 2 + max(struct.unpack_from(">2xH", piece)[0], 2)
            continue
        following = _MARKER.search(piece, 2 if marker else 1)
        step = following.start() if following else max(len(piece) - 1, 1)
        junk += step
        at += step
    file.seek(0)
    return junk > bounds.JPEG_JUNK_BYTES


def _count(file: BinaryIO, pattern: re.Pattern[bytes]) -> int:
    """How often some bytes come in a file."""
    length = 6 if pattern is _EXIFS else 2
    times, tail = 0, b""
    while piece := file.read(_PIECE):
        times += len(pattern.findall(tail + piece))
        tail = piece[1 - length :]
    file.seek(0)
    return times
