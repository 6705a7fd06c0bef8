"""How many clusters `vtcc cluster` finds, and its verdict, on folders whose answer is known.

    python -m benchmarks.groups ucmerced=/data/ucmerced:21,12,5,1 trashnet=/data/trashnet:6,3,1

Each folder has a sub-folder per class. After the colon: of how many classes the cases are made,
drawn by the case's seed; features are made once per folder. `-k auto` decides, and the verdict
speaks of its K; labels score at the end and do nothing else. Adds to
benchmarks/records/groups.json and prints a table.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.analysis.metrics import clustering_scores, contingency
from vtcc.data.cache import CacheWriter
from vtcc.engine import record
from vtcc.grouping import intake
from vtcc.grouping.judge import judge
from vtcc.grouping.learn import learn
from vtcc.grouping.options import AUTO_HIGH, AUTO_LOW, Options
from vtcc.grouping.prepare import prepare
from vtcc.grouping.state import Prepared

RECORD = Path(__file__).parent / "records" / "groups.json"
HEADER = (
    "| case | images | true K | found K (range) | NMI | ARI | whole | verdict | second training | "
    "in the map | looks | alike |"
)


def subset(prepared: Prepared, classes: list[int], room: Path) -> Prepared:
    """The images of some classes, with their features, as if the folder held no others."""
    rows = np.flatnonzero(np.isin(np.array(prepared.labels), classes))
    cache = prepared.cache
    with CacheWriter(
        room / "cache", name=cache.name, image_size=cache.image_size, channels=cache.channels
    ) as writer:
        for row in rows.tolist():
            writer.add(cache.paths[row], "train", np.array(cache.images[row]))
        smaller = writer.finish()
    features = prepared.features
    if features is not None:
        key = f"{features.info['key']}-{'-'.join(map(str, classes))}"
        features = replace(features, values=features.values[rows], info={"key": key})
    batch = min(prepared.params["train"]["batch_size"], len(rows))
    params = {**prepared.params, "train": {**prepared.params["train"], "batch_size": batch}}
    return replace(
        prepared,
        cache=smaller,
        sketches=prepared.sketches[rows],
        features=features,
        params=params,
    )


def whole(labels: list[int], clusters: np.ndarray) -> float:
    """1 where clusters unite whole classes or divide them, whatever K is: the higher of purity
    and inverse purity."""
    table, _, _ = contingency(labels, clusters)
    return float(max(table.max(axis=0).sum(), table.max(axis=1).sum()) / table.sum())


def case(prepared: Prepared, options: Options, K: int, seed: int, room: Path) -> dict[str, Any]:
    """One case: what is found, and what the verdict says."""
    room.mkdir(parents=True)
    labels = np.array(prepared.labels)
    names = sorted(set(labels.tolist()))
    classes = np.random.default_rng([seed, K]).permutation(names)[:K].tolist()
    part = subset(prepared, classes, room)
    options = replace(options, seed=seed)
    began = time.monotonic()
    learned = learn(part, options, room, deadline=began + 60 * options.minutes)
    judged = judge(part, learned, options)
    scores = clustering_scores(part.labels or [], judged.applied.cluster) if K > 1 else {}
    trust, count = judged.trust, learned.count
    return {
        "images": len(part.cache.paths),
        "classes": K,
        "seed": seed,
        "found": learned.num_clusters,
        "range": [count.low, count.high],
        "curve": [
            [c.clusters]
            + [
                None if part is None else round(part, 3)
                for part in (c.silhouette, c.stability, c.maps, c.score)
            ]
            for c in count.curve
        ],
        "scores": {k: round(scores[k], 4) for k in ("nmi", "ari", "acc")} if scores else None,
        "whole": round(whole(part.labels or [], judged.applied.cluster), 4) if K > 1 else None,
        "confidence": round(trust.confidence, 4),
        "trust": {k: v for k, v in trust.to_dict().items() if k != "confused"},
        "seconds": round(time.monotonic() - began, 1),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Markdown, a row per case."""
    lines = [HEADER, "|---" * HEADER.count(" | ") + "|---|"]
    for r in records:
        trust, scores = r["trust"], r["scores"] or {"nmi": float("nan"), "ari": float("nan")}
        lines.append(
            f"| {r['folder']} | {r['images']:,} | {r['classes']} | {r['found']} ({r['range'][0]}-"
            f"{r['range'][1]}) | {scores['nmi']:.2f} | {scores['ari']:.2f} | "
            f"{'' if r.get('whole') is None else format(r['whole'], '.2f')} | {trust['level']} | "
            f"{trust['seeds'] if trust['seeds'] is None else round(trust['seeds'], 2)} | "
            f"{trust['map_silhouette']:.2f} | {trust['looks']:.2f} | {trust['alike']:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes the record, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.groups", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER:K,K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default="auto")
    parser.add_argument("--minutes", type=float, default=20.0, help="per case, at most")
    given = parser.parse_args(arguments)
    records = json.loads(RECORD.read_text())["cases"] if RECORD.exists() else []
    for item in given.folders:
        name, _, rest = item.partition("=")
        path, _, numbers = rest.rpartition(":")
        options = Options(
            Path(path), clusters=(AUTO_LOW, AUTO_HIGH), minutes=given.minutes, encoder=given.encoder
        )
        with tempfile.TemporaryDirectory(prefix="vtcc-bench-") as directory:
            listed = intake.listed(Path(path))
            prepared = prepare(options, listed, Path(directory))
            for K in map(int, numbers.split(",")):
                room = Path(directory) / f"case{K}"
                found = {"folder": name} | case(prepared, options, K, given.seed, room)
                found["encoder"] = prepared.params["train"]["model"]["encoder"]
                same = ("folder", "classes", "seed", "encoder")
                records = [r for r in records if any(r[k] != found[k] for k in same)] + [found]
                RECORD.parent.mkdir(parents=True, exist_ok=True)
                written = {"cases": records, "versions": record.versions()}
                RECORD.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
                print(table([found]), flush=True)
    print(table(records), flush=True)


if __name__ == "__main__":
    main()
