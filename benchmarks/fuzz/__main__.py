"""Damaged and hostile images, archives and array files, made from good ones: nothing may escape.

    python -m benchmarks.fuzz [--minutes 5] [--seed 0] [--formats jpeg png ...] [--keep DIRECTORY]

A sample is a good file whose structure was changed: fields of headers take extreme values, parts
are repeated, dropped, exchanged or cut, checksums put right again. It must be read, or refused
with the one error its reader promises. Each format has a process of its own; a table says what
became of its samples, the longest time of one and how far memory rose. Sample i of a seed is the
same everywhere; `--keep` writes those that failed. Exit status 1 when one did.
"""

import argparse
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.fuzz.samples import FORMATS, sample

MAX_PIXELS = 10_000_000
MOST_SECONDS = 20.0  # of a sample; one that takes longer is killed
MOST_MIB = 1024


def read_image(data: bytes, rng: random.Random, place: Path) -> None:
    """Decodes in one of the ways a user may ask for."""
    from vtcc.data.images import UnreadableImage, load

    del place
    channels, stretch = rng.choice((1, 3, 3, 4)), rng.choice(("type", "image", "percentile"))
    try:
        load(data, channels=channels, max_pixels=MAX_PIXELS, size=32, stretch=stretch)
    except UnreadableImage as error:
        _one_line(error.reason)


def read_archive(data: bytes, rng: random.Random, place: Path) -> None:
    """Unpacks, and looks for what was written elsewhere."""
    import gzip
    import lzma

    from vtcc.data import archive
    from vtcc.errors import VtccError

    pack = rng.choice((bytes, bytes, gzip.compress, lzma.compress))
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


def _one_line(reason: str) -> None:
    if not reason or "\n" in reason or len(reason) > 1000:
        raise AssertionError(f"not one clear line: {reason!r}")


READERS = {
    "zip": read_archive,
    "tar": read_archive,
    "pickle": read_arrays,
    "idx": read_arrays,
}


def _rss_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10


def work(kind: str, seed: int, first: int, seconds: float, state: Any, results: Any) -> None:
    """Reads samples for so long; what became of them goes to `results`, one by one if bad."""
    files, read = FORMATS[kind][0](kind), READERS.get(kind, read_image)
    number, longest, start = first, 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for file in files:
            read(file, random.Random(0), place)
        base = _rss_mib()
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
            state[3] = max(0, _rss_mib() - base)
            number += 1
    state[0] = number


def fuzz(kind: str, seed: int, seconds: float, keep: Path | None) -> tuple[int, float, int, int]:
    """Samples read, the longest time in seconds, the rise of memory in MiB, and failures."""
    context = multiprocessing.get_context("spawn")
    end, first, failures, longest, rise = time.monotonic() + seconds, 0, [], 0.0, 0
    while (left := end - time.monotonic()) > 0:
        state, results = context.Array("d", [first, time.monotonic() + 30, 0, 0]), context.Queue()
        worker = context.Process(target=work, args=(kind, seed, first, left, state, results))
        worker.start()
        hung = False
        while worker.is_alive() and not hung:
            worker.join(0.5)
            while not results.empty():
                failures.append(results.get())
            hung = time.monotonic() - state[1] > MOST_SECONDS
        if hung:
            worker.kill()
            worker.join()
        while not results.empty():
            failures.append(results.get())
        first, longest, rise = int(state[0]), max(longest, state[2]), max(rise, int(state[3]))
        if worker.exitcode != 0:
            failures.append((first, "hung" if hung else f"ended by status {worker.exitcode}"))
            first += 1
    for number, reason in failures:
        print(f"{kind} sample {number} (--seed {seed}): {reason}", file=sys.stderr)
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{number}.{kind}").write_bytes(
                sample(kind, FORMATS[kind][0](kind), seed, number)[0]
            )
    return first, longest, rise, len(failures)


def main() -> int:
    """Prints a row per format."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=sorted(FORMATS), default=list(FORMATS))
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    bad = False
    print(f"{'format':8} {'samples':>8} {'failed':>7} {'longest s':>10} {'memory MiB':>11}")
    for kind in options.formats:
        share = options.minutes * 60 / len(options.formats)
        samples, longest, rise, failures = fuzz(kind, options.seed, share, options.keep)
        print(f"{kind:8} {samples:8} {failures:7} {longest:10.2f} {rise:11}", flush=True)
        bad |= bool(failures) or rise > MOST_MIB
    return int(bad)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
