"""Which label-free figure tells good trainings from bad ones? The search for `vtcc sweep`'s.

python -m benchmarks.objective train dev --seed 100 --trials 20     # minutes each; goes on
python -m benchmarks.objective train confirm --seed 200 --trials 16
python -m benchmarks.objective score dev confirm                    # table and record

Trials are drawn at random from the space of benchmarks/sweeps/digits.yaml. The objective was chosen
on the group `dev` alone; `confirm` was looked at once, after that. Labels are read to find out how
well each figure ranks trainings, which is the only way to find out.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from vtcc import config, paths
from vtcc.study.sweep import objective, results

ROOM = Path(".vtcc/objective")
RUNGS = (8, 16)  # epochs of 24, as `vtcc.study.sweep.trial` has them
RECORD = Path("benchmarks/records/sweeps/objective.json")


def drawn(seed: int, number: int) -> dict[str, Any]:
    """A random point of the space."""
    rng = np.random.default_rng([seed, number])

    def log(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    return {
        "train.optimizer.learning_rate": log(1e-4, 5e-3),
        "train.batch_size": int(rng.choice([64, 128, 256])),
        "train.loss.instance_temperature": log(0.1, 1.0),
        "train.loss.entropy_weight": log(0.25, 2.0),
        "train.model.stem": str(rng.choice(["conv", "patchify"])),
        "train.augment.crop_scale": [float(rng.choice([0.3, 0.5, 0.8])), 1.0],
        "train.augment.rotation": float(rng.uniform(0, 30)),
        "train.augment.elastic": float(rng.uniform(0, 0.1)),
        "train.augment.noise": float(rng.uniform(0, 0.4)),
        "train.augment.erase": float(rng.uniform(0, 0.6)),
        "train.augment.blur": float(rng.uniform(0, 1)),
        "train.augment.contrast": float(rng.uniform(0, 0.6)),
    }


def train(group: str, seed: int, trials: int, epochs: int) -> None:
    """Trains what is missing of a group and keeps the models."""
    from vtcc.analysis.selection import Candidate, choose
    from vtcc.data.cache import open_cache
    from vtcc.engine import checkpoint, loop

    cache = open_cache(paths.CACHE)
    statistics = {"mean": tuple(cache.mean), "std": tuple(cache.std)}
    for number in range(trials):
        room = ROOM / group / f"{number:03d}"
        if (room / "result.json").exists():
            continue
        values = drawn(seed, number)
        fixed = {
            "train.epochs": epochs, "train.seed": seed, "train.collapse": "off",
            "train.precision": "bf16", "train.attention": "plain", "train.compile": "never",
            "train.selection.points": 2, "train.selection.images": 1000,
        }  # fmt: skip
        preset = config.read_yaml(config.PRESETS / "digits.yaml")
        p = config.from_dict(config.Params, config.override(preset, fixed | values)).train
        rows, scratch = cache.rows("train"), room / "scratch"
        fitted = loop.fit(cache.images, rows, p, scratch=scratch, digest=cache.digest, **statistics)
        chosen = choose([Candidate(**c) for c in fitted.candidates])
        model = fitted.choose(chosen.step, chosen.head)
        info = {
            "model": config.to_dict(p.model), "num_clusters": p.num_clusters,
            "image_size": p.image_size, "cache_size": cache.image_size,
            "channels": cache.channels, "max_pixels": 10**8, **cache.decoding,
            "mean": cache.mean, "std": cache.std, "head": chosen.head,
        }  # fmt: skip
        checkpoint.save_model(room / "model", model, info)
        result = {"over": values, "chosen": vars(chosen)}
        (room / "result.json").write_text(json.dumps(result))
        shutil.rmtree(scratch)


def rungs(room: Path, yardstick: objective.Yardstick) -> dict[int, float]:
    """The objective of a training in progress."""
    from vtcc.engine import checkpoint

    info = checkpoint.read_info(room / "model")
    found = {}
    for epoch in RUNGS:
        state = checkpoint.load_state(room / f"e{epoch}.pt")
        assert state is not None, f"{room}: train it again"
        found[epoch] = objective.of_checkpoint(yardstick, state, info)
    return found


def pruned(trials: list[dict[str, Any]], epochs: int = 24) -> dict[str, float]:
    """What median pruning would have done, in 1,000 random orders of the trials.

    Returns:
        `epochs`: share of the epochs that are trained; `winner`: share of the orders in which the
        trial of the highest objective is still the one chosen.
    """
    rng, spent, kept = np.random.default_rng(0), 0.0, 0
    best = max(range(len(trials)), key=lambda i: trials[i]["figures"]["objective"])
    for _ in range(1000):
        done: list[dict[str, Any]] = []
        for i in rng.permutation(len(trials)):
            one, at = trials[i], epochs
            for rung in RUNGS:
                before = [t["rungs"][rung] for t in done]
                if len(done) >= 4 and one["rungs"][rung] < np.median(before):
                    at = rung + 1
                    break
            spent += at / epochs / len(trials) / 1000
            if at == epochs:
                done.append(one)
                kept += i == best
    return {"epochs": float(spent), "winner": kept / 1000}


def candidates(room: Path, yardstick: objective.Yardstick) -> dict[str, dict[str, float]]:
    """Every figure of one model, as it is and after its two most confused clusters are merged."""
    from vtcc.engine import predict

    predictor = predict.load(room / "model", device="cpu")
    chosen = json.loads((room / "result.json").read_text())["chosen"]
    a, b = (predictor.predict(view).cluster for view in yardstick.views)
    seen = predictor.predict(yardstick.images)
    K = predictor.num_clusters
    found = _figures(a, b, seen.cluster, yardstick, K) | {
        "-cluster_loss": -chosen["cluster_loss"],
        "-instance_loss": -chosen["instance_loss"],
        "confidence": float(seen.confidence.mean()),
    }
    table = np.zeros((K, K))
    np.add.at(table, (a, b), 1)
    table += table.T
    np.fill_diagonal(table, 0)
    size = table.sum(1)
    rate = table / np.sqrt(np.outer(size, size) + 1e-9)
    keep, gone = np.unravel_index(rate.argmax(), rate.shape)
    merged = [np.where(x == gone, keep, x) for x in (a, b, seen.cluster)]
    return {"figures": found, "merged": _figures(*merged, yardstick, K)}


def _figures(
    a: np.ndarray, b: np.ndarray, own: np.ndarray, yardstick: objective.Yardstick, K: int
) -> dict[str, float]:
    from vtcc.analysis import features, selection

    points = selection.principal_components(yardstick.images, selection.REFERENCE_DIMENSIONS)
    votes = np.stack([np.bincount(own[near], minlength=K) for near in yardstick.neighbours])
    ari = selection.adjusted_rand_index
    found = objective.figures(a, b, own, yardstick.neighbours, K)
    silhouette = features.silhouette(points, own)
    views_ari, near_ari = ari(a, b), ari(own, votes.argmax(1))
    return found | {
        "views_ari": views_ari,
        "neighbours_ari": near_ari,
        "both_ari": (views_ari + near_ari) / 2,
        "silhouette": silhouette,
        "champion_rule": views_ari + silhouette,
    }


def score(groups: list[str]) -> dict[str, Any]:
    """The record: figures and scores of every trial, correlations of every figure."""
    from vtcc.analysis.labels import read_labels
    from vtcc.analysis.metrics import clustering_accuracy
    from vtcc.data.cache import open_cache
    from vtcc.engine import predict

    cache, yardstick = open_cache(paths.CACHE), objective.Yardstick()
    labels = read_labels(paths.LABELS, cache.paths)
    assert labels is not None
    record: dict[str, Any] = {}
    for group in groups:
        trials = []
        for file in sorted((ROOM / group).glob("*/result.json")):
            cluster = predict.load(file.parent / "model", "cpu").predict(cache.images).cluster
            acc = clustering_accuracy(labels.label, cluster)
            values = json.loads(file.read_text())["over"]
            one = {"values": values, "acc": acc, "rungs": rungs(file.parent, yardstick)}
            trials.append(one | candidates(file.parent, yardstick))
        record[group] = {
            "trials": _rounded(trials),
            "correlations": _correlations(trials),
            "median_pruning": _rounded(pruned(trials)),
        }
    return record


def _correlations(trials: list[dict[str, Any]]) -> dict[str, Any]:
    acc = np.array([t["acc"] for t in trials])
    found = {}
    for name in trials[0]["figures"]:
        x = np.array([t["figures"][name] for t in trials])
        rho, low, high = results.spearman(x, acc)
        found[name] = {"rho": rho, "low": low, "high": high, "chosen": float(acc[x.argmax()])}
        if name in trials[0]["merged"]:
            rises = [t["merged"][name] > t["figures"][name] for t in trials]
            found[name]["merging_pays"] = float(np.mean(rises))
    return _rounded(found)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def table(record: dict[str, Any]) -> str:
    """Markdown: every figure by group, the highest correlation of the first group on top."""
    groups = list(record)
    sizes = [f"{g} (n = {len(record[g]['trials'])})" for g in groups]
    lines = [f"| figure | {' | '.join(sizes)} | merging clusters raises it |"]
    lines.append("|---" * (len(groups) + 2) + "|")
    first = record[groups[0]]["correlations"]
    for name in sorted(first, key=lambda n: -first[n]["rho"]):
        cells = [_interval(record[g]["correlations"][name]) for g in groups]
        shares = [record[g]["correlations"][name].get("merging_pays") for g in groups]
        pays = "–" if None in shares else ", ".join(f"{s:.0%}" for s in shares)
        lines.append(f"| {name} | {' | '.join(cells)} | {pays} |")
    return "\n".join(lines)


def sentence(record: dict[str, Any]) -> str:
    """What median pruning would have done, by group."""
    each = [
        f"{len(g['trials'])} trials of {name}: {g['median_pruning']['epochs']:.0%} of the epochs, "
        f"the same winner in {g['median_pruning']['winner']:.0%} of the orders"
        for name, g in record.items()
    ]
    return f"Median pruning, in 1,000 random orders of the trials. {'; '.join(each)}."


def _interval(c: dict[str, float]) -> str:
    return f"{c['rho']:.2f} ({c['low']:.2f} to {c['high']:.2f})"


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objective", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("train")
    one.add_argument("group")
    one.add_argument("--seed", type=int, required=True)
    one.add_argument("--trials", type=int, required=True)
    one.add_argument("--epochs", type=int, default=24)
    verbs.add_parser("score").add_argument("groups", nargs="+")
    given = parser.parse_args(arguments)
    if given.verb == "train":
        train(given.group, given.seed, given.trials, given.epochs)
        return
    record = score(given.groups)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))
    print(sentence(record))


if __name__ == "__main__":
    main()
