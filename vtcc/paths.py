"""Where things are, relative to the directory that holds `params.yaml`.

Stages run in that directory and use these relative paths, so a git worktree reads and writes
its own files. What worktrees share (tracking store, scratch checkpoints) hangs off `home()`.
"""

import os
import subprocess
from pathlib import Path

PARAMS = Path("params.yaml")
SOURCE = Path("data/source.json")
IMAGES = Path("data/raw/images")
MANIFEST = Path("data/raw/manifest.csv")
DATASET = Path("data/raw/dataset.json")
LABELS = Path("data/labels/labels.csv")
CACHE = Path("data/cache")
FEATURES = Path("data/features")
MODEL = Path("models/model")
RUN = Path("models/run.json")
REPORTS = Path("reports")
CURVES = REPORTS / "curves.csv"
TRAINING = REPORTS / "training.json"
VALIDATION_JSON = REPORTS / "validation.json"
VALIDATION_HTML = REPORTS / "validation.html"
METRICS = REPORTS / "metrics.json"
ASSIGNMENTS = REPORTS / "assignments.csv"
CONFUSION = REPORTS / "confusion.csv"
PLOTS = REPORTS / "plots"
GALLERY = REPORTS / "gallery.html"


def project(start: Path | None = None) -> Path:
    """The nearest directory at or above `start` with a `params.yaml`, else `start` itself."""
    start = (start or Path.cwd()).resolve()
    for directory in (start, *start.parents):
        if (directory / PARAMS).is_file():
            return directory
    return start


def home(start: Path | None = None) -> Path:
    """The main checkout that all git worktrees of the project share, or `project(start)`.

    `VTCC_HOME` overrides it. Absolute.
    """
    if os.environ.get("VTCC_HOME"):
        return Path(os.environ["VTCC_HOME"]).resolve()
    here = project(start)
    try:
        common = subprocess.run(
            ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"],
            cwd=here,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return here
    git = Path(os.fsdecode(common.rstrip(b"\n")))  # a path need not be UTF-8
    top = git.parent
    # A checkout of something else around the project (a home directory under git) is not it.
    return top if git.name == ".git" and (top / PARAMS).is_file() else here


def scratch() -> Path:
    """Where checkpoints of unfinished trainings live. Absolute, shared, ignored by git."""
    return home() / ".vtcc" / "scratch"


def downloads() -> Path:
    """Where downloads are kept, finished or cut off. Absolute, shared, ignored by git."""
    return home() / ".vtcc" / "downloads"
