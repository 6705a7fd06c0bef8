"""TIFFs beyond what a viewer shows: many bands, 16 and 32 bits, GeoTIFF, BigTIFF.

Read by tifffile and imagecodecs, after checks of what the header claims. Only the first
directory is looked at, so that a file which refers to itself cannot keep us busy.
"""

import io
import logging
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from vtcc.bounds import BYTES_PER_PIXEL, MIB, TIFF_TAG_BYTES
from vtcc.data import jpeg
from vtcc.data.raster import Raster, UnreadableImage, check_size

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_NODATA, _ORIENTATION = 42113, 274
_WIDTH, _LENGTH, _BITS, _BANDS, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 258, 277, 322, 323
_OLD_JPEG, _JPEG = 6, 7
# tifffile goes through all pages of these, or makes up as many as they claim.
_NO_FURTHER_PAGES: dict[str, Any] = {"is_lsm": False, "is_scanimage": False, "is_ndpi": False}
# Of numbers tifffile makes objects; those of MetaMorph's (UIC1, UIC2) lead to more to read each.
_TEXT_TYPES, _NUMBER_COST, _COSTS = (1, 2, 6, 7), 16, {33628: 1 << 14, 33629: 256}
_READ_AT_ONCE = frozenset(
    (
        *(*range(254, 263), 266, 270, 273, 274, *range(277, 280), 282, 283, 284, 305, 317),
        *(*range(322, 326), 330, 338, 339, 347, 513, 514, 530, 32997, 32998, 33628, 33629),
        *(42113, 50838, 50839, 65426, 65432),
    )
)
# None, LZW, JPEG, deflate (twice), PackBits, LZMA and Zstandard. Each further one is more code
# open to attack, and some decide by themselves how much memory they take.
_COMPRESSIONS = frozenset({1, 5, _JPEG, 8, 32946, 32773, 34925, 50000})


