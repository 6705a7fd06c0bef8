"""Results read for `vtcc export --to`: table, map, columns and files of each readable image."""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.data import exif
from vtcc.errors import VtccError
from vtcc.export.dataset import RESERVED, Dataset, Image
from vtcc.grouping import assignments, columns, intake, outputs, reopen
from vtcc.grouping.clusters import NO_CLUSTER
from vtcc.pages.clusters import SPRITES
from vtcc.pages.thumbnails import sprite_reader
from vtcc.progress import several

TABLE = "assignments.parquet"  # of the tables the one without rounding
_SHOWN = 3  # files that are gone, by name


def read(before: reopen.Opened, root: Path | None, *, place: bool, files: bool = True) -> Dataset:
    """What opened results say of each image that could be read.

    Args:
        before: the results. root: where their folder of images is now, if it was moved.
        place: with the columns that say where pictures were taken.
        files: whether the images have to be there.

    Raises:
        VtccError: when images are not where they were, or the results are damaged.
    """
    summary, embedding = before.summary, before.embedding
    table = assignments.read(before.directory / TABLE)
    rows = [row for row in table if not row.error]
    number = {name: i for i, name in enumerate(embedding.paths)}
    if missing := number.keys() - {row.file for row in rows}:
        raise VtccError(
            f"{before.directory / TABLE}: without {min(missing)!r}, which the embedding has; run "
            "`vtcc cluster` again"
        )
    home = Path(summary["root"]) if root is None else intake.existing(root)
    at = intake.located(home, [row.file for row in rows])
    if files:
        _refuse_gone(home, at)
    from vtcc.grouping import result  # brings torch, which takes seconds

    names = _names(before.clusters.names)
    ours = [c for c in assignments.columns_of(before.clusters) if c not in ("file", "error")]
    more, kinds = columns.read(before.directory)
    if not place:
        more = {name: of for name, of in more.items() if name.casefold() not in exif.PLACE}
    called = _free(more, {*ours, *RESERVED})
    taken: set[str] = set()
    images = []
    for row in rows:
        i, name = number.get(row.file), row.file
        label = row.name if row.cluster is None else names[row.cluster]
        row = replace(row, name=label)
        values: dict[str, Any] = {column: row.cell(column) for column in ours}
        values |= {"x": None, "y": None} if i is None else _placed(embedding.map[i])
        values |= {called[column]: of.get(name) for column, of in more.items()}
        media = _media(name, taken)
        confidence = row.confidence or 0.0
        images.append(Image(name, at[name], media, row.cluster, label, confidence, values, i))
    return Dataset(
        images=images,
        root=home,
        clusters=names,
        kinds=assignments.arrow_types((*ours, "x", "y")) | {called[n]: kinds[n] for n in more},
        model=result.digest(before.model),
        verdict=summary["trust"]["verdict"],
        edits=len(before.clusters.edits),
        unreadable=len(table) - len(rows),
        embedding=embedding.h,
        tiles=sprite_reader(before.directory / SPRITES, embedding.tile, summary["thumb"]),
    )


def _placed(spot: np.ndarray) -> dict[str, float]:
    return {"x": float(spot[0]), "y": float(spot[1])}


def _refuse_gone(home: Path, at: Mapping[str, Path]) -> None:
    gone = [name for name, file in at.items() if not file.is_file()]
    if gone:
        some = ", ".join(map(repr, gone[:_SHOWN])) + (", ..." if len(gone) > _SHOWN else "")
        raise VtccError(
            f"{home}: without {len(gone)} of its {several(len(at), 'images')}: {some}; if the "
            "folder was moved, say where it is: --root FOLDER; what is gone, `vtcc add` takes out"
        )


def _names(names: Mapping[int, str]) -> dict[int, str]:
    """Names of clusters, no two alike and none that of an image without a cluster."""
    unlike = {name.casefold() for name in NO_CLUSTER.values()}
    given: dict[int, str] = {}
    for k, name in sorted(names.items()):
        own = name.strip() or f"cluster {k}"
        while own.casefold() in unlike:
            own = f"{own} ({k})"
        unlike.add(own.casefold())
        given[k] = own
    return given


def _free(more: Iterable[str], taken: AbstractSet[str]) -> dict[str, str]:
    """Column -> how it is called where something else is called so; DuckDB ignores case.

    Args:
        taken: names of our own and of the formats.
    """
    unlike = set(taken)
    called: dict[str, str] = {}
    for name in sorted(more, key=lambda name: name.casefold() in taken):
        own = name or "column"
        while own.casefold() in unlike:
            own += "_"
        unlike.add(own.casefold())
        called[name] = own
    return called


def _media(name: str, taken: set[str]) -> str:
    """A file name that any file system and reader takes, with the folders of the image in it.

    Args:
        taken: stems that are; the new one is added.
    """
    flat = re.sub(r"[^\w .()+=,@%-]", "_", outputs.flat(name)).lstrip(" .")
    stem, dot, suffix = flat.rpartition(".")
    if not dot or len(suffix) > outputs.LONGEST_SUFFIX:
        stem, dot, suffix = flat.replace(".", "_"), "", ""
    return outputs.unused_name(stem or "image", taken) + dot + suffix
