"""Images of a large collection beside its sample: what is known of them, in shards on the disk.

A shard is an uncompressed .npz of plain arrays that appears whole or not at all. It keeps what
edits and additions need (embedding and probabilities) beside what the clusters say, so that no
image has to be read again, and rows that nothing changes stay to the last bit.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vtcc import zip_file
from vtcc.atomic import atomic_file
from vtcc.errors import VtccError
from vtcc.grouping import levels
from vtcc.grouping.assignments import Row
from vtcc.grouping.clusters import Applied, Clusters

DIRECTORY = "rest"  # in the results
SHARD = 4096  # files: some megabytes on the disk, and what a kill loses at most
# Arrays of a shard, as of `zip_file.arrays`.
_TEXTS = dict.fromkeys(("files", "stamps", "errors"), "bytes M")
_ARRAYS = {"base": "int n", "h": "float n d", "p": "float n K", "sketches": "float n 8 9"}
_APPLIED = {
    **dict.fromkeys(("cluster", "second"), "int n"),
    **dict.fromkeys(("confidence", "distance", "novelty"), "float n"),
    **dict.fromkeys(("outlier", "novel"), "bool n"),
}


@dataclass(frozen=True)
class Shard:
    """M files, of which n could be read.

    Attributes:
        files: M names. stamps: M, as of `folder.stamp`. errors: M, empty where it could be read.
        h: (n, d) float32. p: (n, K) float32. base: (n,) int32, the head's clusters.
        sketches: (n, 8, 9) float32 of `duplicates.sketch`.
        applied: (n,) arrays of `Applied`, by name.
    """

    files: list[str]
    stamps: list[str]
    errors: list[str]
    h: np.ndarray
    p: np.ndarray
    base: np.ndarray
    sketches: np.ndarray
    applied: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        files: Sequence[str],
        stamps: Sequence[str],
        errors: Sequence[str],
        *,
        h: np.ndarray,
        p: np.ndarray,
        sketches: np.ndarray,
        applied: Applied,
    ) -> "Shard":
        """With the head's first choice as its cluster. Arguments as of the attributes."""
        return cls(
            list(files),
            list(stamps),
            list(errors),
            h,
            p,
            p.argmax(axis=1).astype(np.int32),
            sketches,
            {name: getattr(applied, name) for name in _APPLIED},
        )

    @property
    def readable(self) -> list[str]:
        """The n names that could be read."""
        return [f for f, error in zip(self.files, self.errors, strict=True) if not error]

    def decided(self, clusters: Clusters) -> "Shard":
        """The same images as other clusters have them."""
        applied = clusters.apply(self.p, self.h, self.base)
        return replace(self, applied={name: getattr(applied, name) for name in _APPLIED})

    def without(self, names: set[str]) -> "Shard":
        """Only the files that are not named."""
        stays = np.array([file not in names for file in self.files], bool)
        read = stays[[not error for error in self.errors]]

        def some(of: list[str]) -> list[str]:
            return [value for value, stay in zip(of, stays, strict=True) if stay]

        return Shard(
            some(self.files),
            some(self.stamps),
            some(self.errors),
            **{name: getattr(self, name)[read] for name in _ARRAYS},
            applied={name: values[read] for name, values in self.applied.items()},
        )

    def rows(self, clusters: Clusters) -> Iterator[Row]:
        """One per file, for the table.

        Args:
            clusters: for names and levels.
        """
        applied = Applied(
            **self.applied,
            names=clusters.names,
            shares=np.empty((len(self.base), 0), np.float32),
            groups=levels.of(clusters.tree),
        )
        i = 0
        for file, error in zip(self.files, self.errors, strict=True):
            if error:
                yield Row(file, None, None, error)
            else:
                yield Row.of(file, applied, i)
                i += 1

    def write(self, file: Path) -> None:
        """Writes it in one step."""
        with atomic_file(file) as building, building.open("wb") as out:
            arrays: dict[str, Any] = {name: _bytes(getattr(self, name)) for name in _TEXTS}
            arrays |= {name: getattr(self, name) for name in _ARRAYS}
            np.savez(out, **arrays | self.applied)

    @classmethod
    def read(cls, file: Path) -> "Shard":
        """Reads it back; nothing in it is run.

        Raises:
            VtccError: when it is damaged.
        """
        texts, saved = _saved(file, _TEXTS, _ARRAYS | _APPLIED)
        applied = {name: saved.pop(name) for name in _APPLIED}
        shard = cls(**texts, **saved, applied=applied)
        if len(shard.base) != len(shard.readable):
            raise VtccError(
                f"{file}: damaged (of {len(shard.base)} images, and it names "
                f"{len(shard.readable)}); run `vtcc cluster` again"
            )
        return shard


def _saved(
    file: Path, texts: Mapping[str, str], others: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        saved = zip_file.arrays(file, {**texts, **(others or {})})
        return {name: [bytes(text).decode() for text in saved.pop(name)] for name in texts}, saved
    except ValueError as error:
        raise VtccError(f"{file}: damaged ({error}); run `vtcc cluster` again") from None


def _bytes(texts: Sequence[str]) -> np.ndarray:
    return np.array([text.encode("utf-8", "backslashreplace") for text in texts], dtype=bytes)


@dataclass(frozen=True)
class Counts:
    """How many there are.

    Attributes:
        files: all of them. unreadable: of these, by name. clusters: id -> images; negative ids: in
            none.
    """

    files: int
    unreadable: frozenset[str]
    clusters: Counter[int]


@dataclass(frozen=True)
class Rest:
    """The shards of a directory, in order; of small results there are none."""

    directory: Path

    @classmethod
    def of(cls, results: Path) -> "Rest":
        """Of results, which may have none."""
        return cls(results / DIRECTORY)

    @property
    def places(self) -> list[Path]:
        """The files of the shards."""
        return sorted(self.directory.glob("[0-9]*.npz"))

    def place(self, number: int) -> Path:
        """Where a shard is, or will be."""
        return self.directory / f"{number:06d}.npz"

    def __iter__(self) -> Iterator[Shard]:
        return map(Shard.read, self.places)

    def total(self) -> int:
        """How many files they are of, by their names alone."""
        return sum(len(_saved(place, {"files": "bytes M"})[0]["files"]) for place in self.places)

    def stamps(self) -> dict[str, str]:
        """Name -> stamp of each file."""
        known: dict[str, str] = {}
        for shard in self:
            known |= zip(shard.files, shard.stamps, strict=True)
        return known

    def rows(self, clusters: Clusters) -> Iterator[Row]:
        """As `Shard.rows`, of all."""
        for shard in self:
            yield from shard.rows(clusters)

    def counts(self) -> Counts:
        """Counts, by reading each shard once."""
        files, unreadable = 0, set[str]()
        clusters: Counter[int] = Counter()
        for shard in self:
            files += len(shard.files)
            unreadable |= {f for f, why in zip(shard.files, shard.errors, strict=True) if why}
            ids, counted = np.unique(shard.applied["cluster"], return_counts=True)
            clusters.update(dict(zip(ids.tolist(), counted.tolist(), strict=True)))
        return Counts(files, frozenset(unreadable), clusters)

    def decide(self, clusters: Clusters) -> None:
        """Writes each shard again as other clusters have its images."""
        for place in self.places:
            Shard.read(place).decided(clusters).write(place)

    def drop(self, names: set[str]) -> None:
        """Takes files out; a shard that has none of them stays as it is."""
        for place in self.places if names else ():
            shard = Shard.read(place)
            if not names.isdisjoint(shard.files):
                shard.without(names).write(place)
