"""Hostile files of images, each small beside what it claims, repeats or leads to."""

import functools
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.fuzz.case import Case

MAX_PIXELS = 100_000_000  # as in the presets
_MIB = 1 << 20
_EMPTY_SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"


def one(
    kind: str, name: str, build: Callable[[], bytes], refused: str | None = None, **more
) -> Case:
    """A case that is refused with some words; None: it is read, or refused as well."""
    return Case(f"image: {kind}", name, build, refused, **more)


def saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """A good file."""
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    *before: bytes,
    size: tuple[int, int] = (4, 4),
    bits: int = 8,
    colour: int = 0,
    after: bytes = b"",
) -> bytes:
    """A PNG of zeros with chunks before its pixels."""
    width, height = size
    row = 1 + width * bits * {0: 1, 2: 3, 3: 1, 6: 4}[colour] // 8
    data = zlib.compress(bytes(row * height if width * height < 10**6 else 99))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    parts = head + b"".join(before) + chunk(b"IDAT", data) + after
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND")


@functools.cache
def bomb(size: int) -> bytes:
    """Zeros of this size, packed."""
    return zlib.compress(bytes(size), 9)


def exif(*entries: tuple[int, int, int, int], more: bytes = b"", following: int = 0) -> bytes:
    """A directory of tags: code, type, count, value; and bytes behind it."""
    body = struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + body + struct.pack("<I", following) + more


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP of these chunks."""
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _sizes()
    yield from _pngs()
    yield from _jpegs()
    yield from _moving()
    yield from _tiffs()
    yield from _exifs()
    yield from _boxed()
    yield from _masks()


def _sizes() -> Iterator[Case]:
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (300_000, 1)):
        for colour, bits in ((0, 1), (3, 8), (2, 16), (6, 16)):
            build = functools.partial(png, size=(width, height), colour=colour, bits=bits)
            words = "pixels" if colour != 3 else ""
            yield one("size claimed", f"png {colour} {bits} {width} x {height}", build, words)
    for name, size in (("both", b"\xff\xff\xff\xff"), ("one", b"\xff\xff\x00\x01")):
        for progressive in (False, True):
            plain = saved("JPEG", progressive=progressive)
            data = plain.replace(struct.pack(">HH", 30, 40), size, 1)
            words = "" if name == "both" else None
            yield one(
                "size claimed",
                f"jpeg {name}, progressive {progressive}",
                functools.partial(bytes, data),
                words,
            )
    gif = saved("GIF", "P")
    webp = saved("WEBP", lossless=True)
    lossy = saved("WEBP")
    screen = gif[:6] + b"\xff" * 4 + gif[10:]
    at = gif.rindex(struct.pack("<HH", 40, 30))
    frame = gif[:at] + b"\xff" * 4 + gif[at + 4 :]
    yield one("size claimed", "gif's screen", lambda: screen, "pixels")
    yield one("size claimed", "gif's picture", lambda: frame, "pixels")
    yield one("size claimed", "webp", lambda: webp[:21] + b"\xff" * 4 + webp[25:], "")
    at = lossy.index(b"\x9d\x01\x2a") + 3
    yield one(
        "size claimed", "lossy webp", lambda: lossy[:at] + b"\xff\x3f" * 2 + lossy[at + 4 :], ""
    )
    extended = (b"VP8X", b"\0\0\0\0" + b"\xff" * 6), (b"VP8 ", lossy[20:])
    yield one("size claimed", "extended webp", lambda: riff(*extended), "")
    bmp = saved("BMP")
    for width, height in ((60_000, 60_000), (2**31 - 1, -(2**31)), (-5, 5), (0, 2**31 - 1)):
        data = bmp[:18] + struct.pack("<ii", width, height) + bmp[26:]
        yield one("size claimed", f"bmp {width} x {height}", functools.partial(bytes, data), "")
    heads = {"its colours": (46, 2**32 - 1), "its head": (14, 2**32 - 1), "its start": (10, 2**31)}
    for label, (at, value) in heads.items():
        data = bmp[:at] + struct.pack("<I", value) + bmp[at + 4 :]
        yield one("size claimed", f"bmp, {label}", functools.partial(bytes, data), None)


def _pngs() -> Iterator[Case]:
    texts = {
        "zTXt": b"a\0\0" + bomb(60 * _MIB),
        "iTXt": b"a\0\1\0\0\0" + bomb(60 * _MIB),
        "iCCP": b"a\0\0" + bomb(60 * _MIB),
        "tEXt": b"a\0" + b"b" * 8 * _MIB,
        "XMP": b"XML:com.adobe.xmp\0\1\0\0\0" + bomb(60 * _MIB),
        "eXIf": bytes(8 * _MIB),
        "iCCP that is none": b"a\0\0" + b"x" * 8 * _MIB,
        "zTXt without an end": b"a" * 8 * _MIB,
    }
    for label, body in texts.items():
        kind = b"iTXt" if label == "XMP" else label[:4].encode()
        for colour, bits in ((0, 8), (2, 16)):
            build = functools.partial(png, chunk(kind, body), colour=colour, bits=bits)
            yield one("png's chunks", f"{label} of {bits} bits", build)
    few = chunk(b"zTXt", b"a\0\0" + bomb(900_000))
    yield one("png's chunks", "16,000 zTXt of .9 MB", lambda: png(few * 16_000))
    hexed = chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n9\n" + b"41" * 9**5)
    )
    yield one("png's chunks", "EXIF in letters", lambda: png(hexed))
    wide = chunk(b"eXIf", exif((274, 3, 4 * _MIB, 26), more=b"\1\2" * 4 * _MIB))
    yield one("png's chunks", "an orientation of 4 million numbers", lambda: png(wide))
    for kind in (b"IDAT", b"fdAT", b"fcTL"):
        for size in (0, 1, 4):
            for before in (True, False):
                place = "before" if before else "behind"
                name = f"2 million {kind.decode()} of {size} bytes {place} its pixels"
                build = functools.partial(_in_pieces, chunk(kind, bytes(size)), before)
                yield one("png's chunks", name, build)
    long = struct.pack(">I", 2**31 - 1) + b"zTXt"
    yield one("png's chunks", "a chunk of 2 GiB", lambda: png(long), "")
    yield one("png's chunks", "an IDAT of 2 GiB", lambda: png(long[:4] + b"IDAT"), "")
    palette = chunk(b"PLTE", bytes(3 * 100_000))
    yield one("png's chunks", "100,000 colours", lambda: png(palette, colour=3))


def _in_pieces(piece: bytes, before: bool) -> bytes:
    many = piece * 2_000_000
    return png(many) if before else png(after=many)


def _jpegs() -> Iterator[Case]:
    plain, many = saved("JPEG"), saved("JPEG", progressive=True)
    large = saved("JPEG", "RGB", (1000, 1000), progressive=True)
    for code in (0xE0, 0xE2, 0xED, 0xEE, 0xFE, 0xDB, 0xC4, 0xDD, 0xC0):
        for content, label in ((b"", "no"), (b"ICC_PROFILE\0\1\1" + bytes(20), "some")):
            segment = struct.pack(">HH", 0xFF00 | code, 2 + len(content)) + content
            for times in (15_000, 400_000):
                build = functools.partial(b"".join, (plain[:2], segment * times, plain[2:]))
                yield one("jpeg's segments", f"{times} {code:#x} of {label} bytes", build)
    resources = b"8BIM\4\4\0\0\0\0\0\0" * 5000
    segment = b"\xff\xed" + struct.pack(">H", 16 + len(resources)) + b"Photoshop 3.0\0" + resources
    build = functools.partial(b"".join, (plain[:2], segment * 100, plain[2:]))
    yield one("jpeg's segments", "500,000 resources of Photoshop", build)
    index = exif(*[(0xB000 + i, 3, 15_000, 8) for i in range(2000)], more=bytes(30_000))
    segment = b"\xff\xe2" + struct.pack(">H", 6 + len(index)) + b"MPF\0" + index
    yield one("jpeg's segments", "an index of pictures", lambda: plain[:2] + segment + plain[2:])
    index = exif((0xB001, 4, 1, 2**32 - 1), (0xB002, 7, 60_000, 38), more=bytes(60_000))
    segment2 = b"\xff\xe2" + struct.pack(">H", 6 + len(index)) + b"MPF\0" + index
    yield one("jpeg's segments", "4 billion pictures", lambda: plain[:2] + segment2 + plain[2:])
    for label, junk in (
        ("0xff", b"\xff" * 16 * _MIB),
        ("zeros", bytes(16 * _MIB)),
        ("0xff00", b"\xff\0" * 8 * _MIB),
        ("restarts", b"\xff\xd0" * 8 * _MIB),
    ):
        for place, at in (
            ("before its segments", 2),
            ("before its pixels", plain.index(b"\xff\xda")),
        ):
            build = functools.partial(b"".join, (plain[:at], junk, plain[at:]))
            yield one("jpeg's segments", f"16 MiB of {label} {place}", build)
    for times in (30, 3000, 100_000):
        build = functools.partial(b"".join, (large[:-2], _EMPTY_SCAN * times, large[-2:]))
        yield one("jpeg's scans", f"{times} more scans", build)
    spread = b"".join(_EMPTY_SCAN + b"\xff\xd9" for _ in range(3000))
    yield one("jpeg's scans", "3,000 ends", lambda: many[:-2] + spread + many[-2:])
    huge = many.replace(struct.pack(">HH", 30, 40), b"\x27\x0f\x27\x0f", 1)
    for times in (0, 20, 40):
        build = functools.partial(b"".join, (huge[:-2], _EMPTY_SCAN * times, huge[-2:]))
        words = "whose scans have" if times == 40 else None
        # Of 100 megapixels all coefficients are kept.
        limits = {"seconds": 60.0, "mib": 700, "slow": True} if times < 40 else {}
        yield one("jpeg's scans", f"{times} more, 100 megapixels", build, words, **limits)


def _moving() -> Iterator[Case]:
    gif, webp = saved("GIF", "P"), saved("WEBP", size=(2, 2))
    at = gif.rindex(b",\0\0\0\0")
    frame = gif[at:-1]
    pixel = b"!\xf9\4\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    yield one("moving", "gif of 100,000", lambda: gif[:at] + frame + pixel * 10**5 + b";")
    ends = gif[:at] + frame + b",\0\0\0\0\1\0\1\0\0\2\0" * 10**5 + b";"
    yield one("moving", "gif of 100,000 empty pictures", lambda: ends)
    comments = (b"!\xfe\xff" + b"c" * 255 + b"\0") * 8000
    yield one("moving", "gif of 8,000 comments", lambda: gif[:at] + comments + gif[at:])
    one_comment = b"!\xfe" + (b"\xff" + b"c" * 255) * 16_000 + b"\0"
    yield one("moving", "gif of a long comment", lambda: gif[:at] + one_comment + gif[at:])
    loops = (b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0") * 8000
    yield one("moving", "gif of 8,000 loops", lambda: gif[:at] + loops + gif[at:])
    picture = webp[12:]
    body = bytes(6) + b"\1\0\0\1\0\0" + b"\x0a\0\0\0" + picture
    head = (b"VP8X", b"\2\0\0\0\1\0\0\1\0\0"), (b"ANIM", bytes(6))
    yield one("moving", "webp of 100,000", lambda: riff(*head, *[(b"ANMF", body)] * 10**5))
    yield one("moving", "webp of no picture", lambda: riff(*head), "")
    many = [(b"ABCD", b"")] * 500_000
    yield one("moving", "webp of 500,000 chunks", lambda: riff(*head, (b"ANMF", body), *many))
    for kind in (b"ICCP", b"EXIF", b"XMP "):
        flags = {b"ICCP": 0x20, b"EXIF": 8, b"XMP ": 4}[kind]
        start = (b"VP8X", bytes([flags]) + bytes(3) + b"\1\0\0\1\0\0")
        extra = (kind, bytes(8 * _MIB))
        parts = (start, extra, (picture[:4], picture[8:])) if kind == b"ICCP" else ()
        parts = parts or (start, (picture[:4], picture[8:]), extra)
        yield one("moving", f"webp with 8 MiB of {kind.decode()}", functools.partial(riff, *parts))
    size = struct.pack(">II", 4, 4)
    control = struct.pack(">IIIIIHHBB", 0, 4, 4, 0, 0, 1, 9, 0, 0)
    pixels = zlib.compress(bytes(20))
    frames = [
        chunk(b"fcTL", struct.pack(">I", 2 * i + 1) + control[4:])
        + chunk(b"fdAT", struct.pack(">I", 2 * i + 2) + pixels)
        for i in range(100_000)
    ]
    start = chunk(b"acTL", struct.pack(">II", 100_001, 0)) + chunk(b"fcTL", control)
    del size
    yield one("moving", "png of 100,000", lambda: png(start, after=b"".join(frames)))
    lies = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + chunk(b"fcTL", control)
    yield one("moving", "png of 2 billion, it says", lambda: png(lies))


def _tiffs() -> Iterator[Case]:
    modes = {
        "palette": saved("TIFF", "P"),
        "grey": saved("TIFF", "L"),
        "CMYK": saved("TIFF", "CMYK"),
    }
    for label, data in modes.items():
        (at,) = struct.unpack("<I", data[4:8])
        (count,) = struct.unpack("<H", data[at : at + 2])
        end = at + 2 + 12 * count
        for name, where in (("itself", at), ("4 GiB", 2**32 - 1), ("the file's head", 0)):
            build = functools.partial(
                b"".join, (data[:end], struct.pack("<I", where), data[end + 4 :])
            )
            yield one("tiff's directories", f"{label}, the next is at {name}", build)
        for code in (330, 34665, 34853, 40965):
            entries = data[at + 2 : end] + struct.pack("<HHII", code, 4, 1, len(data))
            build = functools.partial(_with_directory, data, entries, len(data))
            yield one("tiff's directories", f"{label}, {code} leads to itself", build)
        for kind, times in ((1, 8 * _MIB), (3, 4 * _MIB), (5, _MIB)):
            entries = data[at + 2 : end]
            entries += b"".join(
                struct.pack("<HHII", 60_000 + i, kind, times, 0) for i in range(2000)
            )
            build = functools.partial(_with_directory, data + bytes(8 * _MIB), entries, 0)
            yield one("tiff's tags", f"{label}, 2,000 of the same 8 MiB, type {kind}", build)
        entries = data[at + 2 : end] + struct.pack("<HHII", 700, 1, 2**32 - 1, 8)
        build = functools.partial(_with_directory, data, entries, 0)
        yield one("tiff's tags", f"{label}, one of 4 GiB", build)
        pages = functools.partial(_pages, data, 50_000)
        yield one("tiff's directories", f"{label}, 50,000 pages", pages)


def _with_directory(data: bytes, entries: bytes, following: int) -> bytes:
    """The same picture with another directory, at its end."""
    head = data[:4] + struct.pack("<I", len(data)) + data[8:]
    return head + struct.pack("<H", len(entries) // 12) + entries + struct.pack("<I", following)


def _pages(data: bytes, times: int) -> bytes:
    (at,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[at : at + 2])
    directory = data[at : at + 2 + 12 * count]
    size, start = len(directory) + 4, len(data)
    pages = [directory + struct.pack("<I", start + size * (i + 1)) for i in range(times - 1)]
    head = data[:4] + struct.pack("<I", start) + data[8:]
    return head + b"".join(pages) + directory + bytes(4)


def _exifs() -> Iterator[Case]:
    """Where a picture is up is asked of EXIF in each format that has it."""
    blocks = {
        "1,000 tags of the same bytes": exif(
            *[(1000 + i, 7, 48_000, 8) for i in range(1000)], more=bytes(48_000)
        ),
        "a next directory that is itself": exif((274, 3, 1, 6), following=8),
        "more that is itself": exif((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8)),
        "an orientation of 15,000 numbers": exif((274, 3, 15_000, 26), more=b"\6\0" * 15_000),
        "an orientation of 999": exif((274, 3, 1, 999)),
        "an orientation of words": exif((274, 2, 4, 0x41414141)),
        "a rational of nothing": exif((274, 5, 1, 26), more=bytes(8)),
        "a tag of 4 GiB": exif((274, 3, 1, 6), (700, 1, 2**32 - 1, 8)),
        "65,535 entries, it says": b"II*\0\x08\0\0\0\xff\xff" + bytes(90),
        "no order": b"XX*\0\x08\0\0\0",
        "a directory at 4 GiB": b"II*\0\xff\xff\xff\xff",
        "nothing": b"",
    }
    for label, block in blocks.items():
        for kind in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF"):
            build = functools.partial(_with_exif, kind, block)
            yield one("exif", f"{kind}, {label}", build)
    numbers = {
        "an orientation of 4 million numbers": exif(
            (274, 3, 4 * _MIB, 26), more=b"\1\2" * 4 * _MIB
        ),
        "resolutions of a million": exif(
            (0x011A, 5, _MIB, 50), (0x0128, 3, 4 * _MIB, 50), more=b"\1\2\3\4" * 2 * _MIB
        ),
    }
    for label, block in numbers.items():
        for kind in ("PNG", "WEBP", "AVIF", "HEIF"):
            build = functools.partial(_with_exif, kind, block)
            yield one("exif", f"{kind}, {label}", build)
    piece = b"\xff\xe1" + struct.pack(">H", 8 + 65_000) + b"Exif\0\0"
    first = exif(*[(1000 + i, 7, 8 * _MIB, 8) for i in range(5000)])
    plain = saved("JPEG")
    rest = piece + bytes(65_000)
    start = piece + first.ljust(65_000, b"\0")
    build = functools.partial(b"".join, (plain[:2], start, rest * 200, plain[2:]))
    yield one("exif", "JPEG, 5,000 tags of the same 8 MiB in 201 segments", build)
    start = piece + exif((274, 3, 6 * _MIB, 30)).ljust(65_000, b"\0")
    build = functools.partial(
        b"".join, (plain[:2], start, (piece + b"\1\2" * 32_500) * 200, plain[2:])
    )
    yield one("exif", "JPEG, an orientation of 6 million numbers", build)
    start = piece + exif((0x011A, 5, 60_000, 30)).ljust(65_000, b"\0")
    build = functools.partial(
        b"".join, (plain[:2], start, (piece + b"\1\2" * 32_500) * 15, plain[2:])
    )
    yield one("exif", "JPEG, a resolution of 60,000 numbers", build)


def _with_exif(kind: str, block: bytes) -> bytes:
    """A good file with this EXIF, which packers would not write as it is."""
    import pillow_heif

    if kind == "PNG":
        return png(chunk(b"eXIf", block))
    if kind in ("JPEG", "WEBP"):
        return saved(kind, exif=b"Exif\0\0" + block)
    pillow_heif.register_heif_opener()
    block = block.ljust(20, b"\0")
    other = exif().ljust(len(block), b"\xaa")
    data = saved(kind, exif=b"Exif\0\0" + other, **({"speed": 10} if kind == "AVIF" else {}))
    assert data.count(other) == 1
    return data.replace(other, block)


def _boxed() -> Iterator[Case]:
    """HEIC and AVIF: fields of the boxes before the pixels take extreme values, one by one."""

    def whole(kind: str, **options: Any) -> bytes:
        import pillow_heif

        pillow_heif.register_heif_opener()
        return saved(kind, size=(64, 48), **options)

    for kind, options in (("AVIF", {"speed": 10}), ("HEIF", {}), ("HEIF", {"tile_size": 16})):
        data = whole(kind, **options)
        label = f"{kind}{' of tiles' * ('tile_size' in options)}"
        size = struct.pack(">II", 64, 48)
        for width, height in ((60_000, 60_000), (2**32 - 1, 2**32 - 1), (2**32 - 1, 1), (0, 0)):
            changed = data.replace(size, struct.pack(">II", width, height))
            build = functools.partial(bytes, changed)
            words = "pixels" if width and size in data else None
            yield one("heic and avif", f"{label} of {width} x {height}", build, words)
        for box in (b"iloc", b"iinf", b"iref", b"ipma", b"ipco", b"meta", b"ispe", b"pixi"):
            at = data.find(box)
            if at < 0:
                continue
            for place, value in ((-4, 2**32 - 1), (-4, 0), (-4, 1), (6, 2**32 - 1), (8, 2**32 - 1)):
                there = at + place
                changed = data[:there] + struct.pack(">I", value) + data[there + 4 :]
                name = f"{label}, {value} at {place} of {box.decode()}"
                yield one("heic and avif", name, functools.partial(bytes, changed))
        free = struct.pack(">I4s", 8, b"free") * 200_000
        yield one("heic and avif", f"{label} with 200,000 boxes", lambda d=data, f=free: d + f)
    yield one("heic and avif", "moving avif", lambda: whole("AVIF", speed=10, save_all=True))
    deep = b""
    for _ in range(3000):
        deep = struct.pack(">I4s4x", 12 + len(deep), b"meta") + deep
    yield one(
        "heic and avif", "3,000 boxes in boxes", lambda: b"\0\0\0\x10ftypavif" + bytes(4) + deep, ""
    )


def _masks() -> Iterator[Case]:
    """Formats that are not read, whatever the file is called."""
    from PIL import Image

    for kind in ("ICO", "ICNS", "PPM", "TGA", "PCX", "DDS", "SGI", "EPS", "PDF", "JPEG2000", "QOI"):
        build = functools.partial(saved, kind, size=(64, 64))
        yield one("other formats", kind, build, "")
    del Image
    psd = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3)
    yield one("other formats", "PSD", lambda: psd + bytes(99), "not an image of a known format")
    ico = struct.pack("<HHH", 0, 1, 65_535) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, 99, 22)
    yield one("other formats", "ICO of 65,535", lambda: ico * 99, "not an image of a known format")
    icns = b"icns" + struct.pack(">I", 2**32 - 1) + b"ic10" + struct.pack(">I", 2**32 - 1)
    yield one("other formats", "ICNS of 4 GiB", lambda: icns, "not an image of a known format")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n"
    yield one("other formats", "PostScript", lambda: eps, "text, not an image")
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>"
    yield one("other formats", "SVG", lambda: svg, "text, not an image")
    wmf = b"\xd7\xcd\xc6\x9a" + bytes(200)
    yield one("other formats", "WMF", lambda: wmf, "not an image of a known format")
    yield one("other formats", "FLI", lambda: bytes(4) + b"\x11\xaf" + bytes(200), "not an image")
