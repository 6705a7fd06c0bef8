"""How many parts the file of an image has beside its pixels: Pillow keeps an object of each."""

import struct
import zlib
from typing import BinaryIO

from vtcc import bounds
from vtcc.data.raster import UnreadableImage

PNG, GIF = b"\x89PNG\r\n\x1a\n", b"GIF8"
_PIXELS = (b"IDAT", b"fdAT")
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def check(file: BinaryIO, head: bytes) -> None:
    """Refuses a PNG of too many chunks beside pixels, a GIF of too many blocks before them.

    Args:
        file: at its beginning, and again afterwards. head: its first bytes.

    Raises:
        UnreadableImage: with the reason.
    """
    if head.startswith(PNG):
        parts = _chunks(file)
    elif head.startswith(GIF):
        parts = _blocks(file)
    else:
        return
    file.seek(0)
    if parts > bounds.IMAGE_PARTS:
        raise UnreadableImage(f"more than {bounds.IMAGE_PARTS} parts beside its pixels")


def bare_png(png: bytes) -> bytes:
    """A PNG without the chunks that say nothing of its pixels or of what is up.

    Pillow refuses a picture for a text or profile of more than a megabyte, and for damage there.
    """
    kept, at = [png[: len(PNG)]], len(PNG)
    while at + 8 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        end = at + 12 + length
        kind, whole = png[at + 4 : at + 8], zlib.crc32(png[at + 4 : end - 4])
        is_upright_note = kind == b"eXIf" and png[end - 4 : end] == whole.to_bytes(4, "big")
        if kind in _NEEDED or is_upright_note:
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


def _chunks(file: BinaryIO) -> int:
    file.seek(len(PNG))
    parts = 0
    while len(head := file.read(8)) == 8 and parts <= bounds.IMAGE_PARTS:
        length, kind = struct.unpack(">I4s", head)
        # Of pixels in pieces of a few bytes, each takes as long as any other part.
        parts += kind not in _PIXELS or length < bounds.PNG_DATA_BYTES
        file.seek(length + 4, 1)
    return parts


def _blocks(file: BinaryIO) -> int:
    flags = file.read(13)[10:11]
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 7) + 1), 1)
    parts, inside = 0, False
    while (byte := file.read(1)) and parts <= bounds.IMAGE_PARTS:
        parts += 1
        if inside:
            inside = byte != b"\0"
            file.seek(byte[0], 1)
        elif byte == b"!":  # an extension: its kind, then blocks, each behind its length
            file.read(1)
            inside = True
        elif byte in b",;":
            break
    return parts
