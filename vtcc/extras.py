"""What a small installation lacks, and the one line that names the extra to install.

`pip install vtcc` brings what groups a folder of images; the rest are extras of pyproject.toml.
"""

import importlib.util

from vtcc.errors import VtccError

# Packages that code of this project imports or runs, by the extra that brings them.
PACKAGES = {
    "camera": ("av", "rawpy"),
    "gpu": ("pynvml",),
    "pipeline": (
        *("dvc", "fastapi", "great_expectations", "matplotlib", "mlflow", "optuna", "pandas"),
        *("prefect", "requests"),
    ),
    "ray": ("ray",),
    "remote": ("aiohttp", "gcsfs", "s3fs"),
}
_EXTRA = {package: extra for extra, packages in PACKAGES.items() for package in packages}


def install(extra: str) -> str:
    """What to type for an extra; ends a sentence."""
    return f"pip install 'vtcc[{extra}]', in a clone: pip install '.[{extra}]'"


class MissingExtra(VtccError):  # noqa: N818 - what is missing, not a kind of error
    """A package of an extra is not installed."""


def need(what: str, *packages: str) -> None:
    """Refuses, before any work, what cannot be done without packages of an extra.

    Args:
        what: needs them, such as "`vtcc study`". packages: as they are imported.

    Raises:
        MissingExtra: when one of them is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise _missing(package, what)


def explained(error: ModuleNotFoundError) -> MissingExtra | None:
    """The line for an import that failed; None where no extra brings what was imported."""
    package = (error.name or "").partition(".")[0]
    return _missing(package, "this") if package in _EXTRA else None


def _missing(package: str, what: str) -> MissingExtra:
    extra = _EXTRA[package]
    return MissingExtra(f"{what} needs {package}, which is not installed here: {install(extra)}")
