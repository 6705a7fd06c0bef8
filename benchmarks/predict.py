"""`vtcc predict` against a plain loop, or itself by torch alone: images per second, side by side.

    python -m benchmarks.predict --images 4000 --side 256
    python -m benchmarks.predict --against torch --model RESULTS/model --folder FOLDER --images 300

The plain loop is what a tutorial has: Pillow in a torch DataLoader with one worker per core (0 is
tried as well, the better counts), the same squares, the same model, the same batches, a table at
the end. Both read the same files, in turns (A/B/A/B), each in a process of its own whose start is
not counted. Writes benchmarks/records/performance/predict.json.

`--against torch` is for a model on a pretrained encoder, which onnxruntime computes: the same
command with the encoder in torch. Converting the encoder counts. Clusters are compared as well.
Writes predict-encoder.json beside it.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RECORDS = Path("benchmarks/records/performance")
OUT = {"plain": RECORDS / "predict.json", "torch": RECORDS / "predict-encoder.json"}


def photographs(folder: Path, count: int, side: int) -> None:
    """Crops of scikit-learn's two photographs as JPEG."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(0)
    whole = [Image.fromarray(load_sample_image(n)) for n in ("china.jpg", "flower.jpg")]
    for i in range(count):
        image = whole[i % 2]
        x, y = rng.integers(0, image.width - 260), rng.integers(0, image.height - 260)
        crop = image.crop((int(x), int(y), int(x) + 256, int(y) + 256)).resize((side, side))
        crop.save(folder / f"{i:06d}.jpg", quality=90)


def own_images(folder: Path, source: Path, count: int) -> None:
    """Links to as many images below `source`, evenly spaced."""
    from vtcc.data.folder import listed

    names = listed(source)
    count = min(count, len(names))
    for i in range(count):
        name = names[i * len(names) // count]
        (folder / f"{i:06d}{Path(name).suffix}").symlink_to((source / name).resolve())


def ours(folder: Path, model: Path, out: Path, *, by_torch: bool) -> float:
    """Seconds of `vtcc predict`, imports excluded."""
    from vtcc.engine import predict as engine
    from vtcc.verbs import predict

    if by_torch:
        engine.MANY = sys.maxsize
    with tempfile.TemporaryDirectory() as room:
        predict.load(str(model), Path(room), device="cpu")
    start = time.perf_counter()
    predict.run([folder], str(model), out=out)
    return time.perf_counter() - start


class Files:
    """A torch dataset of squares, as a tutorial writes it."""

    def __init__(self, folder: Path, side: int):
        self.files = sorted(folder.iterdir())
        self.side = side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int):
        import numpy as np
        import torch
        from PIL import Image

        with Image.open(self.files[i]) as image:
            small = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(small)), str(self.files[i])


def plain(folder: Path, model: Path, out: Path, workers: int) -> float:
    """Seconds of the plain loop."""
    import torch
    from torch.utils.data import DataLoader

    from vtcc.engine import augment
    from vtcc.engine import predict as engine

    predictor = engine.load(model, "cpu")
    net, info = predictor.model, predictor.info
    start = time.perf_counter()
    rows = []
    loader = DataLoader(Files(folder, predictor.cache_size), batch_size=512, num_workers=workers)
    with torch.no_grad():
        for pixels, files in loader:
            x = augment.plain(pixels.permute(0, 3, 1, 2), info["image_size"])
            p = net.assign(augment.normalize(x, tuple(info["mean"]), tuple(info["std"])))
            confidence, cluster = p.max(dim=1)
            rows += zip(files, cluster.tolist(), confidence.tolist(), strict=True)
    with out.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return time.perf_counter() - start


def apart(a: Path, b: Path) -> dict[str, float]:
    """How far two tables of the same images are apart: other clusters, largest confidence gap."""
    with a.open(newline="") as one, b.open(newline="") as other:
        rows = list(zip(csv.DictReader(one), csv.DictReader(other), strict=True))
    return {
        "other_clusters": sum(x["cluster"] != y["cluster"] for x, y in rows),
        "confidence_gap": max(
            abs(float(x["confidence"]) - float(y["confidence"])) for x, y in rows
        ),
    }


def main() -> None:
    """Runs the contestants in turns and writes the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--side", type=int, default=256, help="of the files, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="directory; else an untrained one, 48 px")
    parser.add_argument("--folder", type=Path, help="of images of one's own; --images at most")
    parser.add_argument("--against", choices=tuple(OUT), default="plain")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        kind, folder, model, out = given.one
        places = Path(folder), Path(model), Path(out)
        if kind.isdigit():
            seconds = plain(*places, int(kind))
        else:
            seconds = ours(*places, by_torch=kind == "torch")
        print(json.dumps({"seconds": seconds}))
        return
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "photos"
        folder.mkdir()
        if given.folder:
            own_images(folder, given.folder, given.images)
        else:
            photographs(folder, given.images, given.side)
        count = len(list(folder.iterdir()))
        model = given.model or untrained(Path(room) / "model")
        times: dict[str, list[float]] = {}
        command = [sys.executable, "-m", "benchmarks.predict", "--one"]
        others = ["torch"] if given.against == "torch" else ["0", str(os.cpu_count())]
        for round_ in range(given.rounds + (given.against == "plain")):
            for kind in ("ours", *others):
                line = subprocess.run(
                    [*command, kind, str(folder), str(model), str(Path(room) / f"{kind}.csv")],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.splitlines()[-1]
                if round_ or given.against == "torch":  # the first one warms the files up
                    times.setdefault(kind, []).append(json.loads(line)["seconds"])
        gaps = {} if given.against == "plain" else apart(*(Path(room) / f"{k}.csv" for k in times))
    best = min((k for k in times if k != "ours"), key=lambda k: statistics.median(times[k]))
    ratios = [b / a for a, b in zip(times["ours"], times[best], strict=True)]
    record = {
        "command": "python -m benchmarks.predict"
        + (" --against torch" if given.against == "torch" else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "images": count,
        **({} if given.folder else {"side": given.side}),
        "threads": len(os.sched_getaffinity(0)),
        "seconds": times,
        **({"plain_workers": int(best)} if given.against == "plain" else gaps),
        "images_per_second": {
            "ours": count / statistics.median(times["ours"]),
            given.against: count / statistics.median(times[best]),
        },
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }
    out = given.out or OUT[given.against]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: record[k] for k in ("images_per_second", "ratio", "ratio_range")}))
    print(out)


def untrained(directory: Path) -> Path:
    """The model that `vtcc cluster` takes for photographs, with random weights."""
    from vtcc import config
    from vtcc.config import compose
    from vtcc.engine import checkpoint
    from vtcc.engine.model import build
    from vtcc.grouping.choices import SMALL

    sizes = {f"train.model.{k}": v for k, v in SMALL[48].items()}
    values = config.override(compose.compose("folder"), sizes | {"train.image_size": 48})
    model = config.from_dict(config.Params, values).train.model
    net = build(model, 10, image_size=48, channels=3).eval()
    info = {
        "model": config.to_dict(model),
        "num_clusters": 10,
        "image_size": 48,
        "cache_size": 64,
        "channels": 3,
        "max_pixels": 10**8,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    checkpoint.save_model(directory, net, info)
    return directory


if __name__ == "__main__":
    main()
