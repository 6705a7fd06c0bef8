"""Where things are, relative to the directory that holds `params.yaml`.

Stages run in that directory and use these relative paths, so a git worktree reads and writes
its own files. What worktrees share (tracking store, scratch checkpoints) hangs off `home()`.
"""

import os
import subprocess
from pathlib import Path

from vtcc.errors import VtccError

PARAMS = Path("params.yaml")
SOURCE = Path("data/source.json")
WEIGHTS = Path("data/weights.json")
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
EVALUATED = REPORTS / "evaluated.json"
ASSESSED = REPORTS / "assess"  # of any other model, by `vtcc assess`
NOWHERE = "the working directory has been deleted; change to one that exists, then re-run"
NO_TEMPORARY = "no directory for temporary files can be written to; set TMPDIR to one that can"


def here() -> Path | None:
    """The working directory; None where it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def of_the_user() -> dict[str, Path]:
    """What nothing that is written may replace: where the user stands and lives, by its name."""
    standing = here()
    known = {"the current directory": standing} if standing else {}
    return {**known, "your home directory": Path.home()}


def project(start: Path | None = None) -> Path:
    """The nearest directory at or above `start` with a `params.yaml`, else `start` itself.

    Directories that this user may not look into hold none. Of a working directory that has been
    deleted it is `.`, the only one that is not absolute.
    """
    start = start or here()
    if start is None:
        return Path()
    start = start.resolve()
    for directory in (start, *start.parents):
        if os.path.isfile(directory / PARAMS):  # noqa: PTH113 - Path's own raises
            return directory
    return start


def existing_project() -> Path:
    """`project()`, for what cannot do without one.

    Raises:
        VtccError: where the working directory has been deleted.
    """
    directory = project()
    if not directory.is_absolute():
        raise VtccError(NOWHERE)
    return directory


def home(start: Path | None = None) -> Path:
    """The main checkout that all git worktrees of the project share, or `project(start)`.

    `VTCC_HOME` overrides it. Absolute.

    Raises:
        VtccError: where the working directory has been deleted.
    """
    if os.environ.get("VTCC_HOME"):
        return Path(os.environ["VTCC_HOME"]).resolve()
    near = project(start) if start else existing_project()
    try:
        common = subprocess.run(
            ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"],
            cwd=near,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return near
    git = Path(os.fsdecode(common.rstrip(b"\n")))  # a path need not be UTF-8
    top = git.parent
    # A checkout of something else around the project (a home directory under git) is not it.
    return top if git.name == ".git" and (top / PARAMS).is_file() else near


def scratch() -> Path:
    """Where checkpoints of unfinished trainings live. Absolute, shared, ignored by git."""
    return home() / ".vtcc" / "scratch"


def downloads() -> Path:
    """Where downloads are kept, finished or cut off. Absolute, shared, ignored by git."""
    return home() / ".vtcc" / "downloads"
