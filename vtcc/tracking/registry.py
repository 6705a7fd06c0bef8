"""The model registry: `vtcc-<dataset>` with the aliases `challenger` and `champion`."""

import contextlib
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vtcc import config, paths
from vtcc.atomic import write_text
from vtcc.errors import VtccError
from vtcc.tracking import facts, fetch, packaging, promotion, runs, store

CHALLENGER = "challenger"
REGISTERED = "registered.json"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model.

    Attributes:
        name: of the registered model, `vtcc-<dataset>`.
        version: as the registry counts them, from "1".
        run_id: the run that carries the model.
        champion: whether this version holds the alias `champion`.
        reason: why the alias was moved to it, or not.
    """

    name: str
    version: str
    run_id: str
    champion: bool
    reason: str


def register(
    dataset_name: str,
    run_id: str | None,
    model_dir: Path = paths.MODEL,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    *,
    cache_dir: Path = paths.CACHE,
) -> Registered:
    """Registers a run's model; the same run again gives the same version.

    The version becomes `challenger`, and `champion` by the label-free rule
    (docs/selection.md). The decision against one and the same champion is taken once, so an
    alias that was moved by hand stays.

    Args:
        dataset_name: names the model.
        run_id: the training's run, or its child `evaluate`; where the store does not know it,
            the model is logged to a run of its own.
        model_dir: the model, for the comparison and where the run carries none.
        metrics: figures kept as tags of the version.
        tags: further tags of the version.
        cache_dir: the images on which challenger and champion are compared.

    Raises:
        VtccError: when the store cannot be reached or there is no model.
    """
    client = store.client()
    name = model_name(dataset_name)
    with store.alone():
        with store.reachable():
            run = _training_run(client, dataset_name, run_id, model_dir)
            model_id = runs.model_id(client, run) or packaging.log_model(run, model_dir).model_id
            version = _version(client, name, run, model_id)
            every = {**facts.encoder_tags(_encoder(model_dir)), **(tags or {})}
            _describe(client, name, version, run, dataset_name, metrics or {}, every)
            client.set_registered_model_alias(name, CHALLENGER, version)
        champion, reason = _decide(client, name, version, model_dir, cache_dir)
    result = Registered(name, version, run, champion, reason)
    _remember(result, client)
    return result


def register_current(directory: Path | None = None) -> Registered:
    """Registers what the pipeline in `directory` has produced, from its files alone.

    For the flow, after stages that DVC skipped or restored.

    Args:
        directory: holds params.yaml; the current one unless told.

    Raises:
        VtccError: when a file of the pipeline is missing, or as `register`.
    """
    here = Path(directory or ".")
    cache = _read(here / paths.CACHE / "cache.json")
    run = _read(here / paths.RUN)
    metrics = _read(here / paths.METRICS)
    return register(
        cache["name"],
        run.get("run_id"),
        here / paths.MODEL,
        {k: v for k, v in metrics.items() if not k.startswith("baseline_")},
        {"data_digest": cache["digest"]},
        cache_dir=here / paths.CACHE,
    )


def model_name(dataset_name: str) -> str:
    """`vtcc-<dataset>` in characters that MLflow names, URIs and shells all take.

    A name that changes on the way gets a short hash, so that two do not become one.
    """
    plain = unicodedata.normalize("NFKD", dataset_name).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.")
    if safe != dataset_name:
        short = hashlib.sha256(dataset_name.encode()).hexdigest()[:6]
        safe = f"{safe}-{short}" if safe else short
    return f"vtcc-{safe}"


def of_project() -> str:
    """The registered model's name for the images that params.yaml names."""
    return model_name(config.load().dataset.name)


def _encoder(model_dir: Path) -> dict | None:
    """The record of a model's pretrained encoder; None without one."""
    with contextlib.suppress(VtccError):  # a model that only its run carries
        return packaging.model_info(model_dir).get("encoder")
    return None


def _training_run(client: Any, dataset: str, run_id: str | None, model_dir: Path) -> str:
    """The run that carries the model: `run_id`, its parent, or one made for the purpose."""
    known = runs.known_run(client, run_id)
    if not known:
        return runs.adopt(client, dataset, {"run_id": run_id}, model_dir)
    parent = client.get_run(known).data.tags.get("mlflow.parentRunId")
    return runs.known_run(client, parent) or known


def _version(client: Any, name: str, run_id: str, model_id: str) -> str:
    import mlflow
    from mlflow.exceptions import MlflowException

    # Names hold no quote (see model_name), ids are hexadecimal.
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if found:
        return str(max(int(version.version) for version in found))
    source = f"models:/{model_id}"
    with contextlib.redirect_stderr(io.StringIO()):  # MLflow tells what we tell below
        try:
            made = mlflow.register_model(source, name, await_registration_for=60)
        except MlflowException as error:
            raise VtccError(f"{name}: not registered ({store.reason(error)})") from error
    return str(made.version)


def _describe(
    client: Any,
    name: str,
    version: str,
    run_id: str,
    dataset: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> None:
    commit, dirty = facts.git_state()
    every = {"dataset": dataset, "run_id": run_id, **tags}
    if commit:
        every |= {"git_commit": commit, "git_dirty": str(dirty).lower()}
    every |= {key: f"{value:.6g}" for key, value in metrics.items() if runs.is_finite(value)}
    known = client.get_model_version(name, version).tags
    for key, value in every.items():
        if known.get(key) != str(value):
            client.set_model_version_tag(name, version, key, str(value))
    shown = [f"{key} {metrics[key]:.3f}" for key in ("acc", "nmi", "ari") if key in metrics]
    text = f"VTCC clusters of {dataset}" + (f": {', '.join(shown)}" if shown else "")
    client.update_model_version(name, version, description=f"{text}. Run {run_id}.")


def _decide(
    client: Any, name: str, version: str, model_dir: Path, cache_dir: Path
) -> tuple[bool, str]:
    """Moves `champion` or not; returns whether `version` holds it, and why."""
    holder = promotion.holder(client, name)
    figures: dict[str, float] = {}
    tags = client.get_model_version(name, version).tags
    if holder == version:
        return True, tags.get("promotion", "set by hand")
    if holder is None:
        better, reason = True, "there was no champion"
    elif tags.get("compared_with") == holder:
        return False, tags.get("promotion", "")
    else:
        from vtcc.tracking import champion

        better, reason, figures = champion.challenge(
            model_dir, lambda room: fetch.download(f"models:/{name}/{holder}", room), cache_dir
        )
    verdict = "promoted" if better else "not promoted"
    reason = f"{verdict}: {reason}"
    with store.reachable():
        for key, value in figures.items():
            client.set_model_version_tag(name, version, key, f"{value:.6g}")
        if better:
            promotion.move(client, name, version, reason)
        else:
            client.set_model_version_tag(name, version, "promotion", reason)
        if figures or better:
            # Without figures the two were not compared: the next call tries again.
            client.set_model_version_tag(name, version, "compared_with", holder or "none")
    return better, reason


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VtccError(f"{path}: {error}; run `dvc repro` first") from None


def _remember(result: Registered, client: Any) -> None:
    """Keeps what is registered where `vtcc show` reads it without importing MLflow."""
    aliases = client.get_registered_model(result.name).aliases
    entry = asdict(result) | {"aliases": {k: str(v) for k, v in aliases.items()}}
    write_text(paths.home() / ".vtcc" / REGISTERED, json.dumps(entry, indent=2) + "\n")
