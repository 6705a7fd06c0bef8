"""What `vtcc cluster`, `refine` and `add` leave: tables, names of copies, the embedding."""

import contextlib
import heapq
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vtcc import zip_file
from vtcc.errors import VtccError
from vtcc.grouping import assignments, columns
from vtcc.grouping.clusters import Applied, Clusters
from vtcc.grouping.rest import SHARD, Rest
from vtcc.progress import note

EMBEDDING = "embedding.npz"
JSON_FILES = 100_000  # above it no JSON table is written: CSV and Parquet are read a part at a time
LONGEST_NAME = 200  # bytes of a file name; file systems take 255, and some add an ending
LONGEST_SUFFIX = 10  # characters of a file's suffix; with bytes of four it fits the name as well
_SHAPES = {
    "files": "bytes N", "h": "float N d", "p": "float N K", "map": "float N 2", "tile": "int N",
    "first": "int N", "looks": "float N 6", "base": "int N", "known": "bool N",
    "sketches": "float N 8 9", "norm": "float N",
}  # fmt: skip


@dataclass(frozen=True)
class Assigned:
    """Which image is in which cluster, in the order of the files.

    Attributes:
        files: M names relative to the folder.
        row: name -> row of `applied`, for the N that could be read.
        applied: what the clusters say of the N images.
        errors: name -> why it could not be read.
        rest: those of a large collection that are not among these M, as `clusters` have them.
    """

    files: Sequence[str]
    row: Mapping[str, int]
    applied: Applied
    errors: Mapping[str, str]
    rest: Rest | None = None
    clusters: Clusters | None = None

    def rows(self) -> Iterator[assignments.Row]:
        """One per file; sorted by name where both parts are."""
        ours = (
            assignments.Row.of(file, self.applied, self.row[file])
            if file in self.row
            else assignments.Row(file, None, None, self.errors.get(file, ""))
            for file in self.files
        )
        if self.rest is None or self.clusters is None:
            return ours
        return heapq.merge(ours, self.rest.rows(self.clusters), key=lambda row: row.file)


def tables(directory: Path, assigned: Assigned, *, files: int) -> None:
    """Writes assignments.csv, .parquet and .json with the same rows, and columns that lie there.

    Args:
        files: rows there will be; of more than `JSON_FILES` there is no .json.
    """
    values, kinds = columns.read(directory)
    suffixes = [s for s in assignments.SUFFIXES if s != ".json" or files <= JSON_FILES]
    for suffix in assignments.SUFFIXES:
        (directory / f"assignments{suffix}").unlink(missing_ok=True)  # of before more were added
    named = assignments.named(len(assigned.applied.groups))
    with contextlib.ExitStack() as open_tables:
        written = [
            open_tables.enter_context(
                assignments.writing(directory / f"assignments{suffix}", named, kinds)
            )
            for suffix in suffixes
        ]
        rows = (
            replace(row, more={name: of.get(row.file) for name, of in values.items()})
            if values
            else row
            for row in assigned.rows()
        )
        while part := list(itertools.islice(rows, SHARD)):
            for table in written:
                table.write(part)
    if len(suffixes) < len(assignments.SUFFIXES):
        note(f"{files} rows: tables as CSV and Parquet, none as JSON")


def flat(name: str) -> str:
    """A file's name with its folders in it; those above the images' folder would hide it."""
    return name.replace("../", "").replace("/", "__")


def unused_name(name: str, taken: set[str]) -> str:
    """A file name that is not yet taken, for file systems that ignore case as well.

    Args:
        name: that is wanted; shortened where a file system could not hold it.
        taken: casefolded; the result is added.
    """
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > LONGEST_SUFFIX:  # of no kind of file, but part of the name
        stem, dot, suffix = name, "", ""
    while len(f"{stem}{dot}{suffix}".encode()) > LONGEST_NAME:
        stem = stem[1:]  # the end of a path tells more
    unused, number = f"{stem}{dot}{suffix}", 1
    while unused.casefold() in taken:
        number += 1
        unused = f"{stem} ({number}){dot}{suffix}"
    taken.add(unused.casefold())
    return unused


def folder_names(names: Mapping[int, str]) -> dict[int, str]:
    """Names that any file system takes, no two alike."""
    taken: set[str] = set()
    folders: dict[int, str] = {}
    for k, name in names.items():
        plain = re.sub(r"[^\w .()-]+", "_", name).strip(" .")[:80] or f"cluster {k}"
        while len(plain.encode()) > LONGEST_NAME:
            plain = plain[:-1]
        while plain.casefold() in taken:
            plain = f"{plain} ({k})"
        taken.add(plain.casefold())
        folders[k] = plain
    return folders


@dataclass(frozen=True)
class Embedding:
    """What `vtcc refine` and `vtcc add` work from: N images as the model and the page have them.

    Attributes:
        h: (N, d) float32 embedding. p: (N, K) float32 probabilities of the model's head.
        base: (N,) int32, the head's cluster of each image; None in results of vtcc 0.1.0 before
            it was kept, whose `p` is rounded to half precision.
        map: (N, 2) float32. tile: (N,) places in the page's sprites.
        first: (N,) the first of the images that look alike. looks: (N, 6) of `describe.looks`.
        paths: N names.
        known: (N,) bool, whether the clusters were made of the image, or have been confirmed to
            hold it; False for those that were added since.
        sketches: (N, 8, 9) float32 of `duplicates.sketch`; None in results of before they were
            kept.
    """

    h: np.ndarray
    p: np.ndarray
    base: np.ndarray | None
    map: np.ndarray
    tile: np.ndarray
    first: np.ndarray
    looks: np.ndarray
    paths: list[str]
    known: np.ndarray
    sketches: np.ndarray | None = None

    def save(self, directory: Path) -> None:
        """Writes `embedding.npz`, which holds plain arrays only."""
        base = self.p.argmax(axis=1) if self.base is None else self.base
        sketches: dict[str, Any] = {} if self.sketches is None else {"sketches": self.sketches}
        with (directory / EMBEDDING).open("wb") as file:
            np.savez_compressed(
                file,
                h=self.h.astype(np.float32),
                p=self.p.astype(np.float32),
                base=base.astype(np.int32),
                map=self.map,
                tile=self.tile,
                first=self.first,
                looks=self.looks.astype(np.float16),
                files=np.array([path.encode() for path in self.paths], dtype=bytes),
                known=self.known,
                **sketches,
            )

    @classmethod
    def load(cls, directory: Path) -> "Embedding":
        """Reads it back; nothing in it is run.

        Raises:
            VtccError: when it is damaged.
        """
        optional = ("base", "known", "sketches", "norm")
        try:
            saved = zip_file.arrays(directory / EMBEDDING, _SHAPES, optional=optional)
            paths = [bytes(name).decode() for name in saved["files"]]
        except ValueError as error:
            raise VtccError(
                f"{directory / EMBEDDING}: damaged ({error}); run `vtcc cluster` again"
            ) from None
        h = saved["h"].astype(np.float32)
        if "norm" in saved:  # of before `vtcc add`: unit rows and their lengths
            h *= saved["norm"][:, None]
        return cls(
            h=h,
            p=saved["p"].astype(np.float32),
            base=saved.get("base"),
            map=saved["map"],
            tile=saved["tile"],
            first=saved["first"],
            looks=saved["looks"].astype(np.float32),
            paths=paths,
            known=saved.get("known", np.ones(len(h), bool)),
            sketches=saved.get("sketches"),
        )
