"""Copies of pictures without what their files say of place, camera and owner.

The picture stays as it is to the last bit: JPEG, PNG and WebP are lists of parts, of which those
with EXIF, XMP, IPTC or text are left out. EXIF that says how to turn the picture is written anew
and says nothing else. Sources: JPEG (T.81, B.1), PNG (third edition, 5.3), WebP (RFC 9649).
"""

import io
import re
import struct
import zlib
from pathlib import Path

from PIL import Image

_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SAYS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME")
# In other files: the entry of EXIF that leads to the place, in either order of bytes, and XMP's.
_PLACE = re.compile(
    rb"\x25\x88[\x04\x0d]\x00\x01\x00\x00\x00|\x88\x25\x00[\x04\x0d]\x00\x00\x00\x01|GPSL"
)


def stripped(file: Path) -> bytes | None:
    """A file's bytes without EXIF and the like; None where it cannot be taken out.

    What is no JPEG, PNG or WebP is as it is, or None where it says a place.

    Raises:
        OSError: when it cannot be read.
    """
    data = file.read_bytes()
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(_PNG):
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError, ValueError):
        return None if _EXIF in data or _PLACE.search(data) else data  # damaged
    return None if _PLACE.search(data) else data


def _upright(data: bytes) -> bytes:
    """EXIF that turns the picture as the file's own does; empty where that does not turn it."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            # A PNG's own `getexif` decodes the picture where no chunk says anything.
            turn = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # what it says cannot be understood
        return b""
    if turn not in range(2, 9):
        return b""
    exif = Image.Exif()
    exif[_ORIENTATION] = turn
    return exif.tobytes()  # with the six bytes that begin it in a JPEG


def _jpeg(data: bytes) -> bytes:
    kept, at = [data[:2]], 2
    if upright := _upright(data):
        kept.append(b"\xff\xe1" + struct.pack(">H", len(upright) + 2) + upright)
    while True:
        while data[at : at + 2] == b"\xff\xff":  # padding
            at += 1
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF or length < 2 or at + 2 + length > len(data):
            raise ValueError
        if kind == 0xDA:
            break
        # APP1: EXIF and XMP; APP13: IPTC, which may name a town; comments.
        if kind not in (0xE1, 0xED, 0xFE):
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    rest = data[at:]
    # Phones put further pictures behind the first, each with EXIF of its own.
    end = rest.find(b"\xff\xd9")
    if end >= 0 and (_EXIF in rest[end:] or _PLACE.search(rest, end)):
        rest = rest[: end + 2]
    return b"".join([*kept, rest])


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
        if kind not in _PNG_SAYS:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
        if kind == b"IEND":  # what follows is no part of the picture
            break
    return b"".join(kept)


def _webp(data: bytes) -> bytes:
    parts, at = [], 12
    upright = _upright(data).removeprefix(_EXIF)
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        part = data[at:end]
        if kind == b"VP8X":
            # Of the flags, 8 stands for EXIF and 4 for XMP.
            flags = part[8] & ~0x0C | (8 if upright else 0)
            part = part[:8] + bytes([flags]) + part[9:]
        if kind not in (b"EXIF", b"XMP "):
            parts.append(part)
        at = end
    if upright:
        parts.append(
            struct.pack("<4sI", b"EXIF", len(upright)) + upright + b"\0" * (len(upright) % 2)
        )
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
