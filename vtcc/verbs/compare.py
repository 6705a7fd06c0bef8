"""`vtcc compare`: prints and draws what `vtcc.tracking.compare` finds."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vtcc import paths
from vtcc.analysis.scores import SCORES
from vtcc.errors import VtccError
from vtcc.pages.thumbnails import displayable
from vtcc.tracking import compare
from vtcc.tracking.compare import Pair, Run

PICTURE = paths.REPORTS / "compare.png"
NAMED = 8  # moved images told by name; the picture shows more
SHOWN = 24
CHANGES = 40  # lines of parameters or figures


def run(names: list[str], out: Path | None = None, console: Console | None = None) -> None:
    """Prints differing parameters, scores, the overlap of clusters, and the address in the UI.

    Args:
        names: as `compare.read` takes them. The first is what the others are compared with.
        out: of the picture, a PNG; `reports/compare.png` unless told.

    Raises:
        VtccError: as `compare.read`, or where the picture cannot be written.
    """
    console = console or Console(highlight=False)
    out = out or PICTURE
    if out.suffix.lower() != ".png":
        raise VtccError(f"--out: {out}: the picture is a PNG; end the name with .png")
    runs = compare.read(names)
    for i, other in enumerate(runs):
        console.print(f"[bold]{chr(65 + i)}[/]  {escape(other.label)}  [dim]{other.run_id}[/]")
    _table(console, "parameters", compare.differences([r.params for r in runs]), len(runs))
    _table(console, "figures", _figures(runs), len(runs))
    pairs = [(other, compare.pair(runs[0], other)) for other in runs[1:]]
    for i, (other, pair) in enumerate(pairs):
        _overlap(console, f"A and {chr(66 + i)}", other, pair)
    _draw(out, runs, [pair for _, pair in pairs])
    console.print(f"[bold]picture[/]  {escape(str(out.resolve()))}", soft_wrap=True)
    console.print(f"[bold]MLflow[/]   {compare.url(runs)}  (make ui)", soft_wrap=True)


def _figures(runs: list[Run]) -> dict[str, list[Any]]:
    """Scores first, then what else differs."""
    every = compare.differences([r.metrics for r in runs])
    same = {s: [r.metrics.get(s) for r in runs] for s in SCORES}
    scores = {s: row for s, row in same.items() if any(v is not None for v in row)}
    return scores | {k: v for k, v in every.items() if k not in scores}


def _table(console: Console, title: str, rows: dict[str, list[Any]], count: int) -> None:
    if not rows:
        console.print(f"{title}: no difference")
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.add_column("")
    for i in range(count):
        table.add_column(chr(65 + i), justify="right", overflow="fold")
    for key, row in list(rows.items())[:CHANGES]:
        table.add_row(escape(key), *(escape(_text(value)) for value in row))
    console.print(table)
    if len(rows) > CHANGES:
        console.print(f"  and {len(rows) - CHANGES} more, see MLflow")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _overlap(console: Console, title: str, other: Run, pair: Pair | None) -> None:
    if pair is None:
        console.print(f"[bold]{title}[/]: no assignments of the same images; evaluate both first")
        return
    moved = len(pair.moved)
    console.print(
        f"[bold]{title}[/]: ARI {pair.ari:.4f} between their clusters on {pair.images} images; "
        f"{moved} ({moved / pair.images:.1%}) moved"
        + ("; clusters as A numbers them, new: of no cluster of A" if moved else "")
    )
    for image, mine, sure, theirs, surely in pair.moved[:NAMED]:
        console.print(
            f"  {escape(image)}  {mine} ({sure:.2f}) -> {_in_a(theirs)} ({surely:.2f})",
            soft_wrap=True,
        )


def _in_a(theirs: int | None) -> str:
    """The cluster of another run by its number in A."""
    return "new" if theirs is None else str(theirs)


def _draw(out: Path, runs: list[Run], pairs: list[Pair | None]) -> None:
    from vtcc.analysis import plots

    known = [(i, pair) for i, pair in enumerate(pairs) if pair is not None]
    images = [(i, pair, _thumbnails(pair)) for i, pair in known]
    panels = 1 + len(known)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        height = 4.6 + 2.4 * sum(bool(shown) for _, _, shown in images)
        with plots.figure_file(out, (4.8 * panels, height)) as figure:
            parts = figure.subfigures(1 + sum(bool(s) for _, _, s in images), 1, squeeze=False)
            axes = parts[0][0].subplots(1, panels, squeeze=False)[0]
            _bars(axes[0], runs)
            for ax, (i, pair) in zip(axes[1:], known, strict=True):
                plots.counts(ax, pair.table, pair.rows, pair.columns)
                ax.set_xlabel(f"cluster in {chr(66 + i)}")
                ax.set_ylabel("cluster in A")
                ax.set_title(f"A and {chr(66 + i)}: ARI {pair.ari:.3f}")
            row = 1
            for i, pair, shown in images:
                if shown:
                    _moved(parts[row][0], pair, shown, chr(66 + i))
                    row += 1
    except OSError as error:
        raise VtccError(f"--out: {out}: {error.strerror or error}") from None


def _bars(ax: Any, runs: list[Run]) -> None:
    from vtcc.analysis import plots

    names = [s for s in SCORES if any(s in run.metrics for run in runs)]
    names = names or [n for n in ("confidence", "entropy") if n in runs[0].metrics]
    width, colours = 0.8 / len(runs), plots.palette(len(runs))
    for i, (run, colour) in enumerate(zip(runs, colours, strict=True)):
        at = np.arange(len(names)) + i * width
        values = [run.metrics.get(name, np.nan) for name in names]
        ax.bar(at, values, width * 0.92, color=colour, label=chr(65 + i))
        for x, value in zip(at, values, strict=True):
            if np.isfinite(value):
                ax.text(x, value, f"{value:.3f}", ha="center", va="bottom", fontsize=7)
    ax.set_xticks(np.arange(len(names)) + 0.4 - width / 2, [n.upper() for n in names])
    ax.set_title("scores" if "acc" in names else "label-free figures")
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)


def _thumbnails(pair: Pair) -> list[np.ndarray]:
    """The surest images that moved, where they are in data/cache."""
    from vtcc.data.cache import open_cache

    try:
        cache = open_cache(paths.CACHE)
    except VtccError:
        return []
    row_of = {path: row for row, path in enumerate(cache.paths)}
    names = [entry[0] for entry in pair.moved[:SHOWN]]
    if not all(name in row_of for name in names):
        return []  # other images than those of the runs
    return [np.asarray(cache.images[row_of[name]]) for name in names]


def _moved(part: Any, pair: Pair, shown: list[np.ndarray], other: str) -> None:
    part.suptitle(
        f"moved between A and {other}, the surest first; clusters as A numbers them", fontsize=10
    )
    axes = part.subplots(2, SHOWN // 2, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, image, entry in zip(axes, shown, pair.moved, strict=False):
        ax.imshow(displayable(image))
        ax.set_title(f"{entry[1]}→{_in_a(entry[3])}", fontsize=7)
