import os

import pytest

from tests.tracking import toy
from vtcc import paths
from vtcc.data.cache import open_cache


@pytest.fixture(scope="session")
def shared_project(tmp_path_factory):
    """One project with one store for all: creating MLflow's database costs seconds."""
    root = tmp_path_factory.mktemp("home") / "pro ject #1"
    toy.project(root)
    (root / "mlruns").mkdir()  # a leftover of an old MLflow, which must not matter
    toy.model(root / paths.MODEL)
    return root


@pytest.fixture
def here(shared_project, monkeypatch):
    """The shared project as current directory, with its default store."""
    monkeypatch.chdir(shared_project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("VTCC_HOME", raising=False)
    return shared_project


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty project directory of one's own; no store is opened in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("VTCC_HOME", raising=False)
    (tmp_path / "params.yaml").write_text("", encoding="utf-8")
    return tmp_path


@pytest.fixture
def cache(here):
    return open_cache(here / paths.CACHE)


@pytest.fixture
def client(here):
    from vtcc.tracking import store

    made = store.client()
    assert "MLFLOW_TRACKING_URI" not in os.environ
    return made
