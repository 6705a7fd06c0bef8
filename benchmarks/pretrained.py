"""Clusters on a pretrained encoder's features, beside what people do with these features today.

    python -m benchmarks.pretrained ucmerced=/data/ucmerced trashnet=/data/trashnet --seeds 0 1 2

Each folder has a sub-folder per class, which score at the end and do nothing else; K is given.
Features are made once per folder, so the seeds differ in trainings, k-means and UMAP. Writes
benchmarks/records/pretrained/NAME.json and prints a table: NMI and ACC, mean and spread. With
`--encoder none` everything is trained from scratch: NAME--none.json, a column of the same table.
`--more` keeps the seeds that the record has already. `--work DIRECTORY` keeps features and
trainings there, and goes on from what an earlier call left.
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
from vtcc.grouping.encode import sampled
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
SCRATCH = "from scratch"
BASELINE = "lite2"  # whose features the baselines have where training is from scratch


def measure(
    name: str, folder: Path, options: Options, seeds: list[int], kept: Path | None = None
) -> dict[str, Any]:
    """All methods on one folder, over seeds; `kept`: where features and trainings stay."""
    with tempfile.TemporaryDirectory(prefix="vtcc-bench-") as directory:
        work = Path(directory) if kept is None else kept
        work.mkdir(parents=True, exist_ok=True)
        listed = intake.listed(folder)
        if listed.labels is None:
            raise SystemExit(f"{folder}: no sub-folders, so nothing to score by")
        K = len(set(listed.labels))
        began = time.monotonic()
        prepared = prepare(replace(options, folder=folder, clusters=K), listed, work)
        seconds = time.monotonic() - began
        plain = None
        if prepared.features is None and options.encoder == "auto":  # the baselines, all the same
            plain = sampled(prepared.files, BASELINE, work, **options.decoding())[1]
        runs = [_run(prepared, plain, replace(options, clusters=K, seed=s), work, s) for s in seeds]
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


def _run(
    prepared: Prepared, plain: np.ndarray | None, options: Options, work: Path, seed: int
) -> dict[str, Any]:
    room = work / f"seed{seed}"
    room.mkdir(exist_ok=True)
    began = time.monotonic()
    deadline = began + 60 * options.minutes
    learned = learn(prepared, options, room, deadline=deadline)
    hog = gradients(prepared.cache.images)
    chosen = final.choose(learned, hog, seed=seed)
    seconds = time.monotonic() - began
    clusters = {"ours": (chosen.model.p.argmax(axis=1), np.arange(len(hog)))}
    simple = final.of_features(learned, seed=seed, mapped=chosen.mapped)
    if plain is not None:
        simple |= final.on_features(plain, BASELINE, learned.num_clusters, seed=seed)
    for name, simpler in simple.items():
        clusters[name] = (simpler.clusters, simpler.rows)
    labels = np.array(prepared.labels)
    scores = {}
    for name, (found, rows) in clusters.items():
        values = clustering_scores(labels[rows].tolist(), found)
        scores[name] = {key: round(values[key], 4) for key in ("nmi", "acc", "ari")}
    return {"seed": seed, "seconds": round(seconds, 1), "scores": scores}


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: a row per folder, NMI / ACC per method; then what ours gains over the others."""
    titles = [*METHODS.values(), SCRATCH]
    lines = ["| folder | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    gains = []
    for one in records:
        scores = {m: _scores(one, m) for m in METHODS}
        scratch = RECORDS / f"{one['name']}--none.json"
        if scratch.exists():
            scores[SCRATCH] = _scores(json.loads(scratch.read_text(encoding="utf-8")), "ours")
        cells = [_cell(scores.get(m)) for m in (*METHODS, SCRATCH)]
        lines.append(
            f"| {one['name']}, {one['images']:,} ({one['clusters']}) | {' | '.join(cells)} |"
        )
        simple = [scores[m] for m in ("kmeans_features", "umap_kmeans_features") if m in scores]
        ours = scores["ours"]
        if ours is not None and all(s is not None for s in simple) and simple:
            gains.append(ours[:, 0].mean() - max(s[:, 0].mean() for s in simple if s is not None))
    if gains:
        lines.append(
            f"\nNMI above the better of k-means and UMAP + k-means on the features: mean "
            f"{np.mean(gains):+.3f}, least {min(gains):+.3f}, {len(gains)} folders"
        )
    return "\n".join(lines)


def _scores(one: dict[str, Any], method: str) -> np.ndarray | None:
    """(seeds, 2) NMI and ACC; None where the folder was not grouped by this method."""
    values = [run["scores"].get(method) for run in one["runs"]]
    return None if None in values else np.array([[v["nmi"], v["acc"]] for v in values])


def _cell(values: np.ndarray | None) -> str:
    if values is None:
        return ""
    mean, spread = values.mean(axis=0), values.std(axis=0)
    return f"{mean[0]:.3f} ± {spread[0]:.3f} / {mean[1]:.3f} ± {spread[1]:.3f}"


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes the records, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrained", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--encoder", default="auto")
    parser.add_argument("--minutes", type=float, default=20.0, help="per seed, at most")
    parser.add_argument("--more", action="store_true", help="add to the seeds of the record")
    parser.add_argument("--work", type=Path, help="keep features and trainings here")
    options = parser.parse_args(arguments)
    RECORDS.mkdir(parents=True, exist_ok=True)
    records = []
    for item in options.folders:
        name, _, folder = item.partition("=")
        asked = Options(Path(folder), minutes=options.minutes, encoder=options.encoder)
        suffix = "" if options.encoder == "auto" else f"--{options.encoder}"
        file = RECORDS / f"{name}{suffix}.json"
        kept = options.work and options.work / f"{name}{suffix}"
        records.append(measure(name, Path(folder), asked, options.seeds, kept))
        if options.more and file.exists():
            known = json.loads(file.read_text(encoding="utf-8"))["runs"]
            runs = {run["seed"]: run for run in [*known, *records[-1]["runs"]]}
            records[-1] |= {"seeds": sorted(runs), "runs": [runs[seed] for seed in sorted(runs)]}
        text = json.dumps(records[-1], indent=1) + "\n"
        file.write_text(text, encoding="utf-8")
        print(table(records), flush=True)


if __name__ == "__main__":
    main()
