"""Good files of each format, and how their structure is changed."""

import io
import random
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fuzz.texts import texts_of, with_words

_EXTREMES = (0, 1, 2, 7, 8, 16, 255, 256, 4096, 32767, 65535, 65536, 10**6, 2**31 - 1, 2**31)
_WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}

Parts = list[bytes]


def _number(rng: random.Random) -> int:
    value = rng.choice((*_EXTREMES, 2**32 - 1, 2**64 - 1, rng.getrandbits(rng.randrange(1, 33))))
    return value + rng.choice((0, 0, 0, -1, 1))


def with_fields(data: bytes, rng: random.Random, start: int = 0, end: int | None = None) -> bytes:
    """Some fields of 1 to 8 bytes, of either byte order, take other values."""
    changed = bytearray(data)
    end = len(data) if end is None else min(end, len(data))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        width = rng.choice((1, 1, 2, 2, 4, 4, 8))
        if end - start >= width:
            at = rng.randrange(start, end - width + 1)
            value = _number(rng) % 256**width
            changed[at : at + width] = struct.pack(rng.choice("<>") + _WIDTHS[width], value)
    return bytes(changed)


def with_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut, repeated or exchanged anywhere."""
    if len(data) < 2:
        return data
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    kind = rng.randrange(5)
    if kind == 0:
        return data[:a]
    if kind == 1:
        return data[:a] + data[b:]
    if kind == 2:
        return data[:b] + data[a:b] * rng.randrange(1, 9) + data[b:]
    if kind == 3:
        return data[:a] + rng.randbytes(b - a) + data[b:]
    return with_fields(data, rng)


def with_parts(parts: Parts, rng: random.Random) -> Parts:
    """Parts repeated, dropped, exchanged or damaged; the first stays where it is."""
    parts = list(parts)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(parts) < 3:
            break
        i, j = rng.randrange(1, len(parts)), rng.randrange(1, len(parts))
        kind = rng.randrange(5)
        if kind == 0:
            parts[i:i] = [parts[j]] * rng.choice((1, 2, 50))
        elif kind == 1:
            del parts[i]
        elif kind == 2:
            parts[i], parts[j] = parts[j], parts[i]
        else:
            parts[i] = with_fields(parts[i], rng, 0, 40)
    return parts


def jpeg_parts(data: bytes) -> Parts:
    """SOI, each segment, and the rest from the first scan on, in scans."""
    parts, at = [data[:2]], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        parts.append(data[at:end])
        at = end
    return parts + [b"\xff\xda" + scan for scan in data[at:].split(b"\xff\xda")[1:]]


def png_parts(data: bytes) -> Parts:
    """The signature, and each chunk without its checksum."""
    parts, at = [data[:8]], 8
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        parts.append(data[at:end])
        at = end + 4
    return parts


def png_whole(parts: Parts) -> bytes:
    """Chunks with lengths and checksums that are right."""
    chunks = [
        struct.pack(">I", len(part) - 8) + part[4:] + struct.pack(">I", zlib.crc32(part[4:]))
        for part in parts[1:]
        if len(part) >= 8
    ]
    return parts[0] + b"".join(chunks)


def riff_parts(data: bytes) -> Parts:
    """WebP's head and each chunk."""
    parts, at = [data[:12]], 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        parts.append(data[at:end])
        at = end
    return parts


def riff_whole(parts: Parts) -> bytes:
    """Chunks in a file whose size is right."""
    body = b"".join(parts[1:])
    return parts[0][:4] + struct.pack("<I", len(body) + 4) + parts[0][8:] + body


def changed_tiff(data: bytes, rng: random.Random) -> bytes:
    """Entries of the first directory changed, added or led elsewhere; BigTIFF by its bytes."""
    order = "<" if data[:2] == b"II" else ">"
    (magic,) = struct.unpack(order + "H", data[2:4])
    if magic != 42:
        return with_fields(data, rng)
    (at,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[at : at + 2])
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    codes = (256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 284, 305, 317, 320, 322, 323, 324)
    codes += (325, 330, 339, 347, 513, 530, 700, 33628, 33629, 34361, 34412, 34665, 34853, 42113)
    for _ in range(rng.choice((1, 1, 2, 3))):
        i = rng.randrange(len(entries))
        code, kind, values, value = struct.unpack(order + "HHII", entries[i])
        what = rng.randrange(6)
        if what == 0:
            value = rng.choice((_number(rng), at, len(data) - 1)) % 2**32
        elif what == 1:
            values = _number(rng) % 2**32
        elif what == 2:
            kind = rng.randrange(20)
        elif what == 3:
            code = rng.choice(codes)
        entry = struct.pack(order + "HHII", code, kind, values, value)
        if what == 4:
            entries += [entry] * rng.choice((1, 300))
        elif what == 5:
            other = struct.pack(order + "HHII", rng.choice(codes), rng.choice((3, 4)), 1, value)
            entries.append(other)
        else:
            entries[i] = entry
    if rng.random() < 0.8:
        entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
    following = rng.choice((0, 0, len(data), at))
    new = struct.pack(order + "H", len(entries)) + b"".join(entries)
    new += struct.pack(order + "I", following)
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + new


