"""What a HEIC or AVIF costs to decode, read from its boxes before any decoder sees them.

Readers say how large the picture is that they show, which may be cut from a far larger one, or be
put together of pieces, each of which may be named many times. And Pillow reads an AVIF's EXIF as it
opens it. Boxes are those of ISO/IEC 14496-12 and 23008-12.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from vtcc import bounds
from vtcc.data.raster import UnreadableImage, check_size

# Boxes that hold boxes: bytes before the first of these.
_INSIDE = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"iref": 4, b"iinf": 6, b"moov": 0, b"trak": 0}
_READ = (b"ispe", b"ipma", b"iref", b"iloc", b"infe")


def is_boxed(head: bytes) -> bool:
    """Whether a file of these first bytes is of the family of HEIC, AVIF and MP4."""
    return head[4:8] == b"ftyp"


def check(file: BinaryIO, max_pixels: int) -> int:
    """Refuses a picture, a piece of one, pieces that together are too large, and long EXIF.

    Args:
        file: at its beginning, and again afterwards. max_pixels: of an image.

    Returns:
        Pixels of the largest picture inside.

    Raises:
        UnreadableImage: with the reason.
    """
    sizes: dict[int, int] = {}  # of properties, by their number from 1
    shown: dict[int, list[int]] = {}  # item -> its properties
    pieces: dict[int, list[int]] = {}  # item -> items it is put together of
    exif: set[int] = set()  # items
    lengths: dict[int, int] = {}  # item -> bytes
    number, each, parts = 0, 2, 0
    for kind, parent, content in _boxes(file):
        number += parent == b"ipco"
        parts += 1
        if kind == b"ispe":
            width, height = struct.unpack(">II", content.ljust(12, b"\0")[4:12])
            check_size(width, height, max_pixels)
            sizes[number] = width * height
        elif kind == b"ipma":
            for item, properties in _properties(content):
                parts += 1 + len(properties)
                _check_parts(parts)
                shown[item] = properties
        elif kind == b"infe":
            wide = 4 if content[:1] > b"\2" else 2
            if content[6 + wide : 10 + wide] == b"Exif":
                exif.add(int.from_bytes(content[4 : 4 + wide]))
        elif kind == b"iloc":
            for item, length in _extents(content):
                parts += 1
                _check_parts(parts)
                lengths[item] = lengths.get(item, 0) + length
        elif kind == b"iref":
            each = 4 if content[:1] == b"\1" else 2
        elif parent == b"iref" and kind == b"dimg":
            (count,) = struct.unpack(">H", content[each : each + 2])
            named = _split(content[each + 2 : each + 2 + count * each], each)
            parts += len(named)
            pieces.setdefault(int.from_bytes(content[:each]), []).extend(named)
        _check_parts(parts)
    file.seek(0)
    if (size := max((lengths.get(item, 0) for item in exif), default=0)) > bounds.EXIF_BYTES:
        raise UnreadableImage(f"EXIF of {size} bytes; allowed: {bounds.EXIF_BYTES}")
    own = {item: max((sizes.get(n, 0) for n in ns), default=0) for item, ns in shown.items()}
    known: dict[int, int] = {}
    pixels = max((_together(item, own, pieces, known) for item in pieces), default=0)
    if pixels > bounds.HEIF_PIECES * max_pixels:
        raise UnreadableImage(
            f"pieces of {pixels} pixels together, more than {bounds.HEIF_PIECES} x "
            f"validate.max_pixels ({max_pixels})"
        )
    return max(sizes.values(), default=0)


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, kind of the box around, and content of each box; no content of what is not read."""
    whole = file.seek(0, 2)
    waiting = [(0, whole, b"")]
    while waiting:
        at, end, parent = waiting.pop()
        while at + 8 <= end:
            file.seek(at)
            size, kind = struct.unpack(">I4s", file.read(8))
            start = at + 8
            if size == 1:
                size, start = int.from_bytes(file.read(8)), at + 16
            size = size or end - at
            if at + size < start:
                break  # damaged: its decoder will say so
            stop = min(at + size, end)
            read = kind in _READ or parent == b"iref"
            content = file.read(max(stop - start, 0)) if read else b""
            yield kind, parent, content
            if kind in _INSIDE and parent != b"iref":
                waiting.append((at + size, end, parent))  # goes on behind what is inside
                at, end, parent = start + _INSIDE[kind], stop, kind
                if kind == b"iinf":  # from its version 1 on the number before has two bytes more
                    file.seek(start)
                    at += 2 * (file.read(1) > b"\0")
            else:
                at += size


def _properties(content: bytes) -> Iterator[tuple[int, list[int]]]:
    """Each item, and the numbers of its properties, of an `ipma` box."""
    version, flags = content[0], content[3]
    (count,) = struct.unpack(">I", content[4:8])
    at, item_bytes, each = 8, 4 if version else 2, 2 if flags & 1 else 1
    mask = (1 << (8 * each - 1)) - 1  # without the bit that says that it is essential
    for _ in range(count):
        item, many = int.from_bytes(content[at : at + item_bytes]), content[at + item_bytes]
        at += item_bytes + 1
        yield item, [n & mask for n in _split(content[at : at + many * each], each)]
        at += many * each


def _extents(content: bytes) -> Iterator[tuple[int, int]]:
    """Each item with the length of each of its parts, of an `iloc` box."""
    version, sizes = content[0], [n >> shift & 15 for n in content[4:6] for shift in (4, 0)]
    offset, length, base, index = sizes
    index = index if version else 0
    wide = 4 if version > 1 else 2
    count, at = int.from_bytes(content[6 : 6 + wide]), 6 + wide
    for _ in range(count):
        item = int.from_bytes(content[at : at + wide])
        at += wide + (4 if version else 2) + base
        parts = int.from_bytes(content[at : at + 2])
        at += 2
        yield item, 0
        for _ in range(parts):
            at += index + offset
            yield item, int.from_bytes(content[at : at + length])
            at += length


def _check_parts(parts: int) -> None:
    if parts > bounds.IMAGE_PARTS:
        raise UnreadableImage(f"more than {bounds.IMAGE_PARTS} parts beside its pixels")


def _split(content: bytes, each: int) -> list[int]:
    return [int.from_bytes(content[i : i + each]) for i in range(0, len(content), each)]


def _together(
    item: int, own: dict[int, int], pieces: dict[int, list[int]], known: dict[int, int]
) -> int:
    """Pixels of an item with those of all its pieces, each as often as it is named."""
    if item not in known:
        known[item] = own.get(item, 0)  # for one that leads back to itself
        known[item] += sum(_together(p, own, pieces, known) for p in pieces.get(item, ()))
    return known[item]
