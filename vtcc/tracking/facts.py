"""What a run records about its surroundings: code, versions, installed packages, weights.

Nothing here names the machine or its user.
"""

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtcc import clusters, paths
from vtcc.errors import VtccError


def source_tags(command: str) -> dict[str, str]:
    """Run tags for what ran: command, git commit, whether it was changed, versions."""
    tags = {
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
        "vtcc.python_version": platform.python_version(),
    }
    for package in ("vtcc", "torch"):
        try:
            tags[f"vtcc.{package}_version"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            tags[f"vtcc.{package}_version"] = "unknown"
    commit, dirty = git_state()
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "vtcc.git_dirty": str(dirty).lower()}
    return tags


def encoder_tags(encoder: Mapping[str, Any] | None) -> dict[str, str]:
    """Run tags for a pretrained encoder: name, digest of its weights, licence, source.

    Args:
        encoder: its record in `model.json`; None without one.
    """
    tags = {"name": "encoder", "digest": "encoder_digest", "licence": "encoder_licence"}
    tags["source"] = "encoder_source"
    return {f"vtcc.{tag}": str(encoder[k]) for k, tag in tags.items() if encoder and k in encoder}


def git_state() -> tuple[str | None, bool]:
    """The commit of the project (None outside git), and whether tracked files differ from it.

    Files that the pipeline itself writes (dvc.lock, reports) do not count as a difference.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=paths.project(), capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git(
            "status", "--porcelain", "--untracked-files=no", ".", ":!dvc.lock", ":!reports"
        )
    except (OSError, subprocess.CalledProcessError):
        return None, False
    return commit, bool(changed)


def environment() -> str:
    """Python and every installed distribution as `name==version` lines."""
    found = {
        (d.metadata["Name"] or "").lower(): d.version for d in importlib.metadata.distributions()
    }
    lines = [f"{name}=={version}\n" for name, version in sorted(found.items()) if name]
    return f"# Python {platform.python_version()}\n" + "".join(lines)


def model_digest(model_dir: Path) -> str:
    """sha256 over the model's files: the same weights, settings and clusters, or not.

    Raises:
        VtccError: when the directory holds no model.
    """
    digest = hashlib.sha256()
    for name in ("model.json", "model.safetensors"):
        path = Path(model_dir) / name
        if not path.is_file():
            raise VtccError(f"{path}: not found; run `dvc repro train` (or `dvc pull`) first")
        digest.update(_digest(path))
    for name in (clusters.FILE, clusters.ARRAYS):  # of models that know their clusters
        if (path := Path(model_dir) / name).is_file():
            digest.update(_digest(path))
    return digest.hexdigest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