def changed_tar(data: bytes, rng: random.Random) -> bytes:
    """Blocks changed, repeated or dropped, with checksums that are right."""
    blocks = [data[i : i + 512] for i in range(0, len(data), 512)]
    blocks = with_parts(blocks, rng) if rng.random() < 0.5 else blocks
    for i in rng.sample(range(len(blocks)), min(3, len(blocks))):
        head = bytearray(blocks[i])
        if head[257:262] != b"ustar":
            continue
        at, length = rng.choice(((0, 100), (124, 12), (124, 12), (156, 1), (157, 100), (345, 155)))
        if at == 156:
            head[156] = rng.choice(b"0123456789LKSxgXDMVN\0")
        elif at == 124:
            size = _number(rng)
            head[124:136] = (
                b"%011o\0" % size if size < 8**11 else b"\x80" + (size % 2**88).to_bytes(11)
            )
        else:
            head[at : at + length] = rng.choice((b"a/" * 99, b"../x.png", b"/x", b"\xff" * 99))[
                :length
            ].ljust(length, b"\0")
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % (sum(head) & 0o777777)
        blocks[i] = bytes(head)
    return b"".join(blocks)


def changed_zip(data: bytes, rng: random.Random) -> bytes:
    """Fields of local, central or end records, or whole records."""
    marks = [i for i in range(len(data) - 4) if data[i : i + 2] == b"PK" and data[i + 2] < 8]
    at = rng.choice(marks or [0])
    if rng.random() < 0.7:
        return with_fields(data, rng, at + 4, at + 46)
    end = rng.choice([*marks, len(data)])
    return data[:at] + data[end:] if end > at else data[:at] + data[end:at] * 3 + data[at:]


def images_of(kind: str) -> Parts:
    """Good files of a format."""
    import numpy as np
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    pictures = {mode: Image.fromarray(noise).convert(mode) for mode in ("L", "RGB", "RGBA", "P")}
    pictures["1"], pictures["CMYK"] = pictures["L"].convert("1"), pictures["RGB"].convert("CMYK")
    exif = Image.Exif()
    exif[274] = 6
    choices: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "jpeg": [("L", {}), ("RGB", {"progressive": True}), ("CMYK", {}), ("RGB", {"exif": exif})],
        "png": [(mode, {"exif": exif}) for mode in ("1", "L", "P", "RGB", "RGBA")],
        "gif": [("P", {}), ("P", {"save_all": True, "append_images": [pictures["L"]]})],
        "webp": [
            ("RGB", {"exif": exif}),
            ("RGBA", {"lossless": True}),
            ("RGBA", {"save_all": True, "append_images": [pictures["RGB"]]}),
        ],
        "avif": [(mode, {"exif": exif, "speed": 10}) for mode in ("L", "RGB", "RGBA")],
        "heif": [("L", {}), ("RGB", {"exif": exif}), ("RGBA", {}), ("RGB", {"tile_size": 16})],
        "bmp": [("1", {}), ("L", {}), ("P", {}), ("RGB", {}), ("RGBA", {})],
        "tiff": [
            ("RGB", {"compression": name})
            for name in ("raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")
        ]
        + [("1", {"compression": "group4"}), ("P", {}), ("CMYK", {})],
    }
    files = []
    for mode, options in choices[kind]:
        file = io.BytesIO()
        pictures[mode].save(file, kind.upper(), **options)
        files.append(file.getvalue())
    return files + (_tiffs(noise) if kind == "tiff" else _rle_bmps() if kind == "bmp" else [])


def _tiffs(noise: Any) -> Parts:
    import numpy as np
    import tifffile

    files = []
    for dtype in (np.uint8, np.uint16, np.float32):
        for options in ({}, {"tile": (16, 16)}, {"compression": "zlib"}, {"compression": "lzma"}):
            file = io.BytesIO()
            tifffile.imwrite(file, noise.astype(dtype), photometric="minisblack", **options)
            files.append(file.getvalue())
    return files


