"""The deployments of the flow `vtcc`: those that prefect.yaml lists, for `make serve` as well."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.schedules import Schedule

from vtcc import yaml_file

FILE = Path(__file__).parents[1] / "prefect.yaml"
TRAINS = "training"  # a tag: runs hold a place of the limit; others never wait behind them


@dataclass(frozen=True)
class Deployment:
    """A flow under a name.

    Attributes:
        name: `vtcc/<name>`.
        flow: the flow function.
        description: one line; the flow's docstring describes its parameters.
        trains: whether its runs hold a place of the limit.
        schedules: when it runs by itself; empty: those that the server has stay.
    """

    name: str
    flow: Any
    description: str
    trains: bool
    schedules: list[Schedule]


def known() -> list[Deployment]:
    """All, in the order of the file; their modules are imported."""
    deployments = []
    for entry in yaml_file.read(FILE)["deployments"]:
        module, _, function = entry["entrypoint"].partition(":")
        name = module.removesuffix(".py").replace("/", ".")
        flow = getattr(importlib.import_module(name), function)
        trains = TRAINS in entry.get("tags", ())
        schedules = [Schedule(**when) for when in entry.get("schedules", ())]
        deployments.append(Deployment(entry["name"], flow, entry["description"], trains, schedules))
    return deployments
