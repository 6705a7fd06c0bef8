"""A large collection: `vtcc cluster` on made images in tar shards, beside `vtcc predict` on them.

    python -m benchmarks.collection /data/photos --images 60000 --minutes 90

The images are crops of those in the folder, in other colours, as JPEGs of 64 pixels. Prints what
was measured as JSON: seconds, images/s, peak memory, sizes of page and tables, and whether each
image has one row. `--keep DIR` leaves shards and results there; shards that are there are used.
Other options are those of `vtcc cluster`.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtcc.data import folder
from vtcc.engine import record
from vtcc.grouping import assignments

SIDE = 64  # pixels
PER_SHARD = 2000
BROKEN = 997  # each so many-th file is no image


def make(source: Path, shards: Path, images: int, seed: int = 0) -> None:
    """Writes tars of JPEGs, each shard in one step.

    Args:
        source: a folder of images. shards: made when needed. images: how many.
    """
    shards.mkdir(parents=True, exist_ok=True)
    files = folder.listed(source)
    for number, start in enumerate(range(0, images, PER_SHARD)):
        out = shards / f"{number:05d}.tar"
        if out.exists():
            continue
        rng = np.random.default_rng([seed, number])
        with tarfile.open(out.with_suffix(".part"), "w") as archive:
            for i in range(start, min(start + PER_SHARD, images)):
                data = b"no image"
                if i % BROKEN != BROKEN - 1:
                    data = _jpeg(source / files[int(rng.integers(len(files)))], rng)
                about = tarfile.TarInfo(f"{i:07d}.jpg")
                about.size = len(data)
                archive.addfile(about, io.BytesIO(data))
        out.with_suffix(".part").rename(out)


def _jpeg(file: Path, rng: np.random.Generator) -> bytes:
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    side = int(min(picture.size) * rng.uniform(0.6, 1.0))
    x, y = (int(rng.integers(0, size - side + 1)) for size in picture.size)
    small = picture.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = np.asarray(small, np.float32) * rng.uniform(0.8, 1.2, 3)
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def run(*arguments: str) -> dict[str, Any]:
    """One command of vtcc in a process of its own: seconds, peak memory, images/s by stage.

    Raises:
        SystemExit: where it fails.
    """
    started = time.perf_counter()
    rates: dict[str, float] = {}
    command = [sys.executable, "-m", "vtcc", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"progress"'):
                progress = json.loads(line)["progress"]
                if "images_per_second" in progress:
                    rates[progress["stage"]] = progress["images_per_second"]
            else:
                print(line, end="", file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    # Of the largest child so far: `vtcc cluster` comes first and takes the most.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), "peak_bytes": peak, "images_per_second": rates}


def measure(room: Path, images: int, asked: list[str]) -> dict[str, Any]:
    """Both commands on the shards in `room`, and what they left.

    Args:
        images: how many there are. asked: options of `vtcc cluster`.
    """
    shards, results, table = room / "shards", room / "results", room / "predicted.parquet"
    cluster = run("cluster", str(shards), "--out", str(results), "--overwrite", *asked)
    predict = run("predict", str(shards), "--model", str(results / "model"), "--out", str(table))
    rows = assignments.read(results / "assignments.parquet")
    said = assignments.read(table)
    other = {row.file.rsplit("shards/", 1)[1]: row.cluster for row in said}
    summary = json.loads((results / "summary.json").read_text())
    told = {c["id"]: c["size"] for c in summary["clusters"]}
    counted = Counter(row.cluster for row in rows if row.cluster is not None)
    apart = sum(other[row.file] != row.cluster for row in rows)
    return {
        "images": images,
        "rows": len(rows),
        "each_once": len({row.file for row in rows}) == len(rows) == images,
        "unreadable": sum(bool(row.error) for row in rows),
        "counts_exact": told == {k: counted[k] for k in told},
        "in_another_cluster_by_predict": apart,
        "cluster": cluster | {"whole_images_per_second": round(images / cluster["seconds"], 2)},
        "predict": predict | {"whole_images_per_second": round(images / predict["seconds"], 2)},
        "bytes": {
            "page": (results / "report.html").stat().st_size,
            "sprites": sum(f.stat().st_size for f in (results / "report").iterdir()),
            "rest": sum(f.stat().st_size for f in (results / "rest").glob("*.npz")),
            "tables": sum(f.stat().st_size for f in results.glob("assignments.*")),
            "summary": (results / "summary.json").stat().st_size,
        },
        "collection": summary.get("collection"),
        "versions": record.versions(),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a folder of images")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--keep", type=Path, help="a folder for shards and results")
    options, others = parser.parse_known_args()  # the others are of vtcc cluster
    with tempfile.TemporaryDirectory(prefix="vtcc-bench-") as directory:
        room = options.keep or Path(directory)
        make(options.source, room / "shards", options.images)
        print(json.dumps(measure(room, options.images, others), indent=2))


if __name__ == "__main__":
    main()
