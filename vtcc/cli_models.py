"""`vtcc <verb>` for runs and models in MLflow; thin, like `vtcc.cli`."""

import os
from typing import Annotated

import typer

from vtcc import paths

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
    reload: Annotated[
        bool, typer.Option("--reload", help="Tell the running server to take up the champion.")
    ] = False,
) -> None:
    """Serve the champion over HTTP: images in; cluster, confidence, probabilities out."""
    from vtcc.tracking import api as server
    from vtcc.tracking import registry

    _in_project()
    if reload:
        server.reload(host, port)
        return
    settings = server.Settings(max_mib << 20, max_images, max_pixels, threads)
    server.serve(model or f"models:/{registry.of_project()}@champion", host, port, settings)


def _in_project() -> None:
    os.chdir(paths.project())
