"""Archives and Parquet files that hold images, unpacked into a folder that is called like them.

Labels inside (`.cls`, `.json`, other columns) are not read.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vtcc import bounds
from vtcc.atomic import atomic_directory, write_text
from vtcc.data import archive, folder, mirror
from vtcc.data.walk import STAMP
from vtcc.errors import VtccError, in_one_line
from vtcc.regular import regular

ARCHIVES = mirror.SUFFIXES
PARQUET = ".parquet"
_COLUMNS = ("image", "img")  # in tables of the Hugging Face hub
_ROWS = 8  # read at a time
_KINDS = {b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif"}


@contextmanager
def table(file: Path) -> Iterator[Any]:
    """Yields a Parquet file, opened.

    Raises:
        VtccError: when it is none, is damaged, has too many rows, or would hold far more than its
            own size; also of what is wrong in the block.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with (
            regular(file).open("rb") as source,
            pq.ParquetFile(source, buffer_size=bounds.MIB) as opened,
        ):
            about = opened.metadata
            if about.num_rows > bounds.ARCHIVE_ENTRIES:
                raise VtccError(
                    f"{file}: {about.num_rows} rows, more than {bounds.ARCHIVE_ENTRIES}; give it "
                    "in parts"
                )
            size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            archive.Room(file).take(size)
            yield opened
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise VtccError(f"{file}: cannot be read as Parquet ({in_one_line(error)})") from None


def image_column(schema: Any) -> str | None:
    """The column of a table that holds the bytes of images, as a path in it; None without one."""
    from pyarrow import types

    for name in _COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                return f"{name}.bytes"
            if types.is_binary(kind) or types.is_large_binary(kind):
                return name
    return None


def unpacked(shard: Path, target: Path) -> Counter[str]:
    """Unpacks an archive or a Parquet file, unless that was done already.

    Of a shard that has changed, an image that is as it was keeps its time of change.

    Args:
        shard: the file. target: a folder for it alone; images of a table are called by their row.

    Returns:
        How many files were left out, by reason.

    Raises:
        VtccError: when it cannot be unpacked.
    """
    stamp, known = folder.stamp(shard), target / STAMP
    if known.exists() and regular(known).read_text(encoding="utf-8") == stamp:
        return Counter()
    left_out: Counter[str] = Counter()
    with atomic_directory(target) as building:
        if shard.suffix.lower() == PARQUET:
            left_out["rows without an image"] += _images_of_table(shard, building)
        else:
            left_out += folder.unpack(shard, building)
        if known.exists():
            for file in building.rglob("*"):
                folder.keep_time(file, target / file.relative_to(building))
        write_text(building / STAMP, stamp)
    return +left_out


def peeked(shard: Path, target: Path, most: int) -> int:
    """How many rows of a table have an image, as far as it says so; the first are written.

    Args:
        target: an empty folder, for images. most: of these.

    Raises:
        VtccError: when the table cannot be read.
    """
    _images_of_table(shard, target, most)
    with table(shard) as opened:
        about, column = opened.metadata, image_column(opened.schema_arrow)
        images = int(about.num_rows)
        parts = [about.schema.column(j) for j in range(about.num_columns)]
        # A flat column may be called as a path.
        leaf = str(column).rpartition(".")[2]
        (j,) = (j for j, p in enumerate(parts) if (p.path, p.name) == (column, leaf))
        for i in range(about.num_row_groups):
            said = about.row_group(i).column(j).statistics
            images -= said.null_count if said is not None and said.has_null_count else 0
    return images


def _images_of_table(shard: Path, target: Path, most: int | None = None) -> int:
    """Writes the images of a table, and returns how many rows have none.

    Args:
        most: images that are written; None: all.
    """
    row, written, without, room = 0, 0, 0, archive.Room(shard)
    with table(shard) as opened:
        column = image_column(opened.schema_arrow)
        if column is None:
            raise VtccError(
                f"{shard}: no column {' or '.join(_COLUMNS)} with the bytes of images (found: "
                f"{', '.join(opened.schema_arrow.names)[:200]}); take it out of the folder"
            )
        for batch in opened.iter_batches(batch_size=_ROWS, columns=[column]):
            for cell in batch.column(column.partition(".")[0]).to_pylist():
                if written == most:
                    return without
                data = cell["bytes"] if isinstance(cell, dict) else cell
                if data:
                    room.take(len(data))
                    (target / f"{row:08d}{_suffix(data)}").write_bytes(data)
                without += not data
                written += bool(data)
                row += 1
    return without


def _suffix(data: bytes) -> str:
    """By what the file begins with, so that people's programs open it; readers here do not care."""
    if data[4:8] == b"ftyp":
        return ".avif" if data[8:11] == b"avi" else ".heic"
    return _KINDS.get(data[:4], ".jpg")
