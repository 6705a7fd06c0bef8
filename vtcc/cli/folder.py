"""Commands about a folder of images."""

from pathlib import Path
from typing import Annotated

import typer

from vtcc.cli.options import Seed

app = typer.Typer()


@app.command()
def cluster(
    folder: Annotated[Path, typer.Argument(help="Of images; only read.")],
    clusters: Annotated[
        str, typer.Option("-k", "--clusters", help="A number, a range such as 5-30, or auto.")
    ] = "auto",
    minutes: Annotated[
        float, typer.Option(help="At most; ends sooner where more brings nothing.")
    ] = 20.0,
    out: Annotated[
        Path | None, typer.Option(help="Of the results; else FOLDER-clusters beside it.")
    ] = None,
    seed: Seed = 0,
    folders: Annotated[
        str, typer.Option(help="links or copies: a folder of images for each cluster.")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Finished results.")] = False,
    encoder: Annotated[
        str,
        typer.Option(
            help="auto; none: from scratch; a name of `vtcc encoders`; or a timm model, which "
            "needs --weights."
        ),
    ] = "auto",
    weights: Annotated[
        Path | None, typer.Option(help="Of the encoder: a local .safetensors or .pth file.")
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train the encoder too, from its weights: on a GPU.")
    ] = False,
    accept_licence: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of an encoder whose licence is restricted."),
    ] = None,
    params: Annotated[
        Path | None, typer.Option(help="A params.yaml whose train section is taken as it is.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a choice: train.epochs=20."),
    ] = None,
) -> None:
    """Group a folder of images without labels: tables, a page to look at, a model."""
    from vtcc.process import stopping
    from vtcc.verbs import cluster as verb

    options = verb.options(
        folder,
        clusters,
        params=params,
        assignments=set_ or [],
        out=out,
        minutes=minutes,
        encoder=encoder,
        weights=weights,
        finetune=finetune,
        accept_licence=tuple(accept_licence or ()),
        seed=seed,
        folders=folders,
        overwrite=overwrite,
    )
    with stopping.obeyed("cluster", marked=False):
        verb.run(options)


@app.command()
def refine(
    results: Annotated[Path, typer.Argument(help="Folder that `vtcc cluster` wrote.")],
    edits: Annotated[Path, typer.Option(help="The file that report.html exports.")],
    out: Annotated[
        Path | None, typer.Option(help="A new folder; else the results are replaced.")
    ] = None,
) -> None:
    """Apply the edits made in the page to tables, page and model."""
    from vtcc.process import stopping
    from vtcc.verbs import refine as verb

    with stopping.obeyed("refine", marked=False):
        verb.run(results, edits, out)


@app.command()
def add(
    results: Annotated[Path, typer.Argument(help="Folder that `vtcc cluster` wrote.")],
    more: Annotated[
        list[Path], typer.Argument(metavar="MORE...", help="Folders and images; the same one too.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="A new folder; else the results are replaced.")
    ] = None,
    allow_gone: Annotated[
        bool, typer.Option("--allow-gone", help="Though more than half of the images are gone.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 512,
) -> None:
    """Bring results up to date with new, changed and gone images; propose new clusters."""
    from vtcc.process import stopping
    from vtcc.verbs import add as verb

    with stopping.obeyed("add", marked=False):
        verb.run(results, more, out, allow_gone=allow_gone, batch_size=batch_size)
