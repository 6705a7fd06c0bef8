"""Whatever images are given as, as files on this disk.

A folder, image files, a list of paths, a table with paths, archives and Parquet files with images
inside, a folder of these, or an address of any of them: what groups, sorts or adds images sees
folders and files alone.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtcc import bounds
from vtcc.data import images, remote, shards
from vtcc.data.spreadsheet import path_of
from vtcc.data.walk import Entry, as_text, in_words, walk
from vtcc.errors import VtccError, in_one_line
from vtcc.progress import note, several
from vtcc.regular import regular

Given = str | os.PathLike[str]
LIST, TABLES, COLUMN = ".txt", (".csv", shards.PARQUET), "path"
_OF_FILE = f"; rename 'file' to {COLUMN!r}, and leave out the other columns of `assignments.*`"
_ROWS = 64  # of a table, read at a time: with fewer it takes ten times as long
_LIST_AT_ADDRESS = "a list at an address; copy it beside the images it names"
_SHARDS = (*shards.ARCHIVES, shards.PARQUET)
KINDS = (
    "a folder, an image, a list of paths (.txt), a table with a column `path` (.csv, .parquet), an "
    "archive (.tar, .zip), or Parquet with a column `image`"
)


# As it is named, where it is, and the given folder that holds it.
_Shard = tuple[str, Path, Path | None]


@dataclass(frozen=True)
class Part:
    """What one input is on this disk.

    Attributes:
        given: as it was named; `shown` goes before the names of its files, for people.
        top: the folder that is searched, or from which the listed names go.
        root: `top`, or of what was unpacked the folder that stands for the one of all its files.
        names: that are listed, relative to `top`; None: what a walk finds.
        columns: name of a column -> its value for each of `names`.
        folder: that was given, or copied from an address; of what is unpacked it holds the shard.
            None of a file.
    """

    given: str
    shown: str
    top: Path
    root: Path
    names: list[str] | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def is_plain_folder(self) -> bool:
        """Whether it is a folder with images in it, as they lie there."""
        return self.names is None and self.top == self.root

    def entries(self, left_out: Counter[str] | None = None) -> Iterator[Entry]:
        """What is listed, or found below `top` (`vtcc.data.walk.walk`), by paths from there."""
        if self.names is None:
            yield from walk(self.top, left_out)
            return
        for i, name in enumerate(self.names):
            yield Entry(name, more={column: of[i] for column, of in self.columns.items()})


def absolute(path: Given) -> Path:
    """An absolute path without `..`, so that its last part is its name and others lie beside it.

    Links before a `..` are followed, as the system does; those after it stay.
    """
    steps = Path(path).parts
    after = max((i + 1 for i, step in enumerate(steps) if step == ".."), default=0)
    if not after:
        return Path(path).absolute()
    return Path(*steps[:after]).resolve().joinpath(*steps[after:])


def is_missing(given: Given) -> bool:
    """Whether nothing has this path; an address is not looked up."""
    return not (remote.is_address(os.fspath(given)) or os.path.lexists(given))


def title_of(first: Given, others: Sequence[Given]) -> str:
    """How results of these inputs are headed: the first one's name, and how many more there are."""
    named = as_text(home(first).name).strip(". ")[:80] or "images"
    return f"{named} and {len(others)} more" if others else named


def home(given: Given) -> Path:
    """The path that results are called after: a folder's, a file's without suffix; not looked up.

    Of an address it is its last part, in the working directory.
    """
    text = os.fspath(given)
    if remote.is_address(text):
        text = remote.shown(text).rstrip("/").rpartition("/")[2]
    path = absolute(text)
    if not path.is_dir():
        for suffix in (LIST, *TABLES, *sorted(shards.ARCHIVES, key=len, reverse=True)):
            if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
                return path.with_name(path.name[: -len(suffix)])
    return path


def kept(given: Given) -> str:
    """How an input is kept in results: an absolute path, or an address without its secrets.

    The path leads there again: odd bytes stay what they are, and are for `as_text` where it is
    shown.
    """
    text = os.fspath(given)
    return remote.shown(text) if remote.is_address(text) else str(absolute(text))


