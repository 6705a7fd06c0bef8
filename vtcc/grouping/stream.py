"""Files by the thousand to shards of `rest`: each is read once, and a kill loses one shard."""

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vtcc.atomic import write_text
from vtcc.errors import VtccError
from vtcc.grouping.add.reading import sketches
from vtcc.grouping.clusters import decide
from vtcc.grouping.predicting import blocks
from vtcc.grouping.rest import SHARD, Rest, Shard
from vtcc.progress import NAMED, note, note_unreadable, report_rate
from vtcc.regular import regular

if TYPE_CHECKING:
    from vtcc.engine.predict import Predictor

_KEY = "key.json"


def resumable(rest: Rest, key: dict[str, object]) -> None:
    """Makes the directory, or empties it of what another model or other images left there.

    Args:
        key: what the shards depend on.
    """
    file, text = rest.directory / _KEY, json.dumps(key, sort_keys=True)
    if rest.directory.exists():
        with contextlib.suppress(OSError, ValueError):
            if regular(file).read_text(encoding="utf-8") == text:
                return
        note(f"{rest.directory}: of another model, so these images are assigned again")
        shutil.rmtree(rest.directory)
    rest.directory.mkdir(parents=True)
    write_text(file, text)


def assign(
    rest: Rest,
    names: Sequence[str],
    files: Sequence[Path],
    stamps: Sequence[str],
    predictor: "Predictor",
    *,
    first: int = 0,
    shard: int = SHARD,
    batch_size: int = 512,
) -> None:
    """Decodes and assigns files as `vtcc predict` does; shards that are there are not made again.

    Memory: a shard's arrays and a block of pixels, whatever the number of files.

    Args:
        rest: whose directory exists. names, files, stamps: N each; files as they are asked for.
        predictor: of `clusters.load_predictor`.
        first: number of the first shard. shard: files of one.
        batch_size: images per forward pass.
    """
    N, began = len(names), time.monotonic()
    before = 0
    errors: list[tuple[str, str]] = []
    unreadable = 0
    for number, start in enumerate(range(0, N, shard), first):
        some = slice(start, min(start + shard, N))
        here = _known(rest.place(number), names[some])
        if here is None:
            here = _shard(names[some], files[some], stamps[some], predictor, batch_size)
            here.write(rest.place(number))
            report_rate("assign", start + len(here.files), N, began, before)
        else:
            before += len(here.files)
        bad = [(f, e) for f, e in zip(here.files, here.errors, strict=True) if e]
        unreadable += len(bad)
        errors += bad[: NAMED - len(errors)]
    if before:
        note(f"assign: {before} of {N} images were assigned before the interruption")
    note_unreadable(errors, unreadable)


def _known(place: Path, names: Sequence[str]) -> Shard | None:
    """A shard that an interrupted run left, if it is whole and of these files."""
    if not place.exists():
        return None
    try:
        shard = Shard.read(place)
    except VtccError as error:
        note(f"{error}: these images are assigned again")
        return None
    return shard if shard.files == list(names) else None


def _shard(
    names: Sequence[str],
    files: Sequence[Path],
    stamps: Sequence[str],
    predictor: "Predictor",
    batch_size: int,
) -> Shard:
    d = int(predictor.model.encoder.embed_dim)  # type: ignore[arg-type]
    h, p = [np.empty((0, d), np.float32)], [np.empty((0, predictor.num_clusters), np.float32)]
    drawn = [np.empty((0, 8, 9), np.float32)]
    errors = dict.fromkeys(range(len(names)), "")
    at = 0
    for block in blocks(files, predictor, batch_size=batch_size):
        errors |= {at + i: why or "unreadable" for i, why in block.errors.items()}
        at += len(block.items)
        if block.prediction is not None:
            h.append(block.prediction.embedding)
            p.append(block.prediction.probabilities)
            drawn.append(sketches(block.pixels))
    from vtcc.engine.predict import Prediction

    said = Prediction(np.concatenate(p), np.concatenate(h))
    return Shard.of(
        names,
        stamps,
        list(errors.values()),
        h=said.embedding,
        p=said.probabilities,
        sketches=np.concatenate(drawn),
        applied=decide(predictor, said),
    )
