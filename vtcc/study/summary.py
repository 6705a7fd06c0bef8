"""A study's records as figures: spread per setting, paired differences to the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.study import records
from vtcc.study.plan import Study
from vtcc.study.records import Spread


@dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        name: of the setting.
        note: the study file's remark.
        runs: its records by seed.
        failed: reasons of runs that failed, by seed.
        changed: parameters that differ from the baseline's (or the first setting's):
            key -> (there, here). What `evaluate` measures is left out.
        outdated: seeds that were recorded with other parameters than the study has now,
            `evaluate` left out.
    """

    name: str
    note: str
    runs: dict[int, dict[str, Any]]
    failed: dict[int, str]
    changed: dict[str, tuple[Any, Any]]
    outdated: list[int]

    def score(self, key: str) -> Spread | None:
        """Spread of a metric over the seeds."""
        return records.scores(self.runs.values(), key)

    def seconds(self) -> Spread | None:
        """Of training and evaluation, where the training ran."""
        ran = [r for r in self.runs.values() if r["how"].get("train") == "ran"]
        if not ran:
            return None
        return records.spread([sum(r["seconds"].values()) for r in ran])


def rows(study: Study, root: Path) -> list[Row]:
    """Every setting of a study, best first where all have been scored, else in file order."""
    reference = {s.name: s for s in study.settings}[study.baseline or study.settings[0].name]
    there = config.flatten(reference.params)
    found = []
    for setting in study.settings:
        here = config.flatten(setting.params)
        runs = records.load(setting.record, root)
        fresh = records.failures(setting.record, root)
        found.append(
            Row(
                name=setting.name,
                note=setting.note,
                runs=runs,
                failed={seed: f["reason"] for seed, f in fresh.items()},
                changed=_differing(there, here),
                outdated=[s for s, r in runs.items() if _differing(r["params"], here)],
            )
        )
    key = main_score(study, found)
    order: list[tuple[float, Row]] = []
    for row in found:
        s = row.score(key)
        order.append((-s.mean if s else float("inf"), row))
    return [row for _, row in sorted(order, key=lambda pair: pair[0])]


def _differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    found = records.differences(one, other)
    return {key: pair for key, pair in found.items() if not key.startswith("evaluate.")}


def columns(found: Sequence[Row]) -> list[str]:
    """The metrics to show: scores where there are labels, else what is known without."""
    present = {key for row in found for run in row.runs.values() for key in run["metrics"]}
    scored = [s for s in records.SCORES if s in present]
    return scored or [s for s in records.LABEL_FREE if s in present]


def main_score(study: Study, found: Sequence[Row]) -> str:
    """The study's score, or the first figure there is."""
    present = {key for row in found for run in row.runs.values() for key in run["metrics"]}
    return study.score if study.score in present else (*columns(found), study.score)[0]


def paired(one: dict[int, dict[str, Any]], other: dict[int, dict[str, Any]], key: str) -> list:
    """(seed, other minus one) for every seed that both have."""
    found = []
    for seed in sorted(one.keys() & other.keys()):
        a, b = one[seed]["metrics"].get(key), other[seed]["metrics"].get(key)
        if a is not None and b is not None:
            found.append((seed, b - a))
    return found


def difference(study: Study, found: Sequence[Row], row: Row, key: str) -> Spread | None:
    """A setting minus the baseline, seed by seed; None for the baseline and without pairs."""
    base = next((r for r in found if r.name == study.baseline), None)
    if base is None or row is base:
        return None
    gains = [gain for _, gain in paired(base.runs, row.runs, key)]
    return records.spread(gains) if gains else None


def figures(found: Sequence[Row]) -> dict[str, float]:
    """Mean, sample deviation and count of every shown metric, for a tracking store."""
    flat: dict[str, float] = {}
    for row in found:
        for key in columns(found):
            s = row.score(key)
            if s:
                flat[f"{key}_mean/{row.name}"] = s.mean
                flat[f"{key}_n/{row.name}"] = s.n
                if s.n > 1:
                    flat[f"{key}_std/{row.name}"] = s.std
    return flat


def signed(s: Spread | None) -> str:
    """`+0.0123 ± 0.0045`."""
    if s is None:
        return "–"
    return f"{s.mean:+.4f}" + (f" ± {s.std:.4f}" if s.n > 1 else "")


def shown(changed: dict[str, tuple[Any, Any]]) -> str:
    """Parameters that differ, on one line."""
    parts = [f"{key} {old} → {new}" for key, (old, new) in changed.items()]
    return "; ".join(parts)


def table(study: Study, found: Sequence[Row]) -> str:
    """The table for a terminal."""
    keys, main = columns(found), main_score(study, found)
    head = ["setting", "n", *(f"{k}" for k in keys), f"{main} range"]
    if study.baseline:
        head.append(f"{main} minus {study.baseline}")
    lines = [head]
    for row in found:
        s = row.score(main)
        cells = [row.name, str(len(row.runs)) + (f" ({len(row.failed)} failed)" * bool(row.failed))]
        cells += [str(row.score(k) or "–") for k in keys]
        cells.append(f"{s.low:.4f}–{s.high:.4f}" if s and s.n > 1 else "–")
        if study.baseline:
            gain = difference(study, found, row, main)
            cells.append("baseline" if row.name == study.baseline else signed(gain))
        lines.append(cells)
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Rows of text as columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