def read(
    file: BinaryIO, *, max_pixels: int, as_shown: bool, hold: Callable[[int], None]
) -> Raster | None:
    """The first picture of a TIFF as numbers.

    Args:
        file: at its beginning; left anywhere.
        max_pixels: limit for `raster.check_size`.
        as_shown: leave to Pillow whatever it shows as people expect.
        hold: waits until so many pixels may be decoded.

    Returns:
        None where Pillow should read it, or at least say what is wrong with it.

    Raises:
        UnreadableImage: with the reason.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        _check_tags(file)
        with tifffile.TiffFile(file, **_NO_FURTHER_PAGES) as tif:
            page: Any = tif.pages.first
            _check_sizes(page, tif.filehandle.size, max_pixels)
            if page.compression in (_OLD_JPEG, _JPEG):
                _check_jpegs(page, tif.filehandle, max_pixels)
            hold(page.imagewidth * page.imagelength)
            if not _is_ours(page, as_shown):
                return None
            _check(page, tif.filehandle.size)
            return _raster(page)
    except UnreadableImage:
        raise
    except Exception as error:
        # Damaged files make tifffile raise anything from struct.error to AssertionError.
        if isinstance(error, MemoryError):
            raise
        raise UnreadableImage(f"damaged TIFF ({_words(error)})") from None


def _check_tags(file: BinaryIO) -> None:
    """Refuses a directory whose values are too large, or are the same bytes again and again."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:4]
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    file.seek(at)
    (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
    entry = struct.Struct(order + ("2HQ8x" if big else "2HI4x"))
    total = 0
    for _ in range(min(count, 4097)):  # tifffile refuses more than 4,096
        code, kind, values = entry.unpack(file.read(entry.size))
        if code in _READ_AT_ONCE:
            total += values * (1 if kind in _TEXT_TYPES else _COSTS.get(code, _NUMBER_COST))
    file.seek(0)
    if total > TIFF_TAG_BYTES:
        raise UnreadableImage(
            f"a TIFF with more in its tags than {TIFF_TAG_BYTES // MIB} MiB of text or "
            f"{TIFF_TAG_BYTES // _NUMBER_COST} numbers"
        )


def _is_ours(page: Any, as_shown: bool) -> bool:
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        return False  # palette, CMYK, YCbCr: colours that Pillow turns into RGB
    bits = page.bitspersample
    bits = max(bits) if isinstance(bits, tuple) else bits
    if bits < 8:
        return False
    shown = 4 if page.photometric == _RGB else 2
    whole = bits == 8 and page.dtype is not None and page.dtype.kind == "u"
    plain = whole and 0 < page.samplesperpixel <= shown and _NODATA not in page.tags
    return not (plain and as_shown)


def _check_sizes(page: Any, file_size: int, max_pixels: int) -> None:
    """Refuses an image or tile that takes too many bytes decoded, whoever decodes it.

    Pillow and tifffile cut strips to the image, whatever RowsPerStrip says, but not tiles.
    """
    bands = _largest(page, _BANDS)
    stored = -(-_largest(page, _BITS) // 8)
    size = max(stored, page.dtype.itemsize if page.dtype is not None else 1)
    check_size(_largest(page, _WIDTH), _largest(page, _LENGTH), max_pixels, bands, size)
    width, length = _largest(page, _TILE_WIDTH), _largest(page, _TILE_LENGTH)
    check_size(width, length, max_pixels, bands, size, part="a tile of ")
    if sum(min(count, file_size) for count in page.databytecounts) > max(
        BYTES_PER_PIXEL * max_pixels, file_size
    ):
        raise UnreadableImage("damaged TIFF (its parts are the same bytes again and again)")


def _largest(page: Any, tag: int) -> int:
    """The largest value of a tag, 0 without it: readers differ on which of two tags counts."""
    values = [there.value for there in page.tags.getall(tag, default=[])]
    flat = [n for value in values for n in (value if isinstance(value, tuple) else (value,))]
    return max(flat, default=0)


def _check(page: Any, file_size: int) -> None:
    """Refuses what the header of a TIFF should not claim."""
    bands = page.samplesperpixel
    if bands < 1 or page.imagewidth < 1 or page.imagelength < 1:
        raise UnreadableImage(
            f"a TIFF of {page.imagewidth} x {page.imagelength} pixels with {bands} bands"
        )
    if page.imagedepth != 1:
        raise UnreadableImage(f"a volume of {page.imagedepth} layers, not an image")
    if page.dtype is None:
        raise UnreadableImage(
            f"values of {page.bitspersample} bits, sample format {page.sampleformat}, are not "
            "supported"
        )
    if page.compression not in _COMPRESSIONS:
        raise UnreadableImage(f"TIFF compression {_named(page.compression)} is not supported")
    ends = zip(page.dataoffsets, page.databytecounts, strict=False)
    if not page.dataoffsets or max(offset + count for offset, count in ends) > file_size:
        raise UnreadableImage("truncated: the file ends before the image does")


def _check_jpegs(page: Any, handle: Any, max_pixels: int) -> None:
    """Refuses JPEG parts that claim to be larger than their place, or are decoded for too long."""
    width, height = page.imagewidth, page.imagelength
    if page.is_tiled:
        width, height = page.tilewidth, page.tilelength
    decoded = 0
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        handle.seek(offset)
        part = io.BytesIO(handle.read(min(count, handle.size)))
        headers = jpeg.headers(part)
        if headers is None:
            columns, rows = width, height
        else:
            columns, rows = headers.width, headers.height
        if columns > width or rows > height:
            raise UnreadableImage(
                f"damaged TIFF (a JPEG of {columns} x {rows} pixels in a part of "
                f"{width} x {height})"
            )
        part.seek(0)
        decoded += jpeg.check(part) * columns * rows
        jpeg.check_scans(decoded, max_pixels)


def _raster(page: Any) -> Raster:
    values = page.asarray(maxworkers=1)
    axes = page.axes
    if set(axes) - set("YXS") or values.ndim != len(axes):
        raise UnreadableImage(f"a TIFF with axes {axes}, not an image")
    if "S" not in axes:
        values, axes = values[..., np.newaxis], axes + "S"
    turned: np.ndarray = values.transpose([axes.index(axis) for axis in "YXS"])
    return Raster(
        turned,
        nodata=_nodata(page),
        rgb=page.photometric == _RGB,
        inverted=page.photometric == _WHITE_IS_ZERO,
        orientation=int(page.tags.valueof(_ORIENTATION, default=1)),
    )


def _nodata(page: Any) -> float | None:
    """GDAL's nodata value; one that is no number, or out of the type's range, means nothing."""
    try:
        value = float(str(page.tags.valueof(_NODATA)).strip("\0 "))
    except ValueError:
        return None
    if page.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return float(page.dtype.type(value))
    limits = np.iinfo(page.dtype)
    return value if limits.min <= value <= limits.max and value.is_integer() else None


def _named(compression: Any) -> str:
    name = getattr(compression, "name", "")
    return f"{int(compression)} ({name})" if name else str(int(compression))


def _words(error: Exception) -> str:
    text = re.sub(r"<[^<>]*>:?|\b(Tiff\w+|page) \d+[^:]*:", "", str(error))
    return " ".join(text.split())[:200] or type(error).__name__
