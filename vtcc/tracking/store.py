"""Where runs and models are kept: the store's address, a client of it, its experiments.

MLflow takes seconds to import, so every function imports it for itself.
"""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import extras, paths, quiet
from vtcc.errors import VtccError, without_passwords
from vtcc.process import locks
from vtcc.progress import note

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
REGISTRY = "MLFLOW_REGISTRY_URI"  # MLflow's own; vtcc sets none
PORT = "MLFLOW_PORT"  # of `vtcc ui`; the Makefile hands it on
_NEEDED = ("a model or run in MLflow", "mlflow")

# A store that does not answer must not hold up a training for minutes (MLflow's own: 7 tries
# of 120 s with growing pauses). Uploads of models keep MLflow's patience.
_QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def tracking_uri() -> str:
    """The absolute address of the tracking store.

    `MLFLOW_TRACKING_URI` when set, else SQLite in the main checkout (`paths.home()`), the same
    from every working directory and git worktree. Relative paths in the variable are taken
    from there too: from a worktree they would name a throw-away database.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        return default_uri()
    sqlite = re.fullmatch(r"(sqlite(?:\+\w+)?):///([^/?][^?]*)(\?.*)?", uri)
    if sqlite and sqlite[2] != ":memory:" and not re.match(r"[A-Za-z]:[\\/]", sqlite[2]):
        path = _absolute(sqlite[2])
        return f"{sqlite[1]}:///{path.as_posix()}{sqlite[3] or ''}"
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return _absolute(uri.removeprefix("file:")).as_uri()
    if ":" not in uri and uri != "databricks":
        return _absolute(uri).as_uri()
    return uri


def default_uri() -> str:
    """The store used when `MLFLOW_TRACKING_URI` is not set."""
    return f"sqlite:///{(paths.home().resolve() / DATABASE).as_posix()}"


def registry_uri() -> str:
    """The address of the store of registered models: MLFLOW_REGISTRY_URI, else the same."""
    return os.environ.get(REGISTRY) or tracking_uri()


def _absolute(path: str) -> Path:
    return (paths.home() / Path(path).expanduser()).resolve()


def public_uri(uri: str | None = None) -> str:
    """The address without user and password, fit for messages and files."""
    return without_passwords(uri or tracking_uri())


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Inside, requests to a remote store give up early; what the user has set wins."""
    added = {name: value for name, value in _QUICK.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def reachable(*, patient: bool = False, registry: bool = False) -> Iterator[None]:
    """Turns a store's failure into one clear line.

    Args:
        patient: files are sent inside, with MLflow's own patience instead of `quickly`.
        registry: it is the store of registered models that is asked inside.

    Raises:
        VtccError: naming the store and what to do.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with contextlib.nullcontext() if patient else quickly():
            yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        uri = registry_uri() if registry else tracking_uri()
        if uri == default_uri() and missing(error):  # it could be read
            raise VtccError(f"MLflow store {public_uri(uri)}: {reason(error)}") from error
        if uri == default_uri():
            todo = (
                f"check that {paths.home()} is writable; if an older MLflow made the file, "
                f"run `mlflow db upgrade {uri}`"
            )
        elif registry and os.environ.get(REGISTRY):
            todo = f"start that server, or unset {REGISTRY} to use the store of the runs"
        else:
            todo = "start that server, or unset MLFLOW_TRACKING_URI to use a local file"
        raise VtccError(f"MLflow store {public_uri(uri)}: {reason(error)}; {todo}") from error


def pages() -> str:
    """Where MLflow's pages are: of the tracking server, else of the `vtcc ui` that runs now.

    Where none runs, where the next one would be.
    """
    uri = public_uri().rstrip("/")
    if uri.startswith(("http://", "https://")):
        return uri
    running = locks.alive(ui_marks())
    return running[0] if running else f"http://127.0.0.1:{os.environ.get(PORT) or 5000}"


def ui_marks() -> Path:
    """Where each `vtcc ui` of this project leaves its address for as long as it runs."""
    return paths.home() / ".vtcc" / "ui"


def reason(error: BaseException) -> str:
    """The first line of an error, short enough for one line and without passwords."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else type(error).__name__
    # Before it is cut: a password without its @ would not be known for one.
    text = without_passwords(text[:2000])
    return text if len(text) <= 200 else text[:197] + "..."


def client() -> "MlflowClient":
    """An `MlflowClient` of the store, which also becomes MLflow's own default in this process.

    Opening the default store creates the database, one process at a time.

    Raises:
        VtccError: when the store cannot be opened or reached.
    """
    quiet.apply()
    extras.need(*_NEEDED)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = tracking_uri()
    before = os.environ.get("MLFLOW_TRACKING_URI")
    with reachable():
        mlflow.set_tracking_uri(uri)
        # MLflow exports the address; ours must go on to be derived, not remembered.
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
        with alone() if uri == default_uri() else contextlib.nullcontext():
            made = mlflow.MlflowClient(tracking_uri=uri)
            made.search_experiments(max_results=1)
    return made


def existing(asked: str, *, registered: bool = False) -> "MlflowClient":
    """`client`, where there is a store; none is made only to be looked into.

    Args:
        asked: what is asked for and not found, as the message begins.
        registered: it is a registered model, which may be in another store than the runs.

    Raises:
        VtccError: when it would be a database of this machine that nothing has made yet, or as
            `client`.
    """
    extras.need(*_NEEDED)
    apart = registered and bool(os.environ.get(REGISTRY))
    if not apart and tracking_uri() == default_uri() and not (paths.home() / DATABASE).exists():
        raise VtccError(
            f"{asked}: the store {public_uri()} does not exist; change to the project that has "
            "it, or set MLFLOW_TRACKING_URI"
        )
    return client()


def alone() -> contextlib.AbstractContextManager[object]:
    """Inside, no other process of this project changes what this one has just looked up. Nests.

    Two that create the same SQLite database at once would break each other; two that register
    the same run would make two versions of it; two that move an alias would lose one move.
    """
    return locks.exclusive(paths.home() / ".vtcc" / "mlflow.lock", nests=True)


def every(search: Callable[..., Any], *given: Any, **named: Any) -> Iterator[Any]:
    """All that a search of an `MlflowClient` finds, page by page; it returns one at a time."""
    page = None
    while True:
        results = search(*given, page_token=page, **named)
        yield from results
        page = results.token
        if not page:
            return


def experiment_id(mlflow_client: "MlflowClient", name: str) -> str:
    """The experiment called `name`, made or restored when needed.

    In the default store its files go to `<home>/mlartifacts`; a remote server decides itself.
    """
    from mlflow.exceptions import MlflowException

    found = mlflow_client.get_experiment_by_name(name)
    if found is None:
        default = tracking_uri() == default_uri()
        where = (paths.home() / ARTIFACTS).as_uri() if default else None
        try:
            return mlflow_client.create_experiment(name, artifact_location=where)
        except MlflowException:
            # Another training made it in the meantime.
            found = mlflow_client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        mlflow_client.restore_experiment(found.experiment_id)
        note(f"MLflow: restored the deleted experiment {name!r}")
    return found.experiment_id


def missing(error: BaseException) -> bool:
    """Whether the store answered that it does not have the thing asked for."""
    return getattr(error, "error_code", "") in {
        "RESOURCE_DOES_NOT_EXIST",
        "NOT_FOUND",
        "INVALID_PARAMETER_VALUE",  # an id or name that this store would never give
    }
