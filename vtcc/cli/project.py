"""The stages of the pipeline, and the commands about its parameters and files."""

import importlib
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from vtcc import paths
from vtcc.cli.options import Seed, Set, enter_project, of_encoder, typed
from vtcc.cli.output import AsJson, answering
from vtcc.cli.verbs import Clone, Pipeline
from vtcc.errors import VtccError
from vtcc.progress import note

app = typer.Typer()


def _stage(name: str, **given: object) -> None:
    """Runs a stage and says how long it took, its imports included."""
    from vtcc.process import stopping

    started = time.monotonic()
    enter_project()
    with stopping.obeyed(name):
        importlib.import_module(f"vtcc.stages.{name}").run(**given)
    note(f"{name}: done in {time.monotonic() - started:.0f} s")


@app.command(cls=Pipeline)
def source() -> None:
    """Look at what dataset.source holds now, so that DVC notices new images."""
    _stage("source")


@app.command(cls=Pipeline)
def download() -> None:
    """Stage 1: fetch images, write manifest and labels."""
    _stage("download")


@app.command(cls=Pipeline)
def validate() -> None:
    """Stage 2: decode every image once, check expectations, write the cache."""
    _stage("validate")


@app.command(cls=Clone)
def embed() -> None:
    """Stage 3: features of a frozen encoder, made once; without one nothing to do."""
    _stage("embed")


@app.command(cls=Clone)
def train(
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A checkpoint, e.g. of another machine.")
    ] = None,
    processes: Annotated[
        int,
        typer.Option(min=0, help="Processes on this machine; 0: as VTCC_PROCESSES says, else 1."),
    ] = 0,
) -> None:
    """Stage 4: train VTCC without labels; resumes an interrupted training by itself."""
    _stage("train", resume=resume.absolute() if resume else None, processes=processes)


@app.command()
def plan(
    context: typer.Context,
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUT]...", help="Plan `vtcc cluster` of these instead."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="PRESET", help="Plan for it instead of params.yaml.")
    ] = None,
    assignments: Set = None,
    images: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Synthetic images, instead of the cache.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=0, help="With INPUT, as for `vtcc cluster`.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="As for `vtcc cluster`.")] = None,
    encoder: Annotated[str | None, typer.Option(help="As for `vtcc cluster`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Time, memory and disk of a training here, or of `vtcc cluster INPUT`, before it starts."""
    from vtcc.process import stopping
    from vtcc.yaml_file import assignments as as_values

    changes, of = of_encoder(context, assignments, encoder=encoder)
    parsed, chosen = as_values(changes), typed(context)
    if given:
        if wrong := [name for name in chosen if name in ("--preset", "--images")]:
            raise VtccError(f"{wrong[0]}: of a training's plan; leave it out, or the inputs")
        of_inputs = {"sample": sample, "minutes": minutes}
        asked: dict[str, Any] = of | {k: v for k, v in of_inputs.items() if v is not None}
        from vtcc.grouping.options import Options
        from vtcc.verbs import plan_collection

        options = Options(given[0], others=tuple(given[1:]), overrides=parsed, **asked)
        with answering(as_json, quiet=False) as answer, stopping.obeyed("plan", marked=False):
            answer(plan_collection.run(options))
        return
    if wrong := [name for name in chosen if name in ("--sample", "--minutes", "--encoder")]:
        raise VtccError(f"{wrong[0]}: belongs to a plan of inputs; name them")
    from vtcc.verbs import plan as verb

    enter_project()
    with answering(as_json, quiet=as_json) as answer, stopping.obeyed("plan", marked=False):
        answer(verb.run(preset=preset, overrides=parsed, images=images))


@app.command(cls=Pipeline)
def evaluate() -> None:
    """Stage 5: scores, baselines, plots, gallery."""
    _stage("evaluate")


@app.command(cls=Pipeline)
def assess(
    model: Annotated[
        str, typer.Argument(help="models:/vtcc-NAME@champion, or a model directory.")
    ] = "models/model",
) -> None:
    """Score any model on the images of data/cache; without labels, assign them."""
    from vtcc.process import stopping
    from vtcc.verbs import assess as verb

    enter_project()
    with stopping.obeyed("assess"):
        verb.run(model)


@app.command(cls=Clone)
def show() -> None:
    """What the last evaluation found, and where to look next."""
    from vtcc.verbs import show as verb

    enter_project()
    verb.run()


@app.command(cls=Clone)
def datasets(
    name: Annotated[str | None, typer.Argument(help="One of them, for all of its card.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the known datasets and how each is got."""
    from vtcc.verbs import datasets as verb

    enter_project()
    with answering(as_json, quiet=as_json) as answer:
        answer(verb.run(name))


@app.command(cls=Pipeline)
def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="See docs/studies.md.")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="SETTING", help="Run this one; repeatable.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, e.g. 0-2, instead of the file's.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of a stage; 0: up to the libraries.")
    ] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    again: Annotated[bool, typer.Option("--again", help="Run what is recorded too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, show the plan.")] = False,
) -> None:
    """Run settings x seeds, record and compare them; the same command goes on."""
    from vtcc.verbs import study as verb

    verb.start(
        file,
        only=only or [],
        seeds=seeds,
        threads=threads,
        jobs=jobs,
        again=again,
        dry_run=dry_run,
    )


@app.command(cls=Pipeline)
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="See docs/sweeps.md.")],
    trials: Annotated[
        int | None, typer.Option(metavar="N", help="Trials in all, instead of the file's number.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 1,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of a trial; 0: up to the libraries.")
    ] = 0,
    write: Annotated[
        Path | None, typer.Option(help="The winner's parameters go there, e.g. params.yaml.")
    ] = None,
    register: Annotated[
        bool, typer.Option("--register", help="Train the winner in full and register it.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Forget the trials there are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, show the plan.")] = False,
) -> None:
    """Search parameters by an objective without labels; the same command goes on."""
    from vtcc.verbs import sweep as verb

    verb.start(
        file,
        trials=trials,
        jobs=jobs,
        threads=threads,
        write=write,
        register=register,
        again=again,
        dry_run=dry_run,
    )


