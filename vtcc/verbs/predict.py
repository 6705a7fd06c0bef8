"""`vtcc predict`: files and folders in, a table of cluster and confidence out.

Memory stays flat: files are listed, decoded, predicted and written a chunk at a time.
"""

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import progress
from vtcc.atomic import beside
from vtcc.errors import VtccError
from vtcc.grouping import assignments

if TYPE_CHECKING:
    from vtcc.data.inputs import Given, Part
    from vtcc.data.walk import Entry


def run(
    paths: Sequence["Given"],
    model: str = "models/model",
    *,
    out: Path,
    batch_size: int = 512,
    unclustered: bool = False,
    exif: Sequence[str] = (),
) -> dict[str, Any]:
    """Predicts every image and writes the table `out` in one step at the end.

    Columns: `file` (as given, folders with what is below them), `cluster`, `confidence`
    (0-1), and `error` for what could not be read, whose cluster is empty. Models that know their
    clusters (`vtcc.grouping.clusters`) add `name`, `second`, `distance`, `outlier`, `novelty` and
    `novel`, and `level_1`, ... where there are levels (`vtcc.grouping.levels`). Columns of tables
    that name the images, and of EXIF on request, follow (`vtcc.grouping.columns`).

    Args:
        paths: image files, directories that are searched through, and other inputs
            (`vtcc.data.inputs`); what must be unpacked or copied goes beside `out` meanwhile.
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/ID/model`, or a local model
            directory (vtcc's own or MLflow's).
        out: the suffix chooses the format: .csv, .parquet or .json.
        batch_size: images per forward pass.
        unclustered: images that belong nowhere are in no cluster; so they are without asking where
            the model was made so.
        exif: columns that the files' EXIF gives, of `vtcc.data.exif`.

    Returns:
        `out` (absolute path), `images`, `unreadable`, `unclustered`, `clusters` (that images are
        in).

    Raises:
        VtccError: when there is nothing to predict, no such model, no place to write, or not
            one readable image.
    """
    if batch_size < 1:
        raise VtccError(f"--batch-size: found {batch_size}; allowed: at least 1")
    out = Path(out)
    assignments.check(out)
    from vtcc.data import inputs
    from vtcc.grouping import columns

    with contextlib.ExitStack() as held:
        held.enter_context(assignments.alone(out))
        place = beside(out, ".", ".images")
        held.callback(shutil.rmtree, place, ignore_errors=True)
        parts, kinds = columns.typed(inputs.parts(paths, place))
        columns.check(kinds, exif)
        kinds |= columns.of_exif(exif)
        left_out: Counter[str] = Counter()
        total = sum(1 for _ in entries(parts, left_out))
        say_left_out(parts, total, left_out)
        with tempfile.TemporaryDirectory() as room:
            predictor = load(model, Path(room), unclustered=unclustered)
        start, tally = time.monotonic(), Tally(out)
        named = assignments.columns_of(predictor.clusters)
        with assignments.writing(out, named, kinds) as table:
            for rows in answers(entries(parts), predictor, batch_size, exif):
                table.write(rows)
                tally.add(rows)
                progress.report_rate("predict", tally.files, max(total, tally.files), start)
            tally.refuse_none()
    known = predictor.clusters
    K = predictor.num_clusters if known is None else len(known.names)
    return tally.told(of=f" of {K}")


