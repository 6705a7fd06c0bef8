"""The deployments of the flow `vtcc`: those that prefect.yaml lists, for `make serve` as well."""

import importlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.schedules import Schedule
from pydantic import TypeAdapter, ValidationError

from vtcc import yaml_file
from vtcc.errors import VtccError, in_one_line

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
    """All, in the order of the file; their modules are imported.

    Raises:
        VtccError: when a schedule is none.
    """
    deployments = []
    for entry in yaml_file.read(FILE)["deployments"]:
        module, _, function = entry["entrypoint"].partition(":")
        name = module.removesuffix(".py").replace("/", ".")
        flow = getattr(importlib.import_module(name), function)
        trains = TRAINS in entry.get("tags", ())
        schedules = [_schedule(entry["name"], when) for when in entry.get("schedules") or ()]
        deployments.append(Deployment(entry["name"], flow, entry["description"], trains, schedules))
    return deployments


def _schedule(name: str, when: Any) -> Schedule:
    """As `prefect deploy` reads it: an interval is seconds, ISO 8601 or HH:MM:SS; dates are text.

    Args:
        name: of the deployment. when: the entry of the file.
    """
    where = f"{FILE.name}: a schedule of {name} ({when!r})"
    allowed = [field.name for field in fields(Schedule)]
    if not isinstance(when, dict) or (unknown := set(when) - set(allowed)):
        what = f"{min(unknown)!r} is unknown" if isinstance(when, dict) else "no mapping"
        raise VtccError(f"{where}: {what}; allowed: {', '.join(allowed)}")
    if not any(when.get(name) for name in ("cron", "interval", "rrule")):
        raise VtccError(f"{where}: says no time; give cron, rrule or an interval above 0")
    try:
        schedule = TypeAdapter(Schedule).validate_python(when)
        DeploymentScheduleCreate.from_schedule(schedule)  # checks more; Prefect does so later
    except ValidationError as error:
        first = error.errors()[0]
        raise VtccError(f"{where}: {' '.join([*map(str, first['loc']), first['msg']])}") from None
    except ValueError as error:
        raise VtccError(f"{where}: {in_one_line(error)}") from None
    return schedule
