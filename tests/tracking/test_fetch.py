"""Whose store an address is asked of, and that none is made only to be looked into."""

import json
import socket
from pathlib import Path

import pytest

from tests.data.web import serve_directory
from tests.fakes import stand_in
from vtcc.errors import VtccError
from vtcc.tracking import api, compare, fetch, promotion, store


def served():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    api.serve("models:/vtcc-x@champion", "127.0.0.1", port, api.Settings())


@pytest.mark.parametrize(
    ("asks", "beginning"),
    [
        (served, "models:/vtcc-x@champion: no registered model 'vtcc-x'"),
        (
            lambda: fetch.version("models:/vtcc-x/1"),
            "models:/vtcc-x/1: no registered model 'vtcc-x'",
        ),
        (lambda: compare.read(["abcdef", "models:/vtcc-x/1"]), "abcdef: no such run"),
        (lambda: promotion.promote("vtcc-x", "1"), "vtcc-x: no registered model 'vtcc-x'"),
        (lambda: promotion.rollback("vtcc-x"), "vtcc-x: no registered model 'vtcc-x'"),
    ],
)
def test_a_store_is_not_made_only_to_be_looked_into(asks, beginning, elsewhere):
    with pytest.raises(VtccError, match=f"^{beginning}: the store .*/mlflow.db does not exist; ch"):
        asks()
    assert [file.name for file in elsewhere.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("uri", "registry", "refusal"),
    [
        ("models:/vtcc-x@champion", "", "no registered model 'vtcc-x': the store"),
        ("models:/vtcc-x@champion", "http://registry", "opened"),
        ("models:/m-1", "http://registry", "not found: the store"),  # in the store of runs
        ("runs:/1/model", "http://registry", "not found: the store"),
        ("runs://profile@databricks/1/model", "", "opened"),
        ("models://profile@databricks/x/1", "", "opened"),
        # MLflow takes the scheme of the host from the address of the store.
        ("mlflow-artifacts://host:5000/x", "", "not found: the store .* set MLFLOW_TRACKING_URI"),
    ],
)
def test_an_address_may_name_another_store_than_the_projects(
    uri, registry, refusal, elsewhere, monkeypatch
):
    def opened():
        raise VtccError("opened")

    stand_in(monkeypatch, store, "client", opened)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry)
    with pytest.raises(VtccError, match=refusal):
        fetch.fetch(uri, elsewhere)


def test_messages_name_the_store_that_was_asked(client, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        registry = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"http://ann:secret@{registry}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for asks, message in (
        (lambda: promotion.promote("vtcc-x", "1"), f"MLflow store http://{registry}: "),
        (lambda: promotion.rollback("vtcc-x"), f"MLflow store http://{registry}: "),
        (lambda: fetch.version("models:/vtcc-x/1"), f"MLflow store http://{registry}: "),
        (lambda: fetch.fetch("models:/vtcc-x/1", Path()), f"/1: not found in http://{registry} ("),
        (lambda: fetch.fetch("runs:/0/model", Path()), "runs:/0/model: not found in sqlite:///"),
    ):
        with pytest.raises(VtccError) as refused:
            asks()
        told = str(refused.value)
        assert message in told and "secret" not in told
        if told.startswith("MLflow store"):
            assert told.endswith("or unset MLFLOW_REGISTRY_URI to use the store of the runs")
    stand_in(monkeypatch, store, "every", lambda search, *given, **named: iter(()))
    with pytest.raises(VtccError, match=f"^x: no registered model 'x' in http://{registry} "):
        fetch.check_model(client, "x", "x")


def test_files_come_from_the_server_and_not_from_its_own_store(tmp_path, monkeypatch):
    """It may name an address in its store, which only the server itself needs to reach."""
    import mlflow

    site = {
        "api/3.0/mlflow/server-info": json.dumps(
            {"multipart_downloads_enabled": True, "multipart_uploads_enabled": True}
        ),
        "api/2.0/mlflow-artifacts/presigned/1/model.json": json.dumps(
            {"url": "http://store.invalid:9000/mlflow/1/model.json", "headers": [], "file_size": 2}
        ),
        "api/2.0/mlflow-artifacts/artifacts/index.html": '{"files": []}',  # it is a file
        "api/2.0/mlflow-artifacts/artifacts/1/model.json": "{}",
    }
    for name, text in site.items():
        file = tmp_path / "site" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serve_directory(tmp_path / "site") as address:
        got = mlflow.artifacts.download_artifacts(
            artifact_uri="mlflow-artifacts:/1/model.json",
            tracking_uri=address,
            dst_path=str(tmp_path),
        )
    assert Path(got).read_text() == "{}"
