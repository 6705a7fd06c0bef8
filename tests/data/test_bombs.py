"""Small files that claim, or lead to, much memory or time: each is refused in one line.

Those of TIFF are in test_tiff.py, archives in test_archive.py.
"""

import io
import struct
import threading
import time
import zlib

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.data.memory import peak
from vtcc import bounds
from vtcc.data import heif, jpeg
from vtcc.data.budget import Share
from vtcc.data.images import UnreadableImage, load

MIB = 1 << 20


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, packed: bytes, kind: int = 0, before: bytes = b"") -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    body = before + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def gif(screen: int, frame: int) -> bytes:
    """A GIF of one picture, whose data are a code that clears and one that ends."""
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x01\x2c\x00;"


def webp(width: int, height: int) -> bytes:
    """A moving WebP that claims a large canvas, around pictures of four pixels."""
    others = [Image.new("RGB", (2, 2), "red")]
    data = saved(Image.new("RGB", (2, 2)), "WEBP", save_all=True, append_images=others)
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return data[:24] + size + data[30:]


def bmp(width: int, height: int, data: bytes) -> bytes:
    """A BMP of 8 bits with run lengths."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    palette = bytes(1024)
    start = 14 + len(head) + len(palette)
    return struct.pack("<2sIII", b"BM", start + len(data), 0, start) + head + palette + data


def box(kind: bytes, *inside: bytes) -> bytes:
    body = b"".join(inside)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def heic(
    width: int, height: int, pieces: int = 0, more: bytes = b"", times: int = 1, items: int = 2
) -> bytes:
    """The boxes of a HEIC of a picture, put together of as many times the same other one."""
    size = box(b"ispe", bytes(4), struct.pack(">II", width, height))
    shown = bytes(4) + struct.pack(">I", items) + b"\0\1\1\x81" + b"\0\2\1\1" * (items - 1)
    named = box(b"dimg", struct.pack(">HH", 1, pieces) + b"\0\2" * pieces)
    inside = box(b"iprp", box(b"ipco", size, more), box(b"ipma", shown))
    return box(b"ftyp", b"heic" + bytes(4)) + box(
        b"meta", bytes(4), box(b"iref", bytes(4), named * times), inside
    )


PHOTO = saved(Image.new("RGB", (1000, 1000)), "JPEG")
PROGRESSIVE = saved(Image.new("RGB", (1000, 1000)), "JPEG", progressive=True)
EMPTY_SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"
CHUNK = bytes(4) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
EMPTY_IDAT = bytes(4) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
EXIF = b"\xff\xe1\x00\x09Exif\0\0a"
BOMBS = {
    "png of 3,600 megapixels": (png(60_000, 60_000, b""), "60000 x 60000 pixels, more than"),
    "png with a side of 90 million": (
        png(90_000_000, 1, zlib.compress(bytes(1000))),
        "90000000 x 1 pixels; a side may have 262144 at most",
    ),
    "gif of 4,295 megapixels": (gif(65_535, 1), "65535 x 65535 pixels, more than"),
    "gif of a frame beyond its screen": (gif(1, 65_535), "65535 x 65535 pixels, more than"),
    "webp of 268 megapixels": (webp(16_384, 16_384), "16384 x 16384 pixels, more than"),
    "webp with a side of 16 million": (webp(1 << 24, 250), "pixels, more than"),
    "bmp of 3,600 megapixels": (bmp(60_000, 60_000, b"\0\1"), "60000 x 60000 pixels, more than"),
    "bmp that skips 255 lines at once": (
        bmp(90_000_000, 1, b"\0\2\0\xff\0\1"),
        "90000000 x 1 pixels; a side may have",
    ),
    "heic of 3,600 megapixels": (heic(60_000, 60_000), "60000 x 60000 pixels, more than"),
    "heic of a piece named 40 times": (
        heic(10_000, 10_000, 40),
        "pieces of 4100000000 pixels together, more than 32 x validate.max_pixels",
    ),
    "heic of 100,000 boxes": (
        heic(8, 8, more=box(b"free") * 100_000),
        "more than 16384 parts beside its pixels",
    ),
    "heic of three million names of a piece": (
        heic(8, 8, 60_000, times=50),
        "more than 16384 parts beside its pixels",
    ),
    "heic of three million items": (
        heic(8, 8, items=3_000_000),
        "more than 16384 parts beside its pixels",
    ),
    "heic of nothing but boxes": (heic(8, 8, 3), "a video, or a damaged HEIC or AVIF"),
    "jpeg of 4,295 megapixels": (
        PHOTO.replace(struct.pack(">HH", 1000, 1000), b"\xff\xff" * 2, 1),
        "65535 x 65535 pixels, more than",
    ),
    "jpeg of 4,000 scans": (
        PROGRESSIVE[:-2] + EMPTY_SCAN * 4000 + PROGRESSIVE[-2:],
        "a JPEG whose scans have 4010000000 pixels, more than 32 x validate.max_pixels",
    ),
    "jpeg of 300,000 pieces of exif": (
        PHOTO[:2] + EXIF * 300_000 + PHOTO[2:],
        "more than 16 segments of EXIF",
    ),
    "jpeg of 400,000 segments": (
        PHOTO[:2] + b"\xff\xe5\0\2" * 400_000 + PHOTO[2:],
        "more than 16384 segments",
    ),
    "jpeg of 400,000 segments behind a restart": (
        PHOTO[:2] + b"\xff\xd0" + b"\xff\xe5\0\2" * 400_000 + PHOTO[2:],
        "more than 16384 segments",
    ),
    "jpeg of half a megabyte of fillers": (
        PHOTO[:2] + b"\xff" * (MIB // 2) + PHOTO[2:],
        "more than 65536 bytes between segments",
    ),
    "jpeg of zeros before its pixels": (
        PHOTO[: PHOTO.index(b"\xff\xda")] + bytes(99_000) + PHOTO[PHOTO.index(b"\xff\xda") :],
        "more than 65536 bytes between segments",
    ),
    "png of 100,000 chunks": (
        png(4, 4, zlib.compress(bytes(20)), before=CHUNK * 100_000),
        "more than 16384 parts beside its pixels",
    ),
    "png of 100,000 chunks of few pixels": (
        png(4, 4, zlib.compress(bytes(20)), before=EMPTY_IDAT * 100_000),
        "more than 16384 parts beside its pixels",
    ),
    "gif of 100,000 blocks": (
        gif(4, 4).replace(b",", b"!\xfe" + b"\2ab" * 100_000 + b"\0,", 1),
        "more than 16384 parts beside its pixels",
    ),
    "jpeg of pieces of exif behind a restart": (
        PHOTO[:2] + b"\xff\xd0" + EXIF * 300_000 + PHOTO[2:],
        "more than 16 segments of EXIF",
    ),
}


def test_a_heic_of_tiles_is_read_and_bounded_before_it_is_cut():
    file = io.BytesIO()
    picture = Image.new("RGB", (150, 100), (200, 100, 0))
    pillow_heif.from_pillow(picture).save(file, tile_size=64, quality=90)
    data = file.getvalue()
    assert heif.check(file, 15_000) == 15_000
    shown = load(data, channels=3, max_pixels=15_000, size=4)[2, 2]
    assert shown.tolist() == pytest.approx([200, 100, 0], abs=4)
    size = struct.pack(">II", 64, 64)
    assert data.count(size) == 1  # of six tiles
    larger = data.replace(size, struct.pack(">II", 64, 250))
    with pytest.raises(UnreadableImage, match="64 x 250 pixels, more than"):
        load(larger, channels=3, max_pixels=15_000, size=4)


def test_bombs_are_refused_in_one_line_and_take_no_memory(tmp_path):
    for name, (data, _) in BOMBS.items():
        (tmp_path / name).write_bytes(data)
    with (tmp_path / "z a sparse terabyte").open("wb") as file:
        file.write(webp(2, 2))
        file.truncate(1 << 40)
    start = time.monotonic()
    refused, mib = peak(
        f"""
