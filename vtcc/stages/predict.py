"""`vtcc predict`: files and folders in, a table of cluster and confidence out.

Memory stays flat: files are listed, decoded, predicted and written a chunk at a time.
"""

import itertools
import os
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import paths as project_paths
from vtcc import progress
from vtcc.errors import VtccError
from vtcc.stages import tables

_CHUNK_BYTES = 256 << 20
_NAMED = 10  # unreadable files told by name; all are in the table


@dataclass(frozen=True)
class Entry:
    """A file to predict, or something met on the way that cannot be.

    Attributes:
        path: to open. error: why it cannot be opened, known before trying; empty otherwise.
    """

    path: str
    error: str = ""


def run(
    paths: list[Path], model: str = "models/model", *, out: Path, batch_size: int = 512
) -> None:
    """Predicts every image and writes the table `out` in one step at the end.

    Columns: `file` (as given, folders with what is below them), `cluster`, `confidence`
    (0-1), and `error` for what could not be read, whose cluster is empty. Models that know their
    clusters (`vtcc.clusters`) add `name`, `second`, `distance`, `outlier`, `novelty` and `novel`.

    Args:
        paths: image files, and directories that are searched through.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/ID/model`, or a local model
            directory (vtcc's own or MLflow's).
        out: the suffix chooses the format: .csv, .parquet or .json.
        batch_size: images per forward pass.

    Raises:
        VtccError: when there is nothing to predict, no such model, no place to write, or not
            one readable image.
    """
    if batch_size < 1:
        raise VtccError(f"--batch-size: found {batch_size}; allowed: at least 1")
    out = Path(out)
    tables.check(out)
    total = _count(paths)
    with tempfile.TemporaryDirectory() as room:
        predictor = load(model, Path(room))
    start, done, bad = time.monotonic(), 0, 0
    first: list[tuple[str, str]] = []
    clusters: set[int] = set()
    columns = tables.COLUMNS if predictor.clusters is None else tables.NAMED
    with tables.writing(out, columns) as table, decoders() as pool:
        for chunk in chunks(walk(paths), predictor, batch_size):
            rows = answers(chunk, predictor, batch_size, pool)
            table.write(rows)
            errors = [(row.file, row.error) for row in rows if row.error]
            first += errors[: _NAMED - len(first)]
            bad += len(errors)
            clusters |= {row.cluster for row in rows if row.cluster is not None}
            done += len(rows)
            rate = done / max(time.monotonic() - start, 1e-9)
            progress.report(
                "predict",
                done,
                max(total, done),
                images_per_second=round(rate, 1),
                seconds_left=round(max(total - done, 0) / rate, 1),
            )
        if bad == done:
            name, why = first[0]
            raise VtccError(
                f"not one readable image in {done} files (first: {name!r}: {why}); nothing written"
            )
    for name, why in first:
        progress.note(f"unreadable: {name!r}: {why}")
    if bad > len(first):
        progress.note(f"unreadable: {bad - len(first)} more, see the column error")
    known = predictor.clusters
    K = predictor.num_clusters if known is None else len(known.names)
    unread = f", {bad} unreadable" if bad else ""
    progress.note(f"{done - bad} images, {len(clusters)} of {K} clusters{unread}: {out}")


def load(model: str, room: Path, device: str = "auto") -> Any:
    """The `Predictor` of a model.

    Args:
        model: as in `run`. room: a directory for what is fetched, needed until this returns.
        device: auto, cpu or cuda.

    Raises:
        VtccError: when there is no such model.
    """
    from vtcc.clusters import load_predictor

    return load_predictor(directory_of(model, room), device)


def directory_of(model: str, room: Path) -> Path:
    """Where a model's files are: in `room` when it had to be fetched.

    Raises:
        VtccError: when there is no such model.
    """
    from vtcc.tracking import fetch

    if re.match(r"[a-z][a-z0-9+.-]+:/", model):
        return fetch.fetch(model, room)
    directory = Path(model)
    if not directory.is_absolute() and not directory.exists():
        directory = project_paths.project() / model
    if not directory.exists():
        raise VtccError(
            f"{model}: no such model directory; train one with `dvc repro`, or give --model "
            "models:/vtcc-NAME@champion"
        )
    return fetch.model_directory(directory, model)


