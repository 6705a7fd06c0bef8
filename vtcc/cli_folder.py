"""`vtcc <verb>` for a folder of images; thin, like `vtcc.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from vtcc import config
from vtcc.errors import VtccError

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
    seed: Annotated[int, typer.Option(min=0, max=config.MAX_SEED)] = 0,
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
    from vtcc.grouping.options import Options, parse_clusters, unused
    from vtcc.process import stopping
    from vtcc.stages import cluster as stage

    overrides: dict = {}
    if params:
        values = config.read_yaml(params)
        config.from_dict(config.Params, values)
        sections = {k: values[k] for k in ("train", "validate", "embed")}
        overrides |= {k: v for k, v in config.flatten(sections).items() if not unused(k)}
        overrides["dataset.channels"] = values["dataset"]["channels"]
    if (finetune or weights) and encoder in ("auto", "none"):
        raise VtccError(
            f"--{'finetune' if finetune else 'weights'}: belongs to an encoder; name it by "
            "--encoder (`vtcc encoders` lists them)"
        )
    for name in accept_licence or []:
        if name != encoder:
            raise VtccError(f"--accept-licence {name}: belongs to --encoder {name}; add it")
    overrides |= config.parse_assignments(set_ or [])
    if folders not in ("", "links", "copies"):
        raise VtccError(f"--folders: found {folders!r}; allowed: links, copies")
    if not minutes > 0:
        raise VtccError(f"--minutes: found {minutes:g}; allowed: above 0")
    options = Options(
        folder=folder,
        out=out,
        clusters=parse_clusters(clusters),
        minutes=minutes,
        encoder=encoder,
        weights=weights,
        finetune=finetune,
        accept_licence=tuple(accept_licence or ()),
        seed=seed,
        folders=folders,
        overwrite=overwrite,
        overrides=overrides,
    )
    with stopping.obeyed("cluster", marked=False):
        stage.run(options)


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
    from vtcc.stages import refine as stage

    with stopping.obeyed("refine", marked=False):
        stage.run(results, edits, out)
