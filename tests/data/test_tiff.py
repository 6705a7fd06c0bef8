"""Images of many bands and of more than 8 bits, and files that mean harm."""

import io
import struct
import time
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.memory import peak
from vtcc.data.images import UnreadableImage, decode, load
from vtcc.data.raster import Raster, Wanted, planes


def tiff(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    options = {"photometric": "minisblack", "metadata": None} | options
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def raw(data: bytes, channels: int, size: int, max_pixels: int = 10**6, **how) -> np.ndarray:
    return load(data, channels=channels, max_pixels=max_pixels, size=size, **how)


def reason(data: bytes, channels: int = 3, max_pixels: int = 10**6, **how) -> str:
    with pytest.raises(UnreadableImage) as caught:
        load(data, channels=channels, max_pixels=max_pixels, size=8, **how)
    assert "\n" not in caught.value.reason
    return caught.value.reason


BANDS = np.random.default_rng(0).integers(0, 65536, (32, 32, 5), dtype=np.uint16)
BYTES = np.rint(BANDS / 257).astype(np.uint8)
LAYOUTS = {
    "strips": {},
    "one strip": {"rowsperstrip": 32},
    "tiles": {"tile": (16, 16)},
    "tiles larger than the image": {"tile": (48, 48)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd", "lzma"])
def test_every_layout_gives_the_same_bands(layout, planar, compression):
    pixels = np.moveaxis(BANDS, 2, 0) if planar == "separate" else BANDS
    options = {"planarconfig": planar, "compression": compression, **LAYOUTS[layout]}
    for order, big in (("<", False), (">", False), ("<", True)):
        data = tiff(pixels, byteorder=order, bigtiff=big, **options)
        assert (raw(data, 5, 32) == BYTES).all()


def test_predictors_and_jpeg():
    data = tiff(BANDS, compression="lzw", predictor=True, planarconfig="contig")
    assert (raw(data, 5, 32) == BYTES).all()
    smooth = np.repeat(np.arange(0, 160, 5, dtype=np.uint8)[:, None, None], 32, 1) + np.array(
        [0, 20, 40, 60, 80], dtype=np.uint8
    )
    data = tiff(np.moveaxis(smooth, 2, 0), compression="jpeg", planarconfig="separate")
    assert np.abs(raw(data, 5, 32).astype(int) - smooth).max() <= 6


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_without_bands_the_first_are_taken(channels):
    data = tiff(BANDS, planarconfig="contig")
    assert (raw(data, channels, 32) == BYTES[..., :channels]).all()


def test_bands_are_taken_by_number_in_the_order_given():
    data = tiff(BANDS, planarconfig="contig")
    assert (raw(data, 3, 32, bands=(5, 1, 3)) == BYTES[..., [4, 0, 2]]).all()
    assert (raw(data, 1, 32, bands=(4,)) == BYTES[..., 3:4]).all()
    found = decode(data, channels=3, max_pixels=10**6, size=8)
    assert (found.mode, found.width, found.height) == ("5 x uint16", 32, 32)


def test_a_viewers_choice_for_grey_and_colour():
    data = tiff(BANDS, planarconfig="contig")
    assert (raw(data, 3, 32) == BYTES[..., :3]).all()
    assert (raw(data, 1, 32) == BYTES[..., :1]).all()
    data = tiff(BANDS[..., :3], photometric="rgb")
    luma = np.asarray(Image.fromarray(BYTES[..., :3]).convert("L"))
    assert (raw(data, 1, 32)[..., 0] == luma).all()
    assert (raw(tiff(BANDS[..., 0]), 3, 32) == BYTES[..., :1]).all()


def test_bands_of_other_files():
    rgba = BYTES[..., :4].copy()
    file = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(file, "PNG")
    data = file.getvalue()
    assert (raw(data, 4, 32) == rgba).all()  # a fourth band is kept, no transparency
    assert (raw(data, 3, 32, bands=(4, 2, 1)) == rgba[..., [3, 1, 0]]).all()
    assert reason(data, 5) == "no band 5 of the 5 channels: the image has 4 bands"
    assert reason(data, 1, bands=(7,)) == "no band 7 (validate.bands): the image has 4 bands"
    grey = io.BytesIO()
    Image.fromarray(BYTES[..., 0]).save(grey, "BMP")
    assert reason(grey.getvalue(), 2) == "no band 2 of the 2 channels: the image has 1 band"


def test_16_bit_colour_png_keeps_its_lower_bytes():
    deep = np.ascontiguousarray(BANDS[..., :3])
    deep[0, 0] = (383, 384, 385)  # 383 / 257 = 1.49, 385 / 257 = 1.498: by 8 bits 1, as by 257
    data = imagecodecs.png_encode(deep)
    assert (raw(data, 3, 32) == np.rint(deep / 257)).all()
    few = (deep >> 6).astype(np.uint16)  # 10 bits, as a camera writes them
    found = raw(imagecodecs.png_encode(few), 3, 32, stretch="fixed", stretch_range=(0, 1023))
    assert (found == np.rint(few / 1023 * 255)).all()
    assert decode(data, channels=3, max_pixels=10**6, size=8).mode == "3 x uint16"
    assert "truncated" in reason(data[:2000]) or "damaged" in reason(data[:2000])


VALUES = np.array([[0, 1000], [2000, 4000]], dtype=np.uint16)


def test_stretches():
    one = tiff(VALUES)
    assert raw(one, 1, 2)[..., 0].tolist() == [[0, 4], [8, 16]]
    assert raw(one, 1, 2, stretch="image")[..., 0].tolist() == [[0, 64], [128, 255]]
    fixed = raw(one, 1, 2, stretch="fixed", stretch_range=(1000, 3000))
    assert fixed[..., 0].tolist() == [[0, 0], [128, 255]]
    two = tiff(np.stack([VALUES, VALUES // 2], 2), planarconfig="contig")
    both = raw(two, 2, 2, stretch="image")
    assert both[..., 1].tolist() == [[0, 32], [64, 128]]  # one range, the second stays darker
    low, high = np.percentile(VALUES, (2, 98))
    expected = np.rint(((VALUES - low) / (high - low)).clip(0, 1) * 255)
    each = raw(two, 2, 2, stretch="percentile")
    assert (each[..., 0] == expected).all() and (each[..., 1] == expected).all()


def test_stretches_of_8_bits_and_of_signed_numbers():
    file = io.BytesIO()
    Image.fromarray(np.array([[50, 100], [150, 200]], dtype=np.uint8)).save(file, "PNG")
    assert raw(file.getvalue(), 1, 2)[..., 0].tolist() == [[50, 100], [150, 200]]
    assert raw(file.getvalue(), 1, 2, stretch="image")[..., 0].tolist() == [[0, 85], [170, 255]]
    for dtype in (np.int16, np.int32, np.float32, np.float64):
        signed = np.array([[-1000, 0], [1000, 4000]], dtype=dtype)
        assert raw(tiff(signed), 1, 2)[..., 0].tolist() == [[0, 51], [102, 255]]
    many = np.array([[0, 2**30], [2**31, 2**32 - 1]], dtype=np.uint32)
    assert raw(tiff(many), 1, 2)[..., 0].tolist() == [[0, 64], [128, 255]]


def test_a_percentile_of_nearly_equal_values_falls_back_to_the_range():
    flat = np.zeros((20, 20), dtype=np.uint16)
    flat[0, 0] = 9
    assert raw(tiff(flat), 1, 20, stretch="percentile")[0, 0, 0] == 255
    assert not raw(tiff(flat * 0), 1, 20, stretch="percentile").any()


@pytest.mark.parametrize(
    ("dtype", "text", "hole"),
    [(np.int16, "-9999", -9999), (np.float32, "-3.4e+38", -3.4e38), (np.uint8, "255", 255)],
)
def test_nodata_is_black_and_counts_for_no_range(dtype, text, hole):
    values = np.array([[hole, 10], [20, 30]], dtype=dtype)
    data = tiff(values, extratags=[(42113, "s", 0, text, True)])
    assert raw(data, 1, 2, stretch="image")[..., 0].tolist() == [[0, 0], [128, 255]]
    empty = tiff(np.full((2, 2), hole, dtype), extratags=[(42113, "s", 0, text, True)])
    assert reason(empty, 1).startswith("every pixel is nodata (")


def test_nodata_that_means_nothing_is_passed_over():
    for text in ("none", "-1", "70000", "1.5"):
        data = tiff(VALUES, extratags=[(42113, "s", 0, text, True)])
        assert raw(data, 1, 2, stretch="image")[..., 0].tolist() == [[0, 64], [128, 255]]


def test_white_is_zero_and_turned():
    data = tiff(VALUES * 10, photometric="miniswhite")
    assert raw(data, 1, 2)[..., 0].tolist() == [[255, 216], [177, 99]]
    wide = tiff(np.zeros((2, 6), np.uint16), extratags=[(274, "H", 1, 6, True)])
    found = decode(wide, channels=1, max_pixels=99, size=2)
    assert (found.width, found.height) == (2, 6)
    data = tiff(VALUES, extratags=[(274, "H", 1, 6, True)])
    assert raw(data, 1, 2, stretch="image")[..., 0].tolist() == [[128, 0], [255, 64]]


def test_max_pixels_counts_the_bytes_of_all_bands():
    data = tiff(BANDS, planarconfig="contig")  # 1024 pixels of 10 bytes; 8 are allowed
    assert raw(data, 5, 32, max_pixels=1280).shape == (32, 32, 5)
    assert reason(data, 5, 1279) == (
        "32 x 32 pixels of 5 bands of 2 bytes, more than validate.max_pixels (1279) allows at "
        "8 bytes each"
    )
    assert reason(data, 5, 1000) == "32 x 32 pixels, more than validate.max_pixels (1000)"


def directory(*tags: tuple[int, int, int, int], following: int = 0, tail: bytes = b"") -> bytes:
    """A TIFF of one directory: tags of (number, type, count, value), then where the next lies."""
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + struct.pack("<I", following) + tail


def basic(width=4, height=4, bands=5, compression=1, offset=200, count=160, **more):
    tags = {
        256: (256, 4, 1, width),
        257: (257, 4, 1, height),
        258: (258, 3, 1, 16),
        259: (259, 3, 1, compression),
        262: (262, 3, 1, 1),
        273: (273, 4, 1, offset),
        277: (277, 3, 1, bands),
        278: (278, 4, 1, height),
        279: (279, 4, 1, count),
    }
    tags |= {int(key[1:]): value for key, value in more.items()}
    return [tags[key] for key in sorted(tags)]


def laid_out(tags, following=0, size=400):
    data = directory(*tags, following=following)
    return data + bytes(max(0, size - len(data)))


HOSTILE = {
    "huge": (laid_out(basic(width=2**31, height=2**31)), "2147483648 x 2147483648 pixels, more"),
    "many bands": (laid_out(basic(500, 500, bands=65535)), "500 x 500 pixels of 65535 bands of 2"),
    "no bands": (laid_out(basic(bands=0)), "with 0 bands"),
    "no width": (laid_out(basic(width=0)), "0 x 4 pixels"),
    "beyond the end": (laid_out(basic(offset=300)), "truncated"),
    "negative offset": (laid_out(basic(offset=2**32 - 1)), "truncated"),
    "unknown compression": (laid_out(basic(compression=9999)), "compression 9999"),
    "wrong compression": (laid_out(basic(compression=5)), "damaged TIFF"),
    "no deflate": (laid_out(basic(compression=8)), "damaged TIFF"),
    "jpeg that is none": (laid_out(basic(compression=7)), "damaged TIFF"),
    "a volume": (laid_out(basic(t32997=(32997, 4, 1, 9))), "a volume of 9 layers"),
    "7 byte numbers": (laid_out(basic(t258=(258, 3, 1, 56))), "values of 56 bits"),
    "complex numbers": (
        laid_out(basic(bands=1, count=128, t258=(258, 3, 1, 64), t339=(339, 3, 1, 6))),
        "values of type complex64",
    ),
    "huge tiles": (
        laid_out(
            [
                tag
                for tag in basic(t322=(322, 4, 1, 2**20), t323=(323, 4, 1, 2**20))
                if tag[0] not in (273, 278, 279)
            ]
            + [(324, 4, 1, 200), (325, 4, 1, 160)]
        ),
        "1048576 x 1048576 pixels, more",
    ),
    "no pixels at all": (
        laid_out([tag for tag in basic() if tag[0] not in (273, 279)]),
        "",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tiff_is_refused_at_once_with_a_reason(name):
    data, words = HOSTILE[name]
    start = time.monotonic()
    assert words in reason(data, 5)
    assert time.monotonic() - start < 5


def eight_bits(compression, data, photometric=1, bands=1, **more):
    """A TIFF of 50 x 40 pixels in one part, its data at byte 400."""
    tags = {f"t{n}": (n, 3, 1, value) for n, value in ((258, 8), (262, photometric))}
    size = {"width": 50, "height": 40, "bands": bands, "offset": 400, "count": len(data)}
    return laid_out(basic(**size, compression=compression, **tags, **more)) + data


def one_tile(width, length, compression, data, **more):
    tile = {322: width, 323: length, 324: 400, 325: len(data)}
    tags = {f"t{n}": (n, 4, 1, value) for n, value in tile.items()}
    return eight_bits(compression, data, **tags, **more)


ZEROS = {
    "lzw": (5, imagecodecs.lzw_encode(bytes(2000))),
    "packbits": (32773, b"\x81\0" * 16),
    "deflate": (8, zlib.compress(bytes(2000))),
}
JPEG = imagecodecs.jpeg_encode(np.zeros((64, 64, 3), np.uint8))
HUGE_TILES = {name: one_tile(30000, 70000, *how) for name, how in ZEROS.items()} | {
    "jpeg": one_tile(30000, 70000, 7, JPEG, photometric=6, bands=3),
    "second tag": directory(
        *[(n, 3, 1, v) for n, v in ((256, 50), (257, 40), (258, 8), (259, 5), (262, 1))],
        *[(n, 4, 1, v) for n, v in ((322, 30000), (322, 64), (323, 70000), (323, 48))],
        *[(324, 4, 1, 400), (325, 4, 1, 100)],
        tail=bytes(600),
    ),
}


def test_a_small_tiff_of_one_huge_tile_takes_no_memory(tmp_path):
    for name, data in HUGE_TILES.items():
        (tmp_path / name).write_bytes(data)
    refused, mib = peak(
        f"""
from pathlib import Path
from vtcc.data.images import UnreadableImage, load
baseline = peak_mib()
for file in sorted(Path({str(tmp_path)!r}).iterdir()):
    try:
        load(file, channels=3, max_pixels=10**8, size=8)
    except UnreadableImage as error:
        print(file.name, error.reason, sep=": ")
"""
    )
    assert refused == [
        f"{name}: a tile of 30000 x 70000 pixels, more than validate.max_pixels (100000000)"
        for name in sorted(HUGE_TILES)
    ]
    assert mib < 100


@pytest.mark.parametrize("name", ZEROS)
@pytest.mark.parametrize("rows", [41, 42_000_000, 2**32 - 1])
def test_more_rows_per_strip_than_the_image_has_are_all_its_rows(name, rows):
    data = eight_bits(*ZEROS[name], t278=(278, 4, 1, rows))
    assert (raw(data, 3, 8, max_pixels=2000) == 0).all()
    bands = tiff(BANDS[..., 0], rowsperstrip=32, compression="zlib")
    clipped = bands.replace(
        struct.pack("<HHII", 278, 4, 1, 32), struct.pack("<HHII", 278, 4, 1, 2**32 - 1)
    )
    assert clipped != bands and (raw(clipped, 1, 32) == BYTES[..., :1]).all()


def test_a_tiff_that_goes_in_circles_is_its_first_picture():
    data = laid_out(basic(), following=8)
    assert (raw(data, 5, 4) == 0).all()


def going_in_circles():
    """Tags that lead back to the directory they stand in, or to formats of many pages."""
    for code in (330, 34665, 34853, 40965, 34412):
        yield f"tag {code}", laid_out(basic(**{f"t{code}": (code, 4, 1, 8)}), following=8)
    text = b"frames.scanimage.SI.hStackManager.framesPerSlice = 1\nstate.configPath\0"
    tags = basic(
        t270=(270, 2, len(text), 400), t305=(305, 2, 4, int.from_bytes(b"SI.\0", "little"))
    )
    yield "scanimage", laid_out(tags, following=8) + text


@pytest.mark.parametrize(("name", "data"), going_in_circles())
def test_tags_that_go_in_circles_end(name, data):
    start = time.monotonic()
    try:
        assert (raw(data, 5, 4) == 0).all()
    except UnreadableImage as error:
        assert "damaged TIFF" in error.reason
    assert time.monotonic() - start < 1


TOO_MUCH = {
    "a thousand tags of the same megabyte": (
        directory(*[(270, 2, 1 << 20, 8)] * 1000, tail=bytes(1 << 20)),
        "a TIFF with more in its tags than 16 MiB of text or 1048576 numbers",
    ),
    "two million strips": (
        laid_out(basic(t273=(273, 3, 2**21, 400))) + bytes(2**22),
        "a TIFF with more in its tags",
    ),
    "planes of MetaMorph": (
        laid_out(basic(t33628=(33628, 4, 2000, 400))) + bytes(8000),
        "a TIFF with more in its tags",
    ),
    "parts that are the same bytes": (
        laid_out(basic(t273=(273, 4, 999, 400), t279=(279, 4, 999, 4396), t278=(278, 4, 1, 1)))
        + struct.pack("<999I", *[9000] * 999)
        + struct.pack("<999I", *[10**7] * 999)
        + bytes(10**7),
        "its parts are the same bytes again and again",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_tiff_that_multiplies_its_bytes_is_refused(name):
    data, words = TOO_MUCH[name]
    start = time.monotonic()
    assert words in reason(data, 5)
    assert time.monotonic() - start < 1


def test_a_tiff_of_a_jpeg_with_many_scans_is_refused():
    file = io.BytesIO()
    Image.new("RGB", (50, 40)).save(file, "JPEG", progressive=True)
    data = file.getvalue()[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00" * 100 + b"\xff\xd9"
    image = one_tile(64, 48, 7, data, photometric=6, bands=3)
    assert "a JPEG whose scans have" in reason(image, max_pixels=4000)


def test_deflate_that_grows_without_end_stops_at_the_image():
    bomb = zlib.compress(bytes(64 << 20), 9)
    head = laid_out(basic(compression=8, count=len(bomb)), size=200)
    try:
        assert not raw(head + bomb, 5, 4).any()
    except UnreadableImage as error:
        assert "damaged TIFF" in error.reason


def test_a_jpeg_larger_than_its_place_is_refused():
    jpeg = imagecodecs.jpeg_encode(np.zeros((64, 64), np.uint8))
    tags = basic(bands=1, compression=7, count=len(jpeg), t258=(258, 3, 1, 8))
    tags.append((42113, 2, 2, ord("0")))
    data = laid_out(tags, size=200) + jpeg
    assert reason(data, 1) == "damaged TIFF (a JPEG of 64 x 64 pixels in a part of 4 x 4)"


SMALL = tiff(BANDS[:12, :12], planarconfig="contig", compression="zlib", tile=(16, 16))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_escapes_as_another_error(data):
    image = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    image = image[: data.draw(st.integers(len(image) // 4, len(image)))]
    try:
        assert raw(bytes(image), 5, 4).shape == (4, 4, 5)
    except UnreadableImage as error:
        assert error.reason and "\n" not in error.reason


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_no_warning():
    values = np.array([0, 0x7FA00000, 0x3F800000, 0x7FC00000], "u4").view("f4").reshape(2, 2, 1)
    wanted = Wanted(channels=1, stretch="image")
    (drawn,) = planes(Raster(values, nodata=None), wanted)
    assert np.asarray(drawn).tolist() == [[0, 0], [255, 0]]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["u1", "u2", "u4", "i2", "i4", "f4", "f8"]),
    st.sampled_from(["type", "image", "percentile", "fixed"]),
    st.integers(0, 2**32 - 1),
    st.floats(allow_nan=True, allow_infinity=True) | st.none(),
)
def test_any_numbers_become_bytes_in_order(dtype, stretch, seed, nodata):
    rng = np.random.default_rng(seed)
    data = rng.bytes(4 * 4 * 2 * np.dtype(dtype).itemsize)
    values = np.frombuffer(data, dtype).reshape(4, 4, 2)
    if dtype == "f4" and nodata is not None:
        nodata = float(np.float32(np.clip(nodata, -3e38, 3e38)))
    wanted = Wanted(channels=2, stretch=stretch, stretch_range=(-1e300, 1e300))
    try:
        drawn = planes(Raster(values, nodata=nodata), wanted)
    except UnreadableImage as error:
        assert error.reason
        return
    for band, plane in zip(np.moveaxis(values, 2, 0), drawn, strict=True):
        shown, flat = np.asarray(plane).ravel(), band.ravel()
        valid = np.isfinite(flat) & (flat != nodata if nodata is not None else True)
        assert not shown[~valid].any()
        order = np.argsort(flat[valid], kind="stable")
        assert (np.diff(shown[valid][order].astype(int)) >= 0).all()
