"""Damaged and hostile images, archives and array files: nothing may escape.

    python -m benchmarks.fuzz [--minutes 5] [--seed 0] [--formats jpeg png ...] [--keep DIRECTORY]
    python -m benchmarks.fuzz --hand-made [zip tar image] [--every 5]

Files that are made by hand come first, about 900 (`zips`, `tars`, `pictures`): of each is known
whether it is refused, with which words, or what it holds; time and memory are measured in a process
of its own. They are all that is run with --hand-made.

Then samples: good files whose structure was changed: fields of headers take extreme values, parts
are repeated, dropped, exchanged or cut, checksums put right again. Each must be read, or refused
with the one error its reader promises. Each format has a process of its own; a table says what
became of its samples, the longest time of one and how far memory rose. Sample i of a seed is the
same everywhere; `--keep` writes those that failed. Exit status 1 when one did.
"""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

from benchmarks.fuzz import hand_made
from benchmarks.fuzz.samples import FORMATS, sample
from benchmarks.fuzz.worker import work

MOST_SECONDS = 20.0  # of a sample; one that takes longer is killed
MOST_MIB = 1024


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
    parser.add_argument("--hand-made", nargs="*", choices=list(hand_made.ROOMS))
    parser.add_argument("--every", type=int, help="one of so many made by hand, of the quick ones")
    options = parser.parse_args()
    rooms = options.hand_made or list(hand_made.ROOMS)
    bad = hand_made.run(rooms, every=options.every or 1, slow=options.every is None)
    if options.hand_made is not None:
        return int(bad)
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
