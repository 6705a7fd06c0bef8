"""`vtcc cluster`: a folder of images in; groups, a page to look at and a model out."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vtcc.errors import VtccError
from vtcc.grouping.options import Options, check_clusters, check_overrides
from vtcc.progress import note

if TYPE_CHECKING:
    from vtcc.grouping.intake import Listed


def run(options: Options) -> Path:
    """Groups the images of a folder. The same call goes on after an interruption.

    Returns:
        The folder of the results.

    Raises:
        VtccError: on a user's mistake, with nothing half-written; or when the folders by cluster
            could not be written, with all other results in their place.
        SystemExit: with 128 + signal number, after a checkpoint.
    """
    started = time.monotonic()
    check_overrides(options.overrides)
    from vtcc.grouping import columns, intake, workdir

    out = workdir.place(options)
    workdir.refuse_inside(options, out)
    work = workdir.beside(out)
    with workdir.alone(out), workdir.interruptible(work):
        workdir.refuse_taken(out, options)
        place = workdir.images(out)
        is_ours = not place.exists()
        try:
            listed = intake.listed(options.folder, *options.others, place=place)
            columns.check(listed.columns, options.exif)
            check_clusters(options.given_clusters, len(listed.names), readable=False)
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
    from vtcc.grouping import outputs, result, workdir
    from vtcc.grouping.judge import judge
    from vtcc.grouping.learn import learn
    from vtcc.grouping.prepare import prepare

    workdir.resume_or_restart(work, options, listed.digest)
    prepared = prepare(options, listed, work)
    learned = learn(prepared, options, work, deadline=started + options.minutes * 60)
    judged = judge(prepared, learned, options)
    with atomic_directory(out) as building:
        assigned = result.write(
            building, prepared, learned, judged, options, final=out, started=started
        )
    shutil.rmtree(work, ignore_errors=True)
    for line in result.closing_lines(prepared, learned, judged, final=out, started=started):
        note(line)
    if options.folders:
        files = dict(zip(listed.names, listed.files, strict=True))
        outputs.write_folders(out, assigned, files, copies=options.folders == "copies")
