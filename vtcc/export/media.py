"""A folder with all images of a data set: links to them, or copies."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from vtcc.data.stripped import stripped
from vtcc.errors import VtccError
from vtcc.export.dataset import Image
from vtcc.progress import several, track

MODES = ("links", "copies")


def write(folder: Path, images: Sequence[Image], mode: str, *, place: bool) -> None:
    """Puts each image under its `media` name.

    Args:
        folder: made here. mode: of `MODES`.
        place: copies are the files as they are; else they are without EXIF, XMP and IPTC, but
            stay upright.

    Raises:
        VtccError: where a copy may say where the picture was taken.
        OSError: when something cannot be read or written.
    """
    folder.mkdir()
    telling: list[str] = []
    for image in track(images, "images", len(images)):
        at = folder / image.media
        if mode == "links":
            at.symlink_to(image.file)
        elif place:
            shutil.copyfile(image.file, at)
        elif (data := stripped(image.file)) is not None:
            at.write_bytes(data)
        else:
            telling.append(image.name)
    if telling:
        raise VtccError(
            f"{several(len(telling), 'files')} may say in a copy where or by what a picture was "
            f"taken, which cannot be taken out (first: {telling[0]!r}); convert to JPEG, or give "
            "--images links, or --place to copy all files as they are"
        )
