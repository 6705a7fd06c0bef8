"""`vtcc cluster`: a folder of images in; groups, a page to look at and a model out."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vtcc.errors import VtccError
from vtcc.grouping.options import Options, check, check_clusters
from vtcc.progress import duration, note

if TYPE_CHECKING:
    import numpy as np

    from vtcc.grouping.intake import Listed
    from vtcc.grouping.rest import Rest
    from vtcc.grouping.state import Judged, Learned, Prepared

_JUDGED = "judged"  # in the work directory


def run(options: Options, listed: "Listed | None" = None) -> Path:
    """Groups the images of a folder. The same call goes on after an interruption.

    Of more than `options.sample` images a seeded sample is grouped; the others are assigned to its
    clusters in shards, as `vtcc predict` would (docs/scale.md).

    Args:
        options: what is asked for.
        listed: the images of its inputs, by whom has them already; None: they are looked for.

    Returns:
        The folder of the results.

    Raises:
        VtccError: on a user's mistake, with nothing half-written; or when the folders by cluster
            could not be written, with all other results in their place.
        SystemExit: with 128 + signal number, after a checkpoint.
    """
    started = time.monotonic()
    check(options)
    from vtcc.grouping import columns, intake, which, workdir

    out = workdir.place(options)
    workdir.refuse_inside(options, out)
    work = workdir.beside(out)
    with workdir.alone(out), workdir.interruptible(out):
        workdir.refuse_taken(out, options)
        which.refuse_unfit(options)
        place = workdir.images(out)
        is_ours = not place.exists()
        try:
            if listed is None:
                listed = intake.listed(options.folder, *options.others, place=place)
            workdir.refuse_holding(out, listed)
            columns.check(listed.columns, options.exif)
            images = min(len(listed.names), options.sample or len(listed.names))
            check_clusters(options.clusters, images, readable=False)
            workdir.resume_or_restart(work, options, listed.digest)
            with workdir.interruptible(out, begun=True, folders=bool(options.folders)):
                _run(options, listed, out, work, started)
        except VtccError:
            workdir.remove_if_empty(work)
            if is_ours and place.exists() and not out.exists():
                note(f"{place}: images unpacked or copied, for the next call; else delete it")
            raise
    return out


def _run(options: Options, listed: "Listed", out: Path, work: Path, started: float) -> None:
    """All that is done in the work directory."""
    from vtcc.atomic import atomic_directory
    from vtcc.grouping import by_cluster, result, sample
    from vtcc.grouping.judge import judge
    from vtcc.grouping.learn import learn
    from vtcc.grouping.prepare import chosen_for, prepare

    looked_at, others = sample.drawn(listed, options.sample, options.seed)
    chosen = chosen_for(options, looked_at, work)
    deadline = started + options.minutes * 60
    if len(others):
        note(
            f"clusters are made of {len(looked_at.names)} of {len(listed.names)} images, drawn "
            f"with seed {options.seed}; the others are assigned to them"
        )
        deadline -= _seconds_for(others, listed, chosen.params, options, work)
    prepared = prepare(options, looked_at, work, chosen, deadline)
    learned = learn(prepared, options, work, deadline=deadline)
    if len(others):
        judged = _judged(prepared, learned, options, work)
        rest = _assigned(others, listed, work)
    else:
        judged, rest = judge(prepared, learned, options), None
    with atomic_directory(out) as building:
        assigned = result.write(
            building,
            prepared,
            learned,
            judged,
            options,
            every=listed,
            rest=rest,
            final=out,
            started=started,
        )
    shutil.rmtree(work, ignore_errors=True)
    for line in result.closing_lines(prepared, learned, judged, final=out, started=started):
        note(line)
    if options.folders:
        files = dict(zip(listed.names, listed.files, strict=True))
        by_cluster.write_folders(out, assigned, files, copies=options.folders == "copies")


def _seconds_for(
    others: "np.ndarray", listed: "Listed", params: dict[str, object], options: Options, work: Path
) -> float:
    """What assigning the others takes, measured; kept for a run that goes on.

    Raises:
        VtccError: when that and the features of the sample alone take longer than all of it may.
    """
    from vtcc.grouping import estimate, workdir

    file = work / "rates.json"
    known = workdir.read_as(file, lambda kept: float(kept["seconds"]))
    if known is not None:
        return known
    rates = estimate.measured(listed.files, params)
    foreseen = estimate.foreseen(len(listed.names), options.sample, rates, params)
    if foreseen.fixed > 60 * options.minutes:
        least = -(-(foreseen.fixed + foreseen.least_trainings) // 60)
        raise VtccError(
            f"--minutes {options.minutes:g}: these {len(listed.names)} images take about "
            f"{duration(foreseen.fixed)} to read and assign here ({rates.whole:.3g} images/s); "
            f"give --minutes {least:.0f} or more"
        )
    workdir.write_json(file, {"seconds": foreseen.assigning})
    return foreseen.assigning


def _judged(prepared: "Prepared", learned: "Learned", options: Options, work: Path) -> "Judged":
    """The final clusters, made once: a run that goes on assigns to the same."""
    from vtcc.grouping import kept
    from vtcc.grouping.judge import judge

    key = kept.key(learned, options)
    judged = kept.read(work / _JUDGED, learned, key)
    if judged is None:
        judged = judge(prepared, learned, options)
        kept.write(work / _JUDGED, judged, key)
    return judged


def _assigned(others: "np.ndarray", listed: "Listed", work: Path) -> "Rest":
    """The images that are not in the sample, assigned by the model as it will be written."""
    from vtcc.grouping import kept, result, stream
    from vtcc.grouping.clusters import load_predictor
    from vtcc.grouping.rest import DIRECTORY, Rest

    model, rest = work / _JUDGED / kept.MODEL, Rest(work / DIRECTORY)
    stream.resumable(rest, {"model": result.digest(model), "images": listed.digest})
    beside = listed.part(others)
    stream.assign(rest, beside.names, beside.files, beside.stamps, load_predictor(model))
    return rest
