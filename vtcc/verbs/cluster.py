"""`vtcc cluster`: what the command line says, as what `vtcc.grouping` takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.data.inputs import Given
from vtcc.errors import VtccError
from vtcc.grouping.options import Options, check, parse_clusters, unused
from vtcc.grouping.run import run as cluster
from vtcc.grouping.summary import headline
from vtcc.progress import note


def run(asked: Options) -> dict[str, Any]:
    """Groups the images; `vtcc.grouping.run.run` says how.

    Returns:
        As `vtcc.grouping.summary.headline`.
    """
    return headline(cluster(asked))


def options(
    given: Sequence[Given],
    clusters: str,
    *,
    params: Path | None,
    assignments: list[str],
    unclustered: bool = False,
    unclustered_at_most: float | None = None,
    **others: Any,
) -> Options:
    """The options of a command line.

    Args:
        given: folders of images and other inputs. clusters: a number, a range or auto.
        params: a params.yaml whose sections count instead of choices, as far as they can.
        assignments: such as `train.epochs=2`; they win over `params`.
        unclustered: whether images may be in no cluster. unclustered_at_most: share of them.
        others: as of `Options`.

    Raises:
        VtccError: on a value that is not allowed, or one that another one leaves without effect.
    """
    if unclustered_at_most is not None:
        if not unclustered:
            raise VtccError("--unclustered-at-most: belongs to --unclustered; add it")
        if not 0 < unclustered_at_most < 1:
            raise VtccError(
                f"--unclustered-at-most: found {unclustered_at_most:g}; allowed: a share between 0 "
                "and 1, such as 0.1"
            )
        others["unclustered_at_most"] = unclustered_at_most
    asked = Options(
        folder=given[0],
        others=tuple(given[1:]),
        clusters=parse_clusters(clusters),
        unclustered=unclustered,
        **others,
    )
    if params and not params.exists():
        raise VtccError(
            f"--params {params}: no such file; RESULTS/params.yaml of `vtcc cluster` is one"
        )
    if params:
        values = config.read_yaml(params)
        config.from_dict(config.Params, values)
        sections = {k: values[k] for k in ("train", "validate", "embed")}
        flat = config.flatten(sections)
        asked.overrides.update({k: v for k, v in flat.items() if not unused(k)})
        asked.overrides["dataset.channels"] = values["dataset"]["channels"]
        if (seed := flat["train.seed"]) != asked.seed:
            note(f"{params}: its train.seed {seed} is left out; --seed is {asked.seed}")
    asked.overrides.update(config.parse_assignments(assignments))
    check(asked)
    return asked
