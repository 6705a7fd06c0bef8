"""Files of `OUT.parts`: a list of files and a table of rows for each shard, by its number."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import json_file
from vtcc.errors import VtccError, in_one_line
from vtcc.regular import regular

if TYPE_CHECKING:
    from vtcc.grouping.assignments import Row


def list_file(parts: Path, number: int) -> Path:
    """Where the files of a shard are listed."""
    return parts / f"files-{number:06d}.json"


def rows_file(parts: Path, number: int) -> Path:
    """Where its rows are, once it is done."""
    return parts / f"rows-{number:06d}.parquet"


def listed(parts: Path, number: int) -> list[list[Any]]:
    """The files of a shard: of each five values, its name first.

    Raises:
        VtccError: when the list is damaged.
    """
    file = list_file(parts, number)
    try:
        entries = json_file.parsed(file)
        if not isinstance(entries, list) or any(len(entry) != 5 for entry in entries):
            raise ValueError("no list of files")
    except (OSError, ValueError, TypeError) as error:
        raise VtccError(
            f"{file}: damaged ({in_one_line(error)}); delete {parts}, and run the command again"
        ) from None
    return entries


def rows_of(parts: Path, number: int, more: dict[str, Any]) -> Iterator[list["Row"]]:
    """The rows of a shard, some at a time.

    Args:
        more: columns that came with the images.

    Raises:
        VtccError: when its table is damaged, or of other files than the list.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from vtcc.grouping import assignments

    file, expected = rows_file(parts, number), len(listed(parts, number))
    try:
        with regular(file).open("rb") as opened, pq.ParquetFile(opened) as table:
            if table.metadata.num_rows != expected:
                raise ValueError(f"{table.metadata.num_rows} rows of {expected} files")
            for batch in table.iter_batches(4096):
                yield [
                    replace(assignments.row_of(row), more={name: row[name] for name in more})
                    for row in batch.to_pylist()
                ]
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        raise VtccError(
            f"{file}: damaged ({in_one_line(error)}); delete it, and run the same command again"
        ) from None