def parts(given: Sequence[Given], place: Path | None, *, any_name: bool = True) -> list[Part]:
    """Finds out what inputs are; what is packed or elsewhere is put below `place`.

    Args:
        given: paths and addresses.
        place: a folder for copies and unpacked images, made when it is needed; with None these
            inputs are refused.
        any_name: take a file for an image whatever its name.

    Raises:
        VtccError: when one is missing, damaged, or of a kind that is not read.
    """
    found: list[Part | _Shard] = []  # in order; shards wait for all of them
    # A folder before what is below it, since a copy deletes what its address does not list.
    addresses = sorted(
        (text for item in given if remote.is_address(text := os.fspath(item))),
        key=lambda text: len(remote.shown(text)),
    )
    _refuse_one_place(addresses)
    copies = {address: _copied(address, place) for address in addresses}
    for item in given:
        text = os.fspath(item)
        path = Path(text)
        if remote.is_address(text):
            path = copies[text]
            text = remote.shown(text)  # from here on no secret can get into tables or messages
        if is_missing(path):
            raise VtccError(f"{path}: no such file or directory")
        if path.is_dir():
            inside = _shards_in(path)
            found += [(os.path.join(text, name), path / name, path) for name in inside]  # noqa: PTH118
            if not inside:
                found.append(Part(text, text, path, path, folder=path))
        else:
            if not (any_name or _is_input(path.name)):
                raise VtccError(f"{path}: not an input by its name; give {KINDS}")
            found.append(_of_file(text, path))
            is_table = isinstance(found[-1], Part) and path.suffix.lower() == shards.PARQUET
            if is_table and remote.is_address(os.fspath(item)):
                raise VtccError(f"{text}: {_LIST_AT_ADDRESS}")
    packed = [entry[1] for entry in found if isinstance(entry, tuple)]
    if packed and place is None:
        raise VtccError(f"{packed[0]}: unpack it first, and name the folder")
    if packed:
        assert place is not None
        above = os.path.commonpath([file.parent.resolve() for file in packed])
        left_out: Counter[str] = Counter()
        for i, entry in enumerate(found):
            if isinstance(entry, tuple):
                text, file, folder = entry
                # By its whole path, so that no two are in each other's place.
                top = _inside(place, file.parent.resolve()) / file.name
                left_out += shards.unpacked(file, top)
                found[i] = Part(text, text, top, _inside(place, Path(above)), folder=folder)
        note(f"{several(len(packed), 'shards')} unpacked in {place}")
        left_out.pop("other files", None)  # labels and such, which are beside each image
        if left_out:
            note(f"left out {in_words(left_out)}")
    return [entry for entry in found if isinstance(entry, Part)]


def without_shard(place: Path, folders: Iterable[Path]) -> list[Path]:
    """Folders of images that were unpacked from shards which their folder no longer holds.

    Args:
        place: as of `parts`. folders: those of parts.
    """
    orphans = []
    for folder in {folder.resolve() for folder in folders}:
        top = _inside(place.resolve(), folder)
        for here, inside, files in os.walk(top):
            if shards.STAMP in files:
                inside.clear()
                if not os.path.lexists(folder / Path(here).relative_to(top)):
                    orphans.append(Path(here))
    return sorted(orphans)


def _is_input(name: str) -> bool:
    return name.lower().endswith((*images.suffixes(), LIST, *TABLES, *_SHARDS))


def shards_of(path: Path) -> list[Path]:
    """The archives and Parquet files with images that a path is, or a folder holds; else none.

    Raises:
        VtccError: when a list or table cannot be read.
    """
    if path.is_dir():
        return [path / name for name in _shards_in(path)]
    return [] if isinstance(_of_file(os.fspath(path), path), Part) else [path]


def _inside(place: Path, path: Path) -> Path:
    return place / path.relative_to(path.anchor)


def _refuse_one_place(addresses: Sequence[str]) -> None:
    """Refuses addresses that differ only in scheme, user or query: one copy would be the other's.

    The query is in no name, as it may hold secrets that change each time.
    """
    known: dict[str, str] = {}
    for address in addresses:
        shown = remote.shown(address)
        if known.setdefault(shown.partition("://")[2], address) != address:
            raise VtccError(
                f"{shown}: given twice, with another query, user or scheme, and copies would lie "
                "in one place; copy them under names of their own, and name the folder"
            )


def _copied(address: str, place: Path | None) -> Path:
    shown = remote.shown(address)
    if place is None:
        raise VtccError(f"{shown}: copy it first, and name the folder")
    if shown.lower().endswith((LIST, ".csv")):
        raise VtccError(f"{shown}: {_LIST_AT_ADDRESS}")
    return remote.copied(address, place, _SHARDS)


def _shards_in(folder: Path) -> list[str]:
    """The archives and Parquet files of a folder without images; of one with images none."""
    if next(walk(folder), None) is not None:
        return []
    files = (entry.path for entry in walk(folder, images_only=False) if not entry.error)
    return sorted(path for path in files if path.lower().endswith(_SHARDS))


