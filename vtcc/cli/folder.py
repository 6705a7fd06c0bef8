"""Commands about a folder of images: what `pip install vtcc` is for."""

import os
from pathlib import Path
from typing import Annotated

import typer

from vtcc.cli.options import Seed, of_encoder, typed
from vtcc.cli.output import AsJson, Quiet, answering
from vtcc.cli.verbs import variables
from vtcc.errors import BELOW, ERROR, VtccError

app = typer.Typer()
_INPUTS = (
    "Folders of images, images, a list .txt, a table .csv or .parquet with a column path, archives "
    "or Parquet with images inside, or an address of these: s3, gs, hf, https. Only read."
)
_OF_RAY = {"--workers", "--shard", "--ray-address"}
Exif = Annotated[
    bool, typer.Option("--exif", help="Add columns taken_at and camera, from the files' EXIF.")
]
Place = Annotated[
    bool, typer.Option("--place", help="Add columns latitude and longitude, from the files' EXIF.")
]


def _of_exif(exif: bool, place: bool) -> tuple[str, ...]:
    """The columns that are asked for."""
    return ("taken_at", "camera") * exif + ("latitude", "longitude") * place


@app.command()
def cluster(
    context: typer.Context,
    given: Annotated[list[str], typer.Argument(metavar="INPUT...", help=_INPUTS)],
    clusters: Annotated[
        str,
        typer.Option("-k", "--clusters", help="A number, a range such as 5-30, or auto (2-40)."),
    ] = "auto",
    minutes: Annotated[
        float, typer.Option(help="Time limit in minutes; it ends sooner where more brings nothing.")
    ] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results. Default: INPUT-clusters beside INPUT; for "
            "photos/list.txt, list-clusters beside photos."
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Images clusters are made of; the rest is assigned. 0: all.")
    ] = 10_000,
    seed: Seed = 0,
    folders: Annotated[
        str, typer.Option(help="links or copies: a folder of images for each cluster.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace finished results.")
    ] = False,
    unclustered: Annotated[
        bool, typer.Option("--unclustered", help="Images that belong nowhere get no cluster.")
    ] = False,
    unclustered_at_most: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Largest share without a cluster, of the images that clusters are made of; 0.2 "
            "unless given.",
        ),
    ] = None,
    exif: Exif = False,
    place: Place = False,
    encoder: Annotated[
        str,
        typer.Option(
            help="auto; none: from scratch; a name of `vtcc encoders`; or a timm model, which "
            "needs --weights."
        ),
    ] = "auto",
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the encoder: a local .safetensors or .pth file.")
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train the encoder too, from its weights: on a GPU.")
    ] = False,
    accept_licence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Encoder whose restricted licence you have read and accept."
        ),
    ] = None,
    params: Annotated[
        Path | None, typer.Option(help="A params.yaml whose train section is taken as it is.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a choice: train.epochs=20."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Group images without labels: tables, a page to look at, a model."""
    from vtcc.process import stopping

    _there(given)
    from vtcc.verbs import cluster as verb

    if not unclustered and "--unclustered-at-most" not in typed(context):
        unclustered_at_most = None
    changes, of = of_encoder(
        context,
        set_,
        whole=params is not None,
        encoder=encoder,
        weights=weights,
        finetune=finetune,
        accept_licence=accept_licence,
    )
    with answering(as_json, quiet) as answer, stopping.obeyed("cluster", marked=False):
        options = verb.options(
            given,
            clusters,
            params=params,
            assignments=changes,
            out=out,
            minutes=minutes,
            sample=sample,
            seed=seed,
            folders=folders,
            overwrite=overwrite,
            unclustered=unclustered,
            unclustered_at_most=unclustered_at_most,
            exif=_of_exif(exif, place),
            **of,
        )
        answer(verb.run(options))


def _there(given: list[str]) -> None:
    """Says at once, before the heavy imports, that an input does not exist."""
    for item in given:
        if "://" not in item and not os.path.lexists(item):
            raise VtccError(f"{item}: no such file or directory")


@app.command()
def refine(
    results: Annotated[Path, typer.Argument(help="Folder that `vtcc cluster` wrote.")],
    edits: Annotated[Path, typer.Option(help="The file that report.html exports.")],
    out: Annotated[
        Path | None, typer.Option(help="A new folder; else the results are replaced.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Apply the edits made in the page to tables, page and model."""
    _there([str(edits)])  # results that a kill left half renamed are found later
    from vtcc.process import stopping
    from vtcc.verbs import refine as verb

    with answering(as_json, quiet) as answer, stopping.obeyed("refine", marked=False):
        answer(verb.run(results, edits, out))


@app.command()
def add(
    results: Annotated[Path, typer.Argument(help="Folder that `vtcc cluster` wrote.")],
    more: Annotated[
        list[str], typer.Argument(metavar="MORE...", help=f"{_INPUTS} The same one too.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="A new folder; else the results are replaced.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Where the images' folder is now; for one that was moved.")
    ] = None,
    allow_gone: Annotated[
        bool,
        typer.Option(
            "--allow-gone", help="Go on though more than half of the images, or a MORE, are gone."
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 512,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Bring results up to date with new, changed and gone images; propose new clusters."""
    from vtcc.process import stopping
    from vtcc.verbs import add as verb

    with answering(as_json, quiet) as answer, stopping.obeyed("add", marked=False):
        answer(
            verb.run(results, more, out, root=root, allow_gone=allow_gone, batch_size=batch_size)
        )


@app.command()
def predict(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help=_INPUTS)],
    out: Annotated[Path, typer.Option(help="Table to write: .csv, .parquet or .json.")],
    model: Annotated[
        str, typer.Option(help="models:/vtcc-NAME@champion, or a model directory.")
    ] = "models/model",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 512,
    unclustered: Annotated[
        bool,
        typer.Option(
            "--unclustered",
            help="Images that belong nowhere get no cluster; on anyway if the model was made "
            "with it.",
        ),
    ] = False,
    exif: Exif = False,
    place: Place = False,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="Use Ray Data, in shards; the same command goes on after a stop."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Ray workers; 0: one for each core.")] = 0,
    shard: Annotated[int, typer.Option(min=0, help="Files per Ray task; 0: 2048.")] = 0,
    ray_address: Annotated[
        str, typer.Option(help="Address of a Ray cluster; else one is started.")
    ] = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Sort images into the clusters of a trained model."""
    _there(inputs)
    if not ray and not _OF_RAY.isdisjoint(typed(context)):
        raise VtccError("--workers, --shard and --ray-address belong to --ray; add it")
    from vtcc.process import stopping

    with answering(as_json, quiet) as answer, stopping.obeyed("predict", marked=False):
        if ray:
            from vtcc.scale import ray as scaled

            answer(
                scaled.run(
                    inputs,
                    model,
                    out=out,
                    batch_size=batch_size,
                    shard=shard or scaled.SHARD,
                    workers=workers,
                    address=ray_address,
                    unclustered=unclustered,
                    exif=_of_exif(exif, place),
                )
            )
            return
        from vtcc.verbs import predict as verb

        answer(
            verb.run(
                inputs,
                model,
                out=out,
                batch_size=batch_size,
                unclustered=unclustered,
                exif=_of_exif(exif, place),
            ),
        )


@app.command()
def check(
    results: Annotated[Path, typer.Argument(help="Folder that `vtcc cluster` wrote.")],
    require: Annotated[
        str,
        typer.Option(
            metavar="LEVEL",
            help="clear, or weak: weak or clear structure; one kind and chance fail.",
        ),
    ] = "clear",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Exit with status 3 where results are less clear than required: for scripts and CI."""
    from vtcc.verbs import check as verb

    with answering(as_json, quiet) as answer:
        checked = verb.run(results, require)
        answer(checked)
    if not checked["passed"]:
        raise typer.Exit(BELOW)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder to write: the tiles and their clusters.")
    ] = Path("vtcc-demo"),
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Group tiles of two photographs that come with scikit-learn: two minutes or three, offline."""
    from vtcc.process import stopping
    from vtcc.verbs import demo as verb

    with answering(as_json, quiet) as answer, stopping.obeyed("demo", marked=False):
        answer(verb.run(out, open_page=open_page))


@app.command()
def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Look at this installation: versions, device, memory, disk, weights, what is wrong."""
    from vtcc.verbs import doctor as verb

    with answering(as_json, quiet=as_json) as answer:
        examined = verb.run(variables(context.find_root().command))
        answer(examined)
    if any(problem["severity"] == "error" for problem in examined["problems"]):
        raise typer.Exit(ERROR)
