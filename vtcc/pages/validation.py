"""The validation report: one HTML file that reads without a network."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vtcc.data.cache import CacheWriter
from vtcc.data.expectations import Outcome
from vtcc.pages import thumbnails
from vtcc.pages.render import render as render_template
from vtcc.progress import several

_THUMBNAILS = 32
_LISTED = 200
_PAIRS = 24
_ROWS = 12
_BARS = 24
_SIDE = 96


def render(
    dataset: Mapping[str, object],
    verdict: Mapping[str, object],
    outcomes: list[Outcome],
    table: pd.DataFrame,
    writer: CacheWriter,
) -> str:
    """Draws the report.

    Args:
        dataset: content of data/raw/dataset.json.
        verdict: what reports/validation.json will hold.
        outcomes: all expectations, met or not.
        table: a row per file, completed.
        writer: with all readable images added, in the order of the table.

    Returns:
        A self-contained HTML page; file names are escaped.
    """
    read = table[table["readable"]].reset_index(drop=True)
    spread = np.linspace(0, len(read) - 1, min(_THUMBNAILS, len(read))).round().astype(int)
    strips = [("Images, evenly through the list", spread.tolist())]
    flat = np.flatnonzero(read["one_colour"].to_numpy(dtype=bool))
    if len(flat):
        strips.append((f"All one colour: {len(flat)}", flat[:_THUMBNAILS].tolist()))
    quarantined = table[~table["readable"]]
    return render_template(
        "validation.html",
        dataset=dataset,
        verdict=verdict,
        headline=headline(outcomes),
        outcomes=sorted(outcomes, key=lambda o: (o.passed, o.severity)),
        listed=_LISTED,
        quarantined=quarantined[["path", "bytes", "reason"]].head(_LISTED).to_dict("records"),
        strips=[
            (title, [(read["path"][row], thumbnail(writer.peek(row))) for row in rows])
            for title, rows in strips
        ],
        twins=[
            (
                title,
                count,
                [(*pair, *(thumbnail(writer.peek(row)) for row in rows)) for pair, rows in shown],
            )
            for title, count, shown in twins(read)
        ],
        shown_pairs=_PAIRS,
        histograms=[
            ("Longer side, pixels", bars(read[["width", "height"]].max(axis=1))),
            ("Size of the file, bytes", bars(table["bytes"])),
            ("Mean brightness, 0 black to 1 white", bars(read["mean"])),
            ("Contrast (standard deviation)", bars(read["std"])),
        ],
        tables=[
            ("Sizes, width x height in pixels", counted(sizes(read))),
            ("Colours in the files", counted(read["mode"].value_counts())),
        ],
        channels=writer.channels,
        decoding=writer.decoding,
    )


def headline(outcomes: list[Outcome]) -> str:
    """The verdict in one sentence."""
    unmet = [o.severity for o in outcomes if not o.passed]
    counts = f"{len(outcomes) - len(unmet)} of {len(outcomes)} expectations are met"
    parts = [
        f"{unmet.count(kind)} {words}"
        for kind, words in (("fail", "not, which stops the pipeline"), ("warn", "to look at"))
        if kind in unmet
    ]
    return "; ".join([counts, *parts])


def sizes(read: pd.DataFrame) -> pd.Series:
    """How many images there are of each size, commonest first, by `width x height`."""
    counts = read.groupby(["width", "height"]).size().sort_values(ascending=False, kind="stable")
    counts.index = [f"{width:.0f} x {height:.0f}" for width, height in counts.index]
    return counts


def counted(counts: pd.Series) -> list[tuple[str, int, float]]:
    """Rows of a table: name, count, per cent; the rare ones in one last row."""
    total = max(int(counts.sum()), 1)
    rows = [(str(name), int(count)) for name, count in counts.head(_ROWS).items()]
    if len(counts) > _ROWS:
        rows.append((several(len(counts) - _ROWS, "others"), int(counts[_ROWS:].sum())))
    return [(name, count, 100 * count / total) for name, count in rows]


_Pair = tuple[tuple[str, str], tuple[int, int]]


def twins(read: pd.DataFrame) -> list[tuple[str, int, list[_Pair]]]:
    """Copies and images that look alike: a title, how many, and the first pairs.

    Args:
        read: readable images, numbered from 0.

    Returns:
        For each kind that there is: pairs of (path, path of its twin) and (row, row).
    """
    number = {path: row for row, path in enumerate(read["path"])}
    kinds = []
    for title, column in (
        ("Exact copies of an earlier file", "copy_of"),
        ("Look like an earlier image", "looks_like"),
    ):
        rows = np.flatnonzero((read[column] != "").to_numpy())
        pairs = [
            ((read["path"][row], twin), (int(row), number[twin]))
            for row, twin in ((r, read[column][r]) for r in rows[:_PAIRS])
        ]
        if pairs:
            kinds.append((title, len(rows), pairs))
    return kinds


def bars(values: pd.Series) -> list[tuple[str, int, float]]:
    """A histogram: for each bar its range in words, its count, and its height in 0-100."""
    numbers = values.dropna().to_numpy(dtype=float)
    if not len(numbers):
        return []
    if numbers.min() == numbers.max():
        return [(f"{numbers[0]:.4g}", len(numbers), 100.0)]
    counts, edges = np.histogram(numbers, bins=_BARS)
    return [
        (f"{low:.4g} to {high:.4g}", int(count), 100 * count / counts.max())
        for count, low, high in zip(counts, edges, edges[1:], strict=False)
    ]


def thumbnail(pixels: np.ndarray) -> str:
    """A data URL of an image, (S, S, C) uint8, at most 96 pixels wide."""
    return thumbnails.data_url(thumbnails.thumbnail(pixels, min(len(pixels), _SIDE)))
