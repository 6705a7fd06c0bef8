"""A run in a worktree, kept as a DVC experiment of the project."""

import hashlib
import re
import subprocess
import sys

from vtcc import paths
from vtcc.errors import VtccError
from vtcc.process.git import git
from vtcc.regular import regular
from vtcc.runner.workspace import Workspace

LOCK = "dvc.lock"


def save(where: Workspace, label: str | None = None) -> str:
    """Saves what a worktree holds now, so that `dvc exp show` in the project lists it.

    The same commit, parameters and results again are the same experiment.

    Args:
        where: entered, not in place; its stages have run.
        label: goes into the name beside dataset and seed, such as the preset.

    Returns:
        The experiment's name.

    Raises:
        VtccError: in DVC's words, when it cannot be saved.
    """
    assert not where.in_place
    experiment = name(where, label)
    command = [sys.executable, "-m", "dvc", "exp", "save", "--quiet", "--force"]
    command += ["--name", experiment]
    new = git(where.directory, "ls-files", "-z", "--others", "--exclude-standard")
    for file in filter(None, new.split("\0")):
        # Links to the user's photos are no part of it; new code is.
        if not (where.directory / file).is_symlink():
            command += ["--include-untracked", file]
    done = subprocess.run(
        command, cwd=where.directory, env=where.env, capture_output=True, text=True
    )
    if done.returncode:
        message = " ".join((done.stderr or done.stdout).split())
        raise VtccError(f"DVC experiment {experiment}: not saved: {message}")
    return experiment


def name(where: Workspace, label: str | None = None) -> str:
    """Such as `digits-params-seed0-1a2b3c4`: dataset, label, seed, and what came out."""
    dataset, seed = where.params["dataset"]["name"], where.params["train"]["seed"]
    content = hashlib.sha256(git(where.directory, "rev-parse", "HEAD").encode())
    for file in (LOCK, paths.PARAMS):
        content.update(regular(where.directory / file).read_bytes())
    words = f"{dataset}-{label or 'params'}-seed{seed}-{content.hexdigest()[:7]}"
    # What git allows in a reference.
    return re.sub(r"[^A-Za-z0-9_-]+", "-", words).strip("-")
