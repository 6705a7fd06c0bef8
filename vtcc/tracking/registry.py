"""The model registry: `vtcc-<dataset>` with the aliases `challenger` and `champion`."""

import contextlib
import functools
import hashlib
import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import config, json_file, paths, provenance
from vtcc.analysis.scores import COMPARED
from vtcc.engine import model_card
from vtcc.errors import VtccError
from vtcc.tracking import evaluations, fetch, packaging, promotion, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
_DESCRIPTION = 5000  # characters that the store's table holds
_COMPARISONS = 3  # with a champion that others exchange meanwhile


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
        with store.reachable(patient=True):
            run = _training_run(client, dataset_name, run_id, model_dir)
            model_id = runs.model_id(client, run) or packaging.log_model(run, model_dir).model_id
        with store.reachable(registry=True):
            version = _version(client, name, run, model_id)
            info = _info(model_dir)
            every = {**provenance.encoder_tags(info.get("encoder")), **(tags or {})}
            _describe(client, name, version, run, dataset_name, metrics or {}, every, info)
            client.set_registered_model_alias(name, CHALLENGER, version)
    # Comparing takes a while, in which nobody else has to wait for the store.
    champion, reason = _decide(client, name, version, model_dir, cache_dir)
    result = Registered(name, version, run, champion, reason)
    with store.reachable(registry=True):
        promotion.remember(client, asdict(result) | {"dataset": dataset_name})
    return result


def register_current(directory: Path = Path()) -> Registered:
    """Logs and registers what the pipeline in `directory` has produced, from its files alone.

    So it does not matter which stages ran and which DVC skipped or restored; the same again
    changes nothing.

    Args:
        directory: holds params.yaml.

    Raises:
        VtccError: when a file of the pipeline is missing, the reports are of another model or
            other images, MLflow is not installed, or as `register`.
    """
    cache = json_file.read(directory / paths.CACHE / "cache.json", evaluations.AGAIN)
    run = evaluations.log_current(directory)  # refuses reports of something else
    metrics = json_file.read(directory / paths.METRICS, evaluations.AGAIN)
    return register(
        cache["name"],
        run,
        directory / paths.MODEL,
        {k: v for k, v in metrics.items() if not k.startswith("baseline_")},
        {"data_digest": cache["digest"]},
        cache_dir=directory / paths.CACHE,
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


def _info(model_dir: Path) -> dict:
    """The content of `model.json`; empty of a model that only its run carries."""
    with contextlib.suppress(VtccError):
        return packaging.model_info(model_dir)
    return {}


def _training_run(client: "MlflowClient", dataset: str, run_id: str | None, model_dir: Path) -> str:
    """The run that carries the model: `run_id`, its parent, or one made for the purpose."""
    known = runs.known_run(client, run_id)
    if not known:
        return evaluations.adopt(client, dataset, {"run_id": run_id}, model_dir)
    return runs.training_of(client, known)


def _version(client: "MlflowClient", name: str, run_id: str, model_id: str) -> str:
    import mlflow
    from mlflow.exceptions import MlflowException

    # Names hold no quote (see model_name), ids are hexadecimal.
    of_run = f"name = '{name}' and run_id = '{run_id}'"
    known = [int(v.version) for v in store.every(client.search_model_versions, of_run)]
    if known:
        return str(max(known))
    source = f"models:/{model_id}"
    with contextlib.redirect_stderr(io.StringIO()):  # MLflow tells what we tell below
        try:
            registered = mlflow.register_model(source, name, await_registration_for=60)
        except MlflowException as error:
            raise VtccError(f"{name}: not registered ({store.reason(error)})") from error
    return str(registered.version)


def _describe(
    client: "MlflowClient",
    name: str,
    version: str,
    run_id: str,
    dataset: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    info: Mapping[str, Any],
) -> None:
    """Tags and description of a version, which ends with the model card and its figures."""
    every = {"dataset": dataset, "run_id": run_id, **tags}
    made = client.get_run(run_id).data.tags
    if "vtcc.origin" not in made:  # else of the commit that logged the model, not made it
        known_as = {"git_commit": "mlflow.source.git.commit", "git_dirty": "vtcc.git_dirty"}
        every |= {key: made[tag] for key, tag in known_as.items() if tag in made}
    every |= {key: f"{value:.6g}" for key, value in metrics.items() if runs.is_finite(value)}
    known = client.get_model_version(name, version).tags
    for key, value in every.items():
        if known.get(key) != str(value):
            client.set_model_version_tag(name, version, key, str(value))
    shown = [f"{key} {metrics[key]:.3f}" for key in COMPARED if key in metrics]
    text = f"VTCC clusters of {dataset}" + (f": {', '.join(shown)}" if shown else "")
    text = f"{text}. Run {run_id}."
    if info:
        figures = [(k, v) for k, v in sorted(metrics.items()) if runs.is_finite(v)]
        text += f"\n\n{model_card.body(info, figures=figures)}"
    client.update_model_version(name, version, description=text[:_DESCRIPTION])


def _decide(
    client: "MlflowClient", name: str, version: str, model_dir: Path, cache_dir: Path
) -> tuple[bool, str]:
    """Moves `champion` or not; returns whether `version` holds it, and why.

    The models are compared without a lock, and the alias is moved with one, if it is still
    where it was: else `version` is compared with the new champion.
    """
    from vtcc.tracking import champion

    for _ in range(_COMPARISONS):
        with store.reachable(registry=True):
            holder = promotion.holder(client, name)
            tags = client.get_model_version(name, version).tags
            if holder and holder in (version, tags.get("compared_with")):
                return holder == version, promotion.why_now(client, name, version, holder)
        figures: dict[str, float] = {}
        if holder is None:
            better, (reason, figures) = True, champion.unopposed(model_dir, cache_dir)
        else:
            fetched = functools.partial(fetch.download, f"models:/{name}/{holder}")
            better, reason, figures = champion.challenge(model_dir, fetched, cache_dir)
        reason = f"{'promoted' if better else 'not promoted'}: {reason}"
        with store.alone(), store.reachable(registry=True):
            if promotion.holder(client, name) != holder:
                continue
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
    return False, "not promoted: the champion changed during each comparison; register it again"
