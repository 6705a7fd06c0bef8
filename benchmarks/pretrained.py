"""Clusters on a pretrained encoder's features, beside what people do with these features today.

    python -m benchmarks.pretrained ucmerced=/data/ucmerced trashnet=/data/trashnet --seeds 0 1 2

Each folder has a sub-folder per class, which score at the end and do nothing else; K is given.
Features are made once per folder, so the seeds differ in trainings, k-means and UMAP. Writes
benchmarks/records/pretrained/NAME.json and prints a table: NMI and ACC, mean and spread.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.analysis.features import gradients
from vtcc.analysis.metrics import clustering_scores
from vtcc.engine import record
from vtcc.grouping import final, intake
from vtcc.grouping.learn import learn
from vtcc.grouping.options import Options
from vtcc.grouping.prepare import prepare
from vtcc.grouping.state import Prepared

RECORDS = Path(__file__).parent / "records" / "pretrained"
METHODS = {
    "kmeans_features": "k-means on features",
    "umap_kmeans_features": "UMAP + k-means on features",
    "umap_hdbscan_features": "UMAP + HDBSCAN on features",
    "kmeans_embedding": "k-means, one training",
    "ours": "vtcc cluster",
}


def measure(name: str, folder: Path, options: Options, seeds: list[int]) -> dict[str, Any]:
    """All methods on one folder, over seeds."""
    with tempfile.TemporaryDirectory(prefix="vtcc-bench-") as directory:
        work = Path(directory)
        listed = intake.listed(folder)
        if listed.labels is None:
            raise SystemExit(f"{folder}: no sub-folders, so nothing to score by")
        K = len(set(listed.labels))
        began = time.monotonic()
        prepared = prepare(replace(options, folder=folder, clusters=K), listed, work)
        seconds = time.monotonic() - began
        runs = [_run(prepared, replace(options, clusters=K, seed=s), work, s) for s in seeds]
    return {
        "name": name,
        "images": len(prepared.cache.paths),
        "clusters": K,
        "encoder": prepared.params["train"]["model"]["encoder"],
        "prepare_seconds": round(seconds, 1),
        "seeds": seeds,
        "runs": runs,
        "versions": record.versions(),
    }


def _run(prepared: Prepared, options: Options, work: Path, seed: int) -> dict[str, Any]:
    room = work / f"seed{seed}"
    room.mkdir()
    began = time.monotonic()
    deadline = began + 60 * options.minutes
    learned = learn(prepared, options, room, deadline=deadline)
    hog = gradients(prepared.cache.images)
    chosen = final.choose(learned, hog, seed=seed)
    seconds = time.monotonic() - began
    clusters = {"ours": (chosen.model.p.argmax(axis=1), np.arange(len(hog)))}
    for name, simpler in final.of_features(learned, seed=seed).items():
        clusters[name] = (simpler.clusters, simpler.rows)
    labels = np.array(prepared.labels)
    scores = {}
    for name, (found, rows) in clusters.items():
        values = clustering_scores(labels[rows].tolist(), found)
        scores[name] = {key: round(values[key], 4) for key in ("nmi", "acc", "ari")}
    return {"seed": seed, "seconds": round(seconds, 1), "scores": scores}


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: a row per folder, NMI / ACC per method."""
    used = [m for m in METHODS if all(m in r["runs"][0]["scores"] for r in records)]
    lines = ["| folder | " + " | ".join(METHODS[m] for m in used) + " |"]
    lines.append("|---" * (len(used) + 1) + "|")
    for one in records:
        cells = []
        for method in used:
            values = np.array(
                [[run["scores"][method][k] for k in ("nmi", "acc")] for run in one["runs"]]
            )
            mean, spread = values.mean(axis=0), values.std(axis=0)
            cells.append(f"{mean[0]:.3f} ± {spread[0]:.3f} / {mean[1]:.3f} ± {spread[1]:.3f}")
        lines.append(
            f"| {one['name']}, {one['images']:,} ({one['clusters']}) | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes the records, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrained", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--encoder", default="auto")
    parser.add_argument("--minutes", type=float, default=20.0, help="per seed, at most")
    options = parser.parse_args(arguments)
    RECORDS.mkdir(parents=True, exist_ok=True)
    records = []
    for item in options.folders:
        name, _, folder = item.partition("=")
        asked = Options(Path(folder), minutes=options.minutes, encoder=options.encoder)
        records.append(measure(name, Path(folder), asked, options.seeds))
        text = json.dumps(records[-1], indent=1) + "\n"
        (RECORDS / f"{name}.json").write_text(text, encoding="utf-8")
        print(table(records), flush=True)


if __name__ == "__main__":
    main()
