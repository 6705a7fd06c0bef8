"""What figures and models come from: code, versions, installed packages, processor, weights.

Nothing here names the machine or its user.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtcc import paths, version
from vtcc.digests import sha256
from vtcc.errors import VtccError
from vtcc.grouping import clusters
from vtcc.process.git import git

# What figures depend on beside parameters and images.
CODE = (
    *("engine", "encoders", "grouping/clusters.py"),
    *("stages/embed.py", "stages/train.py", "stages/evaluate.py"),
    *("analysis/selection.py", "analysis/metrics.py", "analysis/labels.py"),
    *("analysis/baselines.py", "analysis/features.py"),
)
# Uncommitted new files that a run may need, which a worktree gets. Anything else that is new stays
# where it is: a folder of photos is linked to, not copied.
CARRIED = ("vtcc", "flows", "data/catalog", "dvc.yaml", "dvc.lock", ".dvc/config", ".dvcignore")
# What a run writes or chooses for itself does not make its code a changed one.
WRITTEN = (paths.PARAMS, Path("dvc.lock"), paths.REPORTS, Path("benchmarks"), Path("docs"))


def source_tags(command: str) -> dict[str, str]:
    """Tags of an MLflow run for what ran: command, git commit, whether it was changed, versions."""
    tags = {"mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    tags |= {f"vtcc.{name}_version": v for name, v in version.versions("vtcc", "torch").items()}
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
    """The commit of the project (None outside git), and whether its files differ from it."""
    with contextlib.suppress(VtccError):
        return git(paths.project(), "rev-parse", "HEAD"), _dirty(paths.project())
    return None, False


def commit(directory: Path) -> dict[str, Any]:
    """`commit` and `dirty`, and `code`: the digest of the code that figures depend on."""
    return {
        "commit": git(directory, "rev-parse", "--short=12", "HEAD"),
        "dirty": _dirty(directory),
        "code": code_digest(directory),
    }


def _dirty(directory: Path) -> bool:
    """Whether files differ from the commit: those that git knows, or new ones of the code.

    Other new files do not count, such as a folder of photos or a worktree's link to it.
    """
    written = [f":!{path}" for path in WRITTEN]
    changed = git(directory, "status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    new = ("ls-files", "--others", "--exclude-standard", "--", *CARRIED, *written)
    return bool(changed or git(directory, *new))


def code_digest(directory: Path) -> str:
    """sha256 over the source that a run's figures depend on."""
    digest = hashlib.sha256()
    for name in CODE:
        place = directory / "vtcc" / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            if file.is_file():
                digest.update(file.relative_to(directory).as_posix().encode() + b"\0")
                digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of Python and the packages that make the figures."""
    return version.versions("torch", "timm", "scikit-learn", "numpy")


@functools.cache  # reading what hundreds of distributions say of themselves takes a while
def environment() -> str:
    """Python and every installed distribution as `name==version` lines."""
    installed = {
        (d.metadata["Name"] or "").lower(): d.version for d in importlib.metadata.distributions()
    }
    lines = [f"{name}=={version}\n" for name, version in sorted(installed.items()) if name]
    return f"# Python {platform.python_version()}\n" + "".join(lines)


def cpu() -> str:
    """The processor's name."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def model_digest(model_dir: Path) -> str:
    """sha256 over the model's files: the same weights, settings and clusters, or not.

    Raises:
        VtccError: when the directory holds no model.
    """
    digest = hashlib.sha256()
    for name in ("model.json", "model.safetensors"):
        if not (model_dir / name).is_file():
            raise VtccError(
                f"{model_dir / name}: not found; run `dvc repro train` (or `dvc pull`) first"
            )
        digest.update(bytes.fromhex(sha256(model_dir / name)))
    for name in (clusters.FILE, clusters.ARRAYS):  # of models that know their clusters
        if (model_dir / name).is_file():
            digest.update(bytes.fromhex(sha256(model_dir / name)))
    return digest.hexdigest()
