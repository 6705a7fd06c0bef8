"""How far the confidence of `vtcc cluster` is from the share of images that are right.

    python -m benchmarks.calibration ucmerced=/data/ucmerced --work /data/work --seeds 0 1 2

Each folder has a sub-folder per class, which score at the end and do nothing else; K is given.
The expected calibration error (Guo et al. 2017, arXiv 1706.04599; 15 bins) against two truths, by
the best one-to-one match: the classes, and the clusters of the second training, which is what
confidence is softened to foretell. Before and after that. `--work` as of `benchmarks.pretrained`,
whose trainings it goes on from. Writes benchmarks/records/calibration.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.analysis.features import gradients
from vtcc.analysis.metrics import mapping
from vtcc.grouping import final, intake
from vtcc.grouping.learn import learn
from vtcc.grouping.options import Options
from vtcc.grouping.prepare import prepare

RECORD = Path(__file__).parent / "records" / "calibration.json"
BINS = 15


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean over images of |confidence - share right| of their bin, 0-1.

    Args:
        confidence: (N,) 0-1. right: (N,) bool.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in range(BINS)]
    return float(np.sum(gaps) / len(confidence))


def matched(truth: Sequence[int] | np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """(N,) bool: whether an image's cluster is the one that its truth is matched with."""
    of = mapping(truth, clusters)
    return np.array([of.get(k) == t for k, t in zip(clusters, truth, strict=True)])


def measure(folder: Path, work: Path, seeds: Sequence[int], minutes: float) -> list[dict[str, Any]]:
    """A row of errors per seed."""
    listed = intake.listed(folder)
    if listed.labels is None:
        raise SystemExit(f"{folder}: no sub-folders, so nothing to score by")
    K = len(set(listed.labels))
    work.mkdir(parents=True, exist_ok=True)
    prepared = prepare(Options(folder, clusters=K, minutes=minutes), listed, work)
    labels = np.array(prepared.labels)
    rows = []
    for seed in seeds:
        options = Options(folder, clusters=K, minutes=minutes, seed=seed)
        room = work / f"seed{seed}"
        room.mkdir(exist_ok=True)
        learned = learn(prepared, options, room, deadline=time.monotonic() + 60 * minutes)
        chosen = final.choose(learned, gradients(prepared.cache.images), seed=seed)
        after = chosen.model.p
        sharp = np.maximum(after, 1e-30) ** chosen.temperature
        before = sharp / sharp.sum(axis=1, keepdims=True)
        clusters, compared = after.argmax(axis=1), chosen.independent >= 0
        right = {
            "classes": (matched(labels, clusters), np.ones(len(labels), bool)),
            "second": (matched(chosen.independent[compared], clusters[compared]), compared),
        }
        row: dict[str, Any] = {"seed": seed, "temperature": round(chosen.temperature, 3)}
        for truth, (is_right, of) in right.items():
            for when, p in (("before", before), ("after", after)):
                error = calibration_error(p.max(axis=1)[of], is_right)
                row[f"{truth}_{when}"] = round(error, 4)
        rows.append(row | {"confidence": round(float(after.max(axis=1).mean()), 4)})
    return rows


def table(record: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row per folder, means and standard deviations over seeds."""
    keys = ["temperature", "second_before", "second_after", "classes_before", "classes_after"]
    lines = ["| folder | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for name, rows in record.items():
        values = [np.array([row[key] for row in rows]) for key in keys]
        cells = [f"{v.mean():.3f} ± {v.std():.3f}" for v in values]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes the record, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=20.0, help="per seed, at most")
    parser.add_argument("--work", type=Path, help="keep features and trainings here")
    options = parser.parse_args(arguments)
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    with tempfile.TemporaryDirectory(prefix="vtcc-bench-") as directory:
        for item in options.folders:
            name, _, folder = item.partition("=")
            work = (options.work or Path(directory)) / name
            record[name] = measure(Path(folder), work, options.seeds, options.minutes)
            RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(record))


if __name__ == "__main__":
    main()
