"""Features of a folder's images by a pretrained encoder, straight from the files."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtcc import config, encoders
from vtcc.atomic import atomic_file
from vtcc.config import compose
from vtcc.data import duplicates
from vtcc.data.cache import Cache
from vtcc.data.decoding import channels_of, decoded
from vtcc.data.images import UnreadableImage
from vtcc.engine import features, runtime
from vtcc.engine.frozen import encoder_identity
from vtcc.engine.normalization import encoder_constants, normalization
from vtcc.grouping.choices import LARGEST
from vtcc.progress import note
from vtcc.regular import regular

_SKETCHES = "sketches-of-files.npy"


def encoded(
    files: list[Path],
    cache: Cache,
    params: dict[str, Any],
    work: Path,
    on_left: Callable[[float], None] = lambda seconds: None,
) -> tuple[features.Features, np.ndarray]:
    """Embeds every image once, as it is and in augmented views; resumes what was interrupted.

    Each file is decoded at the encoder's own size, beside the encoder's work. Its sketch is of
    these pixels, as `vtcc add` and the images beside a sample have it: a copy is known as such.

    Args:
        files: of the N images of the cache. cache: stands in for a file that is gone by now.
        params: nested, with a frozen encoder. work: the directory of this run.
        on_left: as of `features.embed`.

    Returns:
        (N, V + 1, D) float16, a memory map, and what names it; and (N, 8, 9) float32 of
        `duplicates.sketch`.

    Raises:
        VtccError: when the encoder's weights are not on this machine.
    """
    section = config.from_dict(config.Params, params)
    train, size = section.train, section.train.image_size
    encoder = encoder_identity(train.model)
    note(f"encoder: {encoder['name']}, {encoder.get('licence', 'own file')}, {encoder['source']}")
    mean, std = normalization(train.normalize, cache, train.model.encoder)
    how = {
        "channels": cache.channels,
        "size": size,
        "max_pixels": section.validate.max_pixels,
        **cache.decoding,
    }

    sketches = _kept_sketches(work / _SKETCHES, len(files))

    def images(rows: Iterable[int]) -> Iterator[np.ndarray]:
        for row, image in decoded(rows, files.__getitem__, **how):
            if isinstance(image, UnreadableImage):
                why = image.reason
                note(f"{cache.paths[row]!r} can no longer be read ({why}): its thumbnail is used")
                pixels = _enlarged(np.array(cache.images[row]), size)
            else:
                pixels = image.pixels
            sketches[row] = duplicates.sketch(pixels)
            yield pixels

    embedded = features.embed(
        work / "features",
        lambda start: images(range(start, len(files))),
        len(files),
        runtime=runtime.of_encoder(
            train,
            channels=cache.channels,
            kind=section.embed.runtime,
            threads=train.threads,
        ),
        drawing=features.Drawing(
            size, mean, std, train.augment, section.embed.views, section.embed.seed
        ),
        encoder=encoder,
        digest=cache.digest,
        on_left=on_left,
    )
    for _ in images(np.flatnonzero(~sketches.any(axis=(1, 2))).tolist()):
        pass  # those that are lost, and black images, whose sketches are zeros too
    return embedded, np.array(sketches)


def _kept_sketches(file: Path, count: int) -> np.ndarray:
    """(count, 8, 9) float32, a memory map that a kill leaves as it is; zeros where none is yet."""
    empty = np.zeros((count, 8, 9), np.float32)
    with contextlib.suppress(OSError, ValueError, EOFError):
        kept: np.ndarray = np.load(regular(file), mmap_mode="r+", allow_pickle=False)
        if (kept.shape, kept.dtype) == (empty.shape, empty.dtype):
            return kept
    with atomic_file(file) as building, building.open("wb") as out:
        np.save(out, empty)
    opened: np.ndarray = np.load(regular(file), mmap_mode="r+", allow_pickle=False)
    return opened


def sampled(
    files: Sequence[Path], encoder: str, work: Path, **decoding: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A few images and their features, at the encoder's own size; unreadable ones are left out.

    Args:
        files: at least one can be read; bands of these are one or three.
        encoder: a name of `vtcc encoders` whose weights are here.
        work: keeps the features of an interrupted run. decoding: as of `Options.decoding`.

    Returns:
        Pixels (n, S, S, 3) uint8 and features (n, D) float16.
    """
    size = min(encoders.card(encoder).image_size, LARGEST)
    sizes = {"train.image_size": size, "validate.image_size": size}
    params = config.override(compose.compose("folder", encoder=encoder), sizes)
    train = config.from_dict(config.Params, params).train
    channels = channels_of(decoding, 3)
    images = (image for _, image in decoded(files, channels=channels, size=size, **decoding))
    pixels = np.stack([i.pixels for i in images if not isinstance(i, UnreadableImage)])
    if channels == 1:
        pixels = pixels.repeat(3, axis=3)
    embedded = features.embed(
        work / "sample",
        lambda start: pixels[start:],
        len(pixels),
        runtime=runtime.of_encoder(train, channels=3, kind="auto"),
        drawing=features.Drawing(size, *encoder_constants(encoder), train.augment, views=0, seed=0),
        encoder=encoder_identity(train.model),
        digest=hashlib.sha256(pixels.tobytes()).hexdigest(),
    )
    return pixels, embedded.values[:, 0]


def _enlarged(pixels: np.ndarray, size: int) -> np.ndarray:
    """(s, s, C) uint8 -> (size, size, C) uint8."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    x = torch.nn.functional.interpolate(x, (size, size), mode="bicubic").clamp(0, 255)
    return x[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
