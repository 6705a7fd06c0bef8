"""A worktree's results as a DVC experiment of the project."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner import toy
from vtcc.runner import dvc, experiments
from vtcc.runner.workspace import Workspace, resolve


@pytest.mark.parametrize("worktrees", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_project_lists_it_and_stays_as_it_is(project: Path, worktrees: int) -> None:
    """The same again, from the same worktree or another, is the same experiment."""
    (project / "vtcc" / "new.py").write_text("# new\n")
    (project / "data" / "catalog" / "käfer.yaml").write_text("name: käfer\n")
    status = toy.git(project, "status", "--short")
    names = []
    for _ in range(worktrees):
        with Workspace(
            resolve(None, {"train.epochs": 5}, 3, project=project), project=project
        ) as where:
            for stage in ("download", "train"):
                dvc.run_stage(stage, where.directory, env=where.env)
            names += [experiments.save(where, "a b/c") for _ in range(3 - worktrees)]
    assert names[0] == names[1]
    assert names[0].startswith("digits-a-b-c-seed3-")
    command = [sys.executable, "-m", "dvc", "exp", "list", "--name-only"]
    listed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [names[0]]
    found = toy.git(project, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{names[0]}")
    (ref,) = found.splitlines()
    assert "epochs: 5" in toy.git(project, "show", f"{ref}:params.yaml")
    assert toy.git(project, "show", f"{ref}:reports/metrics.json") == '{"acc": 0.05}'
    assert toy.git(project, "show", f"{ref}:vtcc/new.py") == "# new"
    assert toy.git(project, "show", f"{ref}:data/catalog/käfer.yaml") == "name: käfer"
    assert toy.git(project, "status", "--short") == status
