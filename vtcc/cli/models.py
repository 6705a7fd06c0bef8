"""Commands about runs and models in MLflow."""

from pathlib import Path
from typing import Annotated

import typer

from vtcc.cli.options import enter_project

app = typer.Typer()


@app.command()
def api(
    model: Annotated[
        str, typer.Option(help="models:/NAME@ALIAS or /VERSION; else the project's champion.")
    ] = "",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5002,
    host: Annotated[str, typer.Option(help="There is no password: think before others.")] = (
        "127.0.0.1"
    ),
    threads: Annotated[int, typer.Option(min=1, help="Of a forward pass.")] = 1,
    max_mib: Annotated[int, typer.Option(min=1, help="Of a request.")] = 64,
    max_images: Annotated[int, typer.Option(min=1, help="In a request.")] = 4096,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of an image.")] = 50_000_000,
    docs: Annotated[bool, typer.Option("--docs", help="Serve pages of the routes, /docs.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Tell the running server to take up the champion.")
    ] = False,
) -> None:
    """Serve the champion over HTTP: images in; cluster, confidence, probabilities out."""
    from vtcc.tracking import api as server
    from vtcc.tracking import registry

    enter_project()
    if reload:
        server.reload(host, port)
        return
    settings = server.Settings(max_mib << 20, max_images, max_pixels, threads, docs)
    server.serve(model or f"models:/{registry.of_project()}@champion", host, port, settings)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Ids of runs, or models:/NAME@champion.")],
    out: Annotated[
        Path | None, typer.Option(help="Of the picture, a PNG; else reports/compare.png.")
    ] = None,
) -> None:
    """Compare runs: parameters, scores, which images changed their cluster."""
    from vtcc.verbs import compare as verb

    out = out and out.resolve()
    enter_project()
    verb.run(runs, out)


@app.command()
def export(
    onnx: Annotated[Path | None, typer.Option(help="Written: FILE.onnx.")] = None,
    with_encoder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Written: a model directory that needs nothing else."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="models:/vtcc-NAME@champion, or a model directory.")
    ] = "models/model",
) -> None:
    """Write a model as ONNX, for programs without torch, or whole, with its frozen encoder."""
    from vtcc.verbs import export as verb

    verb.run(model, onnx=onnx, with_encoder=with_encoder)


@app.command()
def register() -> None:
    """Log the evaluation and register the model in models/; the same again changes nothing."""
    from vtcc.progress import note
    from vtcc.tracking import registry

    enter_project()
    made = registry.register_current()
    note(f"{made.name}: version {made.version}, {made.reason}")


@app.command()
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


@app.command()
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
