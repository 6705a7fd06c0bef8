"""COCO's JSON: a category for each cluster, an annotation of the whole picture for each image.

`id` of a category is the cluster's; those of images and annotations count from 1. An image in no
cluster has no annotation.
"""

import json
import os
from pathlib import Path
from typing import Any

from vtcc.atomic import write_text
from vtcc.data import camera, stripped, tiff
from vtcc.data import images as decoder
from vtcc.data.decoding import in_threads
from vtcc.errors import VtccError
from vtcc.export.dataset import Dataset, Image, has_text_path
from vtcc.progress import several, track
from vtcc.regular import regular
from vtcc.version import __version__

BEGINS = b'{"info": {"contributor": "vtcc"'  # how a file of `write` begins
_MOST_PIXELS = 1 << 30  # nothing is decoded but TIFFs, RAW files and films
_SIDEWAYS = range(5, 9)


def write(dataset: Dataset, out: Path) -> None:
    """Writes the file.

    Raises:
        VtccError: when an image can no longer be read.
    """
    named = [image for image in dataset.images if has_text_path(image)]
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    sizes = in_threads(lambda image: _size(image), named)
    for number, (image, (width, height)) in enumerate(track(sizes, "sizes", len(named)), 1):
        path = Path(os.path.relpath(image.file, dataset.root)).as_posix()
        size = {"width": width, "height": height}
        entries.append({"id": number, "file_name": path} | size | {"attributes": image.facts})
        if image.cluster is not None:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": image.cluster,
                    "bbox": [0, 0, width, height],
                    "area": width * height,
                    "segmentation": [[0, 0, width, 0, width, height, 0, height]],
                    "iscrowd": 0,
                    "score": image.confidence,
                }
            )
    groups = {
        image.cluster: f"level_1 {image.values['level_1']}"
        for image in named
        if image.values.get("level_1") is not None
    }
    content = {
        "info": {
            "contributor": "vtcc",
            "description": f"{several(len(named), 'images')} in clusters, by vtcc {__version__}",
        },
        "licenses": [],
        "categories": [
            {"id": k, "name": name, "supercategory": groups.get(k, "cluster")}
            for k, name in dataset.clusters.items()
        ],
        "images": entries,
        "annotations": annotations,
    }
    write_text(out, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def _size(image: Image) -> tuple[int, int]:
    """Width and height as a person sees the image, that is after EXIF rotation."""
    try:
        with regular(image.file).open("rb") as file:
            head = file.read(512)
            file.seek(0)
            if head.startswith(tiff.MAGIC) or image.file.suffix.lower() in camera.suffixes():
                seen = decoder.decode(image.file, channels=1, size=1, max_pixels=_MOST_PIXELS)
                return seen.width, seen.height
            opened = decoder.opened(file, head, _MOST_PIXELS)[0]
            width, height = opened.size
            return (height, width) if stripped.turn(opened, file) in _SIDEWAYS else (width, height)
    except Exception as error:  # whatever happened to it since
        raise VtccError(
            f"{image.file}: can no longer be read ({error}); bring the results up to date with "
            "`vtcc add`"
        ) from None