def _rle_bmps() -> Parts:
    data = b"\x32\x05\0\0" * 20 + b"\0\2\5\5" + b"\0\4abcd\0\0\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 50, 40, 1, 8, 1, len(data), 0, 0, 256, 0)
    return [struct.pack("<2sIII", b"BM", 1078 + len(data), 0, 1078) + head + bytes(1024) + data]


def archives_of(kind: str) -> Parts:
    """Good zips, with each compression, or tars of each dialect, plain or compressed."""
    contents = {
        "a.png": b"1" * 700,
        "b" * 60 + "/" + "c" * 80 + ".png": b"2" * 50,
        "d/e/f.png": b"",
    }
    files = []
    if kind == "zip":
        for method in (0, 8, 12, 14):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w", method) as packed:
                for name, content in contents.items():
                    packed.writestr(name, content)
            files.append(file.getvalue())
        return files
    for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=dialect) as packed:
            for name, content in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
        files.append(file.getvalue()[:8192])
    return files


def arrays_of(kind: str) -> Parts:
    """Good pickles as of CIFAR, or idx files."""
    import gzip
    import pickle

    import numpy as np

    pixels = np.arange(3 * 3072, dtype=np.uint32).astype(np.uint8)
    if kind == "pickle":
        batch = {b"data": pixels.reshape(3, 3072), b"labels": [1, 2, 3], b"names": [b"a", b"b"]}
        return [pickle.dumps(batch, protocol) for protocol in (0, 2, 4)]
    plain = struct.pack(">4B3I", 0, 0, 8, 3, 3, 32, 96) + pixels.tobytes()
    return [plain, gzip.compress(plain, mtime=0)]


def camera_files_of(kind: str) -> Parts:
    """Good RAW files with and without a preview, or films of several containers and codecs."""
    from tests.data import camera_files

    if kind == "dng":
        return [camera_files.dng(camera_files.jpeg(6), 6), camera_files.dng(None)]
    with tempfile.TemporaryDirectory() as place:
        return [
            camera_files.film(Path(place) / f"a.{container}", 90, codec).read_bytes()
            for container, codec in (
                ("mp4", "mpeg4"), ("mp4", "libx264"), ("mov", "mjpeg"), ("mkv", "libx264"),
                ("webm", "libvpx"), ("avi", "mpeg4"), ("mts", "mpeg2video"), ("wmv", "wmv2"),
            )
        ]  # fmt: skip


def _by_parts(split: Callable[[bytes], Parts], whole: Callable[[Parts], bytes] = b"".join) -> Any:
    return lambda data, rng: whole(with_parts(split(data), rng))


def _heads(data: bytes, rng: random.Random) -> bytes:
    return with_fields(data, rng, 0, 80)


def _boxes(data: bytes, rng: random.Random) -> bytes:
    """Fields before the pixels: sizes, references, and where pieces lie."""
    return with_fields(data, rng, 0, data.find(b"mdat") + 4)


FORMATS: dict[str, tuple[Callable[[str], Parts], Callable[[bytes, random.Random], bytes]]] = {
    "jpeg": (images_of, _by_parts(jpeg_parts)),
    "png": (images_of, _by_parts(png_parts, png_whole)),
    "tiff": (images_of, changed_tiff),
    "webp": (images_of, _by_parts(riff_parts, riff_whole)),
    "avif": (images_of, _boxes),
    "heif": (images_of, _boxes),
    "gif": (images_of, _heads),
    "bmp": (images_of, _heads),
    "zip": (archives_of, changed_zip),
    "tar": (archives_of, changed_tar),
    "pickle": (arrays_of, with_fields),
    "idx": (arrays_of, _heads),
    "dng": (camera_files_of, changed_tiff),
    "film": (camera_files_of, with_fields),
    "edits": (texts_of, with_words),
    "params": (texts_of, with_words),
}


def sample(kind: str, files: Parts, seed: int, number: int) -> tuple[bytes, random.Random]:
    """Sample `number` of a format, and the generator that says how it is read."""
    rng = random.Random(f"{kind} {seed} {number}")
    data, change = rng.choice(files), FORMATS[kind][1]
    for _ in range(rng.choice((1, 1, 2))):
        try:
            data = change(data, rng) if rng.random() < 0.75 else with_bytes(data, rng)
        except (IndexError, struct.error, ValueError):  # no structure is left to change
            data = with_bytes(data, rng)
    return data, rng
