"""Stage `validate`: every image decoded once, expectations checked, uint8 cache written."""

import json
from typing import Any

import numpy as np
import pandas as pd

from vtcc import config, json_file, paths, progress
from vtcc.atomic import remove, sweep, write_text
from vtcc.data import duplicates, expectations, manifest
from vtcc.data.cache import CacheWriter
from vtcc.data.decoding import decoded
from vtcc.data.expectations import Limits
from vtcc.data.images import UnreadableImage
from vtcc.data.promises import Card
from vtcc.errors import VtccError
from vtcc.pages import validation

_SHOWN = 4


def run() -> None:
    """Turns data/raw of the current directory into data/cache, with a verdict in reports/.

    The verdict (JSON and HTML) is written whether the expectations are met or not; the cache
    only when they are.

    Raises:
        VtccError: when an expectation of severity `fail` is not met, naming all that are not,
            or when data/raw is missing.
    """
    params = config.load()
    sweep(paths.CACHE, paths.VALIDATION_JSON, paths.VALIDATION_HTML)
    remedy = "run `vtcc download` (or `dvc repro download`)"
    dataset: dict[str, Any] = json_file.read(paths.DATASET, remedy)
    table = manifest.read_manifest(paths.MANIFEST)
    card = Card(dataset.get("card") or {})
    limits = Limits(
        max_unreadable=params.validate.max_unreadable,
        max_duplicates=params.validate.max_duplicates,
        expected_images=dataset.get("expected_images"),
        channels=params.dataset.channels,
        card=card,
        classes=dataset.get("classes"),
    )
    with CacheWriter(
        paths.CACHE,
        name=dataset["name"],
        image_size=params.validate.image_size,
        channels=params.dataset.channels,
        bands=params.validate.bands,
        stretch=params.validate.stretch,
        stretch_range=params.validate.stretch_range,
    ) as writer:
        learnt, sketches = _decode_all(table, writer, max_pixels=params.validate.max_pixels)
        table = expectations.complete(
            learnt, sketches, near_duplicates=params.validate.near_duplicates, card=card
        )
        outcomes = expectations.check(table, limits)
        failures = [o for o in outcomes if not o.passed and o.severity == "fail"]
        warnings = [o for o in outcomes if not o.passed and o.severity == "warn"]
        verdict = {
            "success": not failures,
            **expectations.figures(table),
            "failures": [expectations.sentence(o) for o in failures],
            "warnings": [expectations.sentence(o) for o in warnings],
        }
        page = validation.render(dataset, verdict, outcomes, table, writer)
        for text in _spread(table):
            progress.note(text)
        write_text(paths.VALIDATION_HTML, page)
        write_text(paths.VALIDATION_JSON, json.dumps(verdict, indent=2, ensure_ascii=False) + "\n")
        for text in verdict["warnings"]:
            progress.note(f"warning: {text}")
        if failures:
            # An older cache describes other images: nobody should train on it by mistake.
            remove(paths.CACHE)
            raise VtccError(
                f"the images in {paths.IMAGES} are not fit to train on: "
                + "; ".join(verdict["failures"])
                + f" (see {paths.VALIDATION_HTML})"
            )
        cache = writer.finish()
    progress.note(
        f"{cache.name}: {len(cache.paths)} images of {cache.image_size} x {cache.image_size} in "
        f"{paths.CACHE}, {len(writer.quarantined)} quarantined"
    )


def _spread(table: pd.DataFrame) -> list[str]:
    """The commonest sizes and colours, a line each."""
    read = table[table["readable"]]
    if read.empty:
        return []
    lines = []
    for word, counts in (
        ("sizes", validation.sizes(read)),
        ("colours", read["mode"].value_counts()),
    ):
        shown = [f"{name} ({count})" for name, count in counts.head(_SHOWN).items()]
        if len(counts) > _SHOWN:
            shown.append(
                f"{progress.several(len(counts) - _SHOWN, 'others')} ({counts[_SHOWN:].sum()})"
            )
        lines.append(f"{word}: {', '.join(shown)}")
    return lines


def _decode_all(
    table: pd.DataFrame, writer: CacheWriter, *, max_pixels: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Decodes each image into the cache.

    Returns:
        The table with what was learnt; and a sketch of each image, zero where unreadable.
    """
    rows: list[tuple] = []
    sketches = np.zeros((len(table), *expectations.SKETCH), dtype=np.float32)
    files = [paths.IMAGES / path for path in table["path"]]
    images_read = decoded(
        files,
        channels=writer.channels,
        size=writer.image_size,
        max_pixels=max_pixels,
        **writer.decoding,
    )
    rows_read = zip(table["path"], table["split"], images_read, strict=True)
    for path, split, (_, result) in progress.track(rows_read, "validate", len(table)):
        if isinstance(result, UnreadableImage):
            writer.quarantine(path, result.reason)
            rows.append((False, result.reason, None, None, "", None, None, False))
            continue
        pixels = result.pixels
        writer.add(path, split, pixels)
        sketches[len(rows)] = duplicates.sketch(pixels)
        flat = bool((pixels == pixels[0, 0]).all())
        rows.append(
            (
                True,
                "",
                result.width,
                result.height,
                result.mode,
                float(pixels.mean()) / 255,
                float(pixels.std()) / 255,
                flat,
            )
        )
    learnt = pd.DataFrame(rows, columns=expectations.COLUMNS[4:])
    for column in ("width", "height", "mean", "std"):
        learnt[column] = learnt[column].astype(float)
    learnt = learnt.astype({"readable": bool, "one_colour": bool, "mode": str, "reason": str})
    return pd.concat([table.reset_index(drop=True), learnt], axis=1), sketches
