"""What edits change, and the checks that they share."""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vtcc.analysis.features import unit_rows
from vtcc.grouping.clusters import Clusters
from vtcc.progress import note

LONGEST = 100  # characters of a name
# What a name may not hold, as clusters.js has it too: control characters, half characters and ends
# of lines, and what turns the direction of the text around it. What joins emoji and letters may be.
REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})
TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass
class State:
    """What edits change.

    Attributes:
        clusters: of the model. files: name -> row. h: (N, d) embedding.
        cluster: (N,) ids as they stand, negative for none. base: (N,) the head's clusters.
        moved: file -> id, for those that stay where they are, whatever the model says; away: the
            same of files that are away. held: those of both that nobody named.
        known: (N,) bool, whether the clusters are made of the image; None: all are.
        proposed: id -> files of the added images that may be a cluster.
        once: ids that were proposed at any time. altered: files that have gone or changed in an
            addition. left_out: those that have gone and that these edits name.
        unmade: ids of clusters that edits would have made, and had no images for. instead: id of
            such a cluster -> the one that a merge into it was made into.
        next: id of the next new cluster, above all that these edits ever knew, proposals included.
        unseen: ids of clusters that the edits split by k-means: nobody has seen yet which images
            are in them. seed: of that k-means.
    """

    clusters: Clusters
    files: dict[str, int]
    h: np.ndarray
    cluster: np.ndarray
    moved: dict[str, int]
    away: dict[str, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    base: np.ndarray | None = None
    known: np.ndarray | None = None
    proposed: Mapping[int, Sequence[str]] = field(default_factory=dict)
    once: frozenset[int] = frozenset()
    altered: frozenset[str] = frozenset()
    left_out: set[str] = field(default_factory=set)
    unmade: set[int] = field(default_factory=set)
    instead: dict[int, int] = field(default_factory=dict)
    next: int = 0
    unseen: frozenset[int] = frozenset()
    seed: int = 0

    @property
    def unit(self) -> np.ndarray:
        """(N, d) float32 rows of length 1."""
        return unit_rows(self.h.astype(np.float32))


def put(state: State, rows: np.ndarray) -> None:
    """Images that people named stay in the clusters they are in now."""
    here = _now(state, rows)
    state.moved |= here
    state.held -= here.keys()


def hold(state: State, rows: np.ndarray) -> None:
    """So do images that nobody named and that the model would have elsewhere."""
    here = _now(state, rows)
    state.held |= here.keys() - state.moved.keys()
    state.moved |= here


def _now(state: State, rows: np.ndarray) -> dict[str, int]:
    names = {row: file for file, row in state.files.items()}
    return {names[row]: int(state.cluster[row]) for row in rows.tolist()}


class Refused(Exception):  # noqa: N818 - becomes a VtccError with the edit's number
    """An edit that is not possible."""


class NotMade(Exception):  # noqa: N818 - as above; the others go on
    """An edit of a cluster that there are no images for; its args: ids it would have made."""


def as_json(value: Any, most: int = 120) -> str:
    """A value of `edits.json` for a message: as the file has it, in one line, at most so long."""
    text = json.dumps(value, ensure_ascii=False)
    plain = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def known_id(state: State, k: Any) -> int:
    """The id of a cluster that an edit names, or of the one that stands for it.

    Raises:
        NotMade: when an edit before would have made it. Refused: when there is none.
    """
    if not_made(state, k):
        raise NotMade
    if type(k) is int and k not in state.clusters.names:
        k = state.instead.get(k, k)
    if not isinstance(k, int) or isinstance(k, bool) or k not in state.clusters.names:
        raise Refused(f"there is no cluster {as_json(k)}; there are {state.clusters.ids}")
    return k


def not_made(state: State, k: Any) -> bool:
    """Whether an edit before would have made the cluster, had no images, and none stands for it."""
    there = state.clusters.names.keys() | state.instead.keys()
    return type(k) is int and k in state.unmade - there


def numbered(thing: str, numbers: Sequence[int], most: int = 10) -> str:
    """Such as `edit 2, edit 5` for a message, at most so many."""
    named = [f"{thing} {number}" for number in numbers[:most]]
    return ", ".join([*named, *["..."] * (len(numbers) > most)])


def name_of(name: Any) -> str:
    """The name that an edit gives.

    Raises:
        Refused: when it is none.
    """
    if not isinstance(name, str) or len(name) > LONGEST:
        raise Refused(f"found the name {as_json(name)}; allowed: 1 to {LONGEST} characters")
    kinds, named = [unicodedata.category(c) for c in name], as_json(name)
    plain = "".join(" " if kind == "Zs" else c for c, kind in zip(name, kinds, strict=True))
    if not {*kinds} - {"Zs", "Cf"}:
        raise Refused(f"found the name {named}; allowed: 1 to {LONGEST} characters that show")
    for c, kind in zip(name, kinds, strict=True):
        if kind in REFUSED or c in TURNING:
            raise Refused(f"the name {named} holds characters that do not print (U+{ord(c):04X})")
    return plain.strip(" ")


def say_same_names(names: Mapping[int, str]) -> None:
    """Notes which clusters have one name: they may, as tables and exports tell them by numbers."""
    for name, count in Counter(names.values()).items():
        if count > 1:
            ids = ", ".join(str(k) for k in sorted(names) if names[k] == name)
            note(f"clusters {ids} are all called {as_json(name)}; merge them if they are one kind")


def listed(field: str, value: Any, of: str = "") -> list[Any]:
    """A list that an edit gives.

    Args:
        field: its name. of: what it is a list of, for the message.

    Raises:
        Refused: when it is none.
    """
    if not isinstance(value, list):
        raise Refused(f"found {field} {as_json(value)}; allowed: a list{of}")
    return value


def rows_of(state: State, files: Any) -> np.ndarray:
    """Rows of the files that an edit names; of those that have gone since, none.

    Raises:
        Refused: when it names none, or one that never was there.
    """
    if not listed("files", files):
        raise Refused("names no files")
    for file in files:
        if not isinstance(file, str):
            raise Refused(f"found the file {as_json(file)}; allowed: a text")
        if file not in state.files and file not in state.altered:
            raise Refused(f"no file {as_json(file)} here")
    state.left_out.update(file for file in files if file not in state.files)
    return np.array([state.files[file] for file in files if file in state.files], np.int64)


def renumbered(edit: Any, was: int, now: int) -> Any:
    """An edit with other numbers for the clusters that edits before it make.

    Args:
        was: from which on they were numbered. now: from which on they are.
    """

    def to(k: Any) -> Any:
        made = isinstance(k, int) and not isinstance(k, bool) and k >= was
        return k - was + now if made else k

    if was == now or not isinstance(edit, dict):
        return edit
    # The `into` of a split is a number of parts.
    fields = ("cluster", "to", *["into"] * (edit.get("do") == "merge"))
    edit = edit | {name: to(edit[name]) for name in fields if name in edit}
    if isinstance(edit.get("clusters"), list):
        edit["clusters"] = [to(k) for k in edit["clusters"]]
    return edit
