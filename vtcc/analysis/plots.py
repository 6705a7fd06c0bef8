"""Pictures for `reports/plots`: PNG files that look the same on every machine."""

import colorsys
import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc.analysis import features
from vtcc.analysis.metrics import contingency, mapping
from vtcc.regular import regular

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, ACCENT, SECOND = "#1f2430", "#d9dce3", "#2a69d8", "#d9663b"
_LARGEST = 20  # inches; with a side for each of thousands of classes a picture takes all memory
_NAMED = 90  # ticks of an axis
_TEN = [
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1"),
    *("#76b7b2", "#d4a800", "#ff7fa7", "#9c755f", "#6b7a8f"),
]


def palette(count: int) -> list[str]:
    """`count` colours as #rrggbb, told apart on white and on black; the first ten are fixed."""
    colours = list(_TEN)
    while len(colours) < count:
        i = len(colours)
        # The golden angle never repeats a hue; lightness alternates between neighbours.
        r, g, b = colorsys.hls_to_rgb(i * 0.618034 % 1, (0.42, 0.55, 0.66)[i % 3], 0.55)
        colours.append("#" + "".join(f"{round(255 * v):02x}" for v in (r, g, b)))
    return colours[:count]


def project(embedding: np.ndarray, seed: int, method: str = "umap") -> np.ndarray:
    """A 2-D picture of an embedding: UMAP, or principal components.

    Args:
        embedding: (n, d) float32.
        seed: of UMAP.
        method: "umap" or "pca"; below 10 images it is always the latter.

    Returns:
        (n, 2) float32.
    """
    if method == "umap":
        return features.umap(embedding, seed)
    return features.plane(embedding, 2, seed)


def confusion(
    path: Path, classes: Sequence[str], clusters: Sequence[int], ids: Sequence[int]
) -> None:
    """Classes against clusters, ordered by the best one-to-one match, so that hits lie diagonal.

    Args:
        path: of the PNG.
        classes: N class names.
        clusters: N clusters.
        ids: K numbers of the clusters that there are; empty ones get a column of their own.
    """
    counted, names, used = contingency(classes, clusters)
    matched = {name: cluster for cluster, name in mapping(classes, clusters).items()}
    by_name = sorted(range(len(names)), key=lambda i: natural(names[i]))
    names, counted = [names[i] for i in by_name], counted[by_name]
    order = [matched[name] for name in names if name in matched]
    order += [k for k in ids if k not in order]
    table = np.zeros((len(names), len(order)), dtype=np.int64)
    for j, cluster in enumerate(order):
        if cluster in used:
            table[:, j] = counted[:, used.index(cluster)]
    rows, columns = table.shape
    cell = 0.46 if max(rows, columns) <= 25 else 0.18
    size = (min(3 + cell * columns, _LARGEST), min(1.8 + cell * rows, _LARGEST))
    with _figure(path, size) as (figure, axes):
        shown = counts(axes, table, [_short(n) for n in names], order)
        axes.set_xlabel("cluster, in the order of the match")
        axes.set_ylabel("class")
        bar = figure.colorbar(shown, ax=axes, label="share of the class", fraction=0.04)
        bar.outline.set_visible(False)


def counts(ax: "Axes", table: np.ndarray, rows: Sequence[Any], columns: Sequence[Any]) -> Any:
    """A table of counts as squares, as dark as their share of the row.

    Args:
        table: (R, C) integers. rows, columns: their names.

    Returns:
        Matplotlib's image, for a colour bar.
    """
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(**_ticks(columns))
    ax.set_yticks(**_ticks(rows))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if max(table.shape) <= 25:
        for i, j in zip(*np.nonzero(table), strict=True):
            ink = "white" if shares[i, j] > 0.55 else INK
            ax.text(j, i, table[i, j], ha="center", va="center", color=ink, fontsize=8)
    return image


def embedding(
    path: Path,
    points: np.ndarray,
    clusters: np.ndarray,
    num_clusters: int,
    classes: Sequence[str] | None = None,
) -> None:
    """Points in 2-D, coloured by cluster, and in a second panel by class where there are any.

    Args:
        path: of the PNG.
        points: (n, 2) floats.
        clusters: (n,) integers.
        num_clusters: K.
        classes: n class names, "" where unknown.
    """
    panels: list[tuple[str, np.ndarray, list[str]]] = [
        ("by cluster", np.asarray(clusters), [str(k) for k in range(num_clusters)])
    ]
    if classes is not None:
        names = sorted(set(classes) - {""}, key=natural)
        index = {name: i for i, name in enumerate(names)}
        coded = np.array([index.get(c, -1) for c in classes])
        panels.append(("by class", coded, names))
    with _figure(path, (6.4 * len(panels), 6.2), panels=len(panels)) as (_, axes):
        for (title, values, names), ax in zip(panels, np.atleast_1d(axes), strict=True):
            colours = np.array([*palette(len(names)), FAINT])  # -1: no class known
            dot = float(np.clip(14000 / len(points), 3, 30))
            ax.scatter(*points.T, c=colours[values], s=dot, linewidths=0, alpha=0.75)
            _name_groups(ax, points, values, names)
            ax.set_title(title, loc="left")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_color(FAINT)


