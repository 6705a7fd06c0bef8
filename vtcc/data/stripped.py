"""Copies of pictures without what their files say of place, camera and owner.

The picture stays as it is to the last bit: JPEG, PNG and WebP are lists of parts, of which only
those that the picture needs are kept. EXIF that says how to turn the picture is written anew
and says nothing else. Sources: JPEG (T.81, B.1), PNG (third edition, 5.3), WebP (RFC 9649).
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from vtcc.data import camera, images

_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"
_PNG = b"\x89PNG\r\n\x1a\n"
# What pixels need, and their colours, size and motion.
_PNG_NEEDS = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP"),
    *(b"mDCV", b"cLLI", b"sBIT", b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT"),
}
_WEBP_NEEDS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # marker in a JPEG, of coded data no part
_MOST_DIRECTORIES, _MOST_TAGS = 2000, 4096  # of a TIFF, and in one of them
_LEADS_TO = {330, 34665}  # SubIFDs, EXIF
_POINTERS = {4: "I", 13: "I", 16: "Q", 18: "Q"}
_TYPE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
# XMP, IPTC, Photoshop, GPS, GeoTIFF.
_PLACE_TAGS = {700, 33723, 34377, 34853, 33550, 33922, 34264, 34735, 34736, 34737}
# In other files: the entry of EXIF that leads to the place, in either order of bytes, and words of
# XMP, all too long to be among compressed pixels by chance.
_PLACE = re.compile(
    rb"\x25\x88[\x04\x0d]\x00\x01\x00\x00\x00|\x88\x25\x00[\x04\x0d]\x00\x00\x00\x01"
    rb"|GPS(?:Dest)?L(?:at|ong)itude|photoshop:(?:City|State|Country)|Iptc4xmp"
)


def stripped(file: Path) -> bytes | None:
    """A file's bytes without EXIF and the like; None where it cannot be taken out.

    None too where a JPEG, PNG or WebP is damaged, so that nobody knows which part is what. What is
    of another kind is as it is, or None where it says a place. RAW files and films have many places
    to say one, each maker its own: always None.

    Raises:
        OSError: when it cannot be read.
    """
    if file.suffix.lower() in (*camera.RAW, *camera.FILMS):
        return None
    data = file.read_bytes()
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(_PNG):
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError, ValueError):  # damaged
        return None
    if data.startswith((b"II", b"MM")) and _tiff_says_place(data):
        return None
    return None if _PLACE.search(data) else data


def _tiff_says_place(data: bytes) -> bool:
    """Whether a directory of a TIFF, or BigTIFF, has tags of a place; or is not clear."""
    try:
        return any(_PLACE_TAGS & tags for tags in _directories(data))
    except (struct.error, KeyError, ValueError):
        return True


def _directories(data: bytes) -> Iterator[set[int]]:
    """The tags of a TIFF's pages, of the smaller pictures in them and of their EXIF.

    Raises:
        struct.error, KeyError, ValueError: when it is damaged, or has too many.
    """
    order = "<" if data.startswith(b"II") else ">"
    (version,) = struct.unpack_from(order + "H", data, 2)
    many, word, at = {42: ("H", "I", 4), 43: ("Q", "Q", 8)}[version]
    number, head = struct.Struct(order + word), struct.Struct(f"{order}HH{word}")
    waiting, seen = [*number.unpack_from(data, at)], set[int]()
    while waiting:
        at = waiting.pop()
        if at in seen or (seen and at == 0):  # 0: behind the last page
            continue
        seen.add(at)
        (count,) = struct.unpack_from(order + many, data, at)
        if count > _MOST_TAGS or len(seen) > _MOST_DIRECTORIES:
            raise ValueError
        at += struct.calcsize(order + many)
        tags = set()
        for _ in range(count):
            tag, kind, values = head.unpack_from(data, at)
            size = values * _TYPE_BYTES[kind]
            held = at + head.size
            at = held + number.size
            if size > number.size:
                (held,) = number.unpack_from(data, held)
            if held + size > len(data):
                raise ValueError
            if tag in _LEADS_TO:
                if values > _MOST_DIRECTORIES:
                    raise ValueError
                waiting += struct.unpack_from(f"{order}{values}{_POINTERS[kind]}", data, held)
            tags.add(tag)
        yield tags
        waiting += number.unpack_from(data, at)


def turn(image: Image.Image, file: BinaryIO) -> int:
    """The orientation by EXIF, 1 to 8, as `data.images` turns pictures; nothing is decoded.

    Args:
        image: opened, of a JPEG, PNG or WebP. file: the same, to be read again.
    """
    try:
        if image.format == "PNG":  # Pillow sees a chunk behind the pixels only once it decodes
            file.seek(0)
            said = [held for kind, held in _chunks(file.read()) if kind == b"eXIf"]
            image.info["exif"] = said[-1] if said else b""
    except Exception:  # what it says cannot be understood
        return 1
    return images.orientation(image)


def _upright(data: bytes) -> bytes:
    """EXIF that turns the picture as the file's own does; empty where that does not turn it."""
    file = io.BytesIO(data)
    try:
        with Image.open(file, formats=("JPEG", "PNG", "WEBP")) as image:
            found = turn(image, io.BytesIO(data))
    except Exception:  # no picture
        return b""
    if found == 1:
        return b""
    exif = Image.Exif()
    exif[_ORIENTATION] = found
    return exif.tobytes()  # with the six bytes that begin it in a JPEG


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of a PNG's chunks, up to its end."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _jpeg(data: bytes) -> bytes:
    kept, at = [data[:2]], 2
    if upright := _upright(data):
        kept.append(b"\xff\xe1" + struct.pack(">H", len(upright) + 2) + upright)
    while True:
        while data[at : at + 2] == b"\xff\xff":  # padding
            at += 1
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        is_bare = kind == 0x01 or 0xD0 <= kind <= 0xD9  # a marker without a length
        if mark != 0xFF or is_bare or length < 2 or at + 2 + length > len(data):
            raise ValueError
        segment = data[at : at + 2 + length]
        if _is_picture(kind, segment):
            kept.append(segment)
        at += 2 + length
        if kind != 0xDA:
            continue
        # What is coded ends at the next marker, between the scans of a progressive picture too.
        found = _NEXT.search(data, at)
        end = found.start() if found else len(data)
        kept.append(data[at:end])
        at = end
        # Phones put further pictures behind the end, each with EXIF of its own.
        if found is None or data[at + 1] == 0xD9:
            return b"".join([*kept, b"\xff\xd9"])


