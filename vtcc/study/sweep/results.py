"""What comes of a sweep: the winner's parameters, and the trials in figures and words."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vtcc import config, paths, yaml_file
from vtcc.atomic import refuse_link, write_text
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.progress import several
from vtcc.regular import regular
from vtcc.study import records
from vtcc.study.sweep import draws
from vtcc.study.sweep.file import Sweep
from vtcc.study.tables import DASH, Cell

# Below the project.
FOLDER = paths.REPORTS / "sweep"
RESAMPLES = 10_000
_REMARK = re.compile(rb"# Trial \d+ of .+: objective ")  # begins what a sweep wrote
LEAST = 8  # trials for an interval: with fewer, resamples are too much alike


def target(sweep: Sweep, project: Path, write: Path | None) -> Path:
    """Where the winner's parameters go, found out before anything starts.

    Args:
        sweep: it.
        project: directory of `params.yaml`.
        write: as given, relative to the working directory; None for the default.

    Raises:
        VtccError: when nothing can be written there, or it is a link.
    """
    if write is None:
        return project / FOLDER / f"{sweep.name}.params.yaml"
    file = Path(write).absolute()
    if file.is_dir() or file.suffix not in (".yaml", ".yml"):
        raise VtccError(f"--write {write}: name a .yaml file, such as params.yaml")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise VtccError(f"--write {write}: {file.parent} is no directory that can be written to")
    refuse_link("--write", file)
    source = project / paths.PARAMS
    if file.exists() and source.exists() and file.samefile(source):
        return source  # however it is spelled: the former one is kept
    if not file.exists():
        return file
    try:
        ours = _REMARK.match(regular(file).read_bytes())
    except OSError:
        ours = None
    if not ours:
        raise VtccError(
            f"--write {write}: this file is there already and is not of a sweep; name another, or "
            "params.yaml of the project, which is kept in .vtcc/params when it is replaced"
        )
    return file


def write_params(sweep: Sweep, best: dict[str, Any], project: Path, file: Path) -> Path:
    """Writes the winner's complete parameters: a full training with what it was found with."""
    source = project / paths.PARAMS
    text = (
        regular(source).read_text(encoding="utf-8")
        if sweep.preset is None
        else compose.run_text(sweep.preset, project)
    )
    before = config.flatten(config.to_dict(config.from_dict(config.Params, yaml_file.parse(text))))
    now = config.flatten(sweep.full(best["overrides"]))
    changed = {k: v for k, v in now.items() if before[k] != v}
    words = (
        f"# Trial {best['number']} of {sweep.file.as_posix()}: objective "
        f"{best['metrics']['objective']:.4f} after {several(sweep.epochs, 'epochs')}.\n"
    )
    if file == source:
        compose.keep_params(project)
    write_text(file, words + config.edit(text, changed))
    return file


def afterwards(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How the objective did, judged by labels that it has not seen; {} without labels.

    Returns:
        `acc`: that of the chosen trial, the best, the median and the worst; `spearman`: rank
        correlation of objective and ACC over complete trials with `low` and `high`, the 95 %
        interval of 10,000 bootstrap resamples (percentiles), and `n`; from 8 trials on.
    """
    seen = [t for t in trials if t["state"] == "complete" and "acc" in t.get("scores", {})]
    if not seen:
        return {}
    import numpy as np

    acc = np.array([t["scores"]["acc"] for t in seen])
    objective = np.array([t["metrics"]["objective"] for t in seen])
    judged: dict[str, Any] = {
        "acc": {
            "chosen": float(acc[objective.argmax()]),
            "best": float(acc.max()),
            "median": float(np.median(acc)),
            "worst": float(acc.min()),
        }
    }
    if len(seen) >= LEAST:
        rho, low, high = spearman(objective, acc)
        judged["spearman"] = {"rho": rho, "low": low, "high": high, "n": len(seen)}
    return judged


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


def figures(trials: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the MLflow run of the sweep carries."""
    counts: dict[str, float] = {
        state: sum(t["state"] == state for t in trials)
        for state in ("complete", "pruned", "failed")
    }
    if best := draws.best(list(trials)):
        counts |= {"best_objective": best["metrics"]["objective"], "best_trial": best["number"]}
    return counts


def table(sweep: Sweep, trials: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Cell]]]:
    """Head and rows of all trials, in the order of `ranked`."""
    scored = any(t.get("scores") for t in trials)
    head = ["trial", "objective", "views", "neighbours", "clusters"]
    head += ["ACC (afterwards)", "NMI"] if scored else []
    head += [d.key.rpartition(".")[2] for d in sweep.space]
    rows = []
    for t in ranked(trials):
        m, s = t.get("metrics"), t.get("scores")
        if m:
            parts = (m["view_information"], m["neighbour_information"])
            cells = [Cell(f"{m['objective']:.4f}"), *(Cell(f"{part:.3f}") for part in parts)]
            cells.append(Cell(f"{m['effective_clusters']:.1f}"))
        else:
            words = (t["reason"],) if t["state"] == "failed" else ()
            quiet = "" if words else t.get("reason", "")
            cells = [Cell(t["state"], quiet, words, "free quiet"), *[Cell(DASH)] * 3]
        if scored:
            cells += [Cell(f"{s[k]:.3f}" if s else DASH, kind="quiet") for k in ("acc", "nmi")]
        cells += [Cell(value(t["overrides"][d.key])) for d in sweep.space]
        rows.append([Cell(str(t["number"])), *cells])
    return head, rows


def value(given: Any) -> str:
    """A value of a parameter."""
    return f"{given:.4g}" if isinstance(given, float) else str(given)


def ranked(trials: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The highest objective first, then what was pruned, what failed and what is under way."""
    order = list(records.STATES)
    return sorted(
        trials,
        key=lambda t: (order.index(t["state"]), -t.get("metrics", {}).get("objective", 0.0)),
    )


def sentences(trials: Sequence[dict[str, Any]]) -> list[str]:
    """What labels say of the search, once it is over; nothing without labels."""
    after = afterwards(trials)
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
    return ", ".join(f"{key.rpartition('.')[2]} {value(v)}" for key, v in values.items())
