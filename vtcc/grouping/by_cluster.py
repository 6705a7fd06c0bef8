"""`folders/NAME/...`: links to (or copies of) the images by cluster, beside finished results."""

import csv
import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vtcc.atomic import atomic_directory
from vtcc.data.folder import stamp
from vtcc.errors import VtccError
from vtcc.grouping.assignments import Row
from vtcc.grouping.outputs import Assigned, flat, folder_names, unused_name
from vtcc.grouping.rest import Rest
from vtcc.progress import note, several
from vtcc.regular import regular

FOLDERS = "folders"  # in the results
# In the folders, as no cluster's folder has a dot: name of each image, its path there, and what was
# put there: the `stamp` of a copy, or one of these two.
PLACES = ".places.csv"
LINK = "link"
LAST = "last"  # the former copy of an image that was gone


@dataclass(frozen=True)
class Former:
    """The folders that results had before they were changed.

    Attributes:
        directory: where they are; they need not be there.
        places: name of an image -> its path there.
        shared: files are taken from there without a copy, as `directory` will be deleted.
    """

    directory: Path
    places: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False

    def copy_of(self, name: str) -> Path | None:
        """The copy of an image that lies there; None where there is none, or a link."""
        if name not in self.places:
            return None
        copy = self.directory / self.places[name]
        if copy.is_symlink() or copy.parent.is_symlink():
            return None
        return copy if copy.is_file() else None

    def written(self) -> Iterator[tuple[str, str]]:
        """Name of each image, and what was put in its place; "" where that was not recorded."""
        try:
            for name, _, written in _rows(self.directory):
                yield name, written
        except FileNotFoundError:
            for name in self.places:
                yield name, ""

    def is_another(self, name: str, written: str, image: Path) -> bool:
        """Whether what is in the place of an image is neither its copy nor a link to it.

        People put it there, or it is the last copy of an image that had this name before. One with
        the size and time of the copy that it replaced is taken for that copy, and a link that leads
        nowhere for ours where a link was put there: the image may have moved.

        Args:
            written: what was put there. Where that is not known the newer file is people's, and an
                older one is of the image before that was changed.
            image: is there where a copy of it is there.
        """
        if name not in self.places:
            return False
        place = self.directory / self.places[name]
        if place.is_symlink():
            if not place.exists():
                return written not in ("", LINK)
            return not (image.is_file() and filecmp.cmp(place, image))
        copy = self.copy_of(name)
        if copy is None or written == stamp(copy):
            return False
        if not written and copy.stat().st_mtime_ns <= image.stat().st_mtime_ns:
            return False
        return not filecmp.cmp(copy, image, shallow=False)

    def take(self, file: Path, target: Path) -> None:
        """Has a file, or a link as it is, at a second place."""
        if file.is_symlink():
            target.symlink_to(file.readlink())
        elif self.shared:
            linked(file, target)
        else:
            shutil.copy2(file, target)


def linked(place: str | Path, target: str | Path) -> None:
    """The same file at a second place, or a copy where a file system has no links."""
    try:
        os.link(place, target)
    except OSError:
        shutil.copy2(place, target)


