"""The output folder of `vtcc cluster`, and the page, which `refine` and `add` write again."""

import hashlib
import json
import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtcc import yaml_file
from vtcc.analysis.features import unit_rows
from vtcc.atomic import write_text
from vtcc.data import exif, inputs
from vtcc.engine import checkpoint, record
from vtcc.errors import VtccError
from vtcc.grouping import (
    attention,
    by_cluster,
    cards,
    columns,
    describe,
    levels,
    lookalikes,
    outputs,
    workdir,
)
from vtcc.grouping import summary as summaries
from vtcc.grouping.clusters import EXCLUDED, UNCLUSTERED, Applied, Clusters
from vtcc.grouping.intake import Listed
from vtcc.grouping.maps import page_map
from vtcc.grouping.options import Options
from vtcc.grouping.rest import Rest
from vtcc.grouping.state import Judged, Learned, Prepared
from vtcc.grouping.summary import FILE
from vtcc.grouping.summary import MODEL as MODEL
from vtcc.pages import clusters as page
from vtcc.pages import thumbnails
from vtcc.progress import duration, note, report, several
from vtcc.regular import regular


def write(
    directory: Path,
    prepared: Prepared,
    learned: Learned,
    judged: Judged,
    options: Options,
    *,
    final: Path,
    started: float,
    every: Listed | None = None,
    rest: Rest | None = None,
) -> outputs.Assigned:
    """Writes model, tables, summary and page.

    Args:
        directory: empty; becomes the output folder. final: where it will be.
        every: all images, where those that were prepared are a sample of them; `rest`: the others.
        started: all of `vtcc cluster`, on `time.monotonic`'s clock.

    Returns:
        What was assigned, for `by_cluster.write_folders`.
    """
    cache, applied, model = prepared.cache, judged.applied, judged.model
    checkpoint.save_model(directory / MODEL, model.model, model.info)
    judged.clusters.write(directory / MODEL)
    text = params_text(learned.main.params, learned.num_clusters)
    write_text(directory / "params.yaml", text)
    note("the page")
    place = thumbnails.places(applied.cluster, applied.confidence)
    thumb = thumbnails.write_sprites(
        directory / page.SPRITES,
        lambda rows: cache.images[rows],
        place,
        lambda done, total: report("page", done, total),
    )
    embedding = outputs.Embedding(
        h=model.h,
        p=model.p,
        base=judged.base,
        map=page_map(unit_rows(model.h), options.seed),
        tile=place,
        first=judged.first,
        looks=judged.looks,
        paths=cache.paths,
        known=np.ones(len(place), bool),
        sketches=prepared.sketches,
    )
    embedding.save(directory)
    summary = {
        "format": 1,
        "title": options.title,
        "root": str(prepared.listed.root),
        "inputs": [inputs.kept(given) for given in (options.folder, *options.others)],
        "files": prepared.listed.names,
        "stamps": prepared.listed.stamps,
        "errors": prepared.errors,
        "labels": prepared.labels,
        "classes": prepared.listed.classes,
        "thumb": thumb,
        "choices": prepared.reasons | {"clusters by": judged.how},
        "count": learned.count.to_dict() if options.given_clusters is None else {},
        "trust": judged.trust.to_dict(),
        "baselines": list(judged.comparison),
        "seed": options.seed,
        "trainings": [
            {"steps": t.steps, "seconds": round(t.seconds, 1), "seed": t.params["train"]["seed"]}
            for t in (learned.main, learned.second)
        ],
        "versions": record.versions(),
        "minutes": options.minutes,
        "seconds": round(time.monotonic() - started, 1),
        "folders": options.folders,
        "exif": list(options.exif),
    }
    if workdir.images(final).is_dir():
        summary["unpacked"] = str(workdir.images(final))
    every = every or prepared.listed
    if rest is not None:
        ours = Rest.of(directory)
        ours.directory.mkdir()
        for shard in rest.places:
            by_cluster.linked(shard, ours.directory / shard.name)
        alike = lookalikes.write(directory, cache.paths, prepared.sketches)
        summary["collection"] = {"sample": options.sample, "alike": alike}
    files = dict(zip(every.names, every.files, strict=True)) if options.exif else {}
    columns.write(directory, every.columns | exif.columns(files, options.exif))
    predictor = model.predictor()
    return finish(
        directory,
        summary,
        embedding=embedding,
        applied=applied,
        clusters=judged.clusters,
        read=lambda rows: np.asarray(cache.images[rows]),
        attention_of=lambda images: attention.of(predictor, images),
        final=final,
    )


