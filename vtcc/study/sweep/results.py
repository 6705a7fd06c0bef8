"""What a sweep leaves: a record as JSON, a page, the winner's parameters; and figures of them."""

import datetime
import json
import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtcc import config, paths, yaml_file
from vtcc.atomic import write_text
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.study import summary
from vtcc.study.sweep.file import Sweep
from vtcc.study.sweep.storage import Trials

# Below the project.
FOLDER = paths.REPORTS / "sweep"
RESAMPLES = 10_000
LEAST = 8  # trials for an interval: with fewer, resamples are too much alike
KEPT = (
    *("number", "state", "values", "objective", "figures", "intermediate", "scores"),
    *("seconds", "how", "reason", "run_id"),
)


def target(sweep: Sweep, project: Path, write: Path | None) -> Path:
    """Where the winner's parameters go, found out before anything starts.

    Args:
        sweep: it.
        project: directory of `params.yaml`.
        write: as given, relative to the working directory; None for the default.

    Raises:
        VtccError: when nothing can be written there.
    """
    if write is None:
        return project / FOLDER / f"{sweep.name}.params.yaml"
    file = Path(write).absolute()
    if file.is_dir() or file.suffix not in (".yaml", ".yml"):
        raise VtccError(f"--write {write}: name a .yaml file, such as params.yaml")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise VtccError(f"--write {write}: {file.parent} is no directory that can be written to")
    return file


