"""`vtcc refine`: the edits made in the page, applied to tables, page and model."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.errors import VtccError
from vtcc.grouping import summary as summaries
from vtcc.grouping.clusters import Applied, Clusters
from vtcc.progress import note


def run(results: Path, edits: Path, out: Path | None = None) -> dict[str, Any]:
    """Applies edits to the results of `vtcc cluster`.

    Args:
        results: folder of the results. edits: the file exported from its page.
        out: a new folder for the refined results; None: they take the place of the old ones.

    Returns:
        As `vtcc.grouping.summary.headline`.

    Raises:
        VtccError: on a user's mistake, and nothing has changed then; or when the folders by
            cluster could not be written, with all other results in their place.
    """
    summary = summaries.read(results)
    from vtcc.atomic import atomic_directory
    from vtcc.grouping import attention, intake, outputs, result, trust
    from vtcc.grouping import edits as changes
    from vtcc.pages.clusters import SPRITES
    from vtcc.pages.thumbnails import sprite_reader

    if out is not None and out.exists():
        raise VtccError(f"--out: {out} is there already; name a new folder")
    model = results / result.MODEL
    clusters = Clusters.load(model)
    if clusters is None:
        raise VtccError(f"{model}: without clusters.json; run `vtcc cluster` again")
    wanted = changes.read(edits, result.digest(model))
    try:
        embedding = outputs.Embedding.load(results)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise VtccError(
            f"{results / outputs.EMBEDDING}: damaged ({error}); run `vtcc cluster` again"
        ) from None
    h, p, base = embedding.h, embedding.p, embedding.base
    rows = {path: i for i, path in enumerate(embedding.paths)}
    moved = {f: int(k) for f, k in summary.get("moved", {}).items()}
    before = _with(clusters.apply(p, h, base), moved, rows)
    state = changes.State(clusters, rows, h, before, moved)
    state = changes.apply(state, wanted, seed=int(summary["seed"]))
    applied = state.clusters.apply(p, h, base)
    cluster = _with(applied, state.moved, rows)
    distance = state.clusters.distances(h, cluster)
    fence = np.array([state.clusters.fences.get(int(k), np.inf) for k in cluster])
    by_hand = cluster != applied.cluster
    applied = replace(
        applied,
        cluster=cluster,
        confidence=np.where(by_hand, 1.0, applied.confidence).astype(np.float32),
        second=np.where(applied.second == cluster, applied.cluster, applied.second),
        distance=distance,
        outlier=distance > fence,
    )
    summary["moved"] = state.moved
    measured = trust.after_edits(summary["trust"], state.clusters, len(embedding.paths))
    summary["trust"] = measured.to_dict()
    target = out or results
    with atomic_directory(target) as building:
        shutil.copytree(
            results, building, dirs_exist_ok=True, ignore=_but(results / "folders"), symlinks=True
        )
        state.clusters.write(building / result.MODEL)
        assigned = result.finish(
            building,
            summary,
            embedding=embedding,
            applied=applied,
            clusters=state.clusters,
            read=sprite_reader(results / SPRITES, embedding.tile, summary["thumb"]),
            attention_of=_looks(model, attention.of),
            final=target.absolute(),
        )
    note(f"{len(wanted)} edits applied: {len(state.clusters.names)} clusters, {target}")
    if mode := summary.get("folders"):
        files = intake.located(Path(summary["root"]), summary["files"])
        outputs.write_folders(target, assigned, files, copies=mode == "copies")
    return summaries.headline(target)


def _with(applied: Applied, moved: dict[str, int], rows: dict[str, int]) -> np.ndarray:
    """(N,) ids, those of files moved by hand as they were put."""
    cluster = applied.cluster.copy()
    for file, k in moved.items():
        cluster[rows[file]] = k
    return cluster


def _but(left_out: Path) -> Callable[[str, list[str]], list[str]]:
    def ignored(directory: str, names: list[str]) -> list[str]:
        return [left_out.name] if Path(directory) == left_out.parent else []

    return ignored


def _looks(
    model: Path, of: Callable[..., np.ndarray | None]
) -> Callable[[np.ndarray], np.ndarray | None]:
    """Attention over tiles, where these are what the model reads."""
    from vtcc.engine import predict

    predictor = predict.load(model, "cpu")

    def looked(images: np.ndarray) -> np.ndarray | None:
        if images.shape[1] != predictor.cache_size or predictor.channels not in (1, 3):
            return None
        if predictor.channels == 1:
            images = images[..., :1]
        return of(predictor, images)

    return looked
