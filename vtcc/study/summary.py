"""A study's records as figures: spread per setting, paired differences to the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.analysis.scores import COMPARED, LABEL_FREE
from vtcc.study import records, tables
from vtcc.study.plan import Study
from vtcc.study.records import Spread
from vtcc.study.tables import Cell


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
        outdated: seeds whose records are not what the study would give now, each with what is
            other there: parameters (`evaluate` left out), code or images.
    """

    name: str
    note: str
    runs: dict[int, dict[str, Any]]
    failed: dict[int, str]
    changed: dict[str, tuple[Any, Any]]
    outdated: dict[int, str]

    def score(self, key: str) -> Spread | None:
        """Spread of a metric over the seeds."""
        return records.scores(self.runs.values(), key)

    def seconds(self) -> Spread | None:
        """Of training and evaluation, where the training ran."""
        taken = records.seconds(self.runs.values())
        return records.spread(taken) if taken else None


def rows(study: Study, root: Path, code: Mapping[str, Any] | None = None) -> list[Row]:
    """Every setting of a study, best first where all have been scored, else in file order.

    Args:
        study: it.
        root: directory of the records.
        code: of the project now, as `provenance.commit` gives it; None: records are not compared
            with it.
    """
    reference = {s.name: s for s in study.settings}[study.baseline or study.settings[0].name]
    there = config.flatten(reference.params)
    unsorted = []
    recorded = {setting.name: records.load(setting.record, root) for setting in study.settings}
    every = [run for runs in recorded.values() for run in runs.values()]
    every.sort(key=lambda run: run["date"])
    images = {records.seen(run["params"]): run["data_digest"] for run in every}  # the newest
    for setting in study.settings:
        here = config.flatten(setting.params)
        runs = recorded[setting.name]
        reasons = {seed: _outdated(run, here, code, images) for seed, run in runs.items()}
        failed = records.load(setting.record, root, "failed")
        unsorted.append(
            Row(
                name=setting.name,
                note=setting.note,
                runs=runs,
                failed={seed: f["reason"] for seed, f in failed.items()},
                changed=changes(there, here),
                outdated={seed: reason for seed, reason in reasons.items() if reason},
            )
        )
    key = main_score(study, unsorted)
    order: list[tuple[float, Row]] = []
    for row in unsorted:
        s = row.score(key)
        order.append((-s.mean if s else float("inf"), row))
    return [row for _, row in sorted(order, key=lambda pair: pair[0])]


def _outdated(
    run: dict[str, Any],
    here: dict[str, Any],
    code: Mapping[str, Any] | None,
    images: Mapping[str, str],
) -> str:
    if changes(run["params"], here):
        return "other parameters"
    if code is not None and not records.same_code(run, code):
        return "other code"
    same = run["data_digest"] == images[records.seen(run["params"])]
    return "" if same else "other images"


def changes(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Parameters of a training that differ, without what is only measured afterwards."""
    differing = records.differences(first, second)
    return {key: pair for key, pair in differing.items() if not key.startswith("evaluate.")}


def columns(rows: Sequence[Row]) -> list[str]:
    """The metrics to show: scores where there are labels, else what is known without."""
    present = {key for row in rows for run in row.runs.values() for key in run["metrics"]}
    scored = [s for s in COMPARED if s in present]
    return scored or [s for s in LABEL_FREE if s in present]


def main_score(study: Study, rows: Sequence[Row]) -> str:
    """The study's score, or the first figure there is."""
    present = {key for row in rows for run in row.runs.values() for key in run["metrics"]}
    return study.score if study.score in present else (*columns(rows), study.score)[0]


def difference(rows: Sequence[Row], baseline: str | None, row: Row, key: str) -> Spread | None:
    """A setting minus the baseline, seed by seed; None for the baseline and without pairs.

    Seeds of `unpaired` are left out.
    """
    base = _base(rows, baseline, row)
    apart = unpaired(rows, baseline, row)
    gains = []
    for seed, run in row.runs.items():
        if seed in base and seed not in apart:
            here, there = (r["metrics"].get(key) for r in (base[seed], run))
            if here is not None and there is not None:
                gains.append((run, there - here))
    return records.spread(records.measured(gains, key)) if gains else None


def unpaired(rows: Sequence[Row], baseline: str | None, row: Row) -> dict[int, str]:
    """Seeds that setting and baseline both have but that do not compare, each with the reason."""
    base = _base(rows, baseline, row)
    reasons = {n: records.unlike(base[n], run) for n, run in row.runs.items() if n in base}
    return {seed: reason for seed, reason in reasons.items() if reason}


def _base(rows: Sequence[Row], baseline: str | None, row: Row) -> dict[int, dict[str, Any]]:
    """What a setting is paired with: the baseline's runs; none for the baseline itself."""
    if row.name == baseline:
        return {}
    return next((r.runs for r in rows if r.name == baseline), {})


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """Mean, sample deviation and count of every shown metric, for a tracking store."""
    flat: dict[str, float] = {}
    for row in rows:
        for key in columns(rows):
            s = row.score(key)
            if s:
                flat[f"{key}_mean/{row.name}"] = s.mean
                flat[f"{key}_n/{row.name}"] = s.n
                if s.n > 1:
                    flat[f"{key}_std/{row.name}"] = s.std
    return flat


def shown(changed: dict[str, tuple[Any, Any]]) -> str:
    """Parameters that differ, on one line."""
    parts = [f"{key} {old} → {new}" for key, (old, new) in changed.items()]
    return "; ".join(parts)


def table(
    rows: Sequence[Row], baseline: str | None, main: str
) -> tuple[list[str], list[list[Cell]]]:
    """Head and rows of the comparison: scores, and `main` minus that of the baseline."""
    keys = columns(rows)
    head = ["setting", "seeds", *keys]
    head += [f"{main} minus {baseline}, paired"] if baseline else []
    lines = []
    for row in rows:
        failed = f"{len(row.failed)} failed" if row.failed else ""
        count = f"{len(row.runs)} ({failed})" if failed else str(len(row.runs))
        cells = [Cell(row.name, row.note, code=True), Cell(count)]
        cells += [tables.spread(row.score(key)) for key in keys]
        if row.name == baseline:
            cells.append(Cell("baseline"))
        elif baseline:
            gain, apart = difference(rows, baseline, row, main), unpaired(rows, baseline, row)
            cells.append(tables.difference(gain, records.by_reason(apart)))
        lines.append(cells)
    return head, lines
