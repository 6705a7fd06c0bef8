"""From a file's numbers, of any type and with any number of bands, to bytes per channel."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vtcc.bounds import BYTES_PER_PIXEL, IMAGE_SIDE
from vtcc.errors import VtccError

_PERCENTILES = (2, 98)
_PIECE_PIXELS = 1 << 20
_EXACT = 2**24  # integers up to here are exact in float32
_FULL_RANGE = {"bool": (0, 1), "uint8": (0, 255), "uint16": (0, 65535)}


class UnreadableImage(VtccError):  # noqa: N818
    """A file that is no image, a damaged one, or one without the bands asked for.

    Attributes:
        reason: why, in words; it does not name the file.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is made of the numbers.

    Attributes:
        channels: C, 1 to 16.
        bands: C band numbers from 1, or none: as a viewer shows it, else the first C.
        stretch: `type`, `image`, `percentile` or `fixed`.
        stretch_range: for `fixed`, the values that become 0 and 255.
    """

    channels: int
    bands: tuple[int, ...] = ()
    stretch: str = "type"
    stretch_range: tuple[float, float] = (0.0, 255.0)

    @property
    def as_shown(self) -> bool:
        """Whether the image is taken as a viewer shows it, in grey or in colour."""
        return not self.bands and self.channels in (1, 3)


@dataclass(frozen=True)
class Raster:
    """An image as numbers.

    Attributes:
        values: (H, W, B), of any real type.
        nodata: the value that stands for nothing measured, or None.
        rgb: whether the first three bands are red, green and blue.
        inverted: whether low values are bright.
        orientation: EXIF's number, 1 for upright.
    """

    values: np.ndarray
    nodata: float | None = None
    rgb: bool = False
    inverted: bool = False
    orientation: int = 1

    @property
    def mode(self) -> str:
        """Number of bands and their type, such as `13 x uint16`."""
        return f"{self.values.shape[2]} x {self.values.dtype.name}"


def check_size(
    width: int, height: int, max_pixels: int, bands: int = 1, size: int = 1, part: str = ""
) -> None:
    """Refuses an image by its header, before anything is decoded.

    Args:
        width: in pixels. height: likewise.
        max_pixels: `validate.max_pixels`, each of at most `bounds.BYTES_PER_PIXEL` bytes.
        bands: values per pixel. size: bytes per value.
        part: what is as large as that, such as `a tile of `; the image itself when empty.

    Raises:
        UnreadableImage: when it is too large.
    """
    if width * height > max_pixels:
        raise UnreadableImage(
            f"{part}{width} x {height} pixels, more than validate.max_pixels ({max_pixels})"
        )
    if width * height * bands * size > max_pixels * BYTES_PER_PIXEL:
        raise UnreadableImage(
            f"{part}{width} x {height} pixels of {bands} bands of {size} bytes, more than "
            f"validate.max_pixels ({max_pixels}) allows at {BYTES_PER_PIXEL} bytes each"
        )
    if max(width, height) > IMAGE_SIDE:  # resizing takes memory by the longer side
        raise UnreadableImage(
            f"{part}{width} x {height} pixels; a side may have {IMAGE_SIDE} at most"
        )


def planes(raster: Raster, wanted: Wanted) -> list[Image.Image]:
    """One 8-bit picture per channel, or one in colour for three.

    Values that are not finite, and nodata, become 0 and count for no range.

    Raises:
        UnreadableImage: when there is no such band, or no valid value in any.
    """
    if raster.values.dtype.kind not in "buif":
        raise UnreadableImage(f"values of type {raster.values.dtype.name} are not supported")
    numbers = _numbers(raster, wanted)
    bands = [raster.values[..., number - 1] for number in numbers]
    valid = [_valid(band, raster.nodata) for band in bands]
    if not any(mask is None or mask.any() for mask in valid):
        raise UnreadableImage(
            "no finite pixel value"
            if raster.nodata is None
            else f"every pixel is nodata ({raster.nodata:g})"
        )
    drawn = [
        Image.fromarray(_to_bytes(band, mask, limits, raster.inverted))
        for band, mask, limits in zip(bands, valid, _limits(bands, valid, wanted), strict=True)
    ]
    if len(drawn) == 3 and wanted.channels == 1:
        return [Image.merge("RGB", drawn).convert("L")]
    return drawn if len(drawn) == wanted.channels else drawn * wanted.channels


def _numbers(raster: Raster, wanted: Wanted) -> tuple[int, ...]:
    """Numbers of the bands to take, from 1."""
    there = raster.values.shape[2]
    has = f"the image has {there} band" + ("s" if there != 1 else "")
    for number in wanted.bands:
        if number > there:
            raise UnreadableImage(f"no band {number} (validate.bands): {has}")
    if wanted.bands:
        return wanted.bands
    if wanted.as_shown:
        colour = there >= 3 and (raster.rgb or wanted.channels == 3)
        return (1, 2, 3) if colour else (1,)
    if wanted.channels > there:
        raise UnreadableImage(f"no band {there + 1} of the {wanted.channels} channels: {has}")
    return tuple(range(1, wanted.channels + 1))


def _valid(band: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Which values count, or None for all of them."""
    mask = np.isfinite(band) if band.dtype.kind == "f" else None
    if nodata is not None and np.isfinite(nodata):
        with np.errstate(over="ignore"):
            here = band != (band.dtype.type(nodata) if band.dtype.kind == "f" else nodata)
        mask = here if mask is None else mask & here
    return None if mask is None or mask.all() else mask