from pathlib import Path
from vtcc.data.images import UnreadableImage, load
from PIL import Image
Image.init()
baseline = peak_mib()
for file in sorted(Path({str(tmp_path)!r}).iterdir()):
    try:
        load(file, channels=3, max_pixels=10**8, size=224)
    except UnreadableImage as error:
        print(file.name, error.reason, sep=": ")
"""
    )
    expected = [(name, BOMBS[name][1]) for name in sorted(BOMBS)]
    expected.append(("z a sparse terabyte", "a file of 1048576 MiB; allowed: 762"))
    for line, (name, words) in zip(refused, expected, strict=True):
        assert line.startswith(f"{name}: ") and words in line
    assert mib < 64
    assert time.monotonic() - start < 20


def test_what_expands_behind_the_pixels_is_not_expanded():
    """Data that go on when the picture is whole, and text of 60 MB in all."""
    huge = zlib.compress(bytes(8 * MIB), 9)
    assert load(png(4, 4, huge), channels=1, max_pixels=99, size=4).tolist() == [[[0]] * 4] * 4
    text = b"a\0\0" + zlib.compress(bytes(900_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    many = png(4, 4, zlib.compress(bytes(20)), before=chunk * 100)
    assert load(many, channels=1, max_pixels=99, size=4).tolist() == [[[0]] * 4] * 4


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_headers_of_a_jpeg(mode, progressive):
    data = saved(Image.new(mode, (30, 20)), "JPEG", progressive=progressive, exif=b"Exif\0\0II*\0")
    found = jpeg.headers(io.BytesIO(data))
    assert (found.width, found.height, found.single_scan) == (30, 20, not progressive)
    assert found.exif == 1 and found.segments >= 5
    scans = jpeg.check(io.BytesIO(data))
    assert scans == data.count(b"\xff\xda") if progressive else scans == 1
    assert jpeg.headers(io.BytesIO(data[:30])) is None
    assert load(data, channels=3, max_pixels=600, size=4).shape == (4, 4, 3)


def numbers(code: int, times: int) -> bytes:
    """EXIF of one tag with so many numbers."""
    entry = struct.pack("<HHHIII", 1, code, 3, times, 26, 0)
    return b"II*\0\x08\0\0\0" + entry + b"\6\0" * times


def chunk_of_exif(body: bytes) -> bytes:
    return (
        struct.pack(">I", len(body))
        + b"eXIf"
        + body
        + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    )


def test_long_exif_is_not_read(tmp_path):
    """Of each number of a tag Pillow makes an object, and its plugin for AVIF as it opens one."""
    block, mark = numbers(0x0112, 3 * MIB), numbers(0x9999, 1)[:26].ljust(6 * MIB + 26, b"\xaa")
    avif = saved(Image.new("RGB", (40, 30)), "AVIF", speed=10, exif=b"Exif\0\0" + mark)
    assert avif.count(mark) == 1
    (tmp_path / "1 avif").write_bytes(avif.replace(mark, block))
    pixels = zlib.compress(bytes(20))
    (tmp_path / "2 png").write_bytes(png(4, 4, pixels, before=chunk_of_exif(block)))
    (tmp_path / "3 webp").write_bytes(saved(Image.new("L", (40, 30)), "WEBP", exif=block))
    said, mib = peak(
        f"""
