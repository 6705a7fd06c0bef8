"""The one decoder: whatever Pillow reads becomes a square of uint8.

The validate stage, `vtcc predict` and the served model all decode here, so that an image is
seen the same way wherever it comes from.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from vtcc.errors import VtccError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})

# What the suffixes promise and nothing else: each further format is more code open to attack.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = tuple(_UPRIGHT[i] for i in (5, 6, 7, 8))

# Pillow warns of odd metadata in files that decode well; damage raises all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
_opening = Lock()


class UnreadableImage(VtccError):  # noqa: N818
    """A file that is no image, or a damaged one.

    Attributes:
        reason: why, in words; it does not name the file.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """A decoded image and what the file said of it.

    Attributes:
        pixels: (size, size, C) uint8.
        width: in pixels, as a person sees the image, that is after EXIF rotation.
        height: likewise.
        mode: Pillow's word for the colours in the file, such as `RGB`, `L`, `CMYK`, `I;16`.
    """

    pixels: np.ndarray
    width: int
    height: int
    mode: str


def load(
    source: Path | bytes | BinaryIO, *, channels: int, max_pixels: int, size: int
) -> np.ndarray:
    """Decodes an image to a square of bytes; see `decode`.

    Returns:
        (size, size, channels) uint8.

    Raises:
        UnreadableImage: with the reason.
    """
    return decode(source, channels=channels, max_pixels=max_pixels, size=size).pixels


def decode(
    source: Path | bytes | BinaryIO, *, channels: int, max_pixels: int, size: int
) -> Decoded:
    """Decodes an image to a square of bytes, with facts about the file.

    EXIF rotation is applied; of an animation or a multi-page TIFF the first picture is taken;
    transparency is laid on white; 16-bit grey is scaled from its full range; 32-bit grey is
    stretched from its lowest to its highest value. Both sides are resized to `size` (bicubic,
    antialiased), whatever the shape; an image of that size already is copied exactly. Colour
    profiles are not applied.

    Args:
        source: a file, its bytes, or an open binary file.
        channels: 1 for grey, 3 for colour.
        max_pixels: width x height above which the image is refused before it is decoded.
        size: side of the result in pixels.

    Raises:
        UnreadableImage: with the reason.
    """
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return _decode(file, channels, max_pixels, size)
        except OSError as error:
            raise UnreadableImage(f"cannot be opened ({error.strerror or error})") from None
    data = source if isinstance(source, bytes | bytearray | memoryview) else source.read()
    return _decode(io.BytesIO(data), channels, max_pixels, size)


def _decode(file: BinaryIO, channels: int, max_pixels: int, size: int) -> Decoded:
    head = file.read(512)
    file.seek(0)
    if not head:
        raise UnreadableImage("empty file (0 bytes)")
    try:
        image = _open(file)
        if image.width * image.height > max_pixels:
            raise UnreadableImage(
                f"{image.width} x {image.height} pixels, more than validate.max_pixels "
                f"({max_pixels})"
            )
        mode = image.mode
        width, height = image.size
        box: tuple[float, float, float, float] | None = None
        if image.format in ("JPEG", "MPO"):  # phones write JPEGs of several pictures, MPO
            # Decoding at 1/2, 1/4 or 1/8 costs a fraction of the time; three times the side
            # asked for leaves the antialiased resize enough to work with. The box counts the
            # part of the last reduced pixel that is image.
            drafted = image.draft(None, (3 * size, 3 * size))
            box = drafted[1] if drafted else None
        image.load()
        if image.format == "TIFF":
            width, height = image.size  # Pillow turns TIFFs upright by itself
        plain = _flatten(image, "L" if channels == 1 else "RGB")
        plain = plain.resize((size, size), Image.Resampling.BICUBIC, box)
        turn = _UPRIGHT.get(_orientation(image))
        if turn is not None:
            plain = plain.transpose(turn)
            if turn in _SIDEWAYS:
                width, height = height, width
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(_what(head)) from None
    except Exception as error:
        # Damaged files make Pillow raise anything from struct.error to MemoryError.
        raise UnreadableImage(_damage(error)) from None
    pixels = np.array(plain, dtype=np.uint8).reshape(size, size, channels)
    return Decoded(pixels, width, height, mode)


def _open(file: BinaryIO) -> ImageFile.ImageFile:
    # Pillow's own limit is a global of the process; ours comes right after, from the header.
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> int:
    # To be asked after load(): a TIFF has then been turned, and says so.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1  # a damaged EXIF block says nothing about the pixels


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """8 bits per channel, opaque, `mode` L or RGB."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_stretch(np.asarray(image)))
    elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError:
        raise UnreadableImage(f"colours of kind {image.mode} are not supported") from None


def _stretch(values: np.ndarray) -> np.ndarray:
    """Lowest finite value to 0, highest to 255, in uint8; what is not finite becomes 0."""
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise UnreadableImage("no finite pixel value")
    low, high = values[finite].min(), values[finite].max()
    stretched = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.rint(np.where(finite, stretched, 0) * 255).astype(np.uint8)


def _what(head: bytes) -> str:
    """Says what a file that Pillow does not know starts like."""
    if head[:8] == b"\x89PNG\r\n\x1a\n" or head[:3] == b"\xff\xd8\xff" or head[:4] == b"GIF8":
        return "damaged or truncated header"
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file; convert it to JPEG or PNG"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image"
    try:
        head[:500].decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        if b"\0" not in head:
            return "text, not an image"
    return "not an image of a known format"


def _damage(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory to decode it; lower validate.max_pixels"
    text = " ".join(str(error).split())
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated: the file ends before the image does"
    return f"damaged ({text or type(error).__name__})"
