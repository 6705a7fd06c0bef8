"""Samples of a coverage-guided fuzzer: those that reach new branches of vtcc are changed on.

    python -m benchmarks.fuzz.guided [--minutes 2] [--formats tiff zip tar pickle edits params ...]

atheris, which `make fuzz` installs into build/atheris, begins with the good files of
`python -m benchmarks.fuzz` and reads as that does. A row a format: runs, branches reached, what
failed. Exit status 1 where something did; the file that shows it is named.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[2] / "build" / "atheris"
FOUND = PACKAGES.parent / "fuzz"  # where files that failed are kept
FORMATS = ("tiff", "zip", "tar", "pickle", "idx", "edits", "params")  # read by our own Python
_DONE = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+)")


def fuzz(kind: str) -> None:
    """Reads samples of one format until libFuzzer ends this process; its options are in argv."""
    sys.path.append(str(PACKAGES))
    import atheris

    with atheris.instrument_imports(include=["vtcc"]):
        from benchmarks.fuzz.samples import FORMATS
        from benchmarks.fuzz.worker import READERS, read_image
        from vtcc.data import archive, images, tiff  # noqa: F401
        from vtcc.data.sources import arrays, pickles  # noqa: F401
        from vtcc.grouping import edits, edits_file  # noqa: F401
    read = READERS.get(kind, read_image)
    with tempfile.TemporaryDirectory() as name:
        corpus, place = Path(name) / "corpus", Path(name) / "place"
        corpus.mkdir()
        place.mkdir()
        for number, data in enumerate(FORMATS[kind][0](kind)):
            (corpus / str(number)).write_bytes(data)

        def once(data: bytes) -> None:
            read(data, random.Random(data), place)

        atheris.Setup([*sys.argv, str(corpus)], once)
        atheris.Fuzz()


def main() -> int:
    """Prints a row a format, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    options = parser.parse_args()
    if not PACKAGES.exists():
        print("atheris: not here (it has no wheel for this machine), so nothing is guided")
        return 0
    FOUND.mkdir(parents=True, exist_ok=True)
    bad = False
    for kind in options.formats:
        limits = (
            f"-max_total_time={max(1, round(options.minutes * 60 / len(options.formats)))}",
            "-max_len=20000", "-timeout=20", "-rss_limit_mb=2048",
            f"-artifact_prefix={FOUND}/{kind}-",
        )  # fmt: skip
        code = f"from benchmarks.fuzz.guided import fuzz; fuzz({kind!r})"
        done = subprocess.run(
            [sys.executable, "-c", code, *limits], capture_output=True, text=True, errors="replace"
        )
        found = _DONE.search(done.stderr)
        runs, reached = found.groups() if found else ("?", "?")
        print(f"{kind:8} {runs:>9} runs, {reached:>6} branches, exit status {done.returncode}")
        if done.returncode or not found:
            bad = True
            print(done.stderr[-3000:], file=sys.stderr)
    return int(bad)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
