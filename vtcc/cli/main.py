"""`vtcc` itself: the options that come before a verb, and all verbs."""

from typing import Annotated

import typer

from vtcc.cli import encoders, folder, models, project
from vtcc.cli.verbs import Verbs
from vtcc.errors import STATUS
from vtcc.version import __version__

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Deep clustering of images without labels (VTCC, arXiv 2206.12925).",
    epilog="Exit statuses: " + "; ".join(f"{n} {meaning}" for n, meaning in STATUS.items()) + ".",
)
for group in (folder.app, models.app, project.app):
    app.add_typer(group)
app.add_typer(encoders.app, name="encoders")


def _version(wanted: bool) -> None:
    if wanted:
        from vtcc.verbs import doctor

        print(f"vtcc {__version__} ({doctor.around()})")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print it, with torch's and the device.",
        ),
    ] = False,
) -> None:
    from vtcc.process import stopping

    stopping.follow_runner()
