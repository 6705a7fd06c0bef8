"""Stage `download`: images, their manifest, and labels in a file of their own."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vtcc import config, paths, progress
from vtcc.atomic import atomic_directory, scratch_directory, sweep
from vtcc.data import catalog, folder, manifest, mirror, sources
from vtcc.data.image_set import ImageSet
from vtcc.digests import sha256
from vtcc.errors import VtccError
from vtcc.regular import regular

_CHUNK = 1 << 20


def run() -> None:
    """Fetches `dataset.source` into data/raw and data/labels of the current directory.

    Both appear whole or not at all.

    Raises:
        VtccError: when the source is missing, empty, damaged, or not what its card promises.
    """
    params = config.load()
    raw, labels = paths.MANIFEST.parent, paths.LABELS.parent
    origin = catalog.resolve(params.dataset.source)
    card = origin if isinstance(origin, catalog.Card) else None
    checked = False
    sweep(raw, labels)
    with scratch_directory(raw.parent / ".download") as scratch:
        if isinstance(origin, catalog.Card):
            place = mirror.configured(params.download.mirror)
            images = sources.find(origin, sources.Places(place, scratch, paths.downloads()))
            checked = check_card(origin, images, params.download.allow_missing)
        else:
            _check_place(origin.path)
            try:
                images = folder.find(origin.path, scratch)
            except VtccError as error:
                raise VtccError(f"dataset.source: {error}") from None
        for note in images.notes:
            progress.note(note)
        order = sorted(range(len(images.paths)), key=images.paths.__getitem__)
        chosen, split = manifest.choose(
            len(order),
            limit=params.dataset.limit,
            holdout=params.dataset.holdout,
            seed=params.dataset.seed,
        )
        rows = [order[i] for i in chosen.tolist()]
        with atomic_directory(labels) as new_labels, atomic_directory(raw) as new_raw:
            table = _write_images(images, rows, new_raw / paths.IMAGES.name)
            table["split"] = split
            manifest.write_table(new_raw / paths.MANIFEST.name, table)
            manifest.write_table(new_labels / paths.LABELS.name, _label_table(images, rows))
            whole = card is not None and len(rows) == len(images.paths) == card.images
            about = {
                "name": params.dataset.name,
                "source": params.dataset.source,
                "images": len(rows),
                "classes": len(images.class_names) or None,
                "digest": manifest.digest(table["path"].tolist(), table["sha256"].tolist()),
                "expected_images": card.images if card and whole else None,
                "card": _promises(card, whole=whole, checked=checked) if card else None,
            }
            (new_raw / paths.DATASET.name).write_text(
                json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
    held = split.count("holdout")
    apart = f", {held} of them held out" if held else ""
    progress.note(f"{params.dataset.name}: {len(rows)} images in {raw}{apart}")


def _write_images(images: ImageSet, rows: list[int], directory: Path) -> pd.DataFrame:
    directory.mkdir()
    written: list[tuple[str, int, str]] = []
    folders: set[Path] = {directory}
    for row in progress.track(rows, "download", len(rows)):
        target = directory / images.paths[row]
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.add(target.parent)
        content = images.read(row)
        if isinstance(content, bytes):
            size, sha = _write(content, target)
        else:
            size, sha = (_move if images.ours else _copy)(content, target)
        written.append((images.paths[row], size, sha))
    return pd.DataFrame(written, columns=manifest.MANIFEST_COLUMNS[:3])


def _write(content: bytes, target: Path) -> tuple[int, str]:
    with target.open("xb", buffering=0) as out:
        out.write(content)
    return len(content), hashlib.sha256(content).hexdigest()


def _move(file: Path, target: Path) -> tuple[int, str]:
    sha = sha256(file)
    file.rename(target)
    return target.stat().st_size, sha


def _copy(file: Path, target: Path) -> tuple[int, str]:
    sha, size = hashlib.sha256(), 0
    try:
        source = regular(file).open("rb")
    except OSError as error:
        raise VtccError(
            f"{file}: cannot be read ({error.strerror or error}); change its permissions, or take "
            "it out of dataset.source"
        ) from None
    with source, target.open("xb", buffering=0) as out:
        while block := source.read(_CHUNK):
            out.write(block)
            sha.update(block)
            size += len(block)
    return size, sha.hexdigest()


def _label_table(images: ImageSet, rows: list[int]) -> pd.DataFrame:
    if images.labels is None:
        return pd.DataFrame(columns=manifest.LABEL_COLUMNS)
    labels = [images.labels[row] for row in rows]
    return pd.DataFrame(
        {
            "path": [images.paths[row] for row in rows],
            "label": labels,
            "class_name": [images.class_names[label] for label in labels],
        }
    )


def check_card(card: catalog.Card, images: ImageSet, allow_missing: bool) -> bool:
    """Holds what was found against the card; a check of severity `warn` prints a note instead.

    Args:
        card: of the dataset.
        images: what its loader has.
        allow_missing: go on when images are missing, whatever the card says.

    Returns:
        Whether every class's count was compared and is right.

    Raises:
        VtccError: when a check of severity `fail` is not met.
    """
    count = len(images.paths)
    if count < card.images and allow_missing:
        progress.note(f"{card.name}: {count} of {card.images} images; going on (allow_missing)")
        return False
    if count < card.images:
        _complain(
            card,
            "count",
            f"expected {card.images} images, found {count}{_some(images.missing)}; run "
            "`vtcc download` again, or set download.allow_missing",
        )
    if count > card.images:
        _complain(
            card,
            "count",
            f"its card promises {card.images} images, found {count}; correct the card, or take out "
            "what does not belong",
        )
    return _check_classes(card, images)


def _check_classes(card: catalog.Card, images: ImageSet) -> bool:
    if images.labels is None or not card.class_counts:
        return False
    counts = Counter(images.class_names[label] for label in images.labels)
    absent = [name for name in card.class_counts if not counts[name]]
    if absent:
        _complain(
            card,
            "classes",
            f"expected {card.classes} classes, found {len(counts)}{_some(absent)}; the files are "
            "not what the card describes",
        )
        return False
    right = True
    for name, expected in card.class_counts.items():
        if expected is not None and counts[name] != expected:
            _complain(
                card,
                "classes",
                f"expected {expected} images of class {name!r}, found {counts[name]}; the files "
                "are not what the card describes",
            )
            right = False
    return right and None not in card.class_counts.values()


def _complain(card: catalog.Card, check: str, text: str) -> None:
    if card.expectations.severity[check] == "fail":
        raise VtccError(f"dataset {card.name!r}: {text}")
    progress.note(f"warning: dataset {card.name!r}: {text}")


def _some(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    return f" (missing: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''})"


def _promises(card: catalog.Card, *, whole: bool, checked: bool) -> dict[str, Any]:
    """What the validate stage needs of the card."""
    return {
        "images": card.images,
        "classes": card.classes,
        "class_counts_checked": checked,
        "image_size": card.image_size,
        "size_exceptions": card.size_exceptions,
        "modes": card.modes,
        "severity": card.expectations.severity,
        "known": card.expectations.known,
        "whole": whole,
    }


def _check_place(path: Path) -> None:
    here = path.resolve()
    for out in (paths.MANIFEST.parent, paths.LABELS.parent, paths.CACHE):
        mine = out.resolve()
        if here == mine or mine in here.parents or here in mine.parents:
            raise VtccError(
                f"dataset.source: {path} overlaps with {out}, which the pipeline writes; move the "
                "images elsewhere"
            )