def _of_file(text: str, path: Path) -> Part | _Shard:
    """What a file, a list or a table is; of a shard, which is not unpacked yet, its names."""
    suffix, shown = path.suffix.lower(), os.path.dirname(text)  # noqa: PTH120
    names = [path.name]
    columns: dict[str, list[Any]] = {}
    if suffix in (LIST, *TABLES) and not path.is_file():  # reading would wait for its writer
        raise VtccError(f"{path}: a pipe or a device, not a list or table; name a file")
    if suffix == LIST:
        names = _checked(path, _lines(path))
    elif suffix == ".csv":
        names, columns = _of_csv(path)
    elif suffix == shards.PARQUET:
        with shards.table(path) as table:
            if shards.image_column(table.schema_arrow) is not None:
                return text, path, None
            columns = _columns(path, table)
        names = _checked(path, columns.pop(COLUMN))
    elif path.name.lower().endswith(shards.ARCHIVES):
        return text, path, None
    return Part(text, shown, path.parent, path.parent, names, columns)


def _lines(file: Path) -> list[str]:
    return [line for line in (line.strip() for line in _text(file).split("\n")) if line]


def _of_csv(file: Path) -> tuple[list[str], dict[str, list[Any]]]:
    try:
        header, *rows = list(csv.reader(io.StringIO(_text(file), newline=""))) or [[]]
    except (csv.Error, ValueError) as error:
        raise VtccError(f"{file}: not a table ({in_one_line(error)})") from None
    rows = [row for row in rows if row]
    _check_header(file, header)
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise VtccError(
                f"{file}: row {number} has {len(row)} cells, the header {len(header)}; write them "
                "alike, with quotes where a cell has commas"
            )
    columns: dict[str, list[Any]] = {
        name: [row[i] for row in rows] for i, name in enumerate(header)
    }
    return _checked(file, [path_of(cell) for cell in columns.pop(COLUMN)]), columns


def _columns(file: Path, table: Any) -> dict[str, list[Any]]:
    """Of a Parquet file: numbers and truth values as they are, all else as text."""
    from pyarrow import types

    schema = table.schema_arrow
    _check_header(file, schema.names)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    held, most = 0, bounds.expanded_bytes(file.stat().st_size)
    # In small batches: a dictionary in the file may repeat one long text in every row.
    for batch in table.iter_batches(batch_size=_ROWS):
        for name, column in zip(schema.names, batch.columns, strict=True):
            kind, values = schema.field(name).type, column.to_pylist()
            plain = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
            if name == COLUMN or not plain:
                values = [
                    str(v, "utf-8") if isinstance(v, bytes) else None if v is None else str(v)
                    for v in values
                ]
                held += sum(len(value) for value in values if value is not None)
            held += bounds.CELL_BYTES * len(values)
            if held > most:
                raise VtccError(
                    f"{file}: a table of more than {most >> 20} MiB, {bounds.ARCHIVE_RATIO} times "
                    "the size of its file, as no list of images is; if you trust it, save it as "
                    ".csv"
                )
            columns[name] += values
    return columns


def _check_header(file: Path, header: Sequence[str]) -> None:
    if COLUMN not in header:
        raise VtccError(
            f"{file}: no column {COLUMN!r}, which says where each image is (found: "
            f"{', '.join(header)[:200] or 'nothing'})" + _OF_FILE * ("file" in header)
        )
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise VtccError(f"{file}: two columns are called {twice[0]!r}; rename one")


def _text(file: Path) -> str:
    try:
        return regular(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise VtccError(f"{file}: line {line} is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise VtccError(f"{file}: cannot be read ({error.strerror or error})") from None


def _checked(file: Path, names: Sequence[str | None]) -> list[str]:
    """Paths of a list or table, relative to its folder; none outside it, none twice."""
    top = file.parent
    known: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        path = os.path.normpath(name or ".")
        for above in (top.absolute(), top.resolve()) if Path(path).is_absolute() else ():
            path = os.path.relpath(path, above) if Path(path).is_relative_to(above) else path
        outside = Path(path).is_absolute() or path.split("/")[0] in ("..", ".")
        if outside or "\0" in path or remote.is_address(name or ""):
            shown = remote.bare(name) if name and remote.is_address(name) else name
            raise VtccError(
                f"{file}: image {number} is {shown!r}; paths lead to files in the folder of the "
                f"list, {top.absolute()}: put the list above the images"
            )
        if path in known:
            raise VtccError(
                f"{file}: image {number}, {path!r}, is image {known[path]} as well; take one out"
            )
        known[path] = number
    if not known:
        raise VtccError(f"{file}: names no image; write a path a line, or a row")
    return list(known)
