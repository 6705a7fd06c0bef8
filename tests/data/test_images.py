import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vtcc.data import images, stripped
from vtcc.data.images import UnreadableImage, decode, load

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def rgb(data: bytes, size: int = 2, max_pixels: int = 10**6) -> np.ndarray:
    return load(data, channels=3, max_pixels=max_pixels, size=size)


def grey(data: bytes, size: int = 2) -> np.ndarray:
    return load(data, channels=1, max_pixels=10**6, size=size)[..., 0]


def square(mode: str, colour) -> Image.Image:
    return Image.new(mode, (2, 2), colour)


def palette(transparent: bool) -> bytes:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 255, 0, 255, 0, 0])
    return saved(image, "PNG", transparency=1) if transparent else saved(image, "PNG")


ONE_COLOUR = {
    "rgb png": (saved(square("RGB", RED), "PNG"), RED),
    "rgba half transparent on white": (
        saved(square("RGBA", (255, 0, 0, 128)), "PNG"),
        (255, 127, 127),
    ),
    "rgba fully transparent is white": (saved(square("RGBA", (9, 9, 9, 0)), "PNG"), (255,) * 3),
    "grey with alpha": (saved(square("LA", (0, 51)), "PNG"), (204,) * 3),
    "grey with a transparent value": (saved(square("L", 7), "PNG", transparency=7), (255,) * 3),
    "palette": (palette(False), RED),
    "palette with transparency": (palette(True), (255,) * 3),
    "cmyk tiff": (saved(square("CMYK", (0, 255, 255, 0)), "TIFF"), RED),
    "1-bit white": (saved(square("1", 1), "PNG"), (255,) * 3),
    "1-bit black": (saved(square("1", 0), "PNG"), (0,) * 3),
    "bmp": (saved(square("RGB", BLUE), "BMP"), BLUE),
    "webp": (saved(square("RGB", RED), "WEBP", lossless=True), RED),
    "animated gif: first frame": (
        saved(square("RGB", RED), "GIF", save_all=True, append_images=[square("RGB", BLUE)]),
        RED,
    ),
    "animated webp: first frame": (
        saved(
            square("RGB", RED),
            "WEBP",
            save_all=True,
            append_images=[square("RGB", BLUE)],
            lossless=True,
        ),
        RED,
    ),
    "multi-page tiff: first page": (
        saved(square("RGB", RED), "TIFF", save_all=True, append_images=[square("RGB", BLUE)]),
        RED,
    ),
    "compressed tiff": (saved(square("RGB", BLUE), "TIFF", compression="tiff_lzw"), BLUE),
    "1x1": (saved(Image.new("RGB", (1, 1), RED), "PNG"), RED),
    "1x300": (saved(Image.new("RGB", (1, 300), RED), "PNG"), RED),
}


@pytest.mark.parametrize("name", ONE_COLOUR)
def test_every_kind_of_image_has_its_colour(name):
    data, colour = ONE_COLOUR[name]
    for size in (2, 5):
        assert (rgb(data, size) == colour).all()
    found = rgb(data)
    assert found.shape == (2, 2, 3) and found.dtype == np.uint8 and found.flags.writeable


def test_cmyk_jpeg_is_red():
    data = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(rgb(data, 16).astype(int) - RED).max() <= 6


def test_colour_to_grey_by_luma():
    assert (grey(saved(square("RGB", RED), "PNG")) == 76).all()  # 0.299 * 255
    assert (grey(saved(square("RGB", (10, 10, 10)), "PNG")) == 10).all()


