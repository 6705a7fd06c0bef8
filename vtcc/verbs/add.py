"""`vtcc add`: results that follow their folder, without clustering again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc.progress import note

if TYPE_CHECKING:
    from vtcc.data.inputs import Given
    from vtcc.grouping.reopen import Opened


def run(
    results: Path,
    more: Sequence["Given"],
    out: Path | None = None,
    *,
    root: Path | None = None,
    allow_gone: bool = False,
    batch_size: int = 512,
) -> dict[str, Any]:
    """Brings results up to date with files that are new, changed or gone.

    Model, ids, names, edits and the rows of all other images stay to the last bit.

    Args:
        results: their folder. more: folders, searched through, files, and other inputs
            (`vtcc.data.inputs`).
        out: a new folder for the results; None: they take the place of the old ones.
        root: where the folder of images is now, if it was moved; None: where it was, or where
            `more` is, if that holds its files.
        allow_gone: take it that more than half of the images have gone, or are unreadable now.
        batch_size: images per forward pass.

    Returns:
        As `summary.headline`, and `addition`: the record of what was added; None where nothing was.

    Raises:
        VtccError: on a user's mistake, and nothing has changed then; or when the folders by
            cluster could not be written, with all other results in their place.
    """
    import shutil
    import time

    from vtcc.errors import VtccError
    from vtcc.grouping import columns, only_read, reopen, workdir
    from vtcc.grouping import summary as summaries
    from vtcc.grouping.add import changes

    began = time.monotonic()
    if batch_size < 1:
        raise VtccError(f"--batch-size: found {batch_size}; allowed: at least 1")
    if out is not None:
        only_read.check(out, only_read.folders([*more, *([root] if root else [])]))
    with reopen.opened(results, out) as before:
        home, known = before.directory, _with_rest(before)
        found = changes.find(more, known, home, root, before.target, allow_gone=allow_gone)
        columns.check(found.columns, before.summary.get("exif", []))
        total = before.summary.get("collection", {}).get("files", len(before.summary["files"]))
        _refuse_loss(found.lost, total, allow_gone)
        told = columns.differ(results, found.columns)
        astray = summaries.leads_astray(before.summary, results, found.root)
        if not (found.to_read or found.gone or found.moved or told or astray):
            unwritten = "" if out is None else f", and {out} is not written"
            note(f"nothing is new, changed or gone: {results} stays as it is{unwritten}")
            return summaries.headline(results, began=began) | {"addition": None}
        # Only now what takes seconds: a mistake is told at once.
        from vtcc.grouping.add import beside, record, update
        from vtcc.grouping.clusters import load_predictor
        from vtcc.grouping.rest import Rest

        predictor = load_predictor(before.model)
        found = changes.without_unreadable(found, predictor)
        note(
            f"{len(found.new)} new, {len(found.changed)} changed, {len(found.gone)} gone"
            + f"; from the table: {', '.join(found.columns)}" * told
            + f"; links of {before.target / 'report.html'} from its new place" * astray
        )
        ours, others = beside.divided(found, before)
        after = update.updated(before, ours, predictor, batch_size=batch_size)
        unread = [name for name in ours.changed if name in after.images.errors]
        _refuse_loss([*found.lost, *unread], total, allow_gone)
        with reopen.rewriting(before) as building:
            rest = Rest.of(building)
            followed = beside.follow(rest, others, predictor, batch_size=batch_size)
            _refuse_loss([*found.lost, *unread, *followed.lost], total, allow_gone)
            if followed.assigned:
                after = update.with_assigned(after, followed.assigned)
            made = record.of(after, found, followed, began=began)
            after.summary["additions"] = [*after.summary.get("additions", []), made]
            if found.place.is_dir():
                after.summary["unpacked"] = str(found.place)
            assigned = update.write(building, before, found, after, predictor)
        own = found.place.resolve() == workdir.images(before.target).resolve()
        for unpacked in found.orphaned:
            if own:
                shutil.rmtree(unpacked)
            else:
                note(f"{unpacked}: stays, as other results may lead there; else delete it")
        for line in record.lines(after, made, before.target, seconds=time.monotonic() - began):
            note(line)
        reopen.folders(before, assigned, after.summary)
    return summaries.headline(before.target, began=began) | {"addition": made}


def _with_rest(before: "Opened") -> dict[str, Any]:
    """The summary with all files of a large collection, not its sample alone."""
    from vtcc.grouping import summary as summaries
    from vtcc.grouping.rest import Rest

    if "collection" not in before.summary:
        return before.summary
    known = summaries.stamps_of(before.summary) | Rest.of(before.directory).stamps()
    return before.summary | {"files": list(known), "stamps": list(known.values())}


def _refuse_loss(lost: Sequence[str], total: int, allowed: bool) -> None:
    """A disk that is not there, or fails, takes no rows away."""
    from vtcc.errors import VtccError

    if 2 * len(lost) > total and not allowed:
        raise VtccError(
            f"{len(lost)} of {total} images are gone or can no longer be read (first: "
            f"{lost[0]!r}); is the disk there? --allow-gone if that is for good"
        )
