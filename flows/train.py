"""The flow `vtcc`, deployment `vtcc/train`: the pipeline, one task per DVC stage.

    python -m flows.train --preset digits --seed 1 --set train.epochs=2

runs it once, without a server being set up.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows import artifacts, server, session, stages
from flows.parameters import (
    Augment,
    Dataset,
    Encoder,
    Group,
    Model,
    Overrides,
    Preset,
    Processes,
    Seed,
    Tags,
)
from vtcc import config, json_file, paths
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.pages import contact_sheet
from vtcc.process import launch
from vtcc.runner import dvc, workspace

if TYPE_CHECKING:
    from vtcc.tracking.registry import Registered

# A name, so that the default is not a literal shared between calls by accident.
NOTHING: dict[str, Any] = {}
STAGES = ("download", "validate", "embed", "train", "evaluate")
RESOLVED = ("preset", "overrides", "seed", "dataset", "model", "augment", "encoder")


def run_name() -> str:
    """Dataset, preset and seed; a name must never be what fails a run."""
    given = {key: flow_run.parameters.get(key) for key in RESOLVED}
    preset = given["preset"] or "params.yaml"
    try:
        params = workspace.resolve(**given)
    except VtccError:
        return f"{preset} refused"
    return f"{params['dataset']['name']} {preset} seed {params['train']['seed']}"


@flow(**session.OPTIONS, flow_run_name=run_name)
@session.explained
def train(
    preset: Preset | None = None,
    overrides: Overrides = NOTHING,
    seed: Seed | None = None,
    processes: Processes | None = None,
    dataset: Dataset | None = None,
    model: Model | None = None,
    augment: Augment | None = None,
    encoder: Encoder | None = None,
    tags: Tags = NOTHING,
    group: Group | None = None,
) -> Any:
    """Downloads, validates, embeds, trains and evaluates; what DVC has already is not done again.

    Without parameters it runs in the project directory, as `dvc repro` would, unless another
    run is at work there. With any that differ from `params.yaml` it runs in a private worktree,
    so that `params.yaml` and the files of the project stay as they are; results are in MLflow
    and in a DVC experiment.

    Args:
        preset: a run preset as `vtcc presets` lists them; without it, `params.yaml` as it is.
        overrides: dotted parameters and their values, such as {"train.epochs": 2}.
        seed: train.seed.
        processes: that train together, one per GPU for example; what they learn is the same
            training, so DVC does not repeat one for another number.
        dataset: a card of data/catalog, which sets source, channels, K and its augmentation.
        model: a model preset, sizes of the encoder.
        augment: an augmentation preset, ranges of the random views.
        encoder: a name of `vtcc encoders`: pretrained, frozen, with all that goes with it.
        tags: of the MLflow run and the flow run, such as {"purpose": "baseline"}.
        group: a name; trainings of one group are children of one MLflow run, to be compared.

    Returns:
        The content of reports/metrics.json.

    Raises:
        VtccError: on parameters that are not allowed, or when a stage fails.
    """
    values = (preset, overrides, seed, dataset, model, augment, encoder)
    given: dict[str, Any] = dict(zip(RESOLVED, values, strict=True))
    logger = get_run_logger()
    chosen = workspace.Workspace(workspace.resolve(**given))  # refuses before it waits for its turn
    with session.session(trains=True, tags=tags), chosen as where:
        if processes:
            where.env[launch.PROCESSES] = str(processes)
        logger.info("%s %s", "in the project" if where.in_place else "in", where.directory)
        if where.carried:
            logger.warning("uncommitted, carried along: %s", ", ".join(where.carried))
        stages.import_mlflow_meanwhile()
        runs = [stages.run(stage, where) for stage in STAGES]
        metrics = json_file.read(where.directory / paths.METRICS, "run the flow again")
        experiment = None if where.in_place else stages.done(stages.save(where, preset))
        marks = {"dvc_experiment": experiment} if experiment else {}
        version, link = stages.done(stages.register(where, tags | marks, marks, group))
        about = described(version)
        _show(where, runs, metrics, about, link, experiment)
    scores = artifacts.one_line(metrics, "no labels of two classes, no scores")
    logger.info("%s · %s", scores, " ".join(f"{k} {v}" for k, v in about.items()))
    return metrics


def _show(
    where: workspace.Workspace,
    runs: list[dvc.StageRun],
    metrics: dict[str, Any],
    about: dict[str, str],
    link: str,
    experiment: str | None,
) -> None:
    artifacts.mlflow_link(link, about["run"])
    artifacts.stages(runs, link, about["run"])
    if experiment:
        about = about | {"dvc experiment": experiment}
    if where.carried:
        about = about | {"uncommitted, carried along": ", ".join(where.carried)}
    durations = ", ".join(f"{r.stage} {r.how} ({r.seconds:.0f} s)" for r in runs)
    listed = "\n".join(f"- {key}: `{value}`" for key, value in about.items())
    words = f"Stages: {durations}\n\n{listed}"
    artifacts.table("vtcc-scores", artifacts.score_table(metrics), words)
    pictures(where)


def pictures(where: workspace.Workspace, reports: Path = paths.REPORTS) -> None:
    """Confusion and gallery of what a directory's reports hold; without labels the gallery."""
    confusion = where.directory / reports / paths.PLOTS.name / "confusion.png"
    if confusion.is_file():
        artifacts.picture("vtcc-confusion", confusion, "classes by cluster")
    if (where.directory / reports / paths.ASSIGNMENTS.name).is_file():
        artifacts.sheet("vtcc-gallery", lambda: contact_sheet.of_cache(where.directory, reports))


def described(version: "Registered") -> dict[str, str]:
    """What the registry says of the run's model, and where."""
    from vtcc.tracking import store

    return {
        "model": f"{version.name} version {version.version}",
        "champion": "yes" if version.champion else f"no: {version.reason}",
        "run": version.run_id,
        "tracking": store.public_uri(),
    }


def main(arguments: list[str] | None = None) -> None:
    """Runs the flow once; exits 1 with one line when it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m flows.train", description="Run the pipeline.")
    parser.add_argument("--preset", help=f"one of: {', '.join(compose.names('run'))}")
    parser.add_argument("--seed", type=int, help="train.seed")
    parser.add_argument("--processes", type=int, help="that train together")
    parser.add_argument("--dataset", help="a card of data/catalog")
    parser.add_argument("--model", help="a model preset")
    parser.add_argument("--augment", help="an augmentation preset")
    parser.add_argument("--encoder", help="a pretrained encoder, see `vtcc encoders`")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as train.epochs=2"
    )
    given = parser.parse_args(arguments)
    named = {key: getattr(given, key) for key in ("dataset", "model", "augment", "encoder")}
    try:
        overrides = config.parse_assignments(given.set)
        workspace.resolve(given.preset, overrides, given.seed, **named)
        with server.or_ephemeral(paths.project()):
            train(given.preset, overrides, given.seed, given.processes, **named)
    except VtccError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