class Tally:
    """What the rows of a table come to.

    Attributes:
        out: the table, not yet written. replaces: whether one is there that it takes the place of.
        files: rows. unreadable: files among them. unclustered: images that belong nowhere.
        outliers: farther from their cluster's centre than its own images are.
        clusters: that images are in. named: file and reason of the first unreadable ones.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.replaces = out, out.is_file() and out.stat().st_size > 0
        self.files = self.unreadable = self.unclustered = self.outliers = 0
        self.clusters: set[int] = set()
        self.named: list[tuple[str, str]] = []

    def add(self, rows: Sequence[assignments.Row]) -> None:
        """Counts rows."""
        errors = [(row.file, row.error) for row in rows if row.error]
        self.named += errors[: progress.NAMED - len(self.named)]
        self.files += len(rows)
        self.unreadable += len(errors)
        self.unclustered += sum(row.nowhere for row in rows)
        self.outliers += sum(row.outlier or False for row in rows)
        self.clusters |= {row.cluster for row in rows if row.cluster is not None}

    def refuse_none(self) -> None:
        """Raises VtccError where no file is readable."""
        if self.unreadable == self.files:
            name, why = self.named[0]
            raise VtccError(
                f"not one readable image in {progress.several(self.files, 'files')} (first: "
                f"{name!r}: {why}); nothing written"
            )

    def told(self, *, of: str = "") -> dict[str, Any]:
        """What `run` returns, and `vtcc predict --json` prints; notes it in a line.

        Args:
            of: how many clusters there are, in words.
        """
        progress.note_unreadable(self.named, self.unreadable)
        images, nowhere, count = self.files - self.unreadable, "", len(self.clusters)
        if self.unclustered:
            nowhere = f", {self.unclustered} ({self.unclustered / images:.1%}) belong nowhere"
        far = f", {progress.several(self.outliers, 'outliers')}" if self.outliers else ""
        unread = f", {self.unreadable} unreadable" if self.unreadable else ""
        named = f"{count}{of} clusters" if of else progress.several(count, "clusters")
        told = f"{progress.several(images, 'images')}, {named}{nowhere}{far}{unread}: {self.out}"
        progress.note(told + " (replaced)" * self.replaces)
        return {
            "out": str(self.out.absolute()),
            "images": images,
            "unreadable": self.unreadable,
            "unclustered": self.unclustered,
            "outliers": self.outliers,
            "clusters": sorted(self.clusters),
        }


def load(model: str, room: Path, device: str = "auto", *, unclustered: bool = False) -> Any:
    """The `Predictor` of a model.

    Args:
        model: as in `run`. room: a directory for what is fetched, needed until this returns.
        device: auto, cpu or cuda. unclustered: as in `run`.

    Raises:
        VtccError: when there is no such model, or it has no limit for what belongs nowhere.
    """
    from vtcc.grouping.clusters import load_predictor
    from vtcc.tracking import fetch

    predictor = load_predictor(fetch.directory_of(model, room), device)
    if unclustered:
        if predictor.clusters is None or not predictor.clusters.means.owners:
            raise VtccError(
                f"--unclustered: {model} does not say what belongs nowhere: it was made by an "
                "earlier vtcc; make it again, or leave the option out"
            )
        means = replace(predictor.clusters.means, unclustered=True)
        predictor.clusters = replace(predictor.clusters, means=means)
    return predictor


def say_left_out(parts: Sequence["Part"], total: int, left_out: Counter[str]) -> None:
    """Says what is left out of inputs, beside `total` files.

    Raises:
        VtccError: when there is no file.
    """
    from vtcc.data.images import suffixes_in_words
    from vtcc.data.walk import in_words

    if not total:
        where = ", ".join(part.given for part in parts[:3]) + (", ..." if len(parts) > 3 else "")
        raise VtccError(
            f"no image in {where or 'no path at all'}; images are known by "
            + suffixes_in_words()
            + (f" (left out: {in_words(left_out)})" if left_out else "")
        )
    if left_out:
        progress.note(f"left out {in_words(left_out)}")


def entries(parts: Sequence["Part"], left_out: Counter[str] | None = None) -> Iterator["Entry"]:
    """The files named, whatever they are called, and the images below directories.

    A file that two inputs hold comes once, by the name of the first, with the columns of all.

    Args:
        parts: of `vtcc.data.inputs`. left_out: as of `vtcc.data.walk.walk`.
    """
    from vtcc.data.walk import Entry

    tops = [part.top.resolve() for part in parts]
    shared = _shared(tops)
    columns: dict[Path, dict[str, Any]] = {}
    for part, top in zip(parts, tops, strict=True):
        if part.columns and top in shared:
            for entry in part.entries():
                said = {name: value for name, value in entry.more.items() if value is not None}
                columns.setdefault(top / entry.path, {}).update(said)
    seen: set[Path] = set()
    for part, top in zip(parts, tops, strict=True):
        for entry in part.entries(left_out):
            more = entry.more
            if top in shared:
                place = top / entry.path
                if place in seen:
                    continue
                seen.add(place)
                more = columns.get(place, more)
            shown = os.path.join(part.shown, entry.path) if entry.path else part.shown  # noqa: PTH118
            yield Entry(shown, entry.error, part.top / entry.path, more)


def _shared(tops: Sequence[Path]) -> set[Path]:
    """The folders of which another input is, lies in, or has a part: only there files come twice.

    Args:
        tops: of each input, without links.
    """
    counted = Counter(tops)
    shared = {top for top, count in counted.items() if count > 1}
    for top in counted:
        for above in top.parents:
            if above in counted:
                shared |= {top, above}
    return shared


def answers(
    files: Iterable["Entry"], predictor: Any, batch_size: int, exif: Sequence[str] = ()
) -> Iterator[list[assignments.Row]]:
    """A row per file, in order, as many at a time as a forward pass takes; errors are rows too.

    Args:
        files: read as rows are asked for. predictor: of `load`. batch_size: images per forward
            pass, fewer where they are large. exif: as of `run`.
    """
    from vtcc.data.decoding import in_threads
    from vtcc.data.exif import of_file
    from vtcc.data.images import UnreadableImage
    from vtcc.data.walk import as_text
    from vtcc.grouping.clusters import decide
    from vtcc.grouping.predicting import blocks

    def source(entry: "Entry") -> Path:
        if entry.error:
            raise UnreadableImage(entry.error)
        return entry.file or Path(entry.path)

    def more(entry: "Entry") -> Mapping[str, Any]:
        said = {} if entry.error else of_file(entry.file or Path(entry.path))
        return {**entry.more, **{name: said.get(name) for name in exif}}

    for block in blocks(files, predictor, batch_size=batch_size, source=source):
        applied = decide(predictor, block.prediction) if block.prediction else None
        rows, number = [], itertools.count()
        named = in_threads(more, block.items) if exif else ((e, e.more) for e in block.items)
        for i, (entry, columns) in enumerate(named):
            name = as_text(entry.path)
            if i in block.errors:
                row = assignments.Row(name, None, None, block.errors[i])
            else:
                assert applied is not None
                row = assignments.Row.of(name, applied, next(number))
            rows.append(replace(row, more=columns) if columns else row)
        yield rows
