"""What the commands share: options, and the directory they run in."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vtcc import paths
from vtcc.schema import MAX_SEED

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a parameter, e.g. train.epochs=2."),
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of all random numbers.")]
ENCODER = "train.model.encoder"
_OF_ENCODER = ("train.model.weights", "train.model.frozen")


def typed(context: typer.Context) -> list[str]:
    """Options of the command line itself, such as `--model`: no defaults, no variables."""
    given = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE":
            given.append(max(option.opts, key=len))
    return given


def assigned(context: typer.Context, assignments: list[str] | None) -> list[str]:
    """What `--set` says, less the encoder of a variable's beside one that is typed."""
    chosen = typed(context)
    given = [(text, text.partition("=")[0].strip()) for text in assignments or ()]
    if "--encoder" not in chosen or "--set" in chosen or ENCODER not in dict(given).values():
        return list(assignments or ())
    return [text for text, key in given if key not in (ENCODER, *_OF_ENCODER)]


def of_encoder(
    context: typer.Context,
    encoder: str,
    weights: Path | None,
    finetune: bool,
    accept_licence: list[str] | None,
    *,
    named: bool,
) -> dict[str, Any]:
    """The options of an encoder, less what variables say beside another choice of it.

    Args:
        encoder, weights, finetune, accept_licence: as they came.
        named: whether parameters (`--params`, `--set`) name an encoder.
    """
    chosen = typed(context)
    if named and "--encoder" not in chosen:
        encoder = "auto"
    [option] = [option for option in context.command.params if option.name == "encoder"]
    of_another = "--encoder" in chosen and option.value_from_envvar(context) not in (None, encoder)
    if of_another or ((named or "--encoder" in chosen) and encoder in ("auto", "none")):
        weights = weights if "--weights" in chosen else None
        finetune = finetune and "--finetune" in chosen
    strict = "--accept-licence" in chosen
    licences = tuple(name for name in accept_licence or () if strict or name == encoder)
    return {
        "encoder": encoder,
        "weights": weights,
        "finetune": finetune,
        "accept_licence": licences,
    }


def enter_project() -> None:
    """Goes to the directory that holds params.yaml, also from below it."""
    os.chdir(paths.existing_project())
