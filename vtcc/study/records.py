"""Recorded runs: one JSON file per seed, `benchmarks/records/<study>--<setting>/seed<N>.json`.

A study without settings has `<study>` for the directory. Beside the seeds a record may have
`note.md` (a paragraph on what was asked) and `quoted.yaml` (figures of others: a list of
`{method, source, acc, nmi, ari}`); a directory named by the study alone may hold them for all
settings. A run that failed leaves `failed<N>.json` until it succeeds.
"""

import json
import math
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.atomic import write_text
from vtcc.errors import VtccError

# Below the project.
RECORDS = Path("benchmarks/records")
SCORES = ("acc", "nmi", "ari")
LABEL_FREE = ("confidence", "entropy", "smallest_cluster", "largest_cluster", "clusters_used")
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
    found = list(values)
    std = statistics.stdev(found) if len(found) > 1 else math.nan
    return Spread(statistics.fmean(found), std, min(found), max(found), len(found))


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


def load(name: str, root: Path = RECORDS) -> dict[int, dict[str, Any]]:
    """The runs of one record by seed, ascending; empty where there are none.

    Raises:
        VtccError: when a file is not a record, or a key of it is missing or ill-typed.
    """
    runs = {}
    for file in directory(name, root).glob("seed*.json"):
        runs_seed = read(file)
        runs[runs_seed["seed"]] = runs_seed
    return dict(sorted(runs.items()))


def read(file: Path) -> dict[str, Any]:
    """One recorded run, checked.

    Raises:
        VtccError: when it is not one.
    """
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VtccError(f"{file}: not a recorded run ({error}); record it again") from None
    if not isinstance(run, dict):
        raise VtccError(f"{file}: not a recorded run; record it again")
    for key, kind in NEEDED.items():
        if not isinstance(run.get(key), kind):
            raise VtccError(
                f"{file}: {key} is {run.get(key)!r}, expected {kind.__name__}; record it again"
            )
    if file.name != f"seed{run['seed']}.json":
        raise VtccError(f"{file}: holds seed {run['seed']}; name it seed{run['seed']}.json")
    return run


def write(name: str, run: dict[str, Any], root: Path = RECORDS) -> Path:
    """Writes one run whole or not at all; returns its file."""
    file = directory(name, root) / f"seed{run['seed']}.json"
    write_text(file, json.dumps(run, indent=1, sort_keys=True) + "\n")
    (file.parent / f"failed{run['seed']}.json").unlink(missing_ok=True)
    return file


def write_failure(name: str, failure: dict[str, Any], root: Path = RECORDS) -> Path:
    """Remembers a run that failed: seed, reason, date, params."""
    file = directory(name, root) / f"failed{failure['seed']}.json"
    write_text(file, json.dumps(failure, indent=1, sort_keys=True) + "\n")
    return file


def failures(name: str, root: Path = RECORDS) -> dict[int, dict[str, Any]]:
    """Runs that failed and have not succeeded since, by seed."""
    found = {}
    for file in sorted(directory(name, root).glob("failed*.json")):
        try:
            failure = json.loads(file.read_text(encoding="utf-8"))
            found[int(failure["seed"])] = failure
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise VtccError(f"{file}: damaged ({error}); delete it") from None
    return dict(sorted(found.items()))


def names(root: Path = RECORDS) -> list[str]:
    """Records with at least one seed, sorted."""
    return sorted({file.parent.name for file in root.glob("*/seed*.json")})


def methods(runs: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Methods that were scored, in order, with the prefix of their metrics' names."""
    found = {"vtcc": "", "vtcc, held-out": "holdout_"}
    for run in runs:
        for key in run["metrics"]:
            name, _, score = key.removeprefix("baseline_").rpartition("_")
            if key.startswith("baseline_") and score in SCORES:
                found.setdefault(name, f"baseline_{name}_")
    return {
        name: prefix
        for name, prefix in found.items()
        if any(prefix + score in run["metrics"] for run in runs for score in SCORES)
    }


def scores(runs: Iterable[dict[str, Any]], key: str) -> Spread | None:
    """Spread of one metric over runs; None where no run has it."""
    values = [run["metrics"][key] for run in runs if _number(run["metrics"].get(key))]
    return spread(values) if values else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Flat parameters that differ, `train.seed` aside; None stands for a missing one."""
    keys = sorted((one.keys() | other.keys()) - {"train.seed"})
    return {k: (one.get(k), other.get(k)) for k in keys if one.get(k) != other.get(k)}


def preset_params(preset: str, presets: Path) -> dict[str, Any] | None:
    """Flat parameters of a preset as it stands today; None where it is gone."""
    file = presets / f"{preset}.yaml"
    return config.flatten(config.to_dict(config.load(file))) if file.is_file() else None
