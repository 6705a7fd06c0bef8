"""The version of vtcc, and those of what it runs with; the standard library alone."""

__version__ = "0.2.0"


def versions(*packages: str) -> dict[str, str]:
    """Of Python and installed packages; `unknown` for one that is not there."""
    import importlib.metadata
    import platform

    known = {"python": platform.python_version()}
    for package in packages:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            known[package] = "unknown"
    return known
