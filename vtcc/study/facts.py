"""What a record says about its surroundings: code, versions, processor."""

import hashlib
import importlib.metadata
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from vtcc import paths

# What figures depend on beside parameters and images.
CODE = (
    *("engine", "stages/train.py"),
    *("analysis/selection.py", "analysis/metrics.py"),
    *("analysis/baselines.py", "analysis/features.py"),
)


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


def commit(directory: Path) -> dict[str, Any]:
    """`commit` and `dirty`, and `code`: the digest of the code that matters."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    # What a run writes or chooses for itself does not make its code a changed one.
    mine = [f":!{p}" for p in (paths.PARAMS, "dvc.lock", paths.REPORTS, "benchmarks", "docs")]
    status = git("status", "--porcelain", "--", ".", *mine)
    return {
        "commit": git("rev-parse", "--short=12", "HEAD"),
        "dirty": bool(status),
        "code": code_digest(directory),
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that make the figures."""
    found = {"python": platform.python_version()}
    for package in ("torch", "timm", "scikit-learn", "numpy"):
        found[package] = importlib.metadata.version(package)
    return found


def cpu() -> str:
    """The processor's name."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else platform.machine()
