"""What the commands share: options, and the directory they run in."""

import os
from typing import Annotated, Any

import typer

from vtcc import paths
from vtcc.schema import MAX_SEED

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a parameter, e.g. train.epochs=2."),
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of all random numbers.")]
_ENCODER = "train.model.encoder"
_OF_ENCODER = (_ENCODER, "train.model.weights", "train.model.frozen")


def typed(context: typer.Context) -> list[str]:
    """Options of the command line itself, such as `--model`: no defaults, no variables."""
    given = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE":
            given.append(max(option.opts, key=len))
    return given


def of_encoder(
    context: typer.Context, assignments: list[str] | None, *, whole: bool = False, **given: Any
) -> tuple[list[str], dict[str, Any]]:
    """What is asked of the encoder, less what variables say beside another choice of it.

    Args:
        assignments: of `--set`.
        whole: whether `--params` is given, which names an encoder.
        given: `encoder`, and `weights`, `finetune`, `accept_licence` of a verb that has them.

    Returns:
        The assignments, and those of `given` that count.
    """
    chosen, kept = typed(context), list(assignments or ())
    here = "--encoder" in chosen
    keys = [text.partition("=")[0].strip() for text in kept]
    if here and "--set" not in chosen and _ENCODER in keys:
        pairs = zip(kept, keys, strict=True)
        kept, keys = [text for text, key in pairs if key not in _OF_ENCODER], []
    named = whole or _ENCODER in keys
    encoder, licences = given.pop("encoder"), given.pop("accept_licence", None) or ()
    if named and not here:
        encoder = None
    [option] = [option for option in context.command.params if option.name == "encoder"]
    of_another = here and option.value_from_envvar(context) not in (None, encoder)
    if of_another or ((named or here) and encoder in (None, "auto", "none")):
        given = {name: value for name, value in given.items() if f"--{name}" in chosen}
    given["encoder"] = encoder
    strict = "--accept-licence" in chosen
    if licences := tuple(name for name in licences if strict or name == encoder):
        given["accept_licence"] = licences
    return kept, {name: value for name, value in given.items() if value is not None}


def enter_project() -> None:
    """Goes to the directory that holds params.yaml, also from below it."""
    os.chdir(paths.existing_project())
