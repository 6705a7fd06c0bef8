import os
import re
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from vtcc import paths
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.tracking import compare, store


def test_default_is_sqlite_in_the_project_from_any_subdirectory(elsewhere, monkeypatch):
    below = elsewhere / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert store.tracking_uri() == f"sqlite:///{elsewhere.resolve()}/mlflow.db"


def test_worktree_uses_the_store_of_the_main_checkout(elsewhere):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (
        ["init", "-q"],
        ["add", "params.yaml"],
        ["commit", "-qm", "one"],
        ["worktree", "add", "-q", "tree"],
    ):
        subprocess.run([*git, *command], check=True, capture_output=True)
    os.chdir("tree")
    assert store.tracking_uri() == f"sqlite:///{elsewhere.resolve()}/mlflow.db"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqlite:///runs.db", "sqlite:///{home}/runs.db"),
        ("sqlite:///sub/runs.db?timeout=5", "sqlite:///{home}/sub/runs.db?timeout=5"),
        ("sqlite:////somewhere/runs.db", "sqlite:////somewhere/runs.db"),
        ("mlruns", "{home_uri}/mlruns"),
        ("file:mlruns", "{home_uri}/mlruns"),
        ("file:///somewhere/x", "file:///somewhere/x"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("  ", "sqlite:///{home}/mlflow.db"),
    ],
)
def test_variable_wins_and_relative_paths_become_absolute(elsewhere, monkeypatch, given, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    home = elsewhere.resolve()
    assert store.tracking_uri() == expected.format(home=home, home_uri=home.as_uri())


def test_vtcc_home_moves_the_default(elsewhere, monkeypatch, tmp_path):
    monkeypatch.setenv("VTCC_HOME", str(tmp_path / "other"))
    assert store.tracking_uri() == f"sqlite:///{(tmp_path / 'other').resolve()}/mlflow.db"


def test_passwords_are_not_shown():
    assert store.public_uri("https://ann:secret@host:1/x") == "https://host:1/x"
    assert store.public_uri("sqlite:////a@b/c.db") == "sqlite:////a@b/c.db"
    assert store.reason(OSError("GET http://ann:secret@host failed\nmore")) == (
        "GET http://host failed"
    )


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://ann:secret@host:1/x", "https://host:1/x"),
        ("https://ann:sec/ret@host:1/x", "https://host:1/x"),
        ("https://ann:12/34secret@host:1/x", "https://host:1/x"),
        ("https://ann:sec@ret@host:1/x", "https://host:1/x"),
        ("https://ann:s/e@c:r/e@t@host:1/x", "https://host:1/x"),
        ("https://secret@host/x", "https://host/x"),
        ("https://sec@ret@host/x", "https://host/x"),
        ("https://ann:secret?x#y@host/x", "https://host/x"),
        ("postgresql://h:5/db?password=secret", "postgresql://h:5/db?password=***"),
        (
            "postgresql://h/db?a=1&sslPassword=se:c@ret&b=2",
            "postgresql://h/db?a=1&sslPassword=***&b=2",
        ),
        ("https://host/x?access_token=secret#top", "https://host/x?access_token=***#top"),
        ("mysql+pymysql://ann:secret@h/db?ssl_key=secret", "mysql+pymysql://h/db?ssl_key=***"),
        ("https://host:1/x", "https://host:1/x"),
        ("https://a.b:8443/p/@scope/x.tar", "https://a.b:8443/p/@scope/x.tar"),
        ("http://localhost:80/data:2@2x/x.zip", "http://localhost:80/data:2@2x/x.zip"),
        ("https://host/x@champion", "https://host/x@champion"),
        ("sqlite:////a@b/c.db", "sqlite:////a@b/c.db"),
        ("file:///a:b@c/d", "file:///a:b@c/d"),
        ("databricks", "databricks"),
    ],
)
def test_no_form_of_password_is_shown(uri, shown):
    assert store.public_uri(uri) == shown
    assert store.reason(OSError(f"GET {uri} failed")) == f"GET {shown} failed"