from pathlib import Path
from vtcc.data import exif
from vtcc.data.images import UnreadableImage, load
from PIL import Image
Image.init()
for file in sorted(Path({str(tmp_path)!r}).iterdir()):
    file.read_bytes()
baseline = peak_mib()
for file in sorted(Path({str(tmp_path)!r}).iterdir()):
    assert exif.of_file(file) == {{}}
    try:
        print(load(file, channels=3, max_pixels=10**6, size=8).shape)
    except UnreadableImage as error:
        print(error.reason)
"""
    )
    assert said == [
        f"EXIF of {len(block) + 10} bytes; allowed: {MIB}",
        "(8, 8, 3)",
        "(8, 8, 3)",
    ]
    assert mib < 40
    short = png(4, 8, zlib.compress(bytes(40)), before=chunk_of_exif(numbers(0x0112, 1)))
    assert load(short, channels=1, max_pixels=99, size=4).shape == (4, 4, 1)


def test_fillers_within_the_bound_are_read():
    for junk in (b"\xff" * 60_000, bytes(60_000), b"\xff\xd0" * 30_000, b"\xff\0" * 30_000):
        at = PHOTO.index(b"\xff\xda")
        data = PHOTO[:at] + junk + PHOTO[at:]
        assert load(data, channels=1, max_pixels=10**6, size=4).max() == 0


def test_parts_within_the_bound_are_read():
    pixels = zlib.compress(bytes(20))
    for before in (b"", CHUNK * 16_381):  # IHDR, IEND and the few pixels are three more
        assert load(png(4, 4, pixels, before=before), channels=1, max_pixels=16, size=4).max() == 0
    comment = b"!\xfe" + b"\1a" * 300 + b"\0,"
    plain = saved(Image.new("P", (4, 4)), "GIF")
    at = plain.rindex(b",\0\0\0\0\4\0\4\0")
    data = plain[:at] + comment + plain[at + 1 :]
    assert load(data, channels=1, max_pixels=16, size=4).max() == 0


def test_photos_of_many_scans_within_the_bound_are_read():
    many = PROGRESSIVE[:-2] + EMPTY_SCAN * 20 + PROGRESSIVE[-2:]
    assert jpeg.check(io.BytesIO(many)) <= bounds.JPEG_SCANS
    plain = load(PROGRESSIVE, channels=3, max_pixels=10**6, size=4)
    assert np.array_equal(plain, np.zeros((4, 4, 3), np.uint8))
    assert jpeg.check(io.BytesIO(PHOTO)) == 1  # however many pictures follow
    assert jpeg.check(io.BytesIO(PHOTO + PROGRESSIVE)) == 1


def test_all_that_is_decoded_at_a_time_stays_below_the_bound():
    most, now, peaks, order = threading.Lock(), [0], [], []

    def work(number: int, pixels: int) -> None:
        with Share(100) as share:
            share(pixels)
            with most:
                now[0] += pixels
                peaks.append(now[0])
                order.append(number)
            time.sleep(0.01)
            with most:
                now[0] -= pixels

    sizes = [60, 30, 30, 100, 10, 250, 90]  # the sixth is more than the bound: alone
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(sizes)]
    for thread in threads:
        thread.start()
        time.sleep(0.002)
    for thread in threads:
        thread.join(10)
    assert sorted(order) == list(range(7)) and now == [0]
    assert max(p for p in peaks if p != 250) <= 100
    assert Share._in_use == 0 and not Share._waiting


def test_what_failed_gives_back_what_it_held():
    for _ in range(3):
        with pytest.raises(UnreadableImage):
            load(png(9, 9, b"no deflate"), channels=1, max_pixels=81, size=4)
    with Share(81) as share:
        share(81)
        share(40)  # again: instead of the first
        assert Share._in_use == 40
    assert Share._in_use == 0
