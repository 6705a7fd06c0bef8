"""The validation report: one HTML file that reads without a network."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from vtcc.data.cache import CacheWriter
from vtcc.data.expectations import Outcome

_TEMPLATES = Path(__file__).with_name("templates")
_THUMBNAILS = 32
_LISTED = 200
_BARS = 24
_SIDE = 96


def render(
    dataset: dict[str, Any],
    verdict: dict[str, Any],
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
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    read = table[table["readable"]].reset_index(drop=True)
    spread = np.linspace(0, len(read) - 1, min(_THUMBNAILS, len(read))).round().astype(int)
    strips = [("Images, evenly through the list", spread.tolist())]
    for title, column in (
        ("Exact copies of an earlier file", "duplicate"),
        ("All one colour", "one_colour"),
    ):
        rows = np.flatnonzero(read[column].to_numpy(dtype=bool))
        if len(rows):
            strips.append((f"{title}: {len(rows)}", rows[:_THUMBNAILS].tolist()))
    quarantined = table[~table["readable"]]
    return environment.get_template("validation.html.j2").render(
        dataset=dataset,
        verdict=verdict,
        outcomes=sorted(outcomes, key=lambda o: (o.passed, o.severity)),
        listed=_LISTED,
        quarantined=quarantined[["path", "bytes", "reason"]].head(_LISTED).to_dict("records"),
        strips=[
            (title, [(read["path"][row], thumbnail(writer.peek(row))) for row in rows])
            for title, rows in strips
        ],
        histograms=[
            ("Longer side, pixels", bars(read[["width", "height"]].max(axis=1))),
            ("Size of the file, bytes", bars(table["bytes"])),
            ("Mean brightness, 0 black to 1 white", bars(read["mean"])),
            ("Contrast (standard deviation)", bars(read["std"])),
        ],
        modes=read["mode"].value_counts().to_dict(),
    )


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
    """A data URI of an image, (S, S, C) uint8, at most 96 pixels wide."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