def test_a_password_that_a_long_message_cuts_is_not_shown():
    assert "secret" not in store.reason(OSError(f"{'x' * 170} http://ann:secret{'t' * 40}@host"))


def test_quickly_keeps_what_the_user_set(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with store.quickly():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_server_that_does_not_answer_is_told_quickly_and_without_password(elsewhere, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
    start = time.monotonic()
    with pytest.raises(VtccError) as caught:
        store.client()
    assert time.monotonic() - start < 20
    message = str(caught.value)
    assert message.startswith(f"MLflow store http://127.0.0.1:{port}: ")
    assert message.endswith("start that server, or unset MLFLOW_TRACKING_URI to use a local file")
    assert "secret" not in message
    assert "\n" not in message


def test_damaged_database_is_one_clear_line(elsewhere):
    (elsewhere / store.DATABASE).write_bytes(b"this is no database" * 100)
    with pytest.raises(VtccError, match=r"mlflow\.db: .*not a database.*mlflow db upgrade"):
        store.client()


def test_an_answer_that_a_thing_is_not_there_is_no_fault_of_the_file(here, client):
    with (
        pytest.raises(VtccError, match=r"mlflow\.db: Run with id=0+ not found$"),
        store.reachable(),
    ):
        client.get_run("0" * 32)


def test_experiment_is_made_once_with_files_in_the_project(here, client):
    made = store.experiment_id(client, "ex periment")
    assert store.experiment_id(client, "ex periment") == made
    location = client.get_experiment(made).artifact_location
    assert location == (here.resolve() / "mlartifacts").as_uri()


def test_deleted_experiment_is_restored(client, capsys):
    made = store.experiment_id(client, "gone")
    client.delete_experiment(made)
    assert store.experiment_id(client, "gone") == made
    assert client.get_experiment(made).lifecycle_stage == "active"
    assert "restored the deleted experiment 'gone'" in capsys.readouterr().out


def test_store_is_where_it_should_be(here, client):
    tables = sqlite3.connect(here / "mlflow.db").execute("select name from sqlite_master")
    assert ("experiments",) in tables.fetchall()
    assert list((here / "mlruns").iterdir()) == []
    assert paths.home() == here.resolve()


def test_pages_are_where_the_ui_runs_now(elsewhere, monkeypatch):
    run = compare.Run("r1", "a", "7", {}, {})
    query = "/#/compare-runs?runs=%5B%22r1%22%5D&experiments=%5B%227%22%5D"
    assert compare.url([run]) == f"http://127.0.0.1:5000{query}"
    monkeypatch.setenv("MLFLOW_PORT", "5009")
    assert compare.url([run]) == f"http://127.0.0.1:5009{query}"
    running = locks.Mark(store.ui_marks() / "a.lock", "http://127.0.0.1:5555")
    assert compare.url([run]) == f"http://127.0.0.1:5555{query}"
    running.remove()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:secret@host/mlflow/")
    assert compare.url([run]) == f"https://host/mlflow{query}"


def test_a_search_goes_on_after_its_first_page():
    """The 101st registered model is one too."""

    def search(query, page_token=None):
        pages = {None: ([1, 2], "b"), "b": ([], "c"), "c": ([3], "")}
        assert query == "all"
        found, token = pages[page_token]
        return type("Page", (list,), {"token": token})(found)

    assert list(store.every(search, "all")) == [1, 2, 3]


def test_no_search_reads_its_first_page_alone():
    """Every search in this room is `store.every`, or says with `max_results=1` what it wants."""
    room = Path(store.__file__).parent
    calls = [
        line.strip()
        for file in sorted(room.glob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"\.search_[a-z_]+\(", line)
    ]
    assert [c for c in calls if "max_results=1)" not in c] == []
