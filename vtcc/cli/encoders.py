"""`vtcc encoders`: the pretrained encoders and their weights."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=False)


@app.callback(invoke_without_command=True)
def encoders(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the pretrained encoders and where their weights are."""
    if context.invoked_subcommand is None:
        from vtcc.verbs import encoders as verb

        verb.run(as_json=as_json)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Of an encoder.")],
    accept_licence: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Encoder whose licence you have read and accept."),
    ] = None,
) -> None:
    """Download an encoder's weights, so that this machine can go offline."""
    from vtcc.verbs import encoders as verb

    verb.fetch(name, accept_licence=accept_licence or [])