_Limits = tuple[float, float]


def _limits(
    bands: list[np.ndarray], valid: list[np.ndarray | None], wanted: Wanted
) -> list[_Limits]:
    """The values that become black and white, per band."""
    kind = bands[0].dtype.name
    if wanted.stretch == "fixed":
        return [wanted.stretch_range] * len(bands)
    if wanted.stretch == "type" and kind in _FULL_RANGE:
        return [_FULL_RANGE[kind]] * len(bands)
    if wanted.stretch == "percentile":
        return [_percentiles(band, mask) for band, mask in zip(bands, valid, strict=True)]
    # Other types have no range to speak of. One for all bands keeps their proportions.
    ends = [_ends(band, mask) for band, mask in zip(bands, valid, strict=True)]
    found = [end for end in ends if end is not None]
    return [(min(low for low, _ in found), max(high for _, high in found))] * len(bands)


def _ends(band: np.ndarray, mask: np.ndarray | None) -> _Limits | None:
    values = band if mask is None else band[mask]
    return (float(values.min()), float(values.max())) if values.size else None


def _percentiles(band: np.ndarray, mask: np.ndarray | None) -> _Limits:
    values = band if mask is None else band[mask]
    if not values.size:
        return 0.0, 1.0  # nothing of the band will be shown
    low, high = np.percentile(values, _PERCENTILES)
    # Where nearly all values are equal, the few others are what there is to see.
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()))


def _to_bytes(
    band: np.ndarray, mask: np.ndarray | None, limits: _Limits, inverted: bool
) -> np.ndarray:
    """A band in bytes, some rows at a time: numbers between take eight bytes each."""
    drawn = np.empty(band.shape, np.uint8)
    rows = max(1, _PIECE_PIXELS // max(1, band.shape[1]))
    for at in range(0, len(band), rows):
        part = slice(at, at + rows)
        kept = None if mask is None else mask[part]
        drawn[part] = _rows_to_bytes(band[part], kept, limits, inverted)
    return drawn


def _rows_to_bytes(
    band: np.ndarray, mask: np.ndarray | None, limits: _Limits, inverted: bool
) -> np.ndarray:
    low, high = limits
    if band.dtype == np.uint8 and limits == (0, 255):
        drawn = np.ascontiguousarray(band)
    elif high <= low:
        drawn = np.zeros(band.shape, np.uint8)
    else:
        small = band.dtype.itemsize <= 2 and max(abs(low), abs(high)) < _EXACT
        with np.errstate(invalid="ignore"):  # a signalling NaN, which the mask leaves out
            values: np.ndarray = band.astype(np.float32 if small else float)
        if mask is not None:
            values[~mask] = low
        # Halved first: a range from the lowest to the highest float64 is no float64.
        values = (values / 2 - low / 2) / (high / 2 - low / 2)
        drawn = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    if inverted:
        drawn = 255 - drawn
    if mask is not None:
        drawn = np.where(mask, drawn, np.uint8(0))
    return drawn
