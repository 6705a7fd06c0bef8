"""Columns of the tables of results that came with the images, kept for `add` and `refine`.

They stand after our own in assignments.csv, .parquet and .json, and in the table of `vtcc predict`;
nothing here computes with them.
"""

import contextlib
import itertools
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vtcc.atomic import atomic_file
from vtcc.data import exif
from vtcc.data.inputs import Part
from vtcc.errors import VtccError
from vtcc.grouping import assignments
from vtcc.regular import regular

FILE = "columns.parquet"
Columns = dict[str, dict[str, Any]]  # column -> name of an image -> value


def check(given: Iterable[str], of_exif: Iterable[str] = ()) -> None:
    """Refuses columns that are called like one of the results.

    Raises:
        VtccError: on one.
    """
    theirs = (*assignments.NAMED, *of_exif)
    for name in given:
        if name in theirs or assignments.is_level(name):
            raise VtccError(
                f"column {name!r} of the table of images: the results have one of that name; "
                f"rename it (theirs: {', '.join(theirs)}, {assignments.LEVEL}1, ...)"
            )


def typed(parts: Sequence[Part]) -> tuple[list[Part], dict[str, Any]]:
    """Inputs whose columns have one type each in all of them, as they are in a table of results.

    Returns:
        The inputs, and name of a column -> its Arrow type.
    """
    kinds: dict[str, Any] = {}
    own: list[dict[str, list[Any]]] = [{} for _ in parts]
    for name in dict.fromkeys(name for part in parts for name in part.columns):
        array = _array([value for part in parts for value in part.columns.get(name, ())])
        kinds[name], values = array.type, iter(array.to_pylist())
        for part, columns in zip(parts, own, strict=True):
            if name in part.columns:
                columns[name] = list(itertools.islice(values, len(part.columns[name])))
    return [replace(part, columns=of) for part, of in zip(parts, own, strict=True)], kinds


def of_exif(names: Iterable[str]) -> dict[str, Any]:
    """Name -> Arrow type, of columns that files' EXIF gives."""
    import pyarrow as pa

    return {name: pa.float64() if name in exif.PLACE else pa.string() for name in names}


def write(directory: Path, columns: Columns, *, gone: Container[str] = ()) -> None:
    """Puts columns into results, beside what these have already; none are no file.

    Args:
        directory: of the results, being built. gone: images of which nothing is kept.
    """
    import pyarrow.parquet as pq

    before, _ = read(directory)
    before = {n: {f: v for f, v in of.items() if f not in gone} for n, of in before.items()}
    if before or columns:
        with atomic_file(directory / FILE) as building, building.open("wb") as target:
            pq.write_table(_together(before, columns), target)


def differ(directory: Path, columns: Columns) -> bool:
    """Whether `write` would change what a column says of an image, or add a column.

    Args:
        directory: of the results.
    """
    before, _ = read(directory)
    if not columns:
        return False
    table = _together(before, columns).to_pydict()
    files = table.pop("file")
    after = {name: dict(zip(files, values, strict=True)) for name, values in table.items()}

    def text(columns: Columns) -> str:  # in which not-a-number is itself
        return repr(
            {name: {f: v for f, v in of.items() if v is not None} for name, of in columns.items()}
        )

    return text(after) != text(before)


def _together(before: Columns, columns: Columns) -> Any:
    """The table of what there is already and what comes, which wins."""
    import pyarrow as pa

    together = {name: before.get(name, {}) | columns.get(name, {}) for name in before | columns}
    files = sorted(set().union(*together.values()))
    arrays = {name: _array([of.get(file) for file in files]) for name, of in together.items()}
    return pa.table({"file": pa.array(files, pa.string()), **arrays})


def read(directory: Path) -> tuple[Columns, dict[str, Any]]:
    """The columns of results, and their types in Parquet; both empty where there are none.

    Raises:
        VtccError: when the file is damaged.
    """
    file = directory / FILE
    if not file.exists():
        return {}, {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with regular(file).open("rb") as opened:
            table = pq.read_table(opened)
        files, *others = (column.to_pylist() for column in table.columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise VtccError(f"{file}: damaged ({error}); run `vtcc cluster` again") from None
    names = table.schema.names[1:]
    return (
        {
            name: dict(zip(files, values, strict=True))
            for name, values in zip(names, others, strict=True)
        },
        {name: table.schema.field(name).type for name in names},
    )


def _array(values: list[Any]) -> Any:
    """Numbers and truth values as they are; anything else, and a mixture, as text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        with contextlib.suppress(OverflowError, pa.ArrowException):  # above 64 bits: as text
            return pa.array(values, pa.int64() if kinds == {int} else pa.float64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    return pa.array([None if value is None else str(value) for value in values], pa.string())