def params_text(params: dict[str, Any], K: int) -> str:
    """params.yaml with a word on how to use it."""
    head = (
        f"# The training behind these clusters (K = {K}). Again: vtcc cluster FOLDER -k {K} "
        f"--seed {params['train']['seed']} --params RESULTS/params.yaml --out AGAIN\n"
        "# In a project of its own it is what `dvc repro` runs.\n"
    )
    return head + yaml_file.dump(params)


def closing_lines(
    prepared: Prepared, learned: Learned, judged: Judged, *, final: Path, started: float
) -> Sequence[str]:
    """The end of what `vtcc cluster` prints. Arguments as of `write`."""
    written = summaries.headline(final)
    unread = f", {written['unreadable']} unreadable" if written["unreadable"] else ""
    counted = f"{written['images']} images in {learned.num_clusters} clusters{unread}"
    if (beside := written["images"] - len(prepared.cache.paths)) > 0:
        counted += f", made of {len(prepared.cache.paths)} of them, {beside} assigned"
    if nowhere := written["unclustered"]:
        counted += (
            f"; {nowhere['images']} of them ({nowhere['share']:.1%}) belong nowhere: over "
            f"{nowhere['limit']:.2f} times as far from their cluster as from the next"
        )
    took, limit = time.monotonic() - started, written["minutes"]
    late = f", over the limit of {limit:g} min" if took > 60 * limit else ""
    model = shlex.quote(str(final / MODEL))
    scores = [f"{name.upper()} {value:.2f}" for name, value in (written["scores"] or {}).items()]
    scored = (f"against the sub-folders as classes: {', '.join(scores)}",) if scores else ()
    return (
        f"{counted}, {duration(took)}{late}",
        judged.trust.verdict,
        *scored,
        f"look at it: {final / 'report.html'}",
        f"sort more images: vtcc predict MORE --model {model} --out more.csv",
    )


