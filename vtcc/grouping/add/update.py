"""The results as they are with the files that changed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc.analysis.features import row_blocks, unit_rows
from vtcc.data import duplicates, exif, remote
from vtcc.data.inputs import title_of
from vtcc.errors import VtccError
from vtcc.grouping import assignments, columns, lookalikes, outputs, reopen
from vtcc.grouping import summary as summaries
from vtcc.grouping.add import away, novelty, reading
from vtcc.grouping.add.changes import Changes
from vtcc.grouping.add.drift import Drift, measure
from vtcc.grouping.clusters import EXCLUDED, UNCLUSTERED, Applied
from vtcc.pages.clusters import SPRITES
from vtcc.pages.thumbnails import append_sprites, sprite_reader
from vtcc.progress import note

if TYPE_CHECKING:
    from vtcc.engine.predict import Predictor

TABLE = "assignments.parquet"  # of the three the one without rounding
BESIDE = 3  # nearest images, in whose middle an added one is placed on the page's map
TILES = 256  # pictures that are drawn from the sprites at a time


@dataclass(frozen=True)
class Updated:
    """What is to be written.

    Attributes:
        summary: of summary.json. embedding: of the N images, those that stay first.
        applied: what is in the table. images: that were read. tiles: in the sprites before them.
        drift: of the images that were read, made of `looked_at`.
    """

    summary: dict[str, Any]
    embedding: outputs.Embedding
    applied: Applied
    images: reading.Images
    tiles: int
    drift: Drift
    looked_at: dict[str, Any]


def updated(
    before: reopen.Opened, found: Changes, predictor: "Predictor", *, batch_size: int
) -> Updated:
    """Reads what is new or changed and puts it beside what stays.

    Memory: a few arrays of (N, d) float32 and of (N, K); all else in blocks of 64 MB
    (`analysis.features.row_blocks`) and of `TILES` pictures; pictures of the new ones on disk.

    Args:
        before: the results. found: what became of their files. predictor: their model.
        batch_size: images per forward pass.

    Raises:
        VtccError: when the results are damaged, or no image would be left.
    """
    old, side = before.embedding, int(before.summary["thumb"])
    rows = assignments.read(before.directory / TABLE, wanted=set(old.paths))
    table = {row.file: row for row in rows}
    if missing := [path for path in old.paths if path not in table]:
        raise VtccError(
            f"{before.directory / TABLE}: without {missing[0]!r}, which the embedding has; run "
            "`vtcc cluster` again"
        )
    images = reading.read(
        found.files, predictor, side=side, batch_size=batch_size, room=before.target.parent
    )
    left = set(found.gone) | set(found.changed)
    stays = np.array([path not in left for path in old.paths], bool)
    if not stays.any() and not images.names:
        if "collection" in before.summary:
            raise VtccError(
                "no image of the sample would be left, of which the clusters were made; run "
                "`vtcc cluster` again. The results stay as they are"
            )
        raise VtccError("no image would be left; the results stay as they are")
    tiles = int(before.summary.get("tiles", len(old.paths)))
    summary = _summary(before, found, images, stays)
    summary["moved"], summary["away"], held, back = away.settled(before, found, images.names)
    summary["held"] = sorted(held)
    known = away.still_known(before, images, back)
    sketches = _sketches(before, images, stays)
    embedding = _embedding(before, images, stays, tiles, sketches, known)
    applied = reopen.decided(before.clusters, embedding, summary["moved"], held)
    applied = _as_before(applied, [table[path] for path in old.paths if path not in left])
    now = (np.arange(len(embedding.paths)) >= stays.sum()) & ~embedding.known
    if not embedding.known.any():
        note(
            "no image is left as it was when the clusters were made, beside which new kinds could "
            "be told; run `vtcc cluster` again"
        )
    candidates = ~embedding.known & (applied.cluster != EXCLUDED)
    seen = novelty.find(
        embedding.h,
        embedding.known,
        candidates,
        applied.anyway,
        copies=embedding.first != np.arange(len(now)),
        seed=int(summary["seed"]),
    )
    summary["proposals"] = _proposals(before, embedding.paths, seen.groups, applied)
    looked_at = {
        "cluster": applied.cluster,
        "confidence": applied.confidence,
        # Of images beside a sample only the tables' own measure is known: both sides go by it then.
        "novel": applied.novel if "collection" in before.summary else seen.score > 1,
        "before": embedding.known,
        "now": now,
        "names": before.clusters.names,
        "grouped": {p["id"]: g for p, g in zip(summary["proposals"], seen.groups, strict=True)},
    }
    drift = measure(**looked_at)
    return Updated(summary, embedding, applied, images, tiles, drift, looked_at)


def with_assigned(after: Updated, assigned: Mapping[str, np.ndarray]) -> Updated:
    """The same with images in the drift that were assigned beside the sample.

    Args:
        assigned: `cluster`, `confidence` and `novel` (m,) of those just added.
    """
    m = len(assigned["cluster"])
    more = {**assigned, "before": np.zeros(m, bool), "now": np.ones(m, bool)}
    joined = {name: np.concatenate([after.looked_at[name], more[name]]) for name in more}
    return replace(after, drift=measure(**{**after.looked_at, **joined}))


def write(
    building: Path, before: reopen.Opened, found: Changes, after: Updated, predictor: "Predictor"
) -> outputs.Assigned:
    """Writes the results, with EXIF of what was read where they have it of other images.

    Args:
        building: of `reopen.rewriting`. before: the results. found: what became of all their files.
        predictor: their model.
    """
    asked = [name for name in (*exif.TAKEN, *exif.PLACE) if name in before.summary.get("exif", [])]
    said = exif.columns(found.files, asked)
    # What a changed file no longer says is not kept of the one before it.
    said = {column: dict.fromkeys(found.changed) | of for column, of in said.items()}
    columns.write(building, found.columns | said, gone=set(found.gone))
    if "collection" in after.summary:
        assert after.embedding.sketches is not None
        alike = lookalikes.write(building, after.embedding.paths, after.embedding.sketches)
        after.summary["collection"] |= {"alike": alike}
    append_sprites(building / SPRITES, after.images.tiles, after.tiles, after.summary["thumb"])
    return reopen.finish(
        building,
        before,
        after.summary,
        embedding=after.embedding,
        applied=after.applied,
        clusters=before.clusters,
        predictor=predictor,
    )


def _summary(
    before: reopen.Opened, found: Changes, images: reading.Images, stays: np.ndarray
) -> dict[str, Any]:
    """Files, their stamps, errors and labels, as they are now."""
    old, gone = before.summary, set(found.gone)
    left = gone | set(found.to_read)
    summary = dict(old)
    known = summaries.stamps_of(old)
    stamps = {n: seen for n, seen in known.items() if n not in gone} | found.stamps
    summary["files"], summary["stamps"] = list(stamps), list(stamps.values())
    errors = {name: why for name, why in old["errors"].items() if name not in left}
    summary["root"], summary["errors"] = str(found.root), errors | images.errors
    if found.moved and "inputs" in old:  # what the next addition by schedule looks through
        was = Path(old["root"])
        summary["inputs"] = [_moved(given, was, found.root) for given in old["inputs"]]
        first, *others = summary["inputs"]
        if old["title"] == title_of(old["inputs"][0], others):
            summary["title"] = title_of(first, others)
    summary["tiles"] = int(old.get("tiles", len(stays))) + len(images.names)
    if old["labels"] is not None:
        kept = [label for label, stay in zip(old["labels"], stays, strict=True) if stay]
        fresh = [_sub_folder(name) for name in images.names]
        classes = list(old["classes"])
        classes += sorted(set(fresh) - {"", *classes})
        number = {name: i for i, name in enumerate(classes)} | {"": -1}
        summary["labels"] = kept + [number[name] for name in fresh]
        summary["classes"] = classes
    return summary


def _sub_folder(name: str) -> str:
    """The class of an image, as `vtcc cluster` has it; empty outside the folder of the results."""
    first, below, _ = name.partition("/")
    return first if below and first != ".." else ""


def _moved(given: str, before: Path, root: Path) -> str:
    """An input of the results after their folder of images went from `before` to `root`."""
    path = Path(given).resolve()
    if remote.is_address(given) or not path.is_relative_to(before):
        return given
    return str(root / path.relative_to(before))


def _sketches(before: reopen.Opened, images: reading.Images, stays: np.ndarray) -> np.ndarray:
    """Of those that stay, then of those that were read.

    Where older results have none, those that stay are sketched by their pictures in the page.
    """
    old = before.embedding
    if old.sketches is not None:
        return np.concatenate([old.sketches[stays], images.sketches])
    read = sprite_reader(before.directory / SPRITES, old.tile, before.summary["thumb"])
    sketches = np.empty((int(stays.sum()), *images.sketches.shape[1:]), np.float32)
    rows = np.flatnonzero(stays)
    by_file = np.argsort(old.tile[rows], kind="stable")
    for start in range(0, len(rows), TILES):
        some = by_file[start : start + TILES]
        sketches[some] = reading.sketches(read(rows[some]))
    return np.concatenate([sketches, images.sketches])


def _embedding(
    before: reopen.Opened,
    images: reading.Images,
    stays: np.ndarray,
    tiles: int,
    sketches: np.ndarray,
    known: np.ndarray,
) -> outputs.Embedding:
    """Those that stay as they are, then those that were read.

    Args:
        known: (n,) of those that were read.
    """
    old, n = before.embedding, len(images.names)
    base = old.p.argmax(axis=1) if old.base is None else old.base
    h = np.concatenate([old.h[stays], images.h])
    earlier = duplicates.nearest_earlier(sketches, 2)
    return outputs.Embedding(
        h=h,
        p=np.concatenate([old.p[stays], images.p]),
        base=np.concatenate([base[stays], images.p.argmax(axis=1)]).astype(np.int32),
        map=_placed(old.map[stays], unit_rows(h)),
        tile=np.concatenate([old.tile[stays], np.arange(tiles, tiles + n)]),
        first=_first(old.first, stays, earlier),
        looks=np.concatenate([old.looks[stays], images.looks]).astype(np.float32),
        paths=[p for p, stay in zip(old.paths, stays, strict=True) if stay] + images.names,
        known=np.concatenate([old.known[stays], known]),
        sketches=sketches,
    )


def _placed(places: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """(N, 2) places on the map: those there are, and the others in the middle of their nearest.

    Args:
        places: (n, 2) of the first n images. unit: (N, d) unit rows of all.
    """
    n = len(places)
    if not n:
        return np.zeros((len(unit), 2), np.float32)
    found = [places.astype(np.float32)]
    k = min(BESIDE, n)
    for part in row_blocks(len(unit) - n, 12 * n):
        near = unit[n:][part] @ unit[:n].T
        nearest = np.argpartition(near, -k, axis=1)[:, -k:]
        found.append(places[nearest].mean(axis=1).astype(np.float32))
    return np.concatenate(found)


def _first(first: np.ndarray, stays: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """(N,) the first of the images that look alike, by the rows there are now.

    Args:
        first: of the images before. stays: which of them stay.
        earlier: (N,) of `duplicates.nearest_earlier`, of all images there are now.
    """
    rows = np.flatnonzero(stays)
    old = first[rows]
    groups: dict[int, int] = {}
    kept = [groups.setdefault(int(group), row) for row, group in enumerate(old)]
    joined = earlier.copy()
    joined[: len(rows)] = np.where(np.array(kept, int) == np.arange(len(rows)), -1, kept)
    return duplicates.groups(joined)


def _as_before(applied: Applied, rows: list[assignments.Row]) -> Applied:
    """With the first images as the table has them, to the last bit."""
    n = len(rows)

    def put(values: np.ndarray, before: list[Any]) -> np.ndarray:
        values = values.copy()
        values[:n] = before
        return values

    nan = float("nan")
    return replace(
        applied,
        cluster=put(applied.cluster, [_id(row) for row in rows]),
        confidence=put(applied.confidence, [row.confidence for row in rows]),
        second=put(applied.second, [_or(row.second, -1) for row in rows]),
        distance=put(applied.distance, [_or(row.distance, nan) for row in rows]),
        outlier=put(applied.outlier, [row.outlier for row in rows]),
        novelty=put(applied.novelty, [row.novelty for row in rows]),
        novel=put(applied.novel, [row.novel for row in rows]),
    )


def _id(row: assignments.Row) -> int:
    if row.cluster is None:
        return UNCLUSTERED if row.nowhere else EXCLUDED
    return row.cluster


def _or(value: Any, other: Any) -> Any:
    return other if value is None else value


def _proposals(
    before: reopen.Opened, paths: list[str], groups: list[np.ndarray], applied: Applied
) -> list[dict[str, Any]]:
    """The groups with a number each: that of an earlier proposal which is now part of it."""
    earlier = {p["id"]: set(p["files"]) for p in before.summary.get("proposals", [])}
    used = [*before.clusters.names, *summaries.once_proposed(before.summary)]
    following = max(*used, int(applied.cluster.max()), -1) + 1
    proposals = []
    for rows in groups:
        files = [paths[row] for row in rows]
        same = [k for k, those in earlier.items() if 2 * len(those & set(files)) > len(those)]
        if same:
            k = max(same, key=lambda k: len(earlier[k] & set(files)))
            earlier.pop(k)
        if not same or k in before.clusters.names:  # as older results may have it
            k, following = following, following + 1
        now_in = reopen.now_in(applied.cluster[rows])
        proposals.append({"id": k, "name": f"cluster {k}", "files": files, "now_in": now_in})
    return proposals
