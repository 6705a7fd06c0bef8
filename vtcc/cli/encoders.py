"""`vtcc encoders`: the pretrained encoders and their weights."""

from typing import Annotated

import typer

from vtcc.cli.output import AsJson, Quiet, answering

app = typer.Typer(no_args_is_help=False)


@app.callback(invoke_without_command=True)
def encoders(context: typer.Context, as_json: AsJson = False) -> None:
    """List the pretrained encoders and where their weights are."""
    if context.invoked_subcommand is None:
        from vtcc.verbs import encoders as verb

        with answering(as_json, quiet=as_json) as answer:
            answer(verb.run())


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name of an encoder; see `vtcc encoders`.")],
    accept_licence: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Encoder whose licence you have read and accept."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Download an encoder's weights, so that this machine can go offline."""
    from vtcc.process import stopping
    from vtcc.verbs import encoders as verb

    with answering(as_json, quiet) as answer, stopping.obeyed("encoders fetch", marked=False):
        answer(verb.fetch(name, accept_licence=accept_licence or []))
