"""What the project's files import, read from their text."""

import ast
import sys
from functools import cache
from pathlib import Path

TOP = Path(__file__).parents[1]


def file_of(module: str) -> Path | None:
    """The file of a module, relative to the project; None of others."""
    place = TOP.joinpath(*module.split("."))
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file():
            return file.relative_to(TOP)
    return None


@cache
def modules(file: Path) -> set[str]:
    """All that a file imports, anywhere in it but for type checkers, by dotted name."""
    tree = ast.parse((TOP / file).read_text(encoding="utf-8"))
    for_types = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inside in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@cache
def imported(file: Path) -> set[Path]:
    """The project's files that a file imports."""
    parts = [m.split(".") for m in modules(file) if m.split(".")[0] == "vtcc"]
    packages = {".".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}
    return {file for package in packages if (file := file_of(package))}


@cache
def others(file: Path) -> set[str]:
    """The packages of others that a file imports."""
    tops = {name.partition(".")[0] for name in modules(file)}
    return tops - sys.stdlib_module_names - {"vtcc", "flows"}