def record(
    sweep: Sweep, trials: Trials, surroundings: dict[str, Any], run_id: str | None
) -> dict[str, Any]:
    """All of a sweep as plain values."""
    found = trials.all()
    best = trials.best()
    return {
        "sweep": sweep.name,
        "title": sweep.title,
        "question": sweep.question,
        "file": sweep.file.as_posix(),
        "command": _command(sweep, surroundings),
        "preset": sweep.preset,
        "sampler": sweep.sampler,
        "pruning": sweep.pruning,
        "wanted": sweep.trials,
        "epochs": sweep.epochs,
        "seed": sweep.seed,
        "space": {d.key: d.described() for d in sweep.space},
        "params": config.flatten(sweep.trial({})),
        "trials": [{k: t[k] for k in KEPT if k in t} for t in found],
        "best": best["number"] if best else None,
        "importance": trials.importance(),
        "afterwards": afterwards(found),
        "surroundings": surroundings,
        "run_id": run_id,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write(made: dict[str, Any], project: Path) -> tuple[Path, Path]:
    """Writes the record and its page; returns both files.

    What the surroundings of a call say is kept when a later call had nothing to run.
    """
    from vtcc.study.sweep import page

    file = project / FOLDER / f"{made['sweep']}.json"
    before = read_json(file)
    if not made["surroundings"] and before.get("trials") == made["trials"]:
        made["surroundings"], made["command"] = before["surroundings"], before["command"]
        made["date"] = before["date"]
    write_text(file, json.dumps(made, indent=1) + "\n")
    html = project / paths.REPORTS / f"sweep-{made['sweep']}.html"
    write_text(html, page.render(made))
    return file, html


def write_params(sweep: Sweep, best: dict[str, Any], project: Path, file: Path) -> Path:
    """Writes the winner's complete parameters: a full training with what it was found with."""
    source = project / paths.PARAMS
    text = (
        source.read_text(encoding="utf-8")
        if sweep.preset is None
        else compose.run_text(sweep.preset, project)
    )
    before = config.flatten(config.to_dict(_parsed(text)))
    now = config.flatten(sweep.full(best["values"]))
    changed = {k: v for k, v in now.items() if before[k] != v}
    words = (
        f"# Trial {best['number']} of {sweep.file.as_posix()}: objective {best['objective']:.4f} "
        f"after {sweep.epochs} epochs.\n"
    )
    if file == source:
        compose.keep_params(project)
    write_text(file, words + config.edit(text, changed))
    return file


def _parsed(text: str) -> config.Params:
    return config.from_dict(config.Params, yaml_file.parse(text))


def afterwards(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How the objective did, judged by labels that it has not seen; {} without labels.

    Returns:
        `acc`: that of the chosen trial, the best, the median and the worst; `spearman`: rank
        correlation of objective and ACC over complete trials with `low` and `high`, the 95 %
        interval of 10,000 bootstrap resamples (percentiles), and `n`; from 8 trials on.
    """
    seen = [t for t in trials if t["state"] == "complete" and "acc" in t["scores"]]
    if not seen:
        return {}
    import numpy as np

    acc = np.array([t["scores"]["acc"] for t in seen])
    objective = np.array([t["objective"] for t in seen])
    found: dict[str, Any] = {
        "acc": {
            "chosen": float(acc[objective.argmax()]),
            "best": float(acc.max()),
            "median": float(np.median(acc)),
            "worst": float(acc.min()),
        }
    }
    if len(seen) >= LEAST:
        rho, low, high = spearman(objective, acc)
        found["spearman"] = {"rho": rho, "low": low, "high": high, "n": len(seen)}
    return found


def spearman(x: Any, y: Any) -> tuple[float, float, float]:
    """Rank correlation and its 95 % percentile bootstrap interval; nan where x or y is constant."""
    import numpy as np
    from scipy.stats import rankdata

    def correlations(index: Any) -> Any:
        a, b = (rankdata(v[index], axis=1) for v in (np.asarray(x), np.asarray(y)))
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        return np.divide((a * b).sum(1), scale, out=np.full(len(a), np.nan), where=scale > 0)

    n = len(x)
    rho = float(correlations(np.arange(n)[None])[0])
    if math.isnan(rho):
        return rho, rho, rho
    drawn = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.nanpercentile(correlations(drawn), [2.5, 97.5])
    return round(rho, 4), round(float(low), 4), round(float(high), 4)


def figures(made: dict[str, Any]) -> dict[str, float]:
    """What the MLflow run of the sweep carries."""
    trials = made["trials"]
    found: dict[str, float] = {
        state: sum(t["state"] == state for t in trials)
        for state in ("complete", "pruned", "failed")
    }
    best = next((t for t in trials if t["number"] == made["best"]), None)
    if best is not None:
        found |= {"best_objective": best["objective"], "best_trial": best["number"]}
    return found


def table(made: dict[str, Any], rows: int = 10) -> str:
    """The best trials for the terminal."""
    complete = sorted(
        (t for t in made["trials"] if t["state"] == "complete"), key=lambda t: -t["objective"]
    )
    scored = any(t["scores"] for t in complete)
    lines = [["trial", "objective", *(["ACC, NMI (afterwards)"] if scored else []), "values"]]
    for t in complete[:rows]:
        s = t["scores"]
        score = [f"{s['acc']:.4f}, {s['nmi']:.4f}" if s else "-"] if scored else []
        lines.append([str(t["number"]), f"{t['objective']:.4f}", *score, shown(t["values"])])
    return summary.aligned(lines)


def sentences(made: dict[str, Any]) -> list[str]:
    """What labels say of the search, once it is over; nothing without labels."""
    after = made["afterwards"]
    if not after:
        return []
    a = after["acc"]
    lines = [
        "Afterwards, by labels that the search never read: ACC of the chosen trial "
        f"{a['chosen']:.3f}, best {a['best']:.3f}, median {a['median']:.3f}, "
        f"worst {a['worst']:.3f}."
    ]
    if "spearman" in after and not math.isnan(after["spearman"]["rho"]):
        r = after["spearman"]
        lines.append(
            f"Rank correlation (Spearman) of objective and ACC over {r['n']} trials: "
            f"{r['rho']:.2f} (95 % bootstrap interval {r['low']:.2f} to {r['high']:.2f})."
        )
    return lines


def searched(bounds: dict[str, Any]) -> str:
    """A dimension in words: `0.0001 to 0.005, by its logarithm`."""
    if "choices" in bounds:
        return ", ".join(map(str, bounds["choices"]))
    step = f" in steps of {bounds['step']}" if "step" in bounds else ""
    return f"{bounds['low']} to {bounds['high']}{step}" + (
        ", by its logarithm" if bounds.get("log") else ""
    )


def shown(values: dict[str, Any]) -> str:
    """Values with the last part of their keys: `learning_rate 0.001, rotation 10`."""
    words = []
    for key, value in values.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        words.append(f"{key.rpartition('.')[2]} {text}")
    return ", ".join(words)


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file; {} where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _command(sweep: Sweep, surroundings: dict[str, Any]) -> str:
    words = ["vtcc", "sweep", sweep.file.as_posix()]
    for name in ("jobs", "threads"):
        if surroundings.get(name, 0) > (name == "jobs"):
            words += [f"--{name}", str(surroundings[name])]
    return shlex.join(words)
