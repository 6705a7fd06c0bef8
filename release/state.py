"""Whether the repository is in the state of a release: one version, everywhere, committed."""

import re
import subprocess
from pathlib import Path

from vtcc.errors import VtccError


def version_of(top: Path) -> str:
    """The version that vtcc/version.py says, and every other place as well.

    Args:
        top: the root of a git repository.

    Raises:
        VtccError: naming the file that says something else, or what is not committed.
    """
    wanted = _only(top / "vtcc/version.py", r'(?m)^__version__ = "(.+)"$')
    if not re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", wanted):
        raise VtccError(f"vtcc/version.py: found {wanted!r}; a version is 1.2.3 or 1.2.3rc1")
    cited = _only(top / "CITATION.cff", r"(?m)^version: (\S+)$")
    if cited != wanted:
        raise VtccError(f"CITATION.cff: found version {cited}; vtcc/version.py says {wanted}")
    for tag in re.findall(r"image: vtcc-[a-z]+:(\S+)", _text(top / "compose.yaml")):
        if tag != wanted:
            raise VtccError(f"compose.yaml: found tag {tag}; vtcc/version.py says {wanted}")
    sections = re.split(r"(?m)^## (.+)$", _text(top / "CHANGELOG.md"))
    newest = sections[1].strip() if len(sections) > 1 else "no section"
    if newest != wanted:
        raise VtccError(
            f"CHANGELOG.md: found {newest!r} on top; a release needs a section '## {wanted}' there"
        )
    if not sections[2].strip():
        raise VtccError(f"CHANGELOG.md: the section {wanted} is empty")
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=top, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise VtccError(f"{changed[0][3:]}{more}: not committed; a release is made of one commit")
    return wanted


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _only(file: Path, pattern: str) -> str:
    found = re.findall(pattern, _text(file))
    if len(found) != 1:
        raise VtccError(f"{file.name}: expected one version, found {len(found)}")
    return found[0]