def test_16_bit_grey_keeps_its_full_range():
    values = np.array([[0, 100 * 257], [200 * 257 + 100, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        data = saved(Image.fromarray(values), kind)
        assert grey(data).tolist() == [[0, 100], [200, 255]]
        assert rgb(data)[..., 2].tolist() == [[0, 100], [200, 255]]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bit_grey_is_stretched(dtype):
    values = np.array([[-1000, 0], [1000, 4000]], dtype=dtype)
    assert grey(saved(Image.fromarray(values), "TIFF")).tolist() == [[0, 51], [102, 255]]


def test_float_images_with_holes_or_without_contrast():
    values = np.array([[np.nan, 2.0], [4.0, np.inf]], dtype=np.float32)
    assert grey(saved(Image.fromarray(values), "TIFF")).tolist() == [[0, 0], [255, 0]]
    assert not grey(saved(Image.fromarray(np.full((2, 2), 7, np.float32)), "TIFF")).any()
    with pytest.raises(UnreadableImage, match="no finite pixel value"):
        grey(saved(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"))


# The corners of [[1, 2], [3, 4]] as a person sees them, per EXIF orientation.
UPRIGHT = {
    1: [[1, 2], [3, 4]],
    2: [[2, 1], [4, 3]],
    3: [[4, 3], [2, 1]],
    4: [[3, 4], [1, 2]],
    5: [[1, 3], [2, 4]],
    6: [[3, 1], [4, 2]],
    7: [[4, 2], [3, 1]],
    8: [[2, 4], [1, 3]],
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied_once(orientation, kind):
    image = Image.fromarray(np.array([[1, 2], [3, 4]], dtype=np.uint8) * 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(image, kind, exif=exif, **options)
    assert grey(data).tolist() == (np.array(UPRIGHT[orientation]) * 10).tolist()


@pytest.mark.parametrize(("orientation", "size"), [(1, (900, 300)), (6, (300, 900))])
def test_photo_turned_by_exif_tells_its_upright_size(orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.new("RGB", (900, 300), RED), "JPEG", exif=exif)
    found = decode(data, channels=3, max_pixels=10**6, size=8)
    assert ((found.width, found.height), found.mode) == (size, "RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_a_turn_that_xmp_alone_says_is_none_for_all_who_ask(kind):
    """Browsers look at EXIF, and copies without either of them would lose it."""
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options = {"PNG": {"pnginfo": text}, "TIFF": {"tiffinfo": {700: xmp}}}.get(kind, {"xmp": xmp})
    data = saved(Image.new("RGB", (90, 30), RED), kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        pillows = 1 if kind == "TIFF" else 6  # it has turned that already
        assert image.getexif().get(0x0112, 1) == pillows
    found = decode(data, channels=3, max_pixels=10**6, size=8)
    assert (found.width, found.height) == (90, 30)
    if kind != "TIFF":
        file = io.BytesIO(data)
        assert stripped.turn(images.opened(file, data[:512], 10**6)[0], file) == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter():
    data = saved(square("RGB", RED), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert (rgb(data) == RED).all()


def test_an_image_of_the_right_size_is_copied_exactly():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert (rgb(saved(Image.fromarray(pixels), "PNG"), 16) == pixels).all()


@pytest.mark.parametrize("size", [5, 40])
def test_resizing_is_pillows_bicubic(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31), dtype=np.uint8))
    expected = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    assert (grey(saved(image, "PNG"), size) == expected).all()


def test_reduced_jpeg_decoding_is_close_to_the_full_one():
    rough = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((2000, 1500), Image.Resampling.BICUBIC)
    data = saved(image, "JPEG", quality=92)
    full = Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BICUBIC)
    difference = np.abs(rgb(data, 32, 10**7).astype(int) - np.asarray(full))
    assert difference.mean() < 0.25 and difference.max() <= 2
    assert decode(data, channels=3, max_pixels=10**7, size=32).width == 2000


def test_path_bytes_and_file_give_the_same(tmp_path):
    data = saved(Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)), "PNG")
    file = tmp_path / "name \n with 😀 and no suffix"
    file.write_bytes(data)
    from_bytes = rgb(data, 3)
    assert (rgb(file, 3) == from_bytes).all()
    with file.open("rb") as opened:
        assert (rgb(opened, 3) == from_bytes).all()


PHOTO = saved(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG"
)
NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
UNREADABLE = {
    "zero bytes": (b"", "empty file (0 bytes)"),
    "text": ("Grüße\n".encode() * 3, "text, not an image"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "a web page, not an image"),
    "heic": (
        b"\0\0\0\x18ftypheic\0\0\0\0",
        "a video, or a damaged HEIC or AVIF",
    ),
    "bytes of nothing": (b"\x00\x01\x02\xfe" * 40, "not an image of a known format"),
    "an eps, which is a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "text, not an image"),
    "truncated jpeg": (PHOTO[:1500], "truncated: the file ends before the image does"),
    "jpeg of a header only": (PHOTO[:30], "truncated: the file ends before the image does"),
    "truncated png": (saved(NOISE, "PNG")[:3000], "truncated: the file ends before the image does"),
    "png signature only": (b"\x89PNG\r\n\x1a\n", "damaged or truncated header"),
    "truncated gif": (saved(NOISE, "GIF")[:1500], "truncated: the file ends before the image does"),
    "truncated bmp": (saved(NOISE, "BMP")[:3000], "truncated: the file ends before the image does"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_refused_with_a_reason(name, tmp_path):
    data, reason = UNREADABLE[name]
    file = tmp_path / "a.jpg"
    file.write_bytes(data)
    for source in (data, file):
        with pytest.raises(UnreadableImage) as caught:
            rgb(source)
        assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_other_truncated_formats_are_refused(kind):
    data = saved(NOISE, kind)
    with pytest.raises(UnreadableImage):
        rgb(data[: len(data) // 2])


def test_damaged_png_data_is_refused():
    data = bytearray(saved(NOISE, "PNG"))
    data[2000:2100] = bytes(100)
    with pytest.raises(UnreadableImage, match=r"damaged|truncated"):
        rgb(bytes(data))


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file"):
        rgb(tmp_path / "none.png")
    with pytest.raises(UnreadableImage, match="Is a directory"):
        rgb(tmp_path)


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks
    )


def test_decompression_bomb_is_refused_from_its_header():
    with pytest.raises(UnreadableImage) as caught:
        rgb(bomb(60_000, 60_000))
    assert caught.value.reason == ("60000 x 60000 pixels, more than validate.max_pixels (1000000)")


def test_max_pixels_is_inclusive_and_ours_not_pillows():
    data = saved(Image.new("L", (100, 50)), "PNG")
    assert rgb(data, max_pixels=5000).shape == (2, 2, 3)
    with pytest.raises(UnreadableImage):
        rgb(data, max_pixels=4999)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnreadableImage, match="truncated"):  # allowed, tried, and then too short
        rgb(bomb(20_000, 10_000), max_pixels=10**9)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_phones_jpeg_of_several_pictures_is_its_first():
    data = saved(
        Image.new("RGB", (800, 801), RED),
        "MPO",
        save_all=True,
        append_images=[Image.new("RGB", (800, 801), BLUE)],
    )
    assert Image.open(io.BytesIO(data)).format == "MPO"
    found = decode(data, channels=3, max_pixels=10**6, size=4)
    assert np.abs(found.pixels.astype(int) - RED).max() <= 2
    assert (found.width, found.height) == (800, 801)


HEIC = b"\0\0\0\x18ftypheic" + bytes(100)
BOXED = {"HEIF": {"quality": 90}, "AVIF": {"quality": 90, "speed": 10}}


def boxed(kind: str, image: Image.Image, orientation: int = 1) -> bytes:
    """As a phone writes it: the pixels as the sensor had them, and twice what is up."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(file, exif=exif.tobytes(), **BOXED[kind])
    else:
        image.save(file, kind, exif=exif, **BOXED[kind])
    return file.getvalue()


@pytest.mark.parametrize("kind", BOXED)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_and_avif_are_turned_once(kind, orientation):
    corners = np.kron([[10, 90], [170, 250]], np.ones((16, 24))).astype(np.uint8)
    data = boxed(kind, Image.fromarray(corners).convert("RGB"), orientation)
    assert (b"irot" in data) == (orientation != 1)
    told = struct.pack(">HHIHH" if b"MM\0*" in data else "<HHIHH", 0x0112, 3, 1, orientation, 0)
    assert (told in data) == (kind == "HEIF")
    found = decode(data, channels=1, max_pixels=10**5, size=32)
    seen = found.pixels[4::24, 4::24, 0].astype(int)
    shown = {1: 10, 2: 90, 3: 170, 4: 250}
    want = [[shown[n] for n in row] for row in UPRIGHT[orientation]]
    assert np.abs(seen - want).max() <= 12
    turned = orientation in (6, 8)
    assert (found.width, found.height) == ((32, 48) if turned else (48, 32))


def test_without_pillow_heif_avif_is_read_all_the_same(monkeypatch):
    plain = Image.new("L", (32, 32), 99)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._boxed.cache_clear()
    try:
        assert np.abs(grey(boxed("AVIF", plain)).astype(int) - 99).max() <= 3
        with pytest.raises(UnreadableImage, match="HEIC: pip install pillow-heif"):
            grey(HEIC)
    finally:
        images._boxed.cache_clear()


@pytest.mark.parametrize("kind", BOXED)
def test_heic_and_avif_of_any_mode(kind):
    half = Image.new("RGBA", (32, 32), (255, 0, 0, 128))
    assert np.abs(rgb(boxed(kind, half)).astype(int) - (255, 127, 127)).max() <= 8
    assert np.abs(grey(boxed(kind, Image.new("L", (32, 32), 99))).astype(int) - 99).max() <= 3


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]), st.data())
def test_no_damage_escapes_as_another_error(kind, data):
    image = bytearray(saved(NOISE.resize((12, 12)), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    image = image[: data.draw(st.integers(0, len(image)))]
    try:
        assert rgb(bytes(image), 4).shape == (4, 4, 3)
    except UnreadableImage as error:
        assert error.reason and "\n" not in error.reason


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_of_a_picture_of_many_pieces_is_as_of_one(monkeypatch, mode):
    values = np.random.default_rng(2).integers(0, 256, (30, 20, 4), dtype=np.uint8)
    image = Image.fromarray(values).convert(mode)
    options = {"transparency": bytes(range(0, 256))} if mode == "P" else {}
    data = saved(image, "PNG", **options)
    shown = Image.open(io.BytesIO(data)).convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    expected = np.asarray(flat.resize((20, 20), Image.Resampling.BICUBIC))
    for piece in (70, 10**6):
        monkeypatch.setattr(images, "_PIECE_PIXELS", piece)
        assert (rgb(data, 20) == expected).all()


def test_decoder_leaves_the_file_alone(tmp_path):
    file = Path(tmp_path / "a.png")
    file.write_bytes(ONE_COLOUR["rgb png"][0])
    before = file.stat().st_mtime_ns
    rgb(file)
    assert file.stat().st_mtime_ns == before


HUGE = zlib.compress(b"x" * 3_000_000)  # Pillow refuses more than a megabyte


def with_chunk(png: bytes, kind: bytes, body: bytes, *, broken=False, before=True) -> bytes:
    """A PNG with one more chunk, before or behind its pixels."""
    crc = zlib.crc32(kind + body) ^ broken
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)
    at = 33 if before else len(png) - 12
    return png[:at] + chunk + png[at:]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("kind", "body", "broken"),
    [
        (b"zTXt", b"workflow\0\0" + HUGE, False),
        (b"iTXt", b"a\0\1\0\0\0" + HUGE, False),
        (b"iCCP", b"profile\0\0" + HUGE, False),
        (b"tEXt", b"a\0b", True),
        (b"pHYs", b"\0", False),
    ],
)
def test_metadata_of_a_png_is_no_reason_to_refuse_it(kind, body, broken, before):
    png = with_chunk(saved(square("RGB", RED), "PNG"), kind, body, broken=broken, before=before)
    assert rgb(png)[0, 0].tolist() == list(RED)


def test_a_png_turned_by_exif_is_upright_whatever_else_it_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("L", (4, 4))
    image.putpixel((0, 0), 255)
    plain = saved(image, "PNG", exif=exif)
    upright = grey(plain, size=4)
    assert (upright != grey(saved(image, "PNG"), size=4)).any()
    assert (grey(with_chunk(plain, b"zTXt", b"a\0\0" + HUGE), size=4) == upright).all()


def test_damaged_pixels_of_a_png_are_still_damage():
    png = with_chunk(saved(square("RGB", RED), "PNG"), b"zTXt", b"a\0\0" + HUGE)
    with pytest.raises(UnreadableImage, match=r"truncated|damaged"):
        rgb(png[:-30])