def _is_picture(kind: int, segment: bytes) -> bool:
    """Whether the picture needs a JPEG's segment: how it is coded, and of APP0 to APP15 three."""
    if kind == 0xE2:
        return segment[4:].startswith(b"ICC_PROFILE\0")
    return kind in (0xE0, 0xEE) or 0xC0 <= kind <= 0xDF


def _png(data: bytes) -> bytes:
    kept, at = [_PNG], len(_PNG)
    upright = _upright(data).removeprefix(_EXIF)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise ValueError
        if upright and kind == b"IDAT":
            checksum = zlib.crc32(b"eXIf" + upright)
            kept.append(struct.pack(">I4s", len(upright), b"eXIf"))
            kept.append(upright + struct.pack(">I", checksum))
            upright = b""
        if kind in _PNG_NEEDS:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
        if kind == b"IEND":  # what follows is no part of the picture
            break
    return b"".join(kept)


def _webp(data: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", data, 4)
    data = data[: 8 + size]  # what follows is no part of the picture
    parts = []
    upright = _upright(data).removeprefix(_EXIF)
    for kind, part in _webp_parts(data, 12):
        if kind == b"VP8X":
            # Of the flags, 8 stands for EXIF and 4 for XMP.
            flags = part[8] & ~0x0C | (8 if upright else 0)
            part = part[:8] + bytes([flags]) + part[9:]
        elif kind == b"ANMF":  # a frame: 16 bytes, and parts of its own
            inside = b"".join(part for _, part in _webp_parts(part, 24))
            part = struct.pack("<4sI", kind, 16 + len(inside)) + part[8:24] + inside
        parts.append(part)
    if upright:
        parts.append(
            struct.pack("<4sI", b"EXIF", len(upright)) + upright + b"\0" * (len(upright) % 2)
        )
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_parts(data: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of the parts from there on that the picture needs."""
    while at < len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if at + 8 + length > len(data):
            raise ValueError
        if kind in _WEBP_NEEDS:
            yield kind, data[at:end]
        at = end
