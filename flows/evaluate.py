"""The deployment `vtcc/evaluate`: any registered model on any images, scored where labels exist."""

import tempfile
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows import artifacts, models, session, stages, verbs
from flows.parameters import Alias, Dataset, Folder, RegisteredModel, Version
from flows.train import pictures
from vtcc import config, json_file, paths
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.runner import workspace

BASE = "folder"  # the run preset whose stages download and validate are taken


def run_name() -> str:
    """Model and images."""
    given = flow_run.parameters
    model = models.short(given.get("model") or "champion")
    which = given.get("version") or given.get("alias")
    on = given.get("dataset") or given.get("folder") or "params.yaml"
    return f"evaluate {model}{f' {which}' if which else ''} on {Path(str(on)).name}"


@flow(**session.OPTIONS, flow_run_name=run_name)
@session.explained
def evaluate(
    model: RegisteredModel | None = None,
    version: Version | None = None,
    alias: Alias | None = None,
    dataset: Dataset | None = None,
    folder: Folder | None = None,
    baselines: bool = False,
) -> Any:
    """Scores a registered model on a dataset, or assigns its images where nothing is labelled.

    Images are fetched and cached as the model reads them, in a private worktree. Scores,
    assignments and pictures go to an MLflow run of their own; the model's training keeps its
    scores, and nothing is registered.

    Args:
        model: a registered name such as vtcc-digits, or models:/NAME/3, models:/NAME@alias,
            runs:/ID/model; without it, the model of the dataset in params.yaml.
        version: of the registered name.
        alias: of the registered name; without version and alias, champion.
        dataset: a card of data/catalog.
        folder: images of your own, relative to the project; class folders are labels.
            Without dataset and folder, the dataset of params.yaml.
        baselines: also cluster the same images by the baselines of params.yaml, to compare.

    Returns:
        The figures of reports/assess/metrics.json.

    Raises:
        VtccError: on a model or images that are not there or do not fit together.
    """
    project = paths.project()
    if dataset and folder:
        raise VtccError(f"dataset {dataset!r} and folder {folder!r}: give one of them")
    if folder and not (project / folder).is_dir():
        raise VtccError(f"folder {folder}: no such directory (looked for {project / folder})")
    address = models.uri(model, version, alias, project)
    with session.session(trains=False), tempfile.TemporaryDirectory() as room:
        info: dict[str, Any] = stages.done(fetch(address, Path(room)))
        params = parameters(info, project, dataset, folder, baselines=baselines)
        with workspace.Workspace(project=project, private=True, params=params) as where:
            for stage in ("download", "validate"):
                stages.run(stage, where)
            verbs.run_task("assess", ["assess", address], where.directory, env=where.env)
            metrics = json_file.read(
                where.directory / paths.ASSESSED / paths.METRICS.name, "run the flow again"
            )
            description = f"- model: `{address}`\n- images: `{params['dataset']['source']}`"
            rows = artifacts.score_table(metrics)
            if not any(score in metrics for score in artifacts.SCORES):
                rows = [{"figure": key, "value": value} for key, value in metrics.items()]
                description += "\n- no labels of two classes, so no scores"
            artifacts.table("vtcc-scores", rows, description)
            pictures(where, paths.ASSESSED)
    get_run_logger().info("%s · %s", address, artifacts.one_line(metrics, "no scores: assigned"))
    return metrics


@task(name="model", cache_policy=NO_CACHE)
@session.explained
def fetch(address: str, room: Path) -> Any:
    """What a registered model says of itself, its `model.json`."""
    from vtcc.tracking import fetch as fetching

    return json_file.read(fetching.fetch(address, room) / "model.json", "register it again")


def parameters(
    info: dict[str, Any],
    project: Path,
    dataset: str | None,
    folder: str | None,
    *,
    baselines: bool,
) -> dict[str, Any]:
    """Parameters under which images are cached as a model reads them.

    Args:
        info: the model's `model.json`.
        project: directory of `params.yaml`.
        dataset: a card, or None.
        folder: images, or None; without both, what `params.yaml` names.
        baselines: keep those of `params.yaml`.

    Raises:
        VtccError: on an unknown card.
    """
    own = config.to_dict(config.load(project / paths.PARAMS))
    known = compose.names("run", project)
    values = compose.compose(BASE if BASE in known else None, project=project)
    if dataset or folder:
        changes = compose.changes(dataset, project=project)
        if folder:
            changes = {"dataset.source": folder}
            changes["dataset.name"] = config.fit_dataset_name(Path(folder).resolve().name)
            changes |= {"dataset.limit": 0, "dataset.holdout": 0.0}
    else:
        changes = {f"dataset.{key}": value for key, value in own["dataset"].items()}
    changes |= {
        "dataset.channels": info["channels"],
        "validate.image_size": info["cache_size"],
        "validate.max_pixels": info["max_pixels"],
        "validate.bands": info.get("bands", []),
        "validate.stretch": info.get("stretch", "type"),
        "validate.stretch_range": info.get("stretch_range", [0.0, 255.0]),
        # Photos of one's own may hold anything: what is unreadable is listed, not refused.
        "validate.max_unreadable": 1.0,
        "validate.max_duplicates": 1.0,
        "evaluate.baselines": list(own["evaluate"]["baselines"]) if baselines else [],
    }
    if "train" in info:
        changes |= config.flatten({"train": info["train"]})
    else:  # of the authors' code: nothing here is trained, but images must not be too small for it
        patch, side = values["train"]["model"]["patch_size"], info["cache_size"]
        changes["train.image_size"] = min(values["train"]["image_size"], side // patch * patch)
    changes = {key: value for key, value in changes.items() if key in config.flatten(values)}
    return config.override(values, changes)
