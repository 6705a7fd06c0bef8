"""The table that `vtcc predict` writes: CSV, Parquet or JSON; whole, or not at all."""

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from vtcc.errors import VtccError

SUFFIXES = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class Row:
    """One file's answer.

    Attributes:
        file: its path. cluster: None when it could not be read. confidence: 0-1, or None.
        error: why it could not be read; empty otherwise.
    """

    file: str
    cluster: int | None
    confidence: float | None
    error: str


COLUMNS = tuple(f.name for f in fields(Row))


class Table(Protocol):
    """A table being written."""

    def write(self, rows: Sequence[Row]) -> None:
        """Appends rows."""

    def close(self) -> None:
        """Completes the file."""


def check(out: Path) -> None:
    """Refuses, before any work, a place where `writing` would fail.

    Raises:
        VtccError: on an unknown suffix, a directory, or a folder that is missing or closed.
    """
    if out.is_dir():
        raise VtccError(f"--out: {out} is a directory; name a file such as {out / 'clusters.csv'}")
    if out.suffix.lower() not in SUFFIXES:
        raise VtccError(
            f"--out: found {out.name!r}; allowed: a name that ends in {', '.join(SUFFIXES)}"
        )
    if not out.parent.is_dir():
        raise VtccError(f"--out: the folder {out.parent} does not exist; create it first")
    if not os.access(out.parent, os.W_OK):
        raise VtccError(f"--out: no permission to write in {out.parent}; choose another folder")


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Table]:
    """Yields a table that becomes `out` when the block ends without an error.

    It grows as a hidden sibling; after an error nothing is left but what was there before.

    Raises:
        VtccError: when the disk is full or the file cannot be written.
    """
    building = out.with_name(f".{out.name}.{os.getpid()}.building")
    kinds: dict[str, Callable[[Path], Table]] = {
        ".csv": _Csv,
        ".json": _Json,
        ".parquet": _Parquet,
    }
    try:
        table = kinds[out.suffix.lower()](building)
        try:
            yield table
        finally:
            table.close()
        building.replace(out)
    except OSError as error:
        raise VtccError(f"--out: {out} could not be written ({error.strerror or error})") from error
    finally:
        building.unlink(missing_ok=True)


class _Csv:
    def __init__(self, path: Path):
        self._file = path.open("w", encoding="utf-8", newline="")
        # The default line end, "\r\n", makes the writer quote line breaks of any kind in names.
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)

    def write(self, rows: Sequence[Row]) -> None:
        for r in rows:
            confidence = "" if r.confidence is None else f"{r.confidence:.6f}"
            cluster = "" if r.cluster is None else r.cluster
            self._writer.writerow((r.file, cluster, confidence, r.error))

    def close(self) -> None:
        self._file.close()


class _Json:
    """A list of objects, one a line."""

    def __init__(self, path: Path):
        self._file = path.open("w", encoding="utf-8")
        self._before = "[\n"

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            record: dict[str, Any] = asdict(row)
            if row.confidence is not None:
                record["confidence"] = round(row.confidence, 6)
            self._file.write(self._before + json.dumps(record, ensure_ascii=False))
            self._before = ",\n"

    def close(self) -> None:
        self._file.write("[]\n" if self._before == "[\n" else "\n]\n")
        self._file.close()


class _Parquet:
    def __init__(self, path: Path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = (pa.string(), pa.int64(), pa.float64(), pa.string())
        self._schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
        self._table = pa.Table
        self._writer = pq.ParquetWriter(str(path), self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        records = [asdict(row) for row in rows]
        self._writer.write_table(self._table.from_pylist(records, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def read(file: Path) -> list[Row]:
    """The rows of a table that `writing` wrote.

    Raises:
        VtccError: when it is no such table.
    """
    import pandas as pd

    readers: dict[str, Callable[..., pd.DataFrame]] = {
        # A file called NA is one, and so is one called 7.
        ".csv": lambda path: pd.read_csv(
            path,
            dtype={"file": str, "error": str},
            keep_default_na=False,
            na_values={"cluster": [""], "confidence": [""]},
        ),
        ".json": pd.read_json,
        ".parquet": pd.read_parquet,
    }
    try:
        frame = readers[file.suffix.lower()](file)
        return [
            Row(str(f), None if pd.isna(c) else int(c), None if pd.isna(p) else float(p), e or "")
            for f, c, p, e in frame[list(COLUMNS)].itertuples(index=False)
        ]
    except (OSError, ValueError, KeyError) as error:
        raise VtccError(f"{file}: not a table of `vtcc predict` ({error})") from error
