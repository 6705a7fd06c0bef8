"""`vtcc compare`: what differs between runs, in parameters, scores and what is in which cluster."""

import csv
import io
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from vtcc.data.spreadsheet import path_of
from vtcc.errors import VtccError
from vtcc.tracking import fetch, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

# Set by the machine, not by who trains: equal runs may differ here.
ASIDE = ("kernels.",)


@dataclass(frozen=True)
class Run:
    """A training to compare.

    Attributes:
        run_id: of the training's run. label: short, unique among those compared.
        experiment: its id. params, metrics: flat.
        clusters: cluster and confidence by image, where the run was evaluated.
    """

    run_id: str
    label: str
    experiment: str
    params: dict[str, str]
    metrics: dict[str, float]
    clusters: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Two runs on the images that both have.

    Attributes:
        images: in both. ari: adjusted Rand index between the two clusterings, -1 to 1.
        table: (K, K') counts, rows and columns in the order of `rows` and `columns`, matched
            clusters first.
        rows, columns: cluster numbers of the first and the second.
        moved: image, its cluster and confidence in the first, and in the second; those that
            are not where the best match of clusters puts them, the surest first. The second's
            cluster as the first numbers it; None where the first has no match of it.
    """

    images: int
    ari: float
    table: np.ndarray
    rows: list[int]
    columns: list[int]
    moved: list[tuple[str, int, float, int | None, float]]


def read(names: list[str]) -> list[Run]:
    """The runs behind names.

    Args:
        names: ids of runs or their beginnings (6 characters or more), or registered models
            (`models:/NAME@champion`, `models:/NAME/3`).

    Raises:
        VtccError: when there are fewer than two, one is not found, twice the same, or the store
            cannot be reached.
    """
    if len(names) < 2:
        raise VtccError("name two runs or more: vtcc compare RUN RUN ...; `make ui` lists them")
    client = store.existing(f"{names[0]}: no such run")
    compared: list[Run] = []
    with store.reachable():
        for name in names:
            run = client.get_run(runs.training_of(client, _run_id(client, name)))
            if any(other.run_id == run.info.run_id for other in compared):
                raise VtccError(f"{name}: the same run twice ({run.info.run_id})")
            label = run.data.tags.get("mlflow.runName") or run.info.run_id[:8]
            if any(other.label == label for other in compared):
                label = f"{label} ({run.info.run_id[:6]})"
            evaluations = _evaluations(client, run)
            evaluation = _shown(run, evaluations)
            figures = dict(run.data.metrics)
            if evaluation:
                # The training's run keeps the scores of all: those of others are no more true.
                for other in evaluations:
                    figures = {k: v for k, v in figures.items() if k not in other.data.metrics}
                figures |= evaluation.data.metrics
            compared.append(
                Run(
                    run.info.run_id,
                    label,
                    run.info.experiment_id,
                    dict(run.data.params),
                    figures,
                    _assignments(client, evaluation or run),
                )
            )
    return compared


def differences(values: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What is not the same in all, by key; None where one has no such key."""
    keys = sorted({key for of_run in values for key in of_run if not key.startswith(ASIDE)})
    table = {key: [of_run.get(key) for of_run in values] for key in keys}
    return {key: row for key, row in table.items() if any(value != row[0] for value in row)}


def pair(first: Run, second: Run) -> Pair | None:
    """How two runs sort the same images; None where one has no assignments, or none in common."""
    from sklearn.metrics import adjusted_rand_score

    from vtcc.analysis.metrics import contingency, mapping

    both = sorted(first.clusters.keys() & second.clusters.keys())
    if not both:
        return None
    a = [first.clusters[image][0] for image in both]
    b = [second.clusters[image][0] for image in both]
    match = mapping(a, b)  # cluster of the second -> cluster of the first
    table, rows, columns = contingency(a, b)
    matched = sorted(match, key=lambda column: match[column])
    order = [match[column] for column in matched]
    order += [row for row in rows if row not in order]
    across = matched + [column for column in columns if column not in matched]
    table = table[[rows.index(row) for row in order]][:, [columns.index(c) for c in across]]
    moved = []
    for image in both:
        (mine, sure), (theirs, surely) = first.clusters[image], second.clusters[image]
        if match.get(theirs) != mine:
            moved.append((image, mine, sure, match.get(theirs), surely))
    moved.sort(key=lambda entry: -min(entry[2], entry[4]))
    return Pair(len(both), float(adjusted_rand_score(a, b)), table, order, across, moved)


def url(compared: list[Run]) -> str:
    """The address of the same comparison in MLflow's pages, under `make ui`."""
    ids = quote(json.dumps([run.run_id for run in compared]))
    experiments = quote(json.dumps(sorted({run.experiment for run in compared})))
    return f"{store.pages()}/#/compare-runs?runs={ids}&experiments={experiments}"


def _run_id(client: "MlflowClient", name: str) -> str:
    if name.startswith("models:/"):
        if trained := runs.known_run(client, fetch.version(name)["run_id"]):
            return trained
        raise VtccError(
            f"{name}: the run that trained it is not in {store.public_uri()}; name another version "
            "or a run, `make ui` lists them"
        )
    if exact := runs.known_run(client, name):
        return exact
    if len(name) < 6:
        raise VtccError(f"{name}: no such run; a beginning needs 6 characters or more")
    everywhere = [e.experiment_id for e in store.every(client.search_experiments)]
    known = store.every(client.search_runs, everywhere, max_results=1000)
    matches = [run.info.run_id for run in known if run.info.run_id.startswith(name)]
    if len(matches) != 1:
        what = "several runs begin like this" if matches else "no such run"
        raise VtccError(
            f"{name}: {what} in {store.public_uri()}; `make ui` lists them, "
            "models:/NAME@champion names the registered one"
        )
    return matches[0]


def _evaluations(client: "MlflowClient", run: "MlflowRun") -> "list[MlflowRun]":
    """Those of a training, the latest first, also such as broke off."""
    below = f"tags.`{runs.PARENT}` = '{run.info.run_id}'"
    latest_first = ["attributes.start_time DESC"]
    where = [run.info.experiment_id]
    return list(store.every(client.search_runs, where, below, order_by=latest_first))


def _shown(run: "MlflowRun", evaluations: "list[MlflowRun]") -> "MlflowRun | None":
    """The evaluation whose scores a training shows, else its latest one; None without one."""
    whole = [e for e in evaluations if runs.EVALUATION in e.data.tags]
    shown = run.data.tags.get(runs.EVALUATED_BY)
    return next((e for e in whole if e.info.run_id == shown), whole[0] if whole else None)


def _assignments(client: "MlflowClient", run: "MlflowRun") -> dict[str, tuple[int, float]]:
    """Image -> cluster, confidence, where the run has them."""
    files = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    if "assignments.csv" not in files:
        return {}
    with tempfile.TemporaryDirectory() as room:
        where = client.download_artifacts(run.info.run_id, "assignments.csv", room)
        text = Path(where).read_text(encoding="utf-8")
    return {
        path_of(row["path"]): (int(row["cluster"]), float(row["confidence"]))
        for row in csv.DictReader(io.StringIO(text, newline=""))
        if row["cluster"]
    }