@app.command(cls=Clone)
def presets() -> None:
    """List what `vtcc use` takes: run, model and augmentation presets, dataset cards."""
    from vtcc.verbs import presets as verb

    verb.run()


@app.command("augment-preview", cls=Pipeline)
def augment_preview(
    augment: Annotated[
        list[str] | None,
        typer.Option(help="Augmentation presets, or all; by default train.augment."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG to write, else reports/augment-preview.png.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=50, help="Rows per preset.")] = 4,
    size: Annotated[
        int | None, typer.Option(min=8, max=1024, help="Pixels; by default train.image_size.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Picture random views of the cached images, or of samples that ship with scikit-learn."""
    from vtcc.process import stopping
    from vtcc.verbs import augment_preview as verb

    out = out.absolute() if out else None
    enter_project()
    picture = out or paths.REPORTS / "augment-preview.png"
    with stopping.obeyed("augment-preview"):
        verb.run(augment or [], out=picture, images=images, size=size, seed=seed)


@app.command(cls=Clone)
def use(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A preset or a dataset: see `vtcc presets`.")],
    dataset: Annotated[
        str | None, typer.Option(metavar="CARD", help="Dataset: a card of data/catalog.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="PRESET", help="Sizes of the model.")] = None,
    augment: Annotated[str | None, typer.Option(metavar="PRESET", help="Ranges of views.")] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Pretrained, frozen: see `vtcc encoders`.")
    ] = None,
    assignments: Set = None,
) -> None:
    """Write params.yaml from a preset; an edited one is kept in .vtcc/params."""
    from vtcc.verbs import use as verb

    changes, of = of_encoder(context, assignments, encoder=encoder)
    verb.run(name, dataset=dataset, model=model, augment=augment, assignments=changes, **of)


@app.command(cls=Clone)
def params(
    explain: Annotated[bool, typer.Option("--explain", help="Reasons and allowed values.")] = False,
    match: Annotated[str, typer.Argument(help="Only keys that contain this.")] = "",
) -> None:
    """Check params.yaml and print it; --explain, anywhere, says why each value is so."""
    from vtcc.verbs import params as verb

    enter_project()
    verb.run(match, explain=explain)


@app.command(cls=Pipeline)
def ui(
    port: Annotated[
        int, typer.Option(min=1, max=65535, envvar="MLFLOW_PORT", help="Port on 127.0.0.1.")
    ] = 5000,
) -> None:
    """Open the MLflow UI of this project's store."""
    from vtcc.tracking import ui as mlflow_ui

    enter_project()
    mlflow_ui.launch(port)


@app.command(cls=Pipeline)
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Show what unfinished trainings, worktrees, downloads and killed runs left, and delete it."""
    from vtcc.process import stopping
    from vtcc.verbs import clean as verb

    enter_project()
    with stopping.obeyed("clean", marked=False):
        verb.run(confirmed=yes)
