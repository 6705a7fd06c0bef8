"""`vtcc show`: what the last evaluation found, and where to look next.

Reads small files only; MLflow is never imported, torch where there are images and no model.
"""

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vtcc import config, json_file, paths
from vtcc.analysis.scores import SCORES
from vtcc.errors import VtccError
from vtcc.study import records

_CACHE = {"name": str | None, "images": int | None, "digest": str | None}
_MODEL = {
    "train": dict | None, "train.num_clusters": int, "train.image_size": int, "train.epochs": int,
    "train.seed": int, "model": dict | None, "encoder": dict | None, "encoder.name": str,
    "encoder.source": str, "encoder.licence": str | None,
}  # fmt: skip
_EVALUATED = {
    "images": str | None, "dataset": str | None, "train": dict | None, "train.num_clusters": int,
    "train.image_size": int, "train.epochs": int, "train.seed": int,
}  # fmt: skip
_REGISTERED = {
    "name": str, "version": str, "run_id": str | None, "reason": str, "aliases": dict,
    "dataset": str | None,
}  # fmt: skip
_COUNTS = ("images", "labelled_images", "classes", "num_clusters")  # said elsewhere
_COUNTED = (("images", "{:,} images"), ("num_clusters", "K = {}"))  # where no model is
_TITLES = {"vtcc": "[bold]VTCC[/]", "vtcc, held-out": "held out"}


def run(console: Console | None = None) -> None:
    """Prints scores beside the baselines, label-free figures, run and registered model.

    Raises:
        VtccError: when nothing has been evaluated yet.
    """
    console = console or Console(highlight=False)
    metrics = _read(paths.METRICS)
    if metrics is None:
        raise VtccError(
            f"{paths.METRICS}: nothing evaluated yet; run `dvc repro` (or `make repro`)"
        )
    _facts(console, metrics)
    if any(score in metrics for score in SCORES):
        console.print(_score_table(metrics))
    else:
        why = "All labels are of one class" if metrics.get("labelled_images") else "No labels"
        console.print(f"{why}, so no scores: look at the gallery.")
    free = _label_free(metrics)
    if free:
        console.print("[bold]label-free[/]  " + ", ".join(f"{k} {v}" for k, v in free.items()))
    name = _registry(console)
    console.print()
    if paths.GALLERY.exists():
        console.print(
            f"[bold]pictures[/]    {escape(str(paths.GALLERY.resolve()))}", soft_wrap=True
        )
    console.print("[bold]next[/]        make ui                  runs and models in MLflow")
    uri = f"models:/{name}@champion" if name else str(paths.MODEL)
    if not name and not paths.MODEL.exists():
        return
    console.print(
        f"            vtcc predict PATH... --model {shlex.quote(uri)} --out clusters.csv",
        markup=False,
        soft_wrap=True,
    )


def _facts(console: Console, metrics: dict[str, Any]) -> None:
    params = config.load()
    evaluated = _read(paths.EVALUATED, _EVALUATED) or {}
    model = _read(paths.MODEL / "model.json", _MODEL)
    if model is None and not evaluated.get("dataset"):
        counts = (
            words.format(metrics[key])
            for key, words in _COUNTED
            if isinstance(metrics.get(key), int)
        )
        console.print(", ".join(counts))
        console.print(
            f"[yellow]no model here[/]: the figures are those of {paths.METRICS} as it came, and "
            "params.yaml may say something else; `dvc repro` (or `dvc pull`) makes the model"
        )
        _standing(console, params)
        return
    now = config.to_dict(params.train)
    # What was evaluated, which params.yaml, images and model may have left behind since.
    train = evaluated.get("train") or (model or {}).get("train") or now
    cache = _read(paths.CACHE / "cache.json", _CACHE) or {}
    same = evaluated.get("images") in (None, cache.get("digest"))
    count = (cache if same else metrics).get("images")
    size = f"{count:,} images" if isinstance(count, int) and count else "images not here"
    console.print(
        f"[bold]{escape(evaluated.get('dataset') or cache.get('name') or 'images')}[/]: {size}, "
        f"K = {train['num_clusters']}, {train['image_size']} px, {train['epochs']} epochs, "
        f"seed {train['seed']}"
    )
    if model is None:
        console.print("[yellow]no model here[/]: `dvc repro` (or `dvc pull`) makes it")
        _standing(console, params)
    elif (encoder := model.get("encoder")) and (model.get("train") or train) == train:
        frozen = "frozen" if (model.get("model") or {}).get("frozen") else "trained on"
        console.print(
            f"[bold]encoder[/]     {escape(encoder['name'])} ({frozen}), "
            f"{escape(encoder.get('licence') or 'own file')}: {escape(encoder['source'])}",
            soft_wrap=True,
        )
    name = params.dataset.name
    if train != now or evaluated.get("dataset") not in (None, name):
        console.print(
            f"[yellow]params.yaml has changed since[/] ({escape(name)}, seed {now['seed']}): "
            "`dvc repro` brings this up to date"
        )


def _standing(console: Console, params: config.Params) -> None:
    """Prints how far a training is whose model is to come, where one has begun."""
    from vtcc.stages import train

    with contextlib.suppress(VtccError):  # what it needs is not here, so none can have begun
        if (epoch := train.standing(params)) is not None:
            console.print(
                f"[yellow]a training of params.yaml[/] stands at epoch {epoch} of "
                f"{params.train.epochs}: `dvc repro` goes on"
            )


def _score_table(metrics: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for score in SCORES:
        table.add_column(score.upper(), justify="right")
    for name, prefix in records.methods(metrics).items():
        title = _TITLES.get(name, name.replace("_", " "))
        table.add_row(title, *(_number(metrics.get(prefix + s)) for s in SCORES))
    return table


def _label_free(metrics: dict[str, Any]) -> dict[str, str]:
    return {
        key.replace("_", " "): _number(value)
        for key, value in metrics.items()
        if key not in {*SCORES, *_COUNTS}
        and not key.startswith(("baseline_", "holdout_"))
        and isinstance(value, int | float)
    }


def _registry(console: Console) -> str | None:
    """Prints run and registered version; returns the registered model's name, if any."""
    run = _read(paths.RUN, {"run_id": str | None})
    if run is not None:  # else of a model that is not here
        console.print(f"[bold]MLflow run[/]  {run.get('run_id') or 'not tracked'}", soft_wrap=True)
    registered = _read(paths.home() / ".vtcc" / "registered.json", _REGISTERED, "delete it")
    if registered is None:
        return None
    cache = _read(paths.CACHE / "cache.json", _CACHE) or {}
    if registered.get("dataset", cache.get("name")) != cache.get("name"):
        return None  # of other images
    if (run or {}).get("run_id") not in (None, registered.get("run_id")):
        console.print(
            f"[bold]registered[/]  last: {escape(registered['name'])} version "
            f"{registered['version']}, of another run (all versions: make ui)"
        )
        return registered["name"]
    aliases = [k for k, v in registered["aliases"].items() if v == registered["version"]]
    console.print(
        f"[bold]registered[/]  {escape(registered['name'])} version {registered['version']}"
        + (f" ({', '.join(sorted(aliases))})" if aliases else "")
        + f"; {escape(registered['reason'])}",
        soft_wrap=True,
    )
    return registered["name"]


def _read(
    path: Path, types: Mapping[str, Any] | None = None, remedy: str = "run `dvc repro` again"
) -> dict[str, Any] | None:
    return json_file.read(path, remedy, types) if path.is_file() else None


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
