"""The page as one file: styles, script and data inside; thumbnails in sprites beside it."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.atomic import write_text
from vtcc.cards.model import Card, Page
from vtcc.cards.sprites import COLUMNS, displayable

TEMPLATES = Path(__file__).parent / "templates"
SPRITES = "report"


def write(out: Path, page: Page) -> None:
    """Writes `out/report.html`; the sprites are `sprites.write`'s, in `out/report`.

    Raises:
        OSError: when it cannot be written.
    """
    write_text(out / "report.html", render(page))


def render(page: Page) -> str:
    """The page's HTML."""
    import html

    text = (TEMPLATES / "report.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(page.title),
        "STYLE": (TEMPLATES / "report.css").read_text(encoding="utf-8"),
        "SCRIPT": (TEMPLATES / "report.js").read_text(encoding="utf-8"),
        "DATA": embedded(data(page)),
    }
    head, *rest = text.split("{{")
    filled = [head]
    for part in rest:
        name, after = part.split("}}", 1)
        filled += [parts[name], after]
    return "".join(filled)


def embedded(values: Any) -> str:
    """JSON that may stand inside a script element: no text in it can end the element."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate is no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def data(page: Page) -> dict[str, Any]:
    """What the script reads, as plain values."""
    low = page.map.min(axis=0)
    size = np.maximum(page.map.max(axis=0) - low, 1e-9)
    flat = np.round((page.map - low) / size * 1000).astype(int)
    return {
        "title": page.title,
        "root": page.root,
        "thumb": page.thumb,
        "columns": COLUMNS,
        "sprites": SPRITES,
        "digest": page.digest,
        "files": list(page.files),
        "cluster": page.cluster.tolist(),
        "confidence": np.round(page.confidence * 1000).astype(int).tolist(),
        "distance": [_thousandths(d) for d in page.distance],
        "second": page.second.tolist(),
        "outlier": page.outlier.astype(int).tolist(),
        "tile": page.order.tolist(),
        "x": flat[:, 0].tolist(),
        "y": flat[:, 1].tolist(),
        "cards": [_card(card) for card in page.cards],
        "trust": _clean(page.trust),
        "count": _clean(page.count),
        "choices": _clean(page.choices),
        "baselines": _clean(page.baselines),
        "applied": _clean(page.edits),
    }


def _card(card: Card) -> dict[str, Any]:
    return {
        "id": card.id,
        "name": card.name,
        "size": card.size,
        "spread": _clean(card.spread),
        "confidence": _clean(card.confidence),
        "nearest": card.nearest,
        "nearestDistance": _clean(card.nearest_distance),
        "prototypes": [int(i) for i in card.prototypes],
        "boundary": [int(i) for i in card.boundary],
        "duplicates": [[int(i) for i in group] for group in card.duplicates],
        "outliers": card.outliers,
        "about": list(card.about),
        "mean": None if card.mean is None else picture(displayable(card.mean[None])[0]),
        "attention": [overlay(a) for a in card.attention],
        "labels": [[name, round(share, 4)] for name, share in card.labels],
    }


def picture(pixels: np.ndarray) -> str:
    """(S, S, 3) uint8 -> a PNG as a data URL."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def overlay(weights: np.ndarray) -> str:
    """(g, g) in 0-1 -> a red PNG, as opaque as the weight, as a data URL."""
    from PIL import Image

    g = len(weights)
    pixels = np.zeros((g, g, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[..., 3] = np.round(np.clip(weights, 0, 1) * 170)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _thousandths(value: float) -> int | None:
    return round(float(value) * 1000) if np.isfinite(value) else None


def _clean(value: Any) -> Any:
    """Plain values without NaN, floats to five digits."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_clean(v) for v in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    number = float(value)
    return round(number, 5) if np.isfinite(number) else None