def finish(
    directory: Path,
    summary: dict[str, Any],
    *,
    embedding: outputs.Embedding,
    applied: Applied,
    clusters: Clusters,
    read: Callable[[np.ndarray], np.ndarray],
    attention_of: Callable[[np.ndarray], np.ndarray | None],
    final: Path,
) -> outputs.Assigned:
    """Tables, summary.json and the page: all that names of clusters are in.

    Args:
        directory: being built. final: where it will be, from which links are relative.
        summary: what stays; the clusters are added.
        embedding: the N readable images. applied: what `clusters` make of them.
        read: rows -> (n, S, S, C) uint8. attention_of: the same images -> (n, g, g) or None.
    """
    root = Path(summary["root"])
    shown = describe.summaries(
        cluster=applied.cluster,
        names=clusters.names,
        confidence=applied.confidence,
        distance=applied.distance,
        outlier=applied.outlier,
        centres=clusters.centres,
        first=embedding.first,
        looks=embedding.looks,
        read=read,
        attention=attention_of,
        labels=summary["labels"],
        classes=summary["classes"],
    )
    rest = Rest.of(directory) if "collection" in summary else None
    counts = None if rest is None else rest.counts()
    assigned = outputs.Assigned(
        files=summary["files"],
        row={path: i for i, path in enumerate(embedding.paths)},
        applied=applied,
        errors=summary["errors"],
        rest=rest,
        clusters=clusters,
    )
    sizes = Counter(applied.cluster.tolist())
    files, unread = len(summary["files"]), frozenset(summary["errors"])
    if counts is not None:
        sizes.update(counts.clusters)
        files, unread = files + counts.files, unread | counts.unreadable
        known = {p for p, of in zip(embedding.paths, embedding.known, strict=True) if of}
        summary["collection"] |= {
            "files": files,
            "unreadable": len(unread),
            "images": files - len(unread),
            "shown": len(embedding.paths),
            "made_of": len(known),
            "added": len(summaries.added(summary) - known - unread),
        }
    images = files - len(unread)
    title = f"{summary['title']}: {images} images in {several(len(clusters.names), 'clusters')}"
    outputs.tables(directory, assigned, files=files)
    summary["unclustered"] = nowhere = unclustered(sizes, clusters)
    summary["clusters"] = [
        {
            "id": cluster.id,
            "name": cluster.name,
            "size": sizes[cluster.id],
            "spread": _number(cluster.spread),
            "confidence": _number(cluster.confidence),
            "nearest": cluster.nearest,
        }
        for cluster in shown
    ]
    summary["links"] = os.path.relpath(root, final)
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(directory / FILE, text.encode("utf-8", "backslashreplace").decode() + "\n")
    cards.write(directory / MODEL, summary, embedding, sizes)
    page.write(
        directory,
        page.ClustersPage(
            title=title,
            root=_quoted(summary["links"]),
            files=embedding.paths,
            cluster=applied.cluster,
            confidence=applied.confidence,
            distance=applied.distance,
            second=applied.second,
            outlier=applied.outlier,
            map=embedding.map,
            place=embedding.tile,
            tiles=summary.get("tiles", len(embedding.paths)),
            thumb=summary["thumb"],
            clusters=shown,
            digest=digest(directory / MODEL),
            trust=summary["trust"],
            count=summary["count"],
            choices=summary["choices"],
            baselines=summary["baselines"],
            edits=clusters.edits,
            proposals=summary.get("proposals", []),
            additions=summary.get("additions", []),
            tree=levels.to_list(clusters.tree),
            levels=levels.cuts(clusters.tree),
            unclustered=nowhere,
            columns=columns.read(directory)[0],
            collection=None
            if counts is None
            else {
                "images": images,
                "alike": summary["collection"]["alike"],
                "made_of": summary["collection"]["made_of"],
                "sizes": {str(k): sizes[k] for k in (*clusters.names, EXCLUDED, UNCLUSTERED)},
            },
            unreadable=unread,
        ),
    )
    return assigned


def unclustered(sizes: Mapping[int, int], clusters: Clusters) -> dict[str, Any] | None:
    """How many images belong nowhere, their share, and the limit of doubt; None if all may belong.

    Those put into a cluster by hand, or excluded, do not count.

    Args:
        sizes: id -> images, with negative ids for those in no cluster.
    """
    if not clusters.means.unclustered:
        return None
    images = sizes.get(UNCLUSTERED, 0)
    share = round(images / max(sum(sizes.values()), 1), 4)
    return {"images": images, "share": share, "limit": round(clusters.means.limit, 4)}


def _quoted(path: str) -> str:
    """A folder as the page's links need it, ending in a slash."""
    from urllib.parse import quote

    return quote(os.fsencode(path.replace(os.sep, "/"))) + "/"  # a name need not be UTF-8


def digest(model: Path) -> str:
    """Of the model's weights and clusters: the state that edits are meant for.

    Raises:
        VtccError: when they cannot be read.
    """
    from vtcc.engine.checkpoint import WEIGHTS
    from vtcc.grouping import clusters

    sha = hashlib.sha256()
    for file in (model / WEIGHTS, model / clusters.FILE):
        try:
            sha.update(regular(file).read_bytes())
        except OSError as error:
            reason = error.strerror or error
            raise VtccError(
                f"{file}: cannot be read ({reason}); run `vtcc cluster` again"
            ) from None
    return sha.hexdigest()[:16]


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
