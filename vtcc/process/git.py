"""Git for the runner: one command, its words in an error, hooks of the user asleep."""

import os
import subprocess
import time
from pathlib import Path

from vtcc.errors import VtccError


def require_checkout(project: Path) -> None:
    """Raises VtccError unless a directory is the top of a checkout with a commit."""
    try:
        top = Path(git(project, "rev-parse", "--show-toplevel")).resolve()
        git(project, "rev-parse", "--verify", "--quiet", "HEAD")
    except VtccError:
        top = None
    if top != project:
        raise VtccError(
            f"{project}: not the top of a git checkout with a commit, which a run with its own "
            "parameters needs; change params.yaml and run without any, or `git init` and commit"
        )


def git(directory: Path, *arguments: str) -> str:
    """Output of a git command, stripped; hooks of the user do not run."""
    command = ["git", "-c", "core.hooksPath=/dev/null", *arguments]
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k == "GIT_SSH"}
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=env,
            capture_output=True,
            text=True,
            errors="surrogateescape",  # a path need not be UTF-8
        )
    except OSError as error:
        if error.filename == directory:
            raise VtccError(f"git: cannot run in {directory} ({error.strerror})") from None
        raise VtccError("git: not found; install it, runs with own parameters need it") from None
    if done.returncode:
        message = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise VtccError(f"git {arguments[0]} in {directory}: {message}")
    return done.stdout.strip("\n")


def retrying(directory: Path, *arguments: str, attempts: int = 5) -> str:
    """`git`, tried again while another git command holds the index for a moment."""
    for _ in range(attempts - 1):
        try:
            return git(directory, *arguments)
        except VtccError as error:
            if "index.lock" not in str(error):
                raise
            time.sleep(1.0)
    return git(directory, *arguments)
