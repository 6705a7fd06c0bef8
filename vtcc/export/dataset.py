"""Results of `vtcc cluster` as typed rows, from which `vtcc export --to` writes every format."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# What the formats call their own; a column of the user's of that name gets another one.
RESERVED = frozenset(
    ("x", "y", "file", "file_name", "file_names", "image", "images", "label", "neighbors")
)


@dataclass(frozen=True)
class Image:
    """One readable image.

    Attributes:
        name: its path from the images' folder, as the tables show it.
        file: where it is; that may be nowhere any more, where a format needs no files.
        media: a file name for a folder of all images, no stem of which is there twice.
        cluster: its id, or None where it is in none. label: the cluster's name, or why it is in
            none. confidence: 0-1.
        values: of the tables' other columns, of the map (`x`, `y`) and of the columns that came
            with the images, in this order; all images have the same ones.
        row: of the data set's embedding and tiles; None where the image is not on the map.
    """

    name: str
    file: Path
    media: str
    cluster: int | None
    label: str
    confidence: float
    values: Mapping[str, Any]
    row: int | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The values there are, as JSON has them: no None, no not-a-number."""
        plain = {name: json_value(value) for name, value in self.values.items()}
        return {name: value for name, value in plain.items() if value is not None}


@dataclass(frozen=True)
class Dataset:
    """Results, read for another program.

    Attributes:
        images: all that could be read, in the order of the table. root: their folder.
        clusters: id -> name, no two alike.
        kinds: name of each of the images' values -> its Arrow type.
        model: digest of the model and its clusters. verdict: how far to trust the clusters.
        edits: of people, that are in it. unreadable: files that are left out.
        embedding: (N, d) float32, of the N images on the map.
        tiles: rows of it -> (n, S, S, 3) uint8 thumbnails.
    """

    images: Sequence[Image]
    root: Path
    clusters: Mapping[int, str]
    kinds: Mapping[str, Any]
    model: str
    verdict: str
    edits: int
    unreadable: int
    embedding: np.ndarray
    tiles: Callable[[np.ndarray], np.ndarray]

    def table(self) -> Any:
        """An Arrow table: `file`, and every value with its type."""
        import pyarrow as pa

        columns = {"file": pa.array([image.name for image in self.images], pa.string())}
        for name, kind in self.kinds.items():
            columns[name] = pa.array([image.values[name] for image in self.images], kind)
        return pa.table(columns)


def json_value(value: Any) -> Any:
    """The value, or None where JSON has no such number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def has_text_path(image: Image) -> bool:
    """Whether the file's path is UTF-8, as JSON and addresses need it."""
    try:
        str(image.file).encode()
    except UnicodeEncodeError:
        return False
    return True
