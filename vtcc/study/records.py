"""Recorded runs: one JSON file per seed, `benchmarks/records/<study>--<setting>/seed<N>.json`.

A study without settings has `<study>` for the directory. Beside the seeds a record may have
`note.md` (a paragraph on what was asked) and `quoted.yaml` (figures of others: a list of
`{method, source, acc, nmi, ari}`); a directory named by the study alone may hold them for all
settings. A run that failed leaves `failed<N>.json` until it succeeds. A sweep has a directory of
its own, `benchmarks/records/sweeps/<sweep>`, with one for each trial; a trial that is under way
has `begun<N>.json`, one that was not worth going on with `pruned<N>.json`.
"""

import json
import math
import re
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import config, json_file
from vtcc.analysis.scores import COMPARED, TRAINED_BASELINES
from vtcc.atomic import write_text
from vtcc.errors import VtccError

# Below the project.
RECORDS = Path("benchmarks/records")
# What a study's seeds replace. Runs before vtcc 0.2 all evaluated with their preset's.
SEEDS = ("train.seed", "evaluate.seed")
SEEN = ("dataset.", "download.", "validate.")  # sections that decide which images a run sees
# How a run ended, and how its file is called.
STATES = {"complete": "seed", "pruned": "pruned", "failed": "failed", "running": "begun"}
NEEDED = {
    "command": str,
    "seed": int,
    "overrides": dict,
    "params": dict,
    "metrics": dict,
    "training": dict,
    "seconds": dict,
    "how": dict,
    "commit": str,
    "dirty": bool,
    "versions": dict,
    "cpu": str,
    "threads": int,
    "date": str,
    "data_digest": str,
}


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (n - 1; nan for one value), extremes and count."""

    mean: float
    std: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n == 1:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ± {self.std:.4f}"


def spread(values: Iterable[float]) -> Spread:
    """Summary of at least one value."""
    numbers = list(values)
    std = statistics.stdev(numbers) if len(numbers) > 1 else math.nan
    return Spread(statistics.fmean(numbers), std, min(numbers), max(numbers), len(numbers))


def directory(name: str, root: Path = RECORDS) -> Path:
    """Where the record `name` lives.

    Raises:
        VtccError: when the name would not make a good directory.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._]*(-{1,2}[a-z0-9._]+)*", name):
        raise VtccError(
            f"record {name!r}: use lower-case letters, digits, dots and dashes, such as "
            "digits or stem--conv"
        )
    return root / name


def load(name: str, root: Path = RECORDS, state: str = "complete") -> dict[int, dict[str, Any]]:
    """The runs of one record that are in a state, by seed, ascending; empty where there are none.

    Raises:
        VtccError: when a file is not a record, or a key of it is missing or ill-typed.
    """
    files = directory(name, root).glob(f"{STATES[state]}*.json")
    runs = [read(file, state) for file in files]
    return dict(sorted((run["seed"], run) for run in runs))


def read(file: Path, state: str = "complete") -> dict[str, Any]:
    """One recorded run, checked; of one that is not complete, the seed alone is.

    Raises:
        VtccError: when it is not one.
    """
    again = "record it again" if state == "complete" else "delete it"
    try:
        run = json_file.parsed(file)
    except (OSError, ValueError) as error:
        raise VtccError(f"{file}: damaged, not a recorded run ({error}); {again}") from None
    if not isinstance(run, dict):
        raise VtccError(f"{file}: not a recorded run; {again}")
    for key, kind in NEEDED.items() if state == "complete" else [("seed", int)]:
        if not isinstance(run.get(key), kind):
            raise VtccError(f"{file}: {key} is {run.get(key)!r}, expected {kind.__name__}; {again}")
    if file.name != (right := f"{STATES[state]}{run['seed']}.json"):
        raise VtccError(f"{file}: holds seed {run['seed']}; name it {right}")
    return run


def write(name: str, run: dict[str, Any], root: Path = RECORDS, state: str = "complete") -> Path:
    """Writes one run whole or not at all; returns its file.

    It replaces what is there of the same run in another state, but never a complete one.
    """
    folder, seed = directory(name, root), run["seed"]
    file = folder / f"{STATES[state]}{seed}.json"
    write_text(file, json.dumps(run, indent=1, sort_keys=True) + "\n")
    for other in STATES.keys() - {state, "complete"}:
        (folder / f"{STATES[other]}{seed}.json").unlink(missing_ok=True)
    return file


def refuse_others(file: Path, known: dict[str, Any], now: dict[str, Any], kind: str) -> None:
    """Refuses to mix a record with one of other parameters.

    A key that one of them lacks is none: it came or went with a version of vtcc.

    Args:
        file: the record's. known: what it was made with. now: what is asked for.
        kind: study or sweep.

    Raises:
        VtccError: naming the file and the first values that differ.
    """
    other = {k: v for k, v in differences(known, now).items() if k in known and k in now}
    if other:
        pairs = list(other.items())[:3]
        shown = ", ".join(f"{k} {_short(was)} (now {_short(is_)})" for k, (was, is_) in pairs)
        raise VtccError(
            f"{file}: recorded with {shown}; give the {kind} another name, or replace what is "
            "recorded with --again"
        )


