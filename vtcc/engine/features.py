"""Features of a frozen encoder: every image as it is and in augmented views, embedded once.

They are kept as float16 on disk, written in blocks and flushed, so that a killed run goes on
where it was. Trainings of any number of heads, seeds and learning rates then read them.
"""

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vtcc import json_file
from vtcc.atomic import replace_directory, write_text
from vtcc.config import Augment, to_dict
from vtcc.engine.augment import normalize, plain, view
from vtcc.engine.runtime import Runtime
from vtcc.engine.schedule import stream
from vtcc.errors import VtccError
from vtcc.progress import note, report_rate
from vtcc.regular import regular

FILE, INFO = "features.npy", "features.json"
BLOCK = 16  # images of a forward pass; a view's numbers are drawn for a block at a time
_DONE = "done.json"
_NEEDED = {"key": str, "encoder": dict, "images": int, "views": int, "features": int}
_HEADER_BYTES = 128  # of numpy's version 1.0
_SECONDS = 5.0  # between two flushes: a kill loses at most this much work
_REPORTED = 1.0  # s between two lines of progress
_DRAWS = 7  # kind of stream, apart from those of a training


@dataclass(frozen=True)
class Features:
    """What `embed` wrote.

    Attributes:
        values: (N, V + 1, D) float16 memory map, each image as it is first.
        info: `encoder` (name, licence, digest, ...), `key`, `images`, `views`, `features`.
    """

    values: np.ndarray
    info: dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """How images become what the encoder takes.

    Attributes:
        image_size: S, side in pixels of what the encoder sees.
        mean, std: C floats each, of pixels in range 0-1.
        augment: of the views. views: V, beside the image as it is. seed: of the views.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
    views: int
    seed: int

    def of_block(self, images: np.ndarray, block: int) -> Iterator[Tensor]:
        """The image as it is, then each view, normalised: V + 1 times (n, C, S, S) float32.

        Args:
            images: (n, H, W, C) uint8. block: its number, which decides what is drawn.
        """
        x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
        yield normalize(plain(x, self.image_size), self.mean, self.std)
        for number in range(self.views):
            generator = torch.Generator().manual_seed(stream(self.seed, _DRAWS + number, block))
            drawn = view(x, self.augment, self.image_size, generator, second=number % 2 == 1)
            yield normalize(drawn, self.mean, self.std)


def features_key(drawing: Drawing, encoder: dict[str, Any], digest: str) -> str:
    """Names the features: the same key, the same numbers.

    Args:
        encoder: of `encoders.encoder_record`, or name and digest of a file of one's own.
        digest: of the images.
    """
    described = {
        "image_size": drawing.image_size,
        "mean": drawing.mean,
        "std": drawing.std,
        "augment": to_dict(drawing.augment),
        "views": drawing.views,
        "seed": drawing.seed,
        "encoder": [encoder.get("name"), encoder.get("digest")],
        "images": digest,
        "format": 1,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]


def embed(
    directory: Path,
    images: Callable[[int], Iterable[np.ndarray]],
    count: int,
    *,
    runtime: Runtime,
    drawing: Drawing,
    encoder: dict[str, Any],
    digest: str,
    on_left: Callable[[float], None] = lambda seconds: None,
) -> Features:
    """Embeds all images, or reads or goes on with what an earlier call left in `directory`.

    Args:
        directory: of the features, which appears whole.
        images: called with the row to begin at; gives (H, W, C) uint8 each, in order to the end.
        count: N. runtime: of the encoder. drawing: of its input.
        encoder: record of what it is. digest: of the images.
        on_left: called now and then with the seconds that this will still take.

    Raises:
        OSError: when the disk is full; what was written stays, and the next call goes on.
        Whatever `images` raises.
    """
    key = features_key(drawing, encoder, digest)
    with contextlib.suppress(VtccError):
        known = open_features(directory)
        if known.info["key"] == key:
            return known
    building = directory.with_name(f".{directory.name}.building")
    building.mkdir(parents=True, exist_ok=True)
    views = drawing.views + 1
    done = _begun(building, key, count, views)
    info: dict[str, Any] = {"encoder": encoder, "key": key, "images": count, "views": views - 1}
    if done:
        note(f"features: going on at image {done} of {count}")
    began, started = done, time.monotonic()
    flushed = reported = started
    with (building / FILE).open("r+b" if done else "wb") as file:
        D = 0
        for prepared in _ahead(images(done), done, drawing):
            with np.errstate(over="ignore"):  # infinite then, which is refused below
                block = np.stack([runtime(x) for x in prepared], axis=1).astype(np.float16)
            n, _, D = block.shape
            if not np.isfinite(block).all():
                raise VtccError(
                    "the encoder gives numbers that are not finite, or above 65,504, for images "
                    f"{done} to {done + n - 1}; its weights are damaged, or take embed.runtime: "
                    "torch"
                )
            if not file.tell():
                about = {"descr": "<f2", "fortran_order": False, "shape": (count, views, D)}
                np.lib.format.write_array_header_1_0(file, about)
                # Behind what an interrupted call wrote.
                file.truncate(file.seek(done * views * D * 2, os.SEEK_CUR))
            file.write(block.tobytes())
            done += n
            now = time.monotonic()
            if now - flushed > _SECONDS or done == count:
                file.flush()
                os.fsync(file.fileno())
                write_text(building / _DONE, json.dumps({"key": key, "images": done, "D": D}))
                flushed = now
            if now - reported > _REPORTED or done == count:
                report_rate("embed", done, count, started, began)
                on_left((count - done) * (now - started) / (done - began))
                reported = now
    if done != count:
        raise VtccError(f"features: {done} of {count} images were given to the encoder")
    info["features"] = D or _read(building / _DONE, {"D": int})["D"]
    write_text(building / INFO, json.dumps(info, indent=1, sort_keys=True) + "\n")
    (building / _DONE).unlink(missing_ok=True)
    replace_directory(building, directory)
    return open_features(directory)


def open_features(directory: Path) -> Features:
    """Opens what `embed` wrote, as a memory map.

    Raises:
        VtccError: when there is nothing, or it is damaged.
    """
    try:
        info = _read(directory / INFO, _NEEDED)
        values = np.load(regular(directory / FILE), mmap_mode="r", allow_pickle=False)
        shape = (info["images"], info["views"] + 1, info["features"])
        if values.shape != shape or values.dtype != np.float16:
            raise ValueError(f"an array of {values.shape} {values.dtype}, expected {shape} float16")
    except FileNotFoundError:
        raise VtccError(f"{directory}: no features here; run `vtcc embed`") from None
    except (ValueError, EOFError, OSError) as error:
        raise VtccError(f"{directory}: damaged ({error}); delete it and run again") from None
    return Features(values, info)


def _begun(building: Path, key: str, count: int, views: int) -> int:
    """How many images an interrupted call has embedded, to a whole block; 0 for none of use."""
    try:
        state = _read(building / _DONE, {"key": str, "images": int, "D": int})
        done = int(state["images"])
        written = _HEADER_BYTES + done * views * state["D"] * 2
        fits = 0 <= done <= count and (building / FILE).stat().st_size >= written
        if state["key"] != key or not fits:
            return 0
        return done if done == count else done // BLOCK * BLOCK
    except (OSError, ValueError):
        return 0


def _read(file: Path, types: dict[str, Any]) -> dict[str, Any]:
    """The named values in a file; ValueError or OSError when it lacks them."""
    return json_file.checked(json_file.parsed(file), types)


def _ahead(images: Iterable[np.ndarray], start: int, drawing: Drawing) -> Iterator[list[Tensor]]:
    """Views of each block of images, drawn beside the encoder's work on the block before."""
    remaining = iter(images)
    blocks = iter(lambda: list(itertools.islice(remaining, BLOCK)), [])
    with ThreadPoolExecutor(1, "views") as pool:
        waiting = None
        for number, block in enumerate(blocks, start // BLOCK):
            following = pool.submit(
                lambda x, b: list(drawing.of_block(x, b)), np.stack(block), number
            )
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
