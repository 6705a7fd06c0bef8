"""The table of which image is in which cluster: one order of columns, one writer, one reader.

`vtcc predict`, `vtcc cluster` and `evaluate` write it, as CSV, Parquet or JSON; whole, or not
at all.
"""

import contextlib
import csv
import json
import math
import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from vtcc.atomic import atomic_file, refuse_link, sole_writer
from vtcc.data.spreadsheet import path_cell, path_of, text_cell
from vtcc.errors import VtccError
from vtcc.grouping import summary
from vtcc.grouping.clusters import NO_CLUSTER, UNCLUSTERED, Applied, Clusters
from vtcc.grouping.levels import cuts
from vtcc.regular import regular

_READ = 4096  # rows at a time
SUFFIXES = (".csv", ".parquet", ".json")
_OF_RESULTS = ("assignments", "columns", "duplicates", "summary")  # without their suffixes
# Of reading: pyarrow's own errors are kinds of these, RecursionError (of JSON) is a RuntimeError.
_NO_TABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError),
    *(RuntimeError, ArithmeticError, csv.Error),
)


@dataclass(frozen=True)
class Row:
    """One file's answer.

    Attributes:
        file: its path. cluster: None when it could not be read, is excluded or belongs nowhere.
        confidence: 0-1, or None. error: why it could not be read; empty otherwise.
        name: of the cluster, or why it is in none. second: the next most probable cluster, or None.
        distance: cosine distance of the embedding to the cluster's centre, 0-2.
        outlier: farther from the centre than the cluster's own images are.
        novelty: how unlike anything seen in training, the limit being 1. novel: above it.
        split: train or holdout, where a data set was split.
        levels: of each level, the coarsest first, the smallest id of the cluster's group.
        more: values of columns that came with the images.
    """

    file: str
    cluster: int | None
    confidence: float | None
    error: str
    name: str = ""
    second: int | None = None
    distance: float | None = None
    outlier: bool | None = None
    novelty: float | None = None
    novel: bool | None = None
    split: str = ""
    levels: tuple[int | None, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nowhere(self) -> bool:
        """Whether it belongs nowhere."""
        return self.cluster is None and self.name == NO_CLUSTER[UNCLUSTERED]

    @property
    def path(self) -> str:
        """The file, under the name that the pipeline's tables are joined by."""
        return self.file

    @classmethod
    def of(cls, file: str, applied: Applied, i: int) -> "Row":
        """The answer for image i of those that the clusters were applied to."""
        cluster, distance = int(applied.cluster[i]), float(applied.distance[i])
        return cls(
            file,
            cluster if cluster >= 0 else None,
            float(applied.confidence[i]),
            "",
            name=applied.name(i),
            second=int(applied.second[i]) if applied.second[i] >= 0 else None,
            distance=distance if math.isfinite(distance) else None,
            outlier=bool(applied.outlier[i]),
            novelty=float(applied.novelty[i]),
            novel=bool(applied.novel[i]),
            levels=tuple(group.get(cluster) for group in applied.groups),
        )

    def cell(self, column: str) -> object:
        """What the row has in a column."""
        if not column.startswith(LEVEL):
            return getattr(self, column)
        place = int(column.removeprefix(LEVEL)) - 1
        return self.levels[place] if place < len(self.levels) else None


# Every table has some of these, in this order: file (or path), split, cluster, name, level_1, ...,
# confidence, second, distance, outlier, novelty, novel, error
LEVEL = "level_"
COLUMNS = ("file", "cluster", "confidence", "error")
EVALUATED = ("path", "split", "cluster", "confidence")  # of evaluate, by the manifest's paths
# Of models that know their clusters' names, centres and limits; levels are between the two.
_FIRST = ("file", "cluster", "name")
_REST = ("confidence", "second", "distance", "outlier", "novelty", "novel", "error")
NAMED = (*_FIRST, *_REST)


_TEXTS, _FLAGS, _NUMBERS = ("file", "name", "error"), ("outlier", "novel"), ("cluster", "second")


def columns_of(clusters: Clusters | None) -> tuple[str, ...]:
    """The columns of what a model assigns, by its clusters; None where it knows none."""
    return COLUMNS if clusters is None else named(len(cuts(clusters.tree)))


def named(levels: int) -> tuple[str, ...]:
    """The columns of what is assigned by clusters with so many levels."""
    return (*_FIRST, *(f"{LEVEL}{i}" for i in range(1, levels + 1)), *_REST)


class Table(Protocol):
    """A table being written."""

    def write(self, rows: Sequence[Row]) -> None:
        """Appends rows."""

    def close(self) -> None:
        """Completes the file."""


def check(out: Path) -> None:
    """Refuses, before any work, a place where `writing` would fail.

    Raises:
        VtccError: on an unknown suffix, a directory, a folder that is missing or closed, a link, a
            file that is no such table, or one of the results of `vtcc cluster`.
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
        raise _closed(out)
    if os.path.lexists(out) and not out.is_file():
        raise VtccError(
            f"--out: {out} is there, and no file: a pipe, a device or a link that leads nowhere; "
            "name another file"
        )
    whole = out.resolve()
    if whole.stem in _OF_RESULTS and (whole.parent / summary.FILE).is_file():
        raise VtccError(
            f"--out: {out} is a file of the results in {whole.parent}, and no table of clusters "
            "that may be replaced; name another file"
        )
    refuse_link("--out", out)
    if out.is_file() and not _is_table(out):
        raise VtccError(
            f"--out: {out} is there, and no table of clusters that may be replaced; name another "
            "file, or delete it first"
        )


def _is_table(file: Path) -> bool:
    """Whether a file is a table of `writing`, or empty."""
    with regular(file).open("rb") as opened:
        head = opened.read(4096)
    if not head:
        return True
    if file.suffix.lower() == ".csv":
        columns = head.decode("utf-8-sig", "replace").partition("\n")[0].strip().split(",")
    elif file.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with regular(file).open("rb") as opened:
                columns = pq.read_schema(opened).names
        except (pa.ArrowException, OSError):
            return False
    else:
        columns = [name for name in ("file", "cluster") if f'"{name}":'.encode() in head]
    return {"file", "cluster"} <= set(columns)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Nobody else writes this table meanwhile.

    Raises:
        VtccError: when another process does, or nothing can be written there.
    """
    busy = f"--out: another process is writing {out}; wait for it, or name another"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(sole_writer(out, busy))
        except PermissionError:
            raise _closed(out) from None
        except OSError as error:
            raise VtccError(
                f"--out: {out.parent} cannot be written to ({error.strerror or error}); choose "
                "another folder"
            ) from None
        yield


def _closed(out: Path) -> VtccError:
    return VtccError(f"--out: no permission to write in {out.parent}; choose another folder")


@contextlib.contextmanager
def writing(
    out: Path, columns: Sequence[str] = COLUMNS, more: Mapping[str, Any] | None = None
) -> Iterator[Table]:
    """Yields a table with these columns; it becomes `out` when the block ends without an error.

    It grows as a hidden sibling; after an error nothing is left but what was there before.

    Args:
        out: the suffix chooses the format. columns: of `Row`, in order.
        more: name -> Arrow's type, of columns that came with the images; they follow.

    Raises:
        VtccError: when the disk is full or the file cannot be written.
    """
    kinds: dict[str, Callable[[Path, Sequence[str], Mapping[str, Any]], Table]] = {
        ".csv": _Csv,
        ".json": _Json,
        ".parquet": _Parquet,
    }
    try:
        with atomic_file(out) as building:
            table = kinds[out.suffix.lower()](building, columns, more or {})
            try:
                yield table
            finally:
                table.close()
    except OSError as error:
        raise VtccError(f"{out}: could not be written ({error.strerror or error})") from error


def _record(row: Row, columns: Sequence[str], more: Mapping[str, Any]) -> dict[str, object]:
    return {name: row.cell(name) for name in columns} | {n: row.more.get(n) for n in more}


class _Csv:
    def __init__(self, path: Path, columns: Sequence[str], more: Mapping[str, Any]):
        self._file = path.open("w", encoding="utf-8", newline="")
        self._columns, self._more = columns, more
        # The default line end, "\r\n", makes the writer quote line breaks of any kind in names.
        self._writer = csv.writer(self._file)
        self._writer.writerow([*columns, *map(text_cell, more)])

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            record = _record(row, self._columns, self._more)
            self._writer.writerow(
                [_cell(name, _own(row, name, value)) for name, value in record.items()]
            )

    def close(self) -> None:
        self._file.close()


def _number(value: float, *, exact: bool) -> float | None:
    """As JSON has it, without NaN and infinity; to the last digit where it is not ours."""
    if not math.isfinite(value):
        return None
    return value if exact else round(value, 6)


def _own(row: Row, name: str, value: object) -> object:
    """A number of the columns that came with the images, to the last digit; NaN is no value."""
    if name not in row.more or not isinstance(value, float):
        return value
    return repr(value) if math.isfinite(value) else None


class _Json:
    """A list of objects, one a line."""

    def __init__(self, path: Path, columns: Sequence[str], more: Mapping[str, Any]):
        self._file = path.open("w", encoding="utf-8")
        self._columns, self._more = columns, more
        self._before = "[\n"

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            record = {
                name: _number(value, exact=name in row.more) if isinstance(value, float) else value
                for name, value in _record(row, self._columns, self._more).items()
            }
            self._file.write(self._before + json.dumps(record, ensure_ascii=False))
            self._before = ",\n"

    def close(self) -> None:
        self._file.write("[]\n" if self._before == "[\n" else "\n]\n")
        self._file.close()


def arrow_types(columns: Sequence[str]) -> dict[str, Any]:
    """The Arrow type of each of our columns, `x` and `y` of the map among them."""
    import pyarrow as pa

    kinds = dict.fromkeys((*_NUMBERS, *filter(is_level, columns)), pa.int64())
    kinds |= dict.fromkeys(("confidence", "distance", "novelty", "x", "y"), pa.float64())
    kinds |= dict.fromkeys(_FLAGS, pa.bool_())
    return {name: kinds.get(name, pa.string()) for name in columns}


class _Parquet:
    def __init__(self, path: Path, columns: Sequence[str], more: Mapping[str, Any]):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._columns, self._more = columns, more
        self._schema = pa.schema([*arrow_types(columns).items(), *more.items()])
        self._table = pa.Table
        # An open file: pyarrow takes no path that is not UTF-8, and "a:b" for an address.
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        records = [_record(row, self._columns, self._more) for row in rows]
        self._writer.write_table(self._table.from_pylist(records, schema=self._schema))

    def close(self) -> None:
        with self._file:
            self._writer.close()


def _cell(column: str, value: object) -> str:
    if isinstance(value, str):
        if re.fullmatch(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?", value):  # a number runs nothing
            return value
        return path_cell(value) if column in ("file", "path") else text_cell(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def read(file: Path, wanted: Container[str] | None = None) -> list[Row]:
    """The rows of a table that `writing` wrote, with the columns it has.

    Args:
        wanted: names of files; None: all. Of a large Parquet file a part is held at a time.

    Raises:
        VtccError: when it is no such table.
    """
    try:
        records = _READERS[file.suffix.lower()](file)
        return [row_of(r) for r in records if wanted is None or r["file"] in wanted]
    except _NO_TABLE as error:
        raise VtccError(f"{file}: not a table of `vtcc predict` ({error})") from error


def _of_csv(file: Path) -> list[dict[str, Any]]:
    with regular(file).open(encoding="utf-8", newline="") as table:
        return [record | {"file": path_of(record["file"])} for record in csv.DictReader(table)]


def _of_json(file: Path) -> Any:
    return json.loads(regular(file).read_text(encoding="utf-8"))


def _of_parquet(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with regular(file).open("rb") as opened, pq.ParquetFile(opened) as table:
        for part in table.iter_batches(_READ):
            yield from part.to_pylist()


_READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": _of_csv,
    ".json": _of_json,
    ".parquet": _of_parquet,
}


@lru_cache
def is_level(column: str) -> bool:
    """Whether a column is one of the levels."""
    return re.fullmatch(rf"{LEVEL}\d+", column) is not None


def row_of(record: dict[str, Any]) -> Row:
    """A row by its columns; KeyError, ValueError or TypeError when it is none."""
    if missing := set(COLUMNS) - record.keys():
        raise KeyError(min(missing))
    levels = tuple(_value(name, record[name]) for name in record if is_level(name))
    cells = {name: _value(name, record[name]) for name in NAMED if name in record}
    return Row(**cells, levels=levels)


def _value(column: str, value: Any) -> Any:
    """A cell as `Row` has it."""
    if column in _TEXTS:
        return "" if value is None or value != value else str(value)
    if value is None or value == "" or value != value:  # NaN is not itself
        return None
    if column in _FLAGS:
        return value if isinstance(value, bool) else str(value).lower() == "true"
    return int(value) if column in _NUMBERS or column.startswith(LEVEL) else float(value)