def places(rows: Iterable[Row], names: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    """Name of each image that is in a cluster, and its path in the folders.

    Args:
        names: of the clusters.
    """
    folders = folder_names(dict(sorted(names.items())))
    taken: dict[str, set[str]] = {folder: set() for folder in folders.values()}
    for row in rows:
        if row.cluster is not None:
            folder = folders[row.cluster]
            yield row.file, f"{folder}/{unused_name(flat(row.file), taken[folder])}"


def recorded(directory: Path) -> dict[str, str] | None:
    """Places in folders as these were written, of whatever tables; None of older folders.

    Raises:
        VtccError: when the record is damaged.
    """
    try:
        return {name: path for name, path, _ in _rows(directory)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, csv.Error) as error:
        raise VtccError(
            f"{directory / PLACES}: not readable ({error}); delete it, and the tables say which "
            "files are images"
        ) from None


def _rows(directory: Path) -> Iterator[tuple[str, str, str]]:
    """Name, path and what was put there, one at a time: there may be a million."""
    with regular(directory / PLACES).open(newline="", encoding="utf-8") as opened:
        for row in csv.reader(opened):
            name, path, written = row if len(row) != 2 else (*row, "")
            if len(steps := path.split("/")) != 2 or {"", ".", ".."} & {*steps}:
                raise ValueError(f"found {path!r:.60}, expected FOLDER/FILE")
            yield name, path, written


def write_folders(
    directory: Path,
    assigned: Assigned,
    files: Mapping[str, Path],
    *,
    copies: bool,
    former: Former | None = None,
) -> None:
    """A link to (or a copy of) each image, by cluster, beside the results.

    Args:
        directory: of the finished results, which stay as they are whatever happens here.
        files: name of an image -> where it is, of the former ones too. One that is gone is taken
            from its former copy; without one it is left out, with a note.
        copies: files instead of links.
        former: what there was before. What is not of these images stays.

    Raises:
        VtccError: when links or copies cannot be written; what was there is still there.
    """
    if assigned.rest is not None:  # in their place by now
        assigned = replace(assigned, rest=Rest.of(directory))
    former = former or Former(directory / FOLDERS)
    kept: set[str] = set()
    gone = 0
    try:
        with (
            atomic_directory(directory / FOLDERS) as building,
            (building / PLACES).open("w", newline="", encoding="utf-8") as opened,
        ):
            record = csv.writer(opened)
            for name, path in places(assigned.rows(), assigned.applied.names):
                source, copy, place = files[name], former.copy_of(name), building / path
                is_there = source.is_file()
                if not (is_there or copy):
                    gone += 1
                    continue
                place.parent.mkdir(exist_ok=True)
                if copy and not is_there:
                    former.take(copy, place)
                    kept.add(name)
                    written = LAST
                elif copies:
                    shutil.copy2(source, place)
                    written = stamp(place)
                else:
                    place.symlink_to(source)
                    written = LINK
                record.writerow((name, path, written))
            # Of an image that is in no cluster now the copy may be all that is left.
            for name, path in former.places.items():
                copy = former.copy_of(name)
                if copy and name not in kept and not files[name].is_file():
                    place = _unused(building / path)
                    former.take(copy, place)
                    kept.add(name)
                    record.writerow((name, place.relative_to(building).as_posix(), LAST))
            theirs = {
                former.places[name]
                for name, written in former.written()
                if name not in kept and former.is_another(name, written, files[name])
            }
            ours = {PLACES, *former.places.values()} - theirs
            others = _take_others(former, building, ours)
    except OSError as error:
        hint = "free space or permissions" if copies else "try --folders copies"
        raise VtccError(
            f"{directory / FOLDERS}: could not be written ({error}); {hint}; what it held stays. "
            f"The results in {directory} are complete without it; assignments.csv says which image "
            "is in which cluster"
        ) from None
    if kept:
        note(
            f"{directory / FOLDERS}: with the copies that were here of "
            f"{several(len(kept), 'images')} no longer in place"
        )
    if gone:
        note(
            f"{directory / FOLDERS}: without {several(gone, 'images')} no longer in place; "
            "tables and page have them"
        )
    if others:
        note(f"{directory / FOLDERS}: with {several(others, 'other files')} that lay there")


def _take_others(former: Former, building: Path, ours: set[str]) -> int:
    """Takes along what is in the former folders beside the images of the results.

    Args:
        ours: paths of these images.

    Returns:
        How many files.
    """
    count = 0
    for folder, folders, names in os.walk(former.directory):
        folders.sort()
        inside = Path(folder).relative_to(former.directory)
        links = [name for name in folders if os.path.islink(f"{folder}/{name}")]  # noqa: PTH114
        for name in sorted(names + links):
            path = inside / name  # one at a time: there may be a million
            if path.as_posix() not in ours:
                former.take(former.directory / path, _unused(building / path))
                count += 1
    return count


def _unused(target: Path) -> Path:
    """The path, or one beside it where that is taken, in a folder that is there now."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        taken = {other.name.casefold() for other in target.parent.iterdir()}
        target = target.with_name(unused_name(target.name, taken))
    return target
