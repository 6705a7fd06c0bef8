"""Which files are new, changed or gone since results were written."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc.data import folder, images, inputs, walk
from vtcc.data.decoding import decoded
from vtcc.data.images import UnreadableImage
from vtcc.data.walk import as_text, in_words
from vtcc.errors import VtccError
from vtcc.grouping import summary as summaries
from vtcc.grouping import workdir
from vtcc.grouping.add import relocated, successors
from vtcc.grouping.columns import Columns
from vtcc.grouping.intake import located
from vtcc.progress import note, several

if TYPE_CHECKING:
    from vtcc.engine.predict import Predictor


@dataclass(frozen=True)
class Changes:
    """What became of the files of some results.

    Attributes:
        new, changed, gone: names as in the tables, in the order of their files.
        replaced: name of a file that has gone -> the one to read of the same picture.
        files: name -> where it is, of new and changed ones.
        stamps: name -> `folder.stamp`, of all that were found.
        root: the results' folder of images, where it is now. moved: whether it was elsewhere.
        columns: of tables that were given, as of `vtcc.grouping.columns`.
        place: the folder for what has to be unpacked or copied.
        orphaned: folders in it of images whose shard is gone, and they with it.
        searched: folders that were given, as `summary.json` keeps them.
    """

    new: list[str]
    changed: list[str]
    gone: list[str]
    replaced: dict[str, str]
    files: dict[str, Path]
    stamps: dict[str, str]
    root: Path
    moved: bool
    columns: Columns
    place: Path
    orphaned: list[Path]
    searched: list[str]

    @property
    def lost(self) -> list[str]:
        """The names of files that are gone without another of the same picture."""
        return [name for name in self.gone if name not in self.replaced]

    @property
    def to_read(self) -> list[str]:
        """The names of the files to embed."""
        return [*self.new, *self.changed]


def find(
    more: Sequence[inputs.Given],
    summary: dict[str, Any],
    results: Path,
    root: Path | None = None,
    target: Path | None = None,
    allow_gone: bool = False,
) -> Changes:
    """Compares files with what results say of them.

    A file outside the results' folder is called by its path from there, such as `../more/x.jpg`.
    A folder that was moved is known by its files: at the same paths, of the same sizes.

    Args:
        more: folders, searched through, files, whatever they are called, and other inputs
            (`vtcc.data.inputs`); what must be unpacked or copied is put to what the results have of
            that kind (`workdir.kept_images`), where it is called by its path there, or beside
            `target`.
        summary: of the results. results: their folder, which must not be searched.
        root: where the results' folder of images is now; None: where it was, or where `more` is
            or lies in, or a folder of its name in `more`, if it has the files that are no longer
            there.
        target: where the changed results will be; None: where they are.
        allow_gone: take it that images are gone where none of them is found, or where a path of
            `more` is missing.

    Raises:
        VtccError: when a path is missing, cannot be read, or holds the results; when no image is
            given and none is gone; when images are not in `root`, or nowhere, or are called by
            their path from a folder that moved without them.
    """
    before = Path(summary["root"])
    place = workdir.kept_images(summary, results.absolute())
    if place is None:
        place = workdir.images(target or results.absolute())
    missing = [given for given in more if inputs.is_missing(given)]
    parts = inputs.parts([given for given in more if given not in missing], place)
    root = relocated.root_of(before, parts, summary, root, allow_gone)
    moved = root != before
    known = summaries.stamps_of(summary)
    places = located(root, summary["files"])
    tops = [inputs.absolute(part.top) for part in parts]
    links = relocated.links_of(root, places.values(), tops)
    listed, searched, columns = _listed(parts, root, places, links, results)
    deleted = _deleted(missing, links, places.values(), place, allow_gone)
    searched += deleted
    stamps = {name: folder.stamp(file) for name, file in listed.items()}
    if moved:  # a copy has times of its own
        here = {name: folder.stamp(file) for name, file in places.items()}
        same = {n: now for n, now in here.items() if relocated.same_size(now, known[n])}
        stamps, known = same | stamps, known | same
    new = [name for name in listed if name not in known]
    changed = [name for name in listed if known.get(name) and known[name] != stamps[name]]
    gone = [
        name
        for name, file in places.items()
        if name not in listed
        and any(file.is_relative_to(top) for top in searched)
        and not os.path.lexists(file)  # a walk leaves out some that were named
    ]
    # A walk takes one file of a picture, now a new one, or one that could not be read before.
    came = [*new, *(name for name in changed if name in summary.get("errors", {}))]
    unlisted = (name for name in places if name not in listed)
    by_picture = successors.of(unlisted, came, places.keys() - came)
    gone += [
        name
        for name, by in by_picture.items()
        if os.path.lexists(places[name])
        if any(places[name].is_relative_to(top) for top in searched) or _is_image_of(by, name)
    ]
    folders = [part.folder for part in parts if part.folder is not None]
    orphaned = inputs.without_shard(place, [*folders, *deleted])
    gone += [
        name
        for name, file in places.items()
        if os.path.lexists(file) and any(file.is_relative_to(top) for top in orphaned)
    ]
    if not (listed or gone or moved):
        raise VtccError(
            f"no image in {', '.join(part.given for part in parts)}; images are known by "
            f"{images.suffixes_in_words()}. The results stay as they are"
        )
    read = [*new, *changed]
    return Changes(
        new=new,
        changed=changed,
        gone=gone,
        replaced={name: by_picture[name] for name in gone if name in by_picture},
        files={name: listed[name] for name in read},
        stamps=stamps,
        root=root,
        moved=moved,
        columns=columns,
        place=place,
        orphaned=orphaned,
        searched=[inputs.kept(given) for given in more if os.path.isdir(given)],  # noqa: PTH112
    )


def without_unreadable(found: Changes, predictor: "Predictor") -> Changes:
    """The same, but that no file is replaced by one that cannot be read, nor is gone for it.

    Args:
        predictor: of the results' model, which says how images are read.
    """
    by = {name: found.files[name] for name in found.replaced.values()}
    read = decoded(by.items(), lambda item: item[1], **predictor.decoding)
    unreadable = {name for (name, _), image in read if isinstance(image, UnreadableImage)}
    kept = [name for name, new in found.replaced.items() if new in unreadable]
    stays = {name for name, file in located(found.root, kept).items() if os.path.lexists(file)}
    return replace(
        found,
        gone=[name for name in found.gone if name not in stays],
        replaced={name: new for name, new in found.replaced.items() if name not in kept},
    )


def _deleted(
    given: Sequence[inputs.Given],
    links: dict[Path, Path],
    files: Collection[Path],
    place: Path,
    allow_gone: bool,
) -> list[Path]:
    """Folders and files that are no longer there, with images of the results.

    Args:
        given: paths that are missing. links: as of `relocated.links_of`. files: of the results.
        place, allow_gone: as of `find`.

    Raises:
        VtccError: when the results have no image of it, or it is not said to be gone.
    """
    deleted = []
    for item in given:
        top = relocated.by_way_of(links, inputs.absolute(item).resolve())
        tops = [top, *inputs.without_shard(place, [top])]
        held = sum(any(file.is_relative_to(top) for top in tops) for file in files)
        if not held:
            raise VtccError(f"{item}: no such file or directory")
        if not allow_gone:
            raise VtccError(
                f"{item}: no such file or directory; {several(held, 'images')} of the results lay "
                "there; give its new name, or --allow-gone if that is gone for good"
            )
        deleted.append(top)
    return deleted


def _listed(
    parts: Sequence[inputs.Part],
    root: Path,
    places: Mapping[str, Path],
    links: dict[Path, Path],
    results: Path,
) -> tuple[dict[str, Path], list[Path], Columns]:
    """Name -> file; the folders that were searched; columns of tables."""
    files: dict[str, Path] = {}
    searched: list[Path] = []
    columns: Columns = {}
    left_out: Counter[str] = Counter()
    known = relocated.known_names(places)

    def named(file: Path) -> str:
        way = relocated.by_way_of(links, file)
        return known(as_text(os.path.relpath(way, root)), file)

    for part in parts:
        top, own = part.top.resolve(), results.resolve()
        if part.names is not None:
            names = [named(top / path) for path in part.names]
            files |= {name: top / path for name, path in zip(names, part.names, strict=True)}
            for column, values in part.columns.items():
                columns.setdefault(column, {}).update(zip(names, values, strict=True))
            continue
        if top.is_relative_to(own) or top in own.parents:
            raise VtccError(
                f"{part.given}: holds the results themselves, or is of them ({results}), whose "
                "pictures are none of the images; name the folder of images"
            )
        inside = folder.listed(top, left_out)
        folder.readable_names(inside)  # refuses two of one name
        files |= {named(top / path): top / path for path in inside}
        searched.append(relocated.by_way_of(links, top))
        searched += [link for to, link in links.items() if to != link and to.is_relative_to(top)]
    if left_out:
        note(f"left out {in_words(left_out)}")
    return files, searched, columns


def _is_image_of(name: str, raw: str) -> bool:
    file = Path(name)
    return walk.shot(file) == walk.shot(Path(raw)) and not walk.is_beside(file)
