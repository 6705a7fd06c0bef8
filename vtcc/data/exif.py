"""When, where and by which camera pictures were taken, as files say; read on request alone."""

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from vtcc import bounds
from vtcc.data import camera, images
from vtcc.data.budget import Share
from vtcc.data.decoding import in_threads
from vtcc.progress import track

TAKEN, PLACE = ("taken_at", "camera"), ("latitude", "longitude")
_MAKE, _MODEL, _CHANGED, _MORE, _GPS, _TAKEN = 0x010F, 0x0110, 0x0132, 0x8769, 0x8825, 0x9003
_MOST_PIXELS = 1 << 30  # nothing is decoded
_LEAST_PIXELS = 1  # a RAW file without a preview that says something is not developed
_SOFTWARE, _LIBRAW = 0x0131, "dcraw"
_NEVER = "1970-01-01T00:00:00"  # LibRaw's time of a RAW file that says none
_ZERO = 1970  # the year that clocks of films which were never set count from, or 1904
_LONGEST = 100  # characters of a camera's name


def columns(files: Mapping[str, Path], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What files say, as columns of a table.

    Args:
        files: name -> where it is. names: of the columns, of TAKEN and PLACE.

    Returns:
        Column -> name of a file -> value, of those that say it.
    """
    found: dict[str, dict[str, Any]] = {column: {} for column in names}
    if not found:
        return found
    read = in_threads(lambda name: of_file(files[name]), files)
    for name, said in track(read, "exif", len(files)):
        for column in names:
            if said.get(column) is not None:
                found[column][name] = said[column]
    return found


def of_file(file: Path) -> dict[str, Any]:
    """`taken_at` (ISO 8601, the camera's clock), `camera`, `latitude`, `longitude` (degrees).

    Those that the file does not say, or not well, lack. Of a RAW file its preview says them, or
    time and camera LibRaw, which writes them into a preview without EXIF. Of a film its container
    says the time alone, most in UTC. TIFFs are not looked at.
    """
    try:
        if not file.is_file():  # a pipe waits for its writer
            return {}
        suffix = file.suffix.lower()
        if suffix not in {*camera.RAW, *camera.FILMS} & camera.suffixes():
            with file.open("rb") as source:
                return _said(source)
        with Share(_LEAST_PIXELS) as share:
            if suffix in camera.FILMS:
                return _of_film(camera.film_time(file, share))
            said = _said(io.BytesIO(camera.still(file, share).data))
        return {name: value for name, value in said.items() if value != _NEVER}
    except Exception:  # damage shows when the picture is decoded
        return {}


def _said(source: BinaryIO) -> dict[str, Any]:
    head = source.read(512)
    if source.seek(0, 2) > bounds.image_file_bytes(0) or head.startswith(images.tiff.MAGIC):
        return {}
    source.seek(0)
    image = images.opened(source, head, _MOST_PIXELS)[0]
    if not images.has_short_exif(image):
        return {}
    # A PNG's own `getexif` decodes the picture where no chunk says anything.
    tags = Image.Image.getexif(image)
    more, gps = tags.get_ifd(_MORE), tags.get_ifd(_GPS)
    if _text(tags.get(_SOFTWARE)).startswith(_LIBRAW):
        gps = {}  # where north or south stands are bytes of its memory
    make, model = _text(tags.get(_MAKE)), _text(tags.get(_MODEL))
    name = model if model.casefold().startswith(make.casefold()) else f"{make} {model}"
    said = {
        "taken_at": _time(more.get(_TAKEN)) or _time(tags.get(_CHANGED)),
        "camera": name.strip()[:_LONGEST] or None,
        "latitude": _degrees(gps.get(2), gps.get(1) == "S", 90),
        "longitude": _degrees(gps.get(4), gps.get(3) == "W", 180),
    }
    return {name: value for name, value in said.items() if value is not None}


def _of_film(said: str) -> dict[str, Any]:
    """A phone's clock without the zone that stands behind it; what is UTC says so."""
    when = datetime.fromisoformat(said).replace(microsecond=0)
    taken = when if said.endswith("Z") else when.replace(tzinfo=None)
    return {"taken_at": taken.isoformat()} if when.year > _ZERO else {}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(c for c in text.partition("\0")[0] if c.isprintable()).strip()


def _time(value: Any) -> str | None:
    try:
        return datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:
        return None


def _degrees(value: Any, negative: bool, most: int) -> float | None:
    try:
        degrees, minutes, seconds = (float(part) for part in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    angle = degrees + minutes / 60 + seconds / 3600
    return round(-angle if negative else angle, 6) if 0 <= angle <= most else None
