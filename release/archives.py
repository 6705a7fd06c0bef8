"""The archives of a release, sdist and wheel, and what must be in them."""

import subprocess
import tarfile
import zipfile
from pathlib import Path

from vtcc.errors import VtccError

# Without these an installed vtcc would look whole and fail in use.
IN_WHEEL = (
    "vtcc/py.typed",
    "vtcc/presets/folder.yaml",
    "vtcc/encoders/cards/lite2.yaml",
    "vtcc/pages/templates/clusters.html",
)


def build(top: Path, dist: Path, version: str) -> Path:
    """Builds the sdist, from it the wheel, and lets twine check their metadata.

    Args:
        top: the repository. dist: an existing folder that gets both.

    Returns:
        The wheel.

    Raises:
        VtccError: when one cannot be built, or lacks or holds what it should not.
    """
    called("uv", "build", "--quiet", "--no-create-gitignore", "--out-dir", dist, top)
    wheel, sdist = dist / f"vtcc-{version}-py3-none-any.whl", dist / f"vtcc-{version}.tar.gz"
    for archive in (wheel, sdist):
        if not archive.is_file():
            raise VtccError(f"{archive.name}: was not built")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    for name in IN_WHEEL:
        if name not in names:
            raise VtccError(f"{wheel.name}: lacks {name}")
    info = f"vtcc-{version}.dist-info"
    if strangers := {name.partition("/")[0] for name in names} - {"vtcc", info}:
        raise VtccError(f"{wheel.name}: holds {sorted(strangers)[0]}, which is not the package")
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    if "LICENSE" not in names:
        raise VtccError(f"{sdist.name}: lacks LICENSE")
    folders = {name.partition("/")[0] for name in names if "/" in name}
    if strangers := folders - {"vtcc", "vtcc.egg-info"}:
        raise VtccError(f"{sdist.name}: holds {sorted(strangers)[0]}/, which belongs to a clone")
    called("twine", "check", "--strict", wheel, sdist)
    return wheel


def called(*command: str | Path) -> str:
    """What a program of the environment of `make` says on stdout.

    Raises:
        VtccError: with the end of what it said, when it fails.
    """
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if ended.returncode:
        last = "\n".join((ended.stdout + ended.stderr).strip().splitlines()[-20:])
        raise VtccError(f"{command[0]} ended with status {ended.returncode}\n{last}")
    return ended.stdout
