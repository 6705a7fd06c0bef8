"""The output folder of `vtcc cluster`, and the page, which `vtcc refine` writes again."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtcc import cards as page
from vtcc.atomic import write_text
from vtcc.cards import sprites
from vtcc.clusters import Applied, Clusters
from vtcc.folder import attention, describe, outputs
from vtcc.progress import note, report

MODEL = "model"


def write(run: Any, directory: Path) -> None:
    """Writes everything but what is in it already.

    Args:
        run: of `vtcc.stages.cluster`, judged. directory: empty; becomes the output folder.
    """
    from vtcc.engine import checkpoint, record
    from vtcc.folder.baselines import plane
    from vtcc.stages.cluster import params_text

    cache, applied = run.cache, run.applied
    N = len(cache.paths)
    checkpoint.save_model(directory / MODEL, run.model.model, run.model.info)
    run.clusters.write(directory / MODEL)
    params = run.main.params
    write_text(directory / "params.yaml", params_text(params, run.K))
    note("the page")
    unit = run.model.h / np.maximum(np.linalg.norm(run.model.h, axis=1, keepdims=True), 1e-12)
    place = sprites.order(applied.cluster, applied.confidence)
    facts = np.concatenate([describe.looks(cache.images[i : i + 1024]) for i in range(0, N, 1024)])
    thumb = sprites.write(
        directory / "report",
        lambda rows: cache.images[rows],
        place,
        lambda done, total: report("page", done, total),
    )
    flat = on_plane(plane, unit, run.options.seed)
    outputs.save_embedding(
        directory,
        h=unit.astype(np.float16),
        norm=np.linalg.norm(run.model.h, axis=1).astype(np.float32),
        p=run.model.p.astype(np.float16),
        map=flat,
        tile=place,
        first=run.first,
        looks=facts.astype(np.float16),
        files=np.array([path.encode() for path in cache.paths], dtype=bytes),
    )
    summary = {
        "format": 1,
        "title": run.name,
        "root": str(run.found.root),
        "files": run.found.names,
        "errors": run.errors,
        "labels": run.labels(),
        "classes": run.found.classes,
        "thumb": thumb,
        "choices": run.choices.reasons,
        "count": run.count if not isinstance(run.options.clusters, int) else {},
        "trust": run.trust.to_dict(),
        "baselines": run.compared,
        "seed": run.options.seed,
        "trainings": [
            {"steps": t.steps, "seconds": round(t.seconds, 1), "seed": t.params["train"]["seed"]}
            for t in (run.main, run.second)
        ],
        "versions": record.versions(),
        "seconds": round(time.monotonic() - run.started, 1),
    }
    pictures = run.model.predictor()
    finish(
        directory,
        summary,
        paths=cache.paths,
        applied=applied,
        clusters=run.clusters,
        flat=flat,
        place=place,
        first=run.first,
        facts=facts,
        read=lambda rows: np.asarray(cache.images[rows]),
        attention_of=lambda images: attention.of(pictures, images),
        final=run.out,
        folders=run.options.folders,
    )


def on_plane(plane: Callable[..., np.ndarray], unit: np.ndarray, seed: int) -> np.ndarray:
    """(N, 2) float32 for the map; of very many images most are placed beside their nearest."""
    most = 20_000
    if len(unit) <= most:
        return plane(unit, seed)
    rows = np.sort(np.random.default_rng(seed).permutation(len(unit))[:most])
    placed = plane(unit[rows], seed)
    found = np.empty((len(unit), 2), np.float32)
    for start in range(0, len(unit), 1024):
        part = unit[start : start + 1024]
        found[start : start + 1024] = placed[(part @ unit[rows].T).argmax(axis=1)]
    found[rows] = placed
    return found


def finish(
    directory: Path,
    summary: dict[str, Any],
    *,
    paths: Sequence[str],
    applied: Applied,
    clusters: Clusters,
    flat: np.ndarray,
    place: np.ndarray,
    first: np.ndarray,
    facts: np.ndarray,
    read: Callable[[np.ndarray], np.ndarray],
    attention_of: Callable[[np.ndarray], np.ndarray | None],
    final: Path,
    folders: str,
) -> None:
    """Tables, summary.json, the page and the links: all that names of clusters are in.

    Args:
        directory: being built. final: where it will be, from which links are relative.
        summary: what stays; the clusters are added. paths: N readable files, as rows.
    """
    root = Path(summary["root"])
    made = describe.cards(
        cluster=applied.cluster,
        names=clusters.names,
        confidence=applied.confidence,
        distance=applied.distance,
        outlier=applied.outlier,
        centres=clusters.centres,
        first=first,
        facts=facts,
        read=read,
        attention=attention_of,
        labels=summary["labels"],
        classes=summary["classes"],
    )
    assigned = outputs.Assigned(
        files=summary["files"],
        row={path: i for i, path in enumerate(paths)},
        cluster=applied.cluster,
        names=clusters.names,
        confidence=applied.confidence,
        distance=applied.distance,
        second=applied.second,
        outlier=applied.outlier,
        errors=summary["errors"],
    )
    outputs.tables(directory, assigned)
    if folders:
        outputs.links(directory, root, assigned, copies=folders == "copies")
    summary["folders"] = folders
    summary["clusters"] = [
        {
            "id": card.id,
            "name": card.name,
            "size": card.size,
            "spread": _number(card.spread),
            "confidence": _number(card.confidence),
            "nearest": card.nearest,
        }
        for card in made
    ]
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(directory / "summary.json", text.encode("utf-8", "backslashreplace").decode() + "\n")
    page.write(
        directory,
        page.Page(
            title=f"{summary['title']}: {len(paths)} images in {len(clusters.names)} clusters",
            root=relative(root, final),
            files=paths,
            cluster=applied.cluster,
            confidence=applied.confidence,
            distance=applied.distance,
            second=applied.second,
            outlier=applied.outlier,
            map=flat,
            order=place,
            thumb=summary["thumb"],
            cards=made,
            digest=digest(directory / MODEL),
            trust=summary["trust"],
            count=summary["count"],
            choices=summary["choices"],
            baselines=summary["baselines"],
            edits=clusters.edits,
        ),
    )


def relative(root: Path, final: Path) -> str:
    """The images' folder as the page's links need it, ending in a slash."""
    from urllib.parse import quote

    return quote(os.path.relpath(root, final).replace(os.sep, "/")) + "/"


def digest(model: Path) -> str:
    """Of the model's weights and clusters: the state that edits are meant for."""
    from vtcc.clusters import FILE
    from vtcc.engine.checkpoint import WEIGHTS

    sha = hashlib.sha256((model / WEIGHTS).read_bytes())
    sha.update((model / FILE).read_bytes())
    return sha.hexdigest()[:16]


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def summary_of(directory: Path) -> Mapping[str, Any]:
    """Reads summary.json back."""
    return json.loads((directory / "summary.json").read_text(encoding="utf-8"))
