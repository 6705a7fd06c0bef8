"""A verb that a flow starts sees the stores that the flow itself sees."""

import logging
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from flows import verbs
from tests.runner import toy
from vtcc.process import commands
from vtcc.tracking import store


@pytest.mark.parametrize("home", ["given", "main checkout"])
def test_a_verb_has_the_home_of_its_flow(
    home: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = project
    if home == "given":
        monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    else:  # the flow is of a git worktree that the user made
        directory = tmp_path / "linked"
        toy.git(project, "worktree", "add", "-q", str(directory))
    monkeypatch.chdir(directory)
    run = create_autospec(commands.run, return_value=0)
    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(verbs, "get_run_logger", lambda: logging.getLogger("verb"))
    verbs.run(["study", "a.yaml"], directory)
    _, where, env, _ = run.call_args.args
    assert where == directory
    assert env["VTCC_HOME"] == str((tmp_path if home == "given" else project).resolve())
    assert env["MLFLOW_TRACKING_URI"] == store.tracking_uri()
