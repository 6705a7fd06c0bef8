"""Files that are added: embedded once by the results' own model, with a small picture of each."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vtcc.data import duplicates
from vtcc.grouping import describe
from vtcc.grouping.predicting import blocks
from vtcc.pages.thumbnails import tile
from vtcc.progress import note_unreadable, report_rate

if TYPE_CHECKING:
    from vtcc.engine.predict import Predictor


@dataclass(frozen=True)
class Images:
    """The n readable ones of some files.

    Attributes:
        names: n. h: (n, d) float32 and p: (n, K) float32, as of `engine.predict.Prediction`.
        tiles: (n, s, s, 3) uint8, a memory map. looks: (n, 6) of `describe.looks`.
        sketches: (n, 8, 9) of `duplicates.sketch`, of the pixels that the model reads.
        errors: name -> why it could not be read, of the others.
    """

    names: list[str]
    h: np.ndarray
    p: np.ndarray
    tiles: np.ndarray
    looks: np.ndarray
    sketches: np.ndarray
    errors: dict[str, str]


def read(
    files: Mapping[str, Path], predictor: "Predictor", *, side: int, batch_size: int, room: Path
) -> Images:
    """Decodes and embeds each file once.

    Args:
        files: name -> where it is. side: of a tile in pixels.
        batch_size: images per forward pass. room: a folder that has room for the tiles.
    """
    d = int(predictor.model.encoder.embed_dim)  # type: ignore[arg-type]
    names: list[str] = []
    errors: dict[str, str] = {}
    h = [np.empty((0, d), np.float32)]
    p = [np.empty((0, predictor.num_clusters), np.float32)]
    sketched = [np.empty((0, 8, 9), np.float32)]
    looks = [np.empty((0, len(describe.LOOKS)))]
    small = predictor.info["model"].get("frozen", False)  # so `vtcc cluster` saw tiles alone
    began, total, done = time.monotonic(), len(files), 0
    with tempfile.TemporaryFile(dir=room) as drawn:
        for block in blocks(
            files.items(), predictor, batch_size=batch_size, source=lambda item: item[1]
        ):
            names += [name for name, _ in block.readable]
            errors |= {block.items[i][0]: why for i, why in block.errors.items()}
            if block.prediction is not None:
                h.append(block.prediction.embedding)
                p.append(block.prediction.probabilities)
                tiles = np.stack([tile(pixels, side) for pixels in block.pixels])
                # On the scale of `vtcc cluster`: detail of larger pictures is less for each pixel.
                looks.append(describe.looks(tiles if small else block.pixels))
                sketched.append(sketches(block.pixels))
                drawn.write(tiles.tobytes())
            done += len(block.items)
            report_rate("add", done, total, began)
        drawn.flush()
        pictures = np.empty((0, side, side, 3), np.uint8)
        if names:
            pictures = np.memmap(drawn, np.uint8, "r", shape=(len(names), side, side, 3))
    note_unreadable(errors.items(), len(errors))
    return Images(
        names=names,
        h=np.concatenate(h),
        p=np.concatenate(p),
        tiles=pictures,
        looks=np.concatenate(looks),
        sketches=np.concatenate(sketched),
        errors=errors,
    )


def sketches(images: np.ndarray) -> np.ndarray:
    """(n, S, S, C) uint8 -> (n, 8, 9) float32."""
    each = [duplicates.sketch(pixels) for pixels in images]
    return np.stack(each) if each else np.empty((0, 8, 9), np.float32)
