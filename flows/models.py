"""Which registered model a flow run means."""

from pathlib import Path

from vtcc import config, paths
from vtcc.errors import VtccError


def uri(model: str | None, version: int | None, alias: str | None, project: Path) -> str:
    """The model's address, `models:/NAME/3` or `models:/NAME@champion`.

    Args:
        model: a registered name or a URI; None for that of the dataset in `params.yaml`.
        version: of the name.
        alias: of the name, instead of a version; without both, `champion`.
        project: directory of `params.yaml`.

    Raises:
        VtccError: when a version or alias is given twice.
    """
    from vtcc.tracking import registry

    if version is not None and alias is not None:
        raise VtccError(f"version {version} and alias {alias!r}: give one of them")
    if model is None:
        model = registry.model_name(config.load(project / paths.PARAMS).dataset.name)
    if ":/" in model:
        if version is not None or alias is not None:
            raise VtccError(f"model {model}: an address says which version; leave out the rest")
        return model
    return f"models:/{model}/{version}" if version else f"models:/{model}@{alias or 'champion'}"


def short(address: str) -> str:
    """`vtcc-digits@champion`: the address for a run's name."""
    return address.removeprefix("models:/")
