"""`vtcc check`: whether results are as clear as a script requires."""

from pathlib import Path
from typing import Any

from vtcc.errors import VtccError
from vtcc.grouping import summary
from vtcc.progress import note

REQUIRED = ("clear", "weak")


def run(results: Path, require: str) -> dict[str, Any]:
    """Compares the verdict on results with what is required, and prints it.

    Args:
        results: folder of `vtcc cluster`. require: of `REQUIRED`.

    Returns:
        `summary.headline`, with `required` and `passed`.

    Raises:
        VtccError: when there are no results, or on another level.
    """
    if require not in REQUIRED:
        raise VtccError(f"--require: found {require!r}; allowed: {', '.join(REQUIRED)}")
    checked = summary.headline(results)
    levels = summary.LEVELS
    if checked["level"] not in levels:
        raise VtccError(
            f"{results / summary.FILE}: trust.level: found {checked['level']!r:.60}; known: "
            f"{', '.join(levels)}; use the vtcc that wrote it"
        )
    passed = levels.index(checked["level"]) >= levels.index(require)
    note(f"{'passed' if passed else 'failed'}, {require} required: {checked['verdict']}")
    return checked | {"required": require, "passed": passed}