def _count(paths: list[Path]) -> int:
    for path in paths:
        if not os.path.lexists(path):
            raise VtccError(f"{path}: no such file or directory")
    total = sum(1 for _ in walk(paths))
    if not total:
        from vtcc.data.images import SUFFIXES

        where = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
        raise VtccError(
            f"no image in {where or 'no path at all'}; images are known by "
            f"{' '.join(sorted(SUFFIXES))}"
        )
    return total


def walk(paths: list[Path]) -> Iterator[Entry]:
    """The files named, and the images below directories, each directory in name order.

    A file that is named is taken whatever it is called. Hidden files and other suffixes are
    left out of directories; links are followed, never in circles.
    """
    from vtcc.data.images import SUFFIXES

    for path in paths:
        if not path.is_dir():
            yield Entry(os.fspath(path))
            continue
        seen: set[tuple[int, int]] = set()
        waiting = [os.fspath(path)]
        while waiting:
            directory = waiting.pop()
            try:
                status = os.stat(directory)  # noqa: PTH116 - text paths keep odd bytes
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(directory) as found:
                    entries = sorted(found, key=lambda e: e.name)
            except OSError as error:
                yield Entry(directory, f"directory cannot be read ({error.strerror or error})")
                continue
            below = []
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    below.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122
                    yield Entry(entry.path)
            waiting += reversed(below)


def chunks(entries: Iterator[Entry], predictor: Any, batch_size: int) -> Iterator[list[Entry]]:
    """As many files at a time as a forward pass takes, or fewer where images are large."""
    image = predictor.cache_size**2 * predictor.channels
    size = max(1, min(batch_size, _CHUNK_BYTES // image))
    while chunk := list(itertools.islice(entries, size)):
        yield chunk


@contextmanager
def decoders() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode; what waits is dropped when the block ends early."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def answers(
    chunk: list[Entry], predictor: Any, batch_size: int, pool: ThreadPoolExecutor
) -> list[tables.Row]:
    """A row per file, in order; what cannot be read has its error.

    Args:
        chunk: files. predictor: of `load`. batch_size: images per forward pass.
        pool: that decodes.
    """
    import numpy as np

    from vtcc.data import images

    def decode(entry: Entry) -> Any:
        if entry.error:
            return entry.error
        try:
            return images.load(Path(entry.path), **predictor.decoding)
        except images.UnreadableImage as error:
            return error.reason

    decoded = list(pool.map(decode, chunk))
    pixels = [image for image in decoded if not isinstance(image, str)]
    found = predictor.predict(np.stack(pixels), batch_size=batch_size) if pixels else None
    said = iter(_said(predictor, found)) if found else iter(())
    rows = []
    for entry, image in zip(chunk, decoded, strict=True):
        name = _text(entry.path)
        if isinstance(image, str):
            rows.append(tables.Row(name, None, None, image))
        else:
            rows.append(tables.Row(name, **next(said), error=""))
    return rows


def _said(predictor: Any, prediction: Any) -> Iterator[dict[str, Any]]:
    """What a model says of each image, as columns."""
    import math

    from vtcc.clusters import decide

    applied = decide(predictor, prediction)
    for i, cluster in enumerate(applied.cluster.tolist()):
        distance = float(applied.distance[i])
        yield {
            "cluster": cluster if cluster >= 0 else None,
            "name": applied.name(i),
            "confidence": float(applied.confidence[i]),
            "second": int(applied.second[i]) if applied.second[i] >= 0 else None,
            "distance": distance if math.isfinite(distance) else None,
            "outlier": bool(applied.outlier[i]),
            "novelty": float(applied.novelty[i]),
            "novel": bool(applied.novel[i]),
        }


def _text(path: str) -> str:
    """A path with slashes, and with bytes that are not UTF-8 as %XX: tables need text."""
    path = path.replace(os.sep, "/")
    return re.sub("[\udc80-\udcff]", lambda m: f"%{ord(m[0]) - 0xDC00:02X}", path)
