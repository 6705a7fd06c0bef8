"""Figures of the literature, shown beside ours and never mixed with them."""

from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.errors import VtccError

FILE = Path("benchmarks/quoted.yaml")


def read(project: Path) -> dict[str, list[dict[str, Any]]]:
    """Quoted figures by dataset; none where the project has no such file.

    Raises:
        VtccError: when the file is not `dataset: [{method, source, acc, nmi, ari}, ...]`.
    """
    file = project / FILE
    if not file.is_file():
        return {}
    values = config.read_yaml(file)
    if not isinstance(values, dict):
        raise VtccError(f"{file}: expected datasets, each with a list of figures")
    return {str(name): entries(rows, file) for name, rows in values.items()}


def entries(rows: Any, file: Path) -> list[dict[str, Any]]:
    """A list of quoted figures, checked."""
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.get("method") and row.get("source") for row in rows
    ):
        raise VtccError(f"{file}: expected a list of entries with method, source and scores")
    return rows


def of(params: dict[str, Any], known: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What is quoted for the images of a run; nothing where it saw a part of them only.

    Args:
        params: flat parameters.
        known: as `read` gives it.
    """
    if params.get("dataset.limit") or params.get("dataset.holdout"):
        return []
    card = Path(str(params.get("dataset.source", ""))).stem
    return known.get(card, known.get(str(params.get("dataset.name")), []))
