"""What the commands share: options, and the directory they run in."""

import os
from typing import Annotated

import typer

from vtcc import paths
from vtcc.schema import MAX_SEED

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a parameter, e.g. train.epochs=2."),
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of all random numbers.")]


def typed(context: typer.Context) -> list[str]:
    """Options of the command line itself, such as `--model`: no defaults, no variables."""
    given = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE":
            given.append(max(option.opts, key=len))
    return given


def enter_project() -> None:
    """Goes to the directory that holds params.yaml, also from below it."""
    os.chdir(paths.existing_project())
