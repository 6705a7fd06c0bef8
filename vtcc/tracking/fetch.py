"""From the name of a model to a directory with its weights."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vtcc import paths
from vtcc.atomic import restore
from vtcc.errors import VtccError
from vtcc.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

_KINDS = ("models:/", "runs:/", "mlflow-artifacts:/")


def fetch(uri: str, room: Path) -> Path:
    """Fetches a model for a user who named it.

    Args:
        uri: such as `models:/vtcc-digits@champion`, `models:/vtcc-digits/3`, `runs:/ID/model`.
        room: a directory to put it in.

    Returns:
        The vtcc model directory, with model.safetensors.

    Raises:
        VtccError: when there is no such model, version or alias.
    """
    shown, parts = store.public_uri(uri), _parts(uri)
    if not uri.startswith(_KINDS):
        raise VtccError(
            f"{shown}: not fetched; name a model of MLflow such as models:/vtcc-digits@champion, "
            "or a model directory on this machine"
        )
    client = _client(uri)
    from mlflow.exceptions import MlflowException

    try:
        with store.quickly():
            if parts:
                _check_exists(client, uri, *parts)
        return download(uri, room)
    except MlflowException as error:
        where = store.public_uri(store.registry_uri() if parts else None)
        raise VtccError(
            f"{shown}: not found in {where} ({store.reason(error)}); name a model such as "
            "models:/vtcc-digits@champion, or a model directory"
        ) from error
    except (OSError, ImportError) as error:  # a store in a bucket needs packages of its own
        raise VtccError(
            f"{shown}: its files could not be fetched ({store.reason(error)}); train again, or "
            "name a model directory such as models/model"
        ) from error


def is_address(model: str) -> bool:
    """Whether a model is named by an address, not by a directory."""
    return re.match(r"[a-z][a-z0-9+.-]+:/", model) is not None


def directory_of(model: str, room: Path) -> Path:
    """Where a model's files are: in `room` when it had to be fetched.

    Raises:
        VtccError: when there is no such model.
    """
    if is_address(model):
        return fetch(model, room)
    directory = Path(model)
    for place in (directory, directory.parent):  # RESULTS or RESULTS/model, cut off in `refine`
        if place.name:
            restore(place)
    if not directory.is_absolute() and not directory.exists():
        directory = paths.project() / model
    if not directory.exists():
        raise VtccError(
            f"{model}: no such model; give --model RESULTS/model of `vtcc cluster`, or "
            "models:/vtcc-NAME@champion; in the pipeline, `dvc repro` trains one"
        )
    return model_directory(directory, model)


def version(uri: str) -> dict[str, str]:
    """Which version of a registered model a URI means now.

    Args:
        uri: `models:/vtcc-digits@champion`, `models:/vtcc-digits/3`, `models:/vtcc-digits/latest`.

    Returns:
        `name`, `version`, `uri` (of that very version), `run_id`.

    Raises:
        VtccError: when there is no such model, version or alias.
    """
    parts = _parts(uri)
    if parts is None:
        raise VtccError(f"{uri}: name a registered model, such as models:/vtcc-digits@champion")
    client = _client(uri)
    name, alias, number = parts
    with store.reachable(registry=True):
        _check_exists(client, uri, name, alias, number)
        if alias:
            registered = client.get_model_version_by_alias(name, alias)
        else:
            if number is None or number == "latest":
                number = str(max(map(int, versions(client, name))))
            registered = client.get_model_version(name, number)
    number = str(registered.version)
    where = f"models:/{name}/{number}"
    return {"name": name, "version": number, "uri": where, "run_id": registered.run_id or ""}


def _client(uri: str) -> "MlflowClient":
    """A client of the store that is to have it."""
    if re.match("(models|runs)://[^/]", uri):  # it names a store of its own, at Databricks
        return store.client()
    if parts := _parts(uri):
        return registry_of(store.public_uri(uri), parts[0])
    return store.existing(f"{store.public_uri(uri)}: not found")


def registry_of(asked: str, name: str) -> "MlflowClient":
    """A client of the store of registered models, for one that is `asked` for by its name."""
    return store.existing(f"{asked}: no registered model {name!r}", registered=True)


def _parts(uri: str) -> tuple[str, str | None, str | None] | None:
    """Name, alias and version of a registered model's URI; None of a logged model's, or a run's."""
    parts = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/([^/@]+))?/?", uri)
    return None if not parts or parts[1].startswith("m-") else (parts[1], parts[2], parts[3])


def _check_exists(
    client: "MlflowClient", uri: str, name: str, alias: str | None, version: str | None
) -> None:
    check_model(client, uri, name)
    aliases = {k: str(v) for k, v in client.get_registered_model(name).aliases.items()}
    if alias and alias not in aliases:
        held = ", ".join(f"{k} (version {v})" for k, v in sorted(aliases.items())) or "none"
        raise VtccError(f"{uri}: {name} has no alias {alias!r}; it has: {held}")
    if not alias and not version:
        raise VtccError(f"{uri}: which version? add @champion, @challenger or /1")
    if version and not (version == "latest" and versions(client, name)):
        check_version(client, uri, name, version)


def check_model(client: "MlflowClient", asked: str, name: str) -> None:
    """Raises VtccError, which begins with what was `asked` for, unless a model is registered."""
    known = {m.name for m in store.every(client.search_registered_models)}
    if name not in known:
        others = ", ".join(sorted(known)) or "none"
        where = store.public_uri(store.registry_uri())
        raise VtccError(
            f"{asked}: no registered model {name!r} in {where} (registered: {others}); "
            "`vtcc register` registers the one in models/model"
        )


def check_version(client: "MlflowClient", asked: str, name: str, version: str) -> None:
    """Raises VtccError as `check_model`, unless a registered model has a version."""
    there = versions(client, name)
    if version not in there:
        shown = ", ".join(sorted(there, key=int)[-10:]) or "none"
        raise VtccError(f"{asked}: {name} has no version {version}; it has: {shown}")


def versions(client: "MlflowClient", name: str) -> list[str]:
    """The numbers of all versions of a registered model."""
    registered = store.every(client.search_model_versions, f"name = '{name}'")
    return [str(v.version) for v in registered]


def download(uri: str, room: Path) -> Path:
    """Fetches what a URI names into `room`; returns the vtcc model directory in it.

    Raises:
        VtccError: when what it names is no vtcc model.
        MlflowException: when the store does not have it.
        OSError: when its files are gone.
    """
    from mlflow.artifacts import download_artifacts

    return model_directory(Path(download_artifacts(uri, dst_path=str(room))), uri)


def model_directory(where: Path, called: str) -> Path:
    """The vtcc model directory in `where`: itself, or inside an MLflow model or results.

    Raises:
        VtccError: when there is none; `called` names it for the user.
    """
    # The results of `vtcc cluster` hold it as `model`; MLflow keeps the name that the model's
    # directory had when it was logged.
    for inside in (where, where / "model", *sorted(where.glob("artifacts/*"))):
        if (inside / "model.safetensors").is_file():
            return inside
    raise VtccError(
        f"{called}: not a vtcc model (no model.safetensors in it); `vtcc train` writes one to "
        "models/model, `vtcc cluster` to RESULTS/model"
    )
