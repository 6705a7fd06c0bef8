"""The one decoder: whatever Pillow or tifffile reads becomes a square of uint8.

The validate stage, `vtcc predict` and the served model all decode here, so that an image is
seen the same way wherever it comes from.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from vtcc import bounds
from vtcc.data import camera, heif, jpeg, parts, tiff
from vtcc.data.budget import Share
from vtcc.data.raster import Raster, UnreadableImage, Wanted, check_size, planes
from vtcc.regular import regular

__all__ = ["SUFFIXES", "Decoded", "UnreadableImage", "decode", "load", "suffixes"]

_PLAIN = (".jpg", ".jpeg", ".mpo", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_HEIC = (b"heic", b"heix", b"mif1", b"heim", b"heis")
SUFFIXES = frozenset((*_PLAIN, ".heic", ".heif", ".hif", ".avif"))

# What the suffixes promise and nothing else: each further format is more code open to attack.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_DEEP_RGB = b"\x10\x02"  # in a PNG's header: 16 bits, colour without alpha
_JPEG = b"\xff\xd8\xff"
_ORIENTATION = 0x0112
_PIECE_PIXELS = 1 << 20
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


@dataclass(frozen=True)
class Decoded:
    """A decoded image and what the file said of it.

    Attributes:
        pixels: (size, size, C) uint8.
        width: in pixels, as a person sees the image, that is after EXIF rotation.
        height: likewise.
        mode: Pillow's word for the colours in the file, such as `RGB`, `L`, `CMYK`, `I;16`, or
            bands and type where Pillow has none: `13 x uint16`.
    """

    pixels: np.ndarray
    width: int
    height: int
    mode: str


def suffixes() -> frozenset[str]:
    """Suffixes, in small letters, of all that is read with what is installed."""
    return SUFFIXES | camera.suffixes()


def suffixes_in_words() -> str:
    """The same for people, pictures first."""
    return " ".join([*sorted(SUFFIXES), *sorted(camera.suffixes())])


def load(
    source: Path | bytes | BinaryIO,
    *,
    channels: int,
    max_pixels: int,
    size: int,
    bands: Sequence[int] = (),
    stretch: str = "type",
    stretch_range: Sequence[float] = (0.0, 255.0),
) -> np.ndarray:
    """Decodes an image to a square of bytes; see `decode`.

    Returns:
        (size, size, channels) uint8.

    Raises:
        UnreadableImage: with the reason.
    """
    return decode(
        source,
        channels=channels,
        max_pixels=max_pixels,
        size=size,
        bands=bands,
        stretch=stretch,
        stretch_range=stretch_range,
    ).pixels


def decode(
    source: Path | bytes | BinaryIO,
    *,
    channels: int,
    max_pixels: int,
    size: int,
    bands: Sequence[int] = (),
    stretch: str = "type",
    stretch_range: Sequence[float] = (0.0, 255.0),
) -> Decoded:
    """Decodes an image to a square of bytes, with facts about the file.

    EXIF rotation is applied; of an animation or a multi-page TIFF the first picture is taken, of a
    RAW file its preview, of a film its first frame (`vtcc.data.camera`; known by the file's name);
    transparency is laid on white, unless bands are chosen. Values of more than 8 bits become
    bytes as `stretch` says; what is not finite, or GDAL's nodata value, becomes 0. Both sides
    are resized to `size` (bicubic, antialiased), whatever the shape; an image of that size
    already is copied exactly. Colour profiles are not applied.

    Args:
        source: a file, its bytes, or an open binary file.
        channels: 1 for grey, 3 for colour, 2 or 4 to 16 for that many bands.
        max_pixels: width x height above which the image is refused before it is decoded, at
            8 bytes for all bands of a pixel; with more bytes the bound is lower. All images that
            are decoded at a time together have at most so many. `vtcc.bounds` has the others.
        size: side of the result in pixels.
        bands: numbers from 1 of as many bands as channels; none: as a viewer shows the image
            for 1 or 3 channels, else the first.
        stretch: `type`, `image`, `percentile` or `fixed`; see docs/data.md.
        stretch_range: the values that become 0 and 255 where `stretch` is `fixed`.

    Raises:
        UnreadableImage: with the reason.
    """
    low, high = stretch_range
    wanted = Wanted(
        channels=channels, bands=tuple(bands), stretch=stretch, stretch_range=(low, high)
    )
    if isinstance(source, Path):
        try:
            with regular(source).open("rb") as file, Share(max_pixels) as share:
                if source.suffix.lower() in camera.suffixes():
                    still = camera.still(source, share)
                    return _decode(io.BytesIO(still.data), wanted, share, size, still.orientation)
                return _decode(file, wanted, share, size)
        except OSError as error:
            raise UnreadableImage(f"cannot be opened ({error.strerror or error})") from None
        except UnreadableImage as error:
            raise UnreadableImage(f"{error.reason}{camera.hint(source)}") from None
    data = source if isinstance(source, bytes | bytearray | memoryview) else source.read()
    with Share(max_pixels) as share:
        return _decode(io.BytesIO(data), wanted, share, size)


def _decode(file: BinaryIO, wanted: Wanted, share: Share, size: int, turned: int = 0) -> Decoded:
    head = file.read(512)
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not head:
        raise UnreadableImage("empty file (0 bytes)")
    try:
        if head.startswith(tiff.MAGIC):
            raster = tiff.read(
                file, max_pixels=share.max_pixels, as_shown=wanted.as_shown, hold=share
            )
            if raster is not None:
                return _from_raster(raster, wanted, size)
            file.seek(0)
        elif length > (most := bounds.image_file_bytes(share.max_pixels)):
            raise UnreadableImage(f"a file of {length >> 20} MiB; allowed: {most >> 20}")
        try:
            return _from_pillow(file, head, wanted, share, size, turned)
        except UnreadableImage:
            raise
        except Exception:
            if not head.startswith(parts.PNG):
                raise
            file.seek(0)
            whole = file.read()
            if (bare := parts.bare_png(whole)) == whole:
                raise
            return _from_pillow(io.BytesIO(bare), bare[:512], wanted, share, size)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(_what(head)) from None
    except Exception as error:
        # Damaged files make Pillow raise anything from struct.error to MemoryError.
        raise UnreadableImage(_damage(error)) from None


def _from_raster(raster: Raster, wanted: Wanted, size: int) -> Decoded:
    height, width, _ = raster.values.shape
    turn = _UPRIGHT.get(raster.orientation)
    if turn in _SIDEWAYS:
        width, height = height, width
    pixels = _square(planes(raster, wanted), size, turn, None)
    return Decoded(pixels, width, height, raster.mode)


def opened(file: BinaryIO, head: bytes, max_pixels: int) -> tuple[ImageFile.ImageFile, int, int]:
    """An image that is not decoded yet, after a look at what that would cost.

    Args:
        file: at its beginning. head: its first bytes. max_pixels: of an image.

    Returns:
        The image, at most how many scans it has, and pixels of the largest picture inside.

    Raises:
        UnreadableImage: with the reason; Pillow's errors as they come.
    """
    scans = jpeg.check(file) if head.startswith(_JPEG) else 1
    parts.check(file, head)
    boxed = heif.check(file, max_pixels) if heif.is_boxed(head) else None
    image = _open(file, _FORMATS if boxed is None else _boxed())
    return image, scans, max(image.width * image.height, boxed or 0)


def _from_pillow(
    file: BinaryIO, head: bytes, wanted: Wanted, share: Share, size: int, turned: int = 0
) -> Decoded:
    image, scans, pixels = opened(file, head, share.max_pixels)
    deep = head[24:26] == _DEEP_RGB and image.format == "PNG" and "transparency" not in image.info
    check_size(image.width, image.height, share.max_pixels, len(image.getbands()), 2 if deep else 1)
    jpeg.check_scans(scans * pixels, share.max_pixels)
    mode = image.mode
    width, height = image.size
    box: tuple[float, float, float, float] | None = None
    if image.format in ("JPEG", "MPO"):  # phones write JPEGs of several pictures, MPO
        # Decoding at 1/2, 1/4 or 1/8 costs a fraction of the time; three times the side
        # asked for leaves the antialiased resize enough to work with. The box counts the
        # part of the last reduced pixel that is image.
        drafted = image.draft(None, (3 * size, 3 * size))
        box = drafted[1] if drafted else None
        # Of several scans the whole picture is kept, of one what is drafted.
        pixels = image.width * image.height if scans == 1 else pixels
    share(pixels)
    image.info.pop("xmp", None)  # see `orientation`
    image.load()
    if image.format == "TIFF":
        width, height = image.size  # Pillow turns TIFFs upright by itself, by the tag
    if deep:
        file.seek(0)
        drawn, mode = planes(Raster(_deep_png(file.read()), rgb=True), wanted), "3 x uint16"
    else:
        drawn = _drawn(image, wanted)
    turn = _UPRIGHT.get(turned or orientation(image))
    if turn in _SIDEWAYS:
        width, height = height, width
    return Decoded(_square(drawn, size, turn, box), width, height, mode)


def _square(
    drawn: list[Image.Image],
    size: int,
    turn: Image.Transpose | None,
    box: tuple[float, float, float, float] | None,
) -> np.ndarray:
    """Pictures of all channels together, resized and turned: (size, size, C) uint8."""
    squares = []
    for plane in drawn:
        small = plane.resize((size, size), Image.Resampling.BICUBIC, box)
        small = small if turn is None else small.transpose(turn)
        squares.append(np.array(small, dtype=np.uint8).reshape(size, size, -1))
    return squares[0] if len(squares) == 1 else np.concatenate(squares, axis=2)


@cache
def _boxed() -> tuple[str, ...]:
    """What Pillow reads of AVIF and HEIC: the picture alone, upright, whatever EXIF says beside it.

    Who may not have pillow-heif, whose wheels bundle code under the GPL, can take it away.
    """
    try:
        import pillow_heif
    except ImportError:
        return ("AVIF",)
    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
    )
    return ("AVIF", "HEIF")


def _open(file: BinaryIO, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    # Pillow's own limit is a global of the process; ours comes right after, from the header.
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def has_short_exif(image: Image.Image) -> bool:
    """Whether its EXIF may be read: of each number in a tag Pillow makes an object."""
    return len(image.info.get("exif") or b"") <= bounds.EXIF_BYTES


def orientation(image: Image.Image) -> int:
    """How a picture has to be turned, 1 to 8, by EXIF alone; nothing is decoded.

    Pillow's own `getexif` takes XMP's word where EXIF says nothing, as no browser does.

    Args:
        image: opened; of a PNG loaded too, since EXIF may lie behind the pixels.
    """
    try:
        if not has_short_exif(image):
            return 1
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
        said = int(exif.get(_ORIENTATION, 1))
    except Exception:
        return 1  # a damaged EXIF block says nothing about the pixels
    return said if said in _UPRIGHT else 1


def _deep_png(data: bytes) -> np.ndarray:
    """(H, W, 3) uint16, of which Pillow would drop the lower half."""
    import imagecodecs

    return imagecodecs.png_decode(data)


def _drawn(image: Image.Image, wanted: Wanted) -> list[Image.Image]:
    """What Pillow opened, as 8-bit pictures that together have the channels wanted."""
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits
        return planes(Raster(np.asarray(image)[..., np.newaxis]), wanted)
    if wanted.as_shown:
        flat = _flatten(image, "L" if wanted.channels == 1 else "RGB")
        if wanted.stretch == "type":
            return [flat]
    else:
        flat = image if image.mode in ("L", "LA", "RGB", "RGBA") else _flatten(image, "RGB")
    values = np.asarray(flat)
    values = values if values.ndim == 3 else values[..., np.newaxis]
    return planes(Raster(values, rgb=values.shape[2] >= 3), wanted)


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """8 bits per channel, opaque, `mode` L or RGB."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        flat = Image.new("RGB", image.size)
        rows = max(1, _PIECE_PIXELS // image.width)  # a whole picture would be there four times
        for top in range(0, image.height, rows):
            box = (0, top, image.width, min(top + rows, image.height))
            part = image.crop(box).convert("RGBA")
            white = Image.new("RGBA", part.size, "white")
            flat.paste(Image.alpha_composite(white, part).convert("RGB"), box)
        image = flat
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError:
        raise UnreadableImage(f"colours of kind {image.mode} are not supported") from None


def _what(head: bytes) -> str:
    """Says what a file that Pillow does not know starts like."""
    if head[:8] == parts.PNG or head[:3] == _JPEG or head[:4] == parts.GIF:
        return "damaged or truncated header"
    if heif.is_boxed(head) and head[8:12] in _HEIC and len(_boxed()) == 1:
        return "a HEIC: pip install pillow-heif"
    if heif.is_boxed(head):
        return "a video, or a damaged HEIC or AVIF"
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
