"""The process that reads the samples of a format and counts what they take."""

import functools
import gzip
import lzma
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.fuzz.case import forget_peak, peak_mib
from benchmarks.fuzz.samples import FORMATS, sample
from benchmarks.fuzz.texts import read_text

MAX_PIXELS = 10_000_000


def read_image(data: bytes, rng: random.Random, place: Path) -> None:
    """Decodes in one of the ways a user may ask for."""
    from vtcc.data.images import UnreadableImage, load

    del place
    channels, stretch = rng.choice((1, 3, 3, 4)), rng.choice(("type", "image", "percentile"))
    try:
        load(data, channels=channels, max_pixels=MAX_PIXELS, size=32, stretch=stretch)
    except UnreadableImage as error:
        _one_line(error.reason)


def read_camera(suffix: str, data: bytes, rng: random.Random, place: Path) -> None:
    """A RAW file or a film, which are known by their names."""
    from vtcc.data.images import UnreadableImage, load

    del rng
    file = place / f"sample{suffix}"
    file.write_bytes(data)
    try:
        load(file, channels=3, max_pixels=MAX_PIXELS, size=32)
    except UnreadableImage as error:
        _one_line(error.reason)


def read_archive(data: bytes, rng: random.Random, place: Path) -> None:
    """Unpacks, and looks for what was written elsewhere."""
    from vtcc.data import archive
    from vtcc.errors import VtccError

    pack = rng.choice((bytes, bytes, _gzip, _xz))
    (place / "sample").write_bytes(pack(data))
    with tempfile.TemporaryDirectory(dir=place) as inside:
        try:
            archive.known(place / "sample")
            archive.unpack(place / "sample", Path(inside), wanted=lambda name: None)
        except VtccError as error:
            _one_line(str(error))
        strays = {path.name for path in place.iterdir()} - {"sample", Path(inside).name}
    if strays:
        raise AssertionError(f"written outside: {sorted(strays)}")


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def read_arrays(data: bytes, rng: random.Random, place: Path) -> None:
    """A pickle or an idx file."""
    from vtcc.data.sources import arrays, pickles
    from vtcc.errors import VtccError

    del rng
    (place / "sample").write_bytes(data)
    try:
        if data[:2] in (b"\0\0", b"\x1f\x8b"):
            arrays.read_idx(place / "sample", dimensions=3)
        else:
            pickles.read(place / "sample")
    except VtccError as error:
        _one_line(str(error))


def read_words(kind: str, data: bytes, rng: random.Random, place: Path) -> None:
    """Edits or parameters."""
    from vtcc.errors import VtccError

    del rng
    try:
        read_text(kind, data, place)
    except VtccError as error:
        _one_line(str(error))


def _one_line(reason: str) -> None:
    if not reason or "\n" in reason or len(reason) > 1000:
        raise AssertionError(f"not one clear line: {reason!r}")


READERS = {
    "zip": read_archive,
    "tar": read_archive,
    "pickle": read_arrays,
    "idx": read_arrays,
    "dng": functools.partial(read_camera, ".dng"),
    "film": functools.partial(read_camera, ".mp4"),
    "edits": functools.partial(read_words, "edits"),
    "params": functools.partial(read_words, "params"),
}


def work(kind: str, seed: int, first: int, seconds: float, state: Any, results: Any) -> None:
    """Reads samples for so long; what became of them goes to `results`, one by one if bad."""
    files, read = FORMATS[kind][0](kind), READERS.get(kind, read_image)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff says there what it finds damaged
    number, longest, start = first, 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for file in files:
            read(file, random.Random(0), place)
        forget_peak()
        base = peak_mib()
        while time.monotonic() - start < seconds:
            state[0], state[1] = number, time.monotonic()
            data, rng = sample(kind, files, seed, number)
            try:
                read(data, rng, place)
            except BaseException as error:
                results.put((number, f"{type(error).__name__}: {error}"[:300]))
            took = time.monotonic() - state[1]
            if took > longest:
                longest, state[2] = took, took
            state[3] = max(0, peak_mib() - base)
            number += 1
    state[0] = number
