"""Commands about models, and about runs and models in MLflow."""

import os
from pathlib import Path
from typing import Annotated

import typer

from vtcc import paths
from vtcc.cli.options import enter_project, typed
from vtcc.cli.output import AsJson, Quiet, answering
from vtcc.cli.verbs import Pipeline
from vtcc.errors import VtccError

app = typer.Typer()
_OF_RESULTS = {"--to", "--out", "--images", "--place", "--root", "--overwrite", "--json"}
_OF_A_RUNNING_ONE = ("--reload", "--host", "--port")


@app.command()
def export(
    context: typer.Context,
    results: Annotated[
        Path | None, typer.Argument(help="Folder that `vtcc cluster` wrote; else a model.")
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="Format: fiftyone, label-studio, imagefolder, coco or embedding-atlas.",
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Written by --to: a folder; .json or .parquet.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="links (unless given) or copies; of JPEG, PNG, WebP without EXIF."),
    ] = None,
    place: Annotated[
        bool, typer.Option("--place", help="Keep latitude and longitude, and EXIF in copies.")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="Where the images' folder is now; for one that was moved.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = False,
    onnx: Annotated[Path | None, typer.Option(help="Write --model as FILE.onnx.")] = None,
    with_encoder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a model directory that needs nothing else."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="models:/vtcc-NAME@champion, or a model directory.")
    ] = "models/model",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write results for another tool, or a model as ONNX or whole, with its frozen encoder."""
    chosen = typed(context)
    given = ["RESULTS"] * (results is not None) + [n for n in chosen if n in _OF_RESULTS]
    if given and "--model" in chosen:
        raise VtccError(f"{given[0]} belongs to results, --model to a model; export one")
    if given and ("--onnx" in chosen or "--with-encoder" in chosen):
        raise VtccError(
            f"{given[0]} belongs to results, --onnx and --with-encoder to a model; export one"
        )
    from vtcc.process import stopping
    from vtcc.verbs import export as verb

    asked = as_json and bool(given)
    with answering(asked, quiet) as answer, stopping.obeyed("export", marked=False):
        if not given:
            verb.run(model, onnx=onnx, with_encoder=with_encoder)
        elif not (results and to and out):
            raise VtccError("of results, give all of: vtcc export RESULTS --to FORMAT --out PATH")
        else:
            from vtcc.export import formats

            if "--images" not in chosen and not formats.named(to).media:
                images = None
            answer(
                verb.hand_over(
                    results, to, out, images=images, place=place, root=root, overwrite=overwrite
                )
            )


@app.command("import-checkpoint")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="Checkpoint of the authors' code, or safetensors.")],
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    num_heads: Annotated[int, typer.Option(min=1, help="Attention heads; the file is mute.")] = 12,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels; else by the file's positions, or 224.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace whatever is in --out.")] = False,
) -> None:
    """Turn a checkpoint of the paper's authors into a model for `vtcc predict`."""
    from vtcc.process import stopping
    from vtcc.verbs import import_checkpoint as verb

    # Where a project is, `vtcc clean` asks whether anything is being written.
    here = os.path.isfile(paths.PARAMS)  # noqa: PTH113 - Path's own raises
    with stopping.obeyed("import-checkpoint", marked=here):
        verb.run(file, out=out, num_heads=num_heads, image_size=image_size, force=force)


@app.command(cls=Pipeline)
def api(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            help="models:/NAME@ALIAS or /VERSION, or RESULTS of `vtcc cluster`; else the project's "
            "champion."
        ),
    ] = "",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5002,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. No password: think before you open it to others."),
    ] = ("127.0.0.1"),
    threads: Annotated[int, typer.Option(min=1, help="Threads of a forward pass.")] = 1,
    max_mib: Annotated[int, typer.Option(min=1, help="Largest request, MiB.")] = 64,
    max_images: Annotated[int, typer.Option(min=1, help="Most images of a request.")] = 4096,
    max_pixels: Annotated[int, typer.Option(min=1, help="Most pixels of an image.")] = 50_000_000,
    docs: Annotated[bool, typer.Option("--docs", help="Serve pages of the routes, /docs.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Tell the running server to take up the champion.")
    ] = False,
) -> None:
    """Serve a model over HTTP: images in; cluster, confidence, probabilities out."""
    of_a_new_one = [name for name in typed(context) if name not in _OF_A_RUNNING_ONE]
    if reload and of_a_new_one:
        raise VtccError(
            f"{of_a_new_one[0]} belongs to a server that starts; beside --reload there are --host "
            "and --port of the one that runs"
        )
    from vtcc.tracking import api as server
    from vtcc.tracking import fetch, registry

    if model and not fetch.is_address(model) and Path(model).exists():
        model = str(Path(model).resolve())
    enter_project()
    if reload:
        server.reload(host, port)
        return
    settings = server.Settings(max_mib << 20, max_images, max_pixels, threads, docs)
    server.serve(model or f"models:/{registry.of_project()}@champion", host, port, settings)


@app.command(cls=Pipeline)
def compare(
    runs: Annotated[list[str], typer.Argument(help="Ids of runs, or models:/NAME@champion.")],
    out: Annotated[
        Path | None, typer.Option(help="Picture to write, a PNG; else reports/compare.png.")
    ] = None,
) -> None:
    """Compare runs: parameters, scores, which images changed their cluster."""
    from vtcc.process import stopping
    from vtcc.verbs import compare as verb

    out = out and out.resolve()
    enter_project()
    with stopping.obeyed("compare", marked=False):
        verb.run(runs, out)


@app.command(cls=Pipeline)
def register() -> None:
    """Log the evaluation and register the model in models/; the same again changes nothing."""
    from vtcc.process import stopping
    from vtcc.progress import note
    from vtcc.tracking import registry

    enter_project()
    with stopping.obeyed("register", marked=False):
        made = registry.register_current()
    note(f"{made.name}: version {made.version}, {made.reason}")


@app.command(cls=Pipeline)
def promote(
    version: Annotated[str, typer.Argument(help="Number of a registered version.")],
    model: Annotated[str, typer.Option(help="Registered name; else the project's.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
) -> None:
    """Make a registered version the champion, by hand."""
    from vtcc.progress import note
    from vtcc.tracking import promotion, registry

    enter_project()
    name = model or registry.of_project()
    moved = promotion.promote(name, version, reason)
    note(f"{name}: champion is version {moved.version}, before it {moved.before or 'none'}")


@app.command(cls=Pipeline)
def rollback(
    model: Annotated[str, typer.Option(help="Registered name; else the project's.")] = "",
) -> None:
    """Give the alias champion back to the version that had it before."""
    from vtcc.progress import note
    from vtcc.tracking import promotion, registry

    enter_project()
    name = model or registry.of_project()
    moved = promotion.rollback(name)
    note(f"{name}: champion is version {moved.version} again; {moved.reason}")
