"""`reports/gallery.html`: the clusters to look at, one file without any network."""

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vtcc.analysis import baselines
from vtcc.analysis.plots import natural, palette
from vtcc.analysis.scores import SCORES
from vtcc.errors import printable
from vtcc.pages import thumbnails
from vtcc.pages.render import render as render_template

THUMBNAIL = 96  # pixels a side at most
SPRITE_PIXELS = 12_000_000  # of all thumbnails together, about 3 MB of photographs
COLUMNS = 16


@dataclass(frozen=True)
class Gallery:
    """What the page shows; row i of everything is image i.

    Attributes:
        name: of the dataset.
        images: (N, S, S, C) uint8, may be a memory map; only those shown are read.
        paths: N file names, shown as they are.
        clusters: (N,) integers, of `ids`.
        confidence: (N,) floats, 0-1.
        ids: K numbers of the clusters that there are, ascending.
        metrics: what goes into metrics.json.
        classes: N class names, "" where unknown; None without labels.
        shown: images per cluster.
        point_rows: (n,) rows of the images in the 2-D picture.
        points: (n, 2) floats, where they are in it.
    """

    name: str
    images: np.ndarray
    paths: Sequence[str]
    clusters: np.ndarray
    confidence: np.ndarray
    ids: Sequence[int]
    metrics: Mapping[str, float]
    classes: Sequence[str] | None
    shown: int
    point_rows: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class Tile:
    """One image on the page; `x` and `y` are its place in the sprite in percent."""

    path: str
    confidence: float
    class_name: str
    odd: bool
    x: float
    y: float


@dataclass(frozen=True)
class Group:
    """The images of one cluster."""

    number: int
    colour: str
    size: int
    share: float
    confidence: float = math.nan
    majority: str = ""
    purity: float = math.nan
    sprite: str = ""
    columns: int = 1
    rows: int = 1
    sure: list[Tile] = field(default_factory=list)
    unsure: list[Tile] = field(default_factory=list)


def render(gallery: Gallery) -> str:
    """The page as HTML, all in one: styles, scripts and images inside."""
    groups = cluster_groups(gallery)
    return render_template(
        "gallery.html",
        gallery=gallery,
        groups=groups,
        empty=[g.number for g in groups if not g.size],
        largest=max(g.size for g in groups),
        scores=SCORES,
        bars=baseline_bars(gallery.metrics),
        colours=palette(max(gallery.ids) + 1),
        points=map_data(gallery),
        pixelated=gallery.images.shape[1] <= 48,
    )


def cluster_groups(gallery: Gallery) -> list[Group]:
    """Every cluster, largest first, with its figures and the images to show."""
    N, K = len(gallery.clusters), len(gallery.ids)
    per_cluster = max(2, gallery.shown)
    affordable = math.isqrt(SPRITE_PIXELS // (K * min(per_cluster, max(N // K, 2))))
    side = max(8, min(gallery.images.shape[1], THUMBNAIL, affordable))
    colours = palette(max(gallery.ids) + 1)
    groups = []
    for k in gallery.ids:
        rows = np.flatnonzero(gallery.clusters == k)
        if not len(rows):
            groups.append(Group(k, colours[k], 0, 0.0))
            continue
        ranked = rows[np.argsort(-gallery.confidence[rows], kind="stable")]
        if len(ranked) <= per_cluster:
            sure, unsure = ranked, ranked[:0]
        else:
            half = per_cluster // 2
            sure, unsure = ranked[: per_cluster - half], ranked[-half:][::-1]
        majority, purity = _majority(gallery, rows)
        picked = np.concatenate([sure, unsure])
        columns = min(COLUMNS, len(picked))
        lines = math.ceil(len(picked) / columns)
        tiles = [
            _tile(gallery, int(row), majority, i, columns, lines) for i, row in enumerate(picked)
        ]
        groups.append(
            Group(
                number=k,
                colour=colours[k],
                size=len(rows),
                share=len(rows) / N,
                confidence=float(gallery.confidence[rows].mean(dtype=np.float64)),
                majority=majority,
                purity=purity,
                sprite=_sprite(gallery.images, picked, side, columns),
                columns=columns,
                rows=lines,
                sure=tiles[: len(sure)],
                unsure=tiles[len(sure) :],
            )
        )
    return sorted(groups, key=lambda g: (-g.size, g.number))


def baseline_bars(metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """This model and every baseline that has scores, best ACC first; empty without labels.

    Returns:
        `title`, `acc`, `nmi`, `images` (how many a baseline clustered, None where all), and `ours`.
    """
    titles = {"": "vtcc"} | {f"baseline_{k}_": title for k, title in baselines.TITLES.items()}
    bars = [
        {
            "title": title,
            "acc": metrics[f"{prefix}acc"],
            "nmi": metrics[f"{prefix}nmi"],
            "images": metrics.get(f"{prefix}images") if prefix else None,
            "ours": not prefix,
        }
        for prefix, title in titles.items()
        if f"{prefix}acc" in metrics
    ]
    return sorted(bars, key=lambda bar: -bar["acc"])


def _majority(gallery: Gallery, rows: np.ndarray) -> tuple[str, float]:
    """The commonest class of a cluster and its share of the labelled images."""
    if gallery.classes is None:
        return "", math.nan
    counts = Counter(gallery.classes[row] for row in rows)
    counts.pop("", None)
    if not counts:
        return "", math.nan
    name, count = min(counts.items(), key=lambda item: (-item[1], natural(item[0])))
    return name, count / counts.total()


def _tile(gallery: Gallery, row: int, majority: str, place: int, columns: int, lines: int) -> Tile:
    name = gallery.classes[row] if gallery.classes is not None else ""
    return Tile(
        path=printable(gallery.paths[row]),
        confidence=float(gallery.confidence[row]),
        class_name=name,
        odd=bool(name) and name != majority,
        x=100 * (place % columns) / max(columns - 1, 1),
        y=100 * (place // columns) / max(lines - 1, 1),
    )


def _sprite(images: np.ndarray, rows: np.ndarray, side: int, columns: int) -> str:
    """The images side by side in one WebP, as a data URL; small ones without loss."""
    picture = thumbnails.sprite((images[row] for row in rows), len(rows), side, columns)
    return thumbnails.data_url(picture, "WEBP", lossless=side <= 32, quality=80, method=4)


def map_data(gallery: Gallery) -> dict[str, object]:
    """The 2-D picture for the page's script: little-endian uint16 places, then groups."""
    points = np.asarray(gallery.points, dtype=np.float64)
    low, high = points.min(0), points.max(0)
    # One scale for both axes: distances keep their meaning.
    scale = max(float((high - low).max()), 1e-9)
    placed = (points - (low + high) / 2) / scale + 0.5
    classes = gallery.classes or []
    names = sorted(set(classes) - {""}, key=natural)
    index = {name: i for i, name in enumerate(names)}
    coded = [index.get(classes[r], 65535) for r in gallery.point_rows] if names else []

    def packed(values: np.ndarray | list[int]) -> str:
        return base64.b64encode(np.asarray(values).astype("<u2").tobytes()).decode()

    return {
        "xy": packed((placed * 65535).round().clip(0, 65535)),
        "cluster": packed(gallery.clusters[gallery.point_rows]),
        "class": packed(coded) if names else "",
        "classNames": names,
        "classColours": palette(len(names)),
    }
