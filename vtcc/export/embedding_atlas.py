"""Embedding Atlas: one Parquet file with places on the map, thumbnails and nearest images.

`image` is a struct of bytes and path, as Hugging Face's tables have images; `neighbors` a struct of
rows and cosine distances, nearest first.
"""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from vtcc.analysis.features import row_blocks, unit_rows
from vtcc.export.dataset import Dataset
from vtcc.progress import track
from vtcc.regular import regular
from vtcc.version import __version__

_MARK = b"vtcc"  # in the metadata of a file that is an export

NEIGHBOURS = 15
_BLOCK = 256  # rows whose thumbnails are in memory
_QUALITY = 90


def write(dataset: Dataset, out: Path) -> None:
    """Writes the file, of the images that are on the map."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    placed = replace(dataset, images=[i for i in dataset.images if i.row is not None])
    rows = np.array([image.row for image in placed.images], int)
    ids, distances = _nearest(dataset.embedding[rows])
    neighbours = [{"ids": i, "distances": d} for i, d in zip(ids, distances, strict=True)]
    kind = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
    table = placed.table()
    table = table.append_column("image", _thumbnails(placed, rows))
    table = table.append_column("neighbors", pa.array(neighbours, kind))
    metadata = {**(table.schema.metadata or {}), _MARK: __version__.encode()}
    with out.open("wb") as file:
        pq.write_table(table.replace_schema_metadata(metadata), file)


def is_export(file: Path) -> bool:
    """Whether a Parquet file was written by `write`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with regular(file).open("rb") as opened:
            return _MARK in (pq.read_schema(opened).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def _thumbnails(dataset: Dataset, rows: np.ndarray) -> Any:
    """A struct for each image; rows: where its thumbnail is."""
    import pyarrow as pa

    N, pictures = len(rows), []
    for start in track(range(0, N, _BLOCK), "thumbnails", -(-N // _BLOCK)):
        part = slice(start, start + _BLOCK)
        for image, pixels in zip(dataset.images[part], dataset.tiles(rows[part]), strict=True):
            file = io.BytesIO()
            Pillow.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
            pictures.append({"bytes": file.getvalue(), "path": image.name})
    return pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _nearest(h: np.ndarray) -> tuple[list[list[int]], list[list[float]]]:
    """Rows and cosine distances of the nearest other images of each.

    Args:
        h: (N, d) embedding.
    """
    unit, k = unit_rows(h), min(NEIGHBOURS, len(h) - 1)
    ids: list[list[int]] = []
    distances: list[list[float]] = []
    for part in row_blocks(len(unit), 8 * len(unit)):
        near = unit[part] @ unit.T
        near[np.arange(len(near)), np.arange(len(unit))[part]] = -np.inf  # not itself
        some = np.argpartition(-near, k - 1, axis=1)[:, :k] if k else np.empty((len(near), 0), int)
        far = 1 - np.take_along_axis(near, some, axis=1)
        order = np.argsort(far, axis=1, kind="stable")
        ids += np.take_along_axis(some, order, axis=1).tolist()
        distances += np.take_along_axis(far, order, axis=1).clip(0).tolist()
    return ids, distances
