"""An empty environment outside the tree, and the proof that what is installed in it works."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from release.archives import called
from vtcc import extras
from vtcc.errors import VtccError

# 48 digits as files, by what the smallest installation brings.
_WRITE_DIGITS = """
from pathlib import Path
from PIL import Image
from sklearn.datasets import load_digits
digits = load_digits()
Path("digits").mkdir()
for i in range(48):
    Image.fromarray((digits.images[i] * 15).astype("uint8")).save(f"digits/{i:02d}.png")
"""
DIGITS = 48
_THERE = """
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))
"""
_IMPORTED = re.compile(r"(?m)^import time: +\d+ \| +\d+ \| +(\w+)")
# What the caller's shell says of Python must not reach what is tried.
_FROM_CALLER = ("LANG", "LC_ALL", "OMP_NUM_THREADS", "TMPDIR", "SSL_CERT_FILE")


class Environment:
    """A virtual environment of the running Python's version, with a home of its own."""

    def __init__(self, room: Path) -> None:
        """Makes it in `room`, a folder outside the repository."""
        self.room, self.place = room, room / "environment"
        self.python = self.place / "bin/python"
        (room / "home").mkdir()
        called("uv", "venv", "--quiet", "--python", sys.executable, self.place)

    def install(self, requirement: str, constraints: Path) -> None:
        """Adds a requirement; what is there stays where the constraints allow it."""
        target = ("--python", self.python, "--constraint", constraints)
        called("uv", "pip", "install", "--quiet", *target, requirement)

    def size(self) -> str:
        """In words: how many packages, how many GB."""
        packages = json.loads(
            called("uv", "pip", "list", "--quiet", "--format", "json", "--python", self.python)
        )
        taken = sum(
            file.lstat().st_blocks * 512 for file in self.place.rglob("*") if not file.is_symlink()
        )
        return f"{len(packages)} packages, {taken / 1e9:.1f} GB"

    def __call__(self, program: str, *arguments: str, status: int = 0) -> tuple[str, set[str]]:
        """Runs a program of the environment in `room`.

        Returns:
            Its stdout, and the names of all packages that it imported.

        Raises:
            VtccError: when it ends with another status.
        """
        kept = {name: os.environ[name] for name in _FROM_CALLER if name in os.environ}
        path = os.pathsep.join([str(self.place / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
        own = {"HOME": str(self.room / "home"), "PATH": path, "PYTHONPROFILEIMPORTTIME": "1"}
        ended = subprocess.run(
            [str(self.place / "bin" / program), *arguments],
            cwd=self.room,
            env=kept | own,
            capture_output=True,
            text=True,
        )
        if ended.returncode != status:
            said = [
                line
                for line in (ended.stdout + ended.stderr).strip().splitlines()
                if not line.startswith("import time:")
            ][-20:]
            typed = " ".join([program, *arguments])
            raise VtccError(
                f"`{typed:.200}` ended with status {ended.returncode} where the wheel is "
                "installed\n" + "\n".join(said)
            )
        return ended.stdout, set(_IMPORTED.findall(ended.stderr))

    def bill(self, file: Path) -> dict[str, Any]:
        """Writes what is installed as CycloneDX JSON, checked against its schema; the content."""
        options = ("--spec-version", "1.6", "--output-reproducible", "--validate")
        root = ("--pyproject", Path(__file__).parents[1] / "pyproject.toml", "--mc-type", "library")
        # Not in the environment of `make`: it brings a grammar that jsonschema, which Prefect and
        # Great Expectations import, would then compile for a second in each process.
        home = Path(__file__).parents[1]
        tool = ("uv", "tool", "run", "--constraint", home / "constraints.txt", "--python")
        run = (*tool, sys.executable, "--from", "cyclonedx-bom", "cyclonedx-py")
        called(*run, "environment", *options, *root, "-o", file, self.python)
        return json.loads(file.read_text(encoding="utf-8"))


def prove_core(environment: Environment, version: str) -> None:
    """The smallest installation groups and sorts images, and has nothing of an extra.

    Raises:
        VtccError: naming what does not hold.
    """
    place, _ = environment("python", "-c", "import vtcc; print(vtcc.__file__)")
    if not Path(place.strip()).is_relative_to(environment.place):
        raise VtccError(f"vtcc comes from {place.strip()} instead of the wheel")
    shown, imported = environment("vtcc", "--version")
    if shown.split()[:2] != ["vtcc", version]:
        raise VtccError(f"`vtcc --version` says {shown.strip()!r}; expected vtcc {version}")
    environment("python", "-c", _WRITE_DIGITS)
    train = ("--encoder", "none", "--minutes", "0.2", "--set", "train.epochs=1")
    for command in (
        ("--help",),
        ("encoders",),
        ("cluster", "digits", "-k", "2", *train, "--out", "clusters"),
        ("predict", "digits", "--model", "clusters/model", "--out", "sorted.csv"),
    ):
        imported |= environment("vtcc", *command)[1]
    with (environment.room / "sorted.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    if len(rows) != DIGITS:
        raise VtccError(f"`vtcc predict` wrote {len(rows)} rows of {DIGITS} images")
    # Not what is imported: scikit-learn tries pandas, and goes on without it.
    of_extras = (package for packages in extras.PACKAGES.values() for package in packages)
    there, _ = environment("python", "-c", _THERE, *sorted(of_extras))
    if there.strip():
        raise VtccError(f"the smallest installation has {there.split()[0]}, which is of an extra")
    if "torch" not in imported:
        raise VtccError("no command imported torch: imports were not seen")


def prove_pipeline(environment: Environment, packages: tuple[str, ...]) -> None:
    """With the extra, its packages can be imported, and the command line still imports none.

    Raises:
        VtccError: naming what does not hold.
    """
    environment("python", "-c", f"import {', '.join(packages)}")
    _, imported = environment("vtcc", "--help")
    if wrong := sorted(imported & set(packages)):
        raise VtccError(f"`vtcc --help` imports {wrong[0]}")
    environment("vtcc", "study", "--help")
    environment("vtcc", "doctor")