def _name_groups(ax: "Axes", points: np.ndarray, values: np.ndarray, names: list[str]) -> None:
    if len(names) > 60:
        return
    for k, name in enumerate(names):
        inside = points[values == k]
        if len(inside):
            # The member nearest to the median: a label in the empty middle would mislead.
            middle = np.median(inside, axis=0)
            x, y = inside[((inside - middle) ** 2).sum(1).argmin()]
            box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8}
            ax.text(x, y, _short(name, 14), fontsize=9, ha="center", va="center", bbox=box)


def curves(path: Path, table: Path) -> None:
    """Both losses, entropy, smallest cluster and confidence over the epochs.

    Args:
        path: of the PNG.
        table: `reports/curves.csv`.
    """
    with regular(table).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return

    def column(name: str) -> list[float]:
        return [float(row[name]) if row.get(name) else float("nan") for row in rows]

    epochs = column("epoch")
    marker = "o" if len(rows) == 1 else None
    with _figure(path, (11, 3.4), panels=3) as (_, axes):
        for ax, name, colour in (
            (axes[0], "instance_loss", ACCENT),
            (axes[1], "cluster_loss", SECOND),
        ):
            ax.plot(epochs, column(name), color=colour, marker=marker)
            ax.set_title(name.replace("_", " "), loc="left")
        for name, colour in (
            ("entropy", ACCENT),
            ("confidence", SECOND),
            ("smallest_cluster", "#59a14f"),
        ):
            axes[2].plot(
                epochs, column(name), color=colour, label=name.replace("_", " "), marker=marker
            )
        axes[2].set_ylim(0, 1.05)
        axes[2].set_title("assignments (shares, 0 to 1)", loc="left")
        axes[2].legend(frameon=False, fontsize=8)
        for ax in axes:
            ax.set_xlabel("epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.grid(color=FAINT, linewidth=0.6)
            ax.spines[["top", "right"]].set_visible(False)


def sizes(path: Path, counts: Sequence[int] | np.ndarray, ids: Sequence[int]) -> None:
    """A bar per cluster, largest first, and the line of equal sizes.

    Args:
        path: of the PNG.
        counts: K numbers of images. ids: K numbers of their clusters, ascending.
    """
    counts = np.asarray(counts)
    order = np.argsort(-counts, kind="stable")
    colours, names = palette(max(ids) + 1), np.asarray(ids)[order]
    with _figure(path, (min(3 + 0.36 * len(counts), _LARGEST), 3.4)) as (_, axes):
        bars = axes.bar(range(len(counts)), counts[order], color=[colours[k] for k in names])
        if len(counts) <= 40:
            axes.bar_label(bars, fontsize=8, color=INK, padding=2)
        axes.axhline(counts.mean(), color=INK, linewidth=0.8, linestyle="--", zorder=0)
        axes.set_xticks(**_ticks(names))
        axes.set_xlabel("cluster (dashed: equal sizes)")
        axes.set_ylabel("images")
        axes.margins(x=0.01)
        axes.spines[["top", "right"]].set_visible(False)


def _ticks(names: Sequence[Any] | np.ndarray) -> dict[str, Any]:
    """Keywords of matplotlib's `set_xticks`: every name, or every n-th of more than fit."""
    step = -(-len(names) // _NAMED)
    size = 9 if len(names) <= 40 else 6
    return {"ticks": range(0, len(names), step), "labels": names[::step], "fontsize": size}


@contextmanager
def _figure(
    path: Path, size: tuple[float, float], panels: int = 1
) -> Iterator[tuple["Figure", Any]]:
    """A figure with panels side by side, saved when the block ends."""
    with figure_file(path, size) as figure:
        yield figure, figure.subplots(1, panels)


@contextmanager
def figure_file(path: Path, size: tuple[float, float]) -> Iterator["Figure"]:
    """An empty figure without pyplot's global state, saved when the block ends.

    Matplotlib's own style and fonts, whatever the user's matplotlibrc says.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # File names and classes are text, never formulas.
        matplotlib.rcParams["text.parse_math"] = False
        for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color"):
            matplotlib.rcParams[key] = INK
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        # Software and date left out: equal pictures are equal bytes.
        figure.savefig(path, dpi=130, metadata={"Software": None})


def natural(text: str) -> list[str | int]:
    """A sort key under which "class 10" comes after "class 2"."""
    parts = re.split(r"(\d+)", str(text))
    return [int(p) if i % 2 else p for i, p in enumerate(parts)]


def _short(text: str, length: int = 24) -> str:
    """Names for an axis: no line breaks, no glyphs a font would stumble over, not too long."""
    text = "".join(c if c.isprintable() else " " for c in str(text))
    return text if len(text) <= length else text[: length - 1] + "…"