def _short(value: Any) -> str:
    return text if len(text := str(value)) <= 60 else f"{text[:57]}..."


def same_code(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two runs are of one clean commit, or of the same code that figures depend on.

    Args:
        first, second: records, or what `provenance.commit` says of the present.
    """
    dirty = first.get("dirty") or second.get("dirty")
    clean = first.get("commit") == second.get("commit") and not dirty
    return clean or first.get("code", "") == second.get("code")


def seen(params: dict[str, Any]) -> str:
    """What decides which images a run sees, of its flat parameters."""
    return json.dumps({k: v for k, v in params.items() if k.startswith(SEEN)}, sort_keys=True)


def unlike(first: dict[str, Any], second: dict[str, Any]) -> str:
    """What keeps two runs from comparing by their parameters alone; empty where nothing does.

    Images may differ where the parameters that decide on them do.
    """
    if not same_code(first, second):
        return "other code"
    same = seen(first["params"]) == seen(second["params"])
    if same and first["data_digest"] != second["data_digest"]:
        return "other images"
    return "other weights" if other_weights(first, second) else ""


def other_weights(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether the file of weights that two runs name was replaced between them."""
    file = "train.model.weights"
    if first["params"].get(file) != second["params"].get(file):
        return False
    # Records before 0.2 lack it.
    return "weights" in first and second.get("weights", first["weights"]) != first["weights"]


def of_other_code(runs: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """A sentence on runs of one table that are of different code; empty where they are of one.

    Args:
        runs: each with what it is called.
    """
    groups: list[tuple[dict[str, Any], list[str]]] = []
    for name, run in runs:
        same = next((names for first, names in groups if same_code(first, run)), None)
        if same is None:
            groups.append((run, same := []))
        same.append(name)
    if len(groups) < 2:
        return ""
    parts = (f"commit {first.get('commit')}: {', '.join(names)}" for first, names in groups)
    return (
        f"Not all of these runs are of the same code, which figures may show ({'; '.join(parts)})."
    )


def by_reason(reasons: Mapping[int, str]) -> list[str]:
    """`{0: "other code", 1: "other code"}` -> `["seeds 0, 1: other code"]`."""
    seeds: dict[str, list[str]] = {}
    for seed, reason in reasons.items():
        seeds.setdefault(reason, []).append(str(seed))
    return [f"seeds {', '.join(numbers)}: {reason}" for reason, numbers in seeds.items()]


def seconds(runs: Iterable[dict[str, Any]]) -> list[float]:
    """What each training that ran took with its evaluation; a restored one tells nothing."""
    return [sum(r["seconds"].values()) for r in runs if r["how"].get("train") == "ran"]


def names(root: Path = RECORDS) -> list[str]:
    """Records with at least one seed, sorted."""
    return sorted({file.parent.name for file in root.glob("*/seed*.json")})


def methods(keys: Collection[str]) -> dict[str, str]:
    """Methods that were scored, in order, with the prefix of their metrics' names.

    Args:
        keys: of metrics.
    """
    prefixes = {"vtcc": "", "vtcc, held-out": "holdout_"}
    for key in keys:
        name, _, score = key.removeprefix("baseline_").rpartition("_")
        if key.startswith("baseline_") and score in COMPARED:
            prefixes.setdefault(name, f"baseline_{name}_")
    return {
        n: prefix for n, prefix in prefixes.items() if any(prefix + s in keys for s in COMPARED)
    }


def scores(runs: Iterable[dict[str, Any]], key: str) -> Spread | None:
    """Spread of one metric over runs, as `measured`; None where no run has it."""
    values = [(run, run["metrics"][key]) for run in runs if _number(run["metrics"].get(key))]
    return spread(measured(values, key)) if values else None


def measured(values: Iterable[tuple[dict[str, Any], float]], key: str) -> list[float]:
    """Those values of a metric that were measured independently.

    A baseline that reads nothing of the trained model is the same in all runs with one
    `evaluate.seed`: they are one measurement, which counts once, by its mean.

    Args:
        values: of runs. key: the metric.
    """
    trained = tuple(f"baseline_{name}_" for name in TRAINED_BASELINES)
    if not key.startswith("baseline_") or key.startswith(trained):
        return [value for _, value in values]
    by_seed: dict[Any, list[float]] = {}
    for run, value in values:
        by_seed.setdefault(run["params"].get("evaluate.seed"), []).append(value)
    return [statistics.fmean(same) for same in by_seed.values()]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Flat parameters that differ, `SEEDS` aside; None stands for a missing one."""
    keys = sorted((first.keys() | second.keys()) - set(SEEDS))
    return {k: (first.get(k), second.get(k)) for k in keys if first.get(k) != second.get(k)}


def preset_params(preset: str, presets: Path) -> dict[str, Any] | None:
    """Flat parameters of a preset as it stands today; None where it is gone."""
    file = presets / f"{preset}.yaml"
    return config.flatten(config.to_dict(config.load(file))) if file.is_file() else None
