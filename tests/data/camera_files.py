"""RAW files and films as cameras write them, small, made in code."""

import io
import struct
from pathlib import Path

import av
import numpy as np
from PIL import Image

RED, GREEN, BLUE, BLACK = (254, 0, 0), (0, 254, 0), (0, 0, 254), (0, 0, 0)
SIDES = (32, 24)  # of the pictures inside
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 10: "ii"}


def quarters(width: int = SIDES[0], height: int = SIDES[1]) -> np.ndarray:
    """(H, W, 3) uint8: red and green above, blue and black below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    return pixels


def seen(pixels: np.ndarray) -> list[str]:
    """The colours of a picture's quarters, in reading order, by the brightest of its channels."""
    size = len(pixels)
    names = []
    for y, x in ((1, 1), (1, size - 2), (size - 2, 1), (size - 2, size - 2)):
        colour = pixels[y, x].astype(int)
        names.append("black" if colour.max() < 90 else ("red", "green", "blue")[colour.argmax()])
    return names


def film(file: Path, degrees: int = 0, codec: str = "mpeg4", frames: int = 5, **said: str) -> Path:
    """A film of `quarters`, to be turned by so many degrees, clockwise, when it is shown.

    Args:
        said: in its container, by FFmpeg's names.
    """
    with av.open(file, "w", options={"movflags": "use_metadata_tags"} if said else {}) as out:
        out.metadata["title"] = "cafe"
        out.metadata.update(said)
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height = SIDES
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if degrees:
            stream.set_display_rotation(-degrees)
        for _ in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        out.mux(stream.encode())
    return file


def jpeg(orientation: int = 0) -> bytes:
    """`quarters` as a JPEG; where it says how to turn it, EXIF comes first, as cameras have it."""
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(quarters()).save(file, "JPEG", quality=95, subsampling=0, exif=exif)
    data = file.getvalue()
    return data[:2] + data[20:] if orientation else data  # without JFIF's segment


def dng(
    preview: bytes | np.ndarray | None = None,
    orientation: int = 1,
    sides: tuple[int, int] = (64, 48),
    taken: str = "",
    gps: int = 0,
) -> bytes:
    """A DNG of a Bayer pattern that shows `quarters`, with a JPEG as preview.

    Args:
        preview: a JPEG, or an array (H, W, C); None for none.
        orientation: EXIF's, of the whole file.
        sides: width and height that are claimed; less than 64 x 48 is there of more.
        taken: when, in EXIF's words. gps: where in the file its directory of the place is.
    """
    width, height = sides
    raw = np.zeros((48, 64), "<u2")
    full = quarters(64, 48).astype("<u2") * 200
    for (y, x), band in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
        raw[y::2, x::2] = full[y::2, x::2, band]
    data = raw.tobytes()
    colours = [10000, 10000, 0, 10000, 0, 10000] * 3
    colours = [v for i in range(9) for v in (10000 if i % 4 == 0 else 0, 10000)]
    about = [
        (271, 2, b"Nobody\0"), (272, 2, b"Box\0"), (274, 3, [orientation]),
        (50706, 1, [1, 4, 0, 0]), (50708, 2, b"Nobody Box\0"), (50721, 10, colours),
        (50728, 5, [1, 1, 1, 1, 1, 1]),
    ] + ([(306, 2, taken.encode() + b"\0")] if taken else [])  # fmt: skip
    about += [(34853, 4, [gps])] if gps else []
    picture = [
        (254, 4, [0]), (256, 4, [width]), (257, 4, [height]), (258, 3, [16]), (259, 3, [1]),
        (262, 3, [32803]), (273, 4, [0]), (277, 3, [1]), (278, 4, [height]),
        (279, 4, [len(data)]), (33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]),
        (50714, 3, [0]), (50717, 4, [50800]),
    ]  # fmt: skip
    if preview is None:
        return _tiff([about + picture], [data])
    shape, bits, coded = (*SIDES[::-1], 3), 8, 7
    if isinstance(preview, np.ndarray):
        shape, bits, coded, preview = preview.shape, 8 * preview.itemsize, 1, preview.tobytes()
    bands, colours_of = shape[2], {1: 1, 3: 2 if coded == 1 else 6}
    small = [
        (254, 4, [1]), (256, 4, [shape[1]]), (257, 4, [shape[0]]), (258, 3, [bits] * bands),
        (259, 3, [coded]), (262, 3, [colours_of[bands]]), (273, 4, [0]), (277, 3, [bands]),
        (278, 4, [shape[0]]), (279, 4, [len(preview)]), (330, 4, [0]),
    ]  # fmt: skip
    return _tiff([about + small, picture], [preview, data])


def _tiff(directories: list[list[tuple]], pictures: list[bytes]) -> bytes:
    """A TIFF whose first directory leads to the second by SubIFDs; each has one strip."""
    packed = []
    for entries in directories:
        rows = []
        for tag, kind, values in sorted(entries):
            form = _FORMATS[kind]
            if isinstance(values, bytes):
                rows.append((tag, kind, len(values), values))
            else:
                each = len(form)
                content = struct.pack(f"<{len(values) // each * form}", *values)
                rows.append((tag, kind, len(values) // each, content))
        packed.append(rows)
    at, places = 8, []
    for rows in packed:
        places.append(at)
        at += 6 + 12 * len(rows) + sum(len(c) + len(c) % 2 for *_, c in rows if len(c) > 4)
    strips = []
    for picture in pictures:
        strips.append(at)
        at += len(picture) + len(picture) % 2
    out = struct.pack("<2sHI", b"II", 42, 8)
    for number, rows in enumerate(packed):
        more = places[number] + 6 + 12 * len(rows)
        out += struct.pack("<H", len(rows))
        behind = b""
        for tag, kind, count, content in rows:
            if tag == 273:
                content = struct.pack("<I", strips[number])
            elif tag == 330:
                content = struct.pack("<I", places[1])
            out += struct.pack("<HHI", tag, kind, count)
            if len(content) > 4:
                out += struct.pack("<I", more + len(behind))
                behind += content + bytes(len(content) % 2)
            else:
                out += content.ljust(4, b"\0")
        out += struct.pack("<I", 0) + behind
    return out + b"".join(picture + bytes(len(picture) % 2) for picture in pictures)
