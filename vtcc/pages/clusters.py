"""`report.html` of `vtcc cluster`: the clusters to look at and to correct, without a server.

One file with styles, script and data inside; the thumbnails lie in sprites beside it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from vtcc.analysis.plots import palette
from vtcc.atomic import write_text
from vtcc.pages import fields, thumbnails
from vtcc.pages.render import render as render_template
from vtcc.progress import NAMED

SPRITES = "report"  # the folder of the sprites, beside the page
Json = Mapping[str, object]


@dataclass(frozen=True)
class ClusterSummary:
    """One cluster.

    Attributes:
        id: as in the tables. name: for people. size: images.
        spread: mean cosine distance to the centre. confidence: mean, 0-1.
        nearest: id of the cluster whose centre is nearest, or None. nearest_distance: to it.
        prototypes, boundary: rows of images: the most typical, the least certain.
        duplicates: groups of rows that look nearly alike.
        outliers: how many images are flagged.
        about: what distinguishes it, in words.
        mean: (S, S, C) uint8, the mean image, or None.
        attention: one (g, g) map in 0-1 per prototype, or empty.
        labels: (name, share of the cluster) where classes are known, largest first.
    """

    id: int
    name: str
    size: int
    spread: float
    confidence: float
    nearest: int | None
    nearest_distance: float
    prototypes: Sequence[int]
    boundary: Sequence[int]
    duplicates: Sequence[Sequence[int]] = ()
    outliers: int = 0
    about: Sequence[str] = ()
    mean: np.ndarray | None = None
    attention: Sequence[np.ndarray] = ()
    labels: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class ClustersPage:
    """The whole page; row i of everything is image i.

    Attributes:
        title: of the page. root: of the images, relative to the page, to show them in full.
        files: N names, shown as text whatever they hold.
        cluster: (N,) ids, -1 for excluded, -2 for unclustered. confidence, distance: (N,).
        second: (N,) ids or -1. outlier: (N,) bool. map: (N, 2).
        place: (N,) permutation: place of row i's tile.
        thumb: side of a tile in pixels. clusters: what is shown of each. digest: of the model,
            for edits.
        trust, count, choices, baselines: as in summary.json; empty where there is nothing.
        edits: those that were applied already.
        tiles: in the sprite files, some without an image after one has gone; 0: as many as images.
        proposals: `id, name, files` of each group of added images that may be a cluster.
        additions: records of `vtcc add`, as in summary.json; the last one's drift is shown.
        tree: joins of clusters, the closest first: an id of either group, and the height.
        levels: how many groups each level of it has.
        unclustered: `images, share, limit` of what belongs nowhere; None where all are in clusters.
        columns: that came with the images: name -> name of an image -> value.
        collection: `images`, `sizes` (id as text -> images), `alike` (how many look like an
            earlier one) and `made_of` (of how many of the N images the clusters were made) of a
            collection that the N images are a part of; None where they are all.
        unreadable: names of the files that are no image here, of the whole collection.
    """

    title: str
    root: str
    files: Sequence[str]
    cluster: np.ndarray
    confidence: np.ndarray
    distance: np.ndarray
    second: np.ndarray
    outlier: np.ndarray
    map: np.ndarray
    place: np.ndarray
    thumb: int
    clusters: Sequence[ClusterSummary]
    digest: str
    trust: Json = field(default_factory=dict)
    count: Json = field(default_factory=dict)
    choices: Json = field(default_factory=dict)
    baselines: Sequence[Json] = ()
    edits: Sequence[Json] = ()
    tiles: int = 0
    proposals: Sequence[Json] = ()
    additions: Sequence[Json] = ()
    tree: Sequence[tuple[int, int, float]] = ()
    levels: Sequence[int] = ()
    unclustered: Json | None = None
    columns: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    collection: Json | None = None
    unreadable: Collection[str] = ()


def write(out: Path, page: ClustersPage) -> None:
    """Writes `out/report.html`; the sprites in `out/report` are `thumbnails.write_sprites`'s.

    Raises:
        OSError: when it cannot be written.
    """
    unread = [  # a name need not be UTF-8
        name.encode("utf-8", "backslashreplace").decode()
        for name in sorted(page.unreadable)[:NAMED]
    ]
    html = render_template(
        "clusters.html",
        title=page.title,
        data=page_data(page),
        unread=unread,
        unreadable=len(page.unreadable),
    )
    write_text(out / "report.html", html)


def page_data(page: ClustersPage) -> dict[str, object]:
    """What the script reads, as plain values."""
    low = page.map.min(axis=0)
    size = np.maximum(page.map.max(axis=0) - low, 1e-9)
    flat = np.round((page.map - low) / size * 1000).astype(int)
    shown, too_large = fields.fields(page.columns, page.files)
    return {
        "root": page.root,
        "thumb": page.thumb,
        "columns": thumbnails.COLUMNS,
        # Some more than there are clusters: edits make new ones.
        "colours": palette(max((c.id for c in page.clusters), default=0) + 20),
        "sprites": SPRITES,
        "digest": page.digest,
        "next": _next(page),
        "files": list(page.files),
        "cluster": page.cluster.tolist(),
        "confidence": np.round(page.confidence * 1000).astype(int).tolist(),
        "distance": [_thousandths(d) for d in page.distance],
        "second": page.second.tolist(),
        "outlier": page.outlier.astype(int).tolist(),
        "tile": page.place.tolist(),
        "x": flat[:, 0].tolist(),
        "y": flat[:, 1].tolist(),
        "clusters": [_cluster_data(summary) for summary in page.clusters],
        "trust": _plain(page.trust),
        "count": _plain(page.count),
        "choices": _plain(page.choices),
        "baselines": _plain(page.baselines),
        "applied": _plain(page.edits),
        "tiles": page.tiles or len(page.files),
        "proposals": _plain(page.proposals),
        "additions": [_plain(_brief(addition)) for addition in page.additions],
        "tree": _plain(page.tree),
        "levels": list(page.levels),
        "unclustered": _plain(page.unclustered),
        "fields": shown,
        "fieldsLeftOut": too_large,
        "collection": _plain(page.collection),
    }


def _next(page: ClustersPage) -> int:
    """The number of the next new cluster: above all that there are, and that were proposed."""
    numbers: list[Any] = [-1, *page.cluster.tolist(), *(c.id for c in page.clusters)]
    numbers += [proposal["id"] for proposal in page.proposals]
    for addition in page.additions:
        numbers += cast("Sequence[int]", addition.get("proposed", ()))
    return int(max(numbers)) + 1


def _brief(addition: Json) -> Json:
    """Without the names of its files, which may be many, and folders of this machine."""
    return {key: value for key, value in addition.items() if key not in ("files", "searched")}


def _cluster_data(cluster: ClusterSummary) -> dict[str, object]:
    mean = cluster.mean
    return {
        "id": cluster.id,
        "name": cluster.name,
        "size": cluster.size,
        "spread": _plain(cluster.spread),
        "confidence": _plain(cluster.confidence),
        "nearest": cluster.nearest,
        "nearestDistance": _plain(cluster.nearest_distance),
        "prototypes": [int(i) for i in cluster.prototypes],
        "boundary": [int(i) for i in cluster.boundary],
        "duplicates": [[int(i) for i in group] for group in cluster.duplicates],
        "outliers": cluster.outliers,
        "about": list(cluster.about),
        "mean": None
        if mean is None
        else thumbnails.data_url(thumbnails.thumbnail(mean, len(mean)), optimize=True),
        "attention": [overlay(weights) for weights in cluster.attention],
        "labels": [[name, round(share, 4)] for name, share in cluster.labels],
    }


def overlay(weights: np.ndarray) -> str:
    """(g, g) in 0-1 -> a red PNG, as opaque as the weight, as a data URL."""
    from PIL import Image

    g = len(weights)
    pixels = np.zeros((g, g, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[..., 3] = np.round(np.clip(weights, 0, 1) * 170)
    return thumbnails.data_url(Image.fromarray(pixels), optimize=True)


def _thousandths(value: float) -> int | None:
    return round(float(value) * 1000) if np.isfinite(value) else None


def _plain(value: object) -> object:
    """Plain values without NaN, floats to five digits."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    number = float(value)  # type: ignore[arg-type]
    return round(number, 5) if np.isfinite(number) else None
