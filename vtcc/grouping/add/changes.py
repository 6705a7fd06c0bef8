"""Which files are new, changed or gone since results were written."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc.data import folder
from vtcc.data.walk import as_text, in_words
from vtcc.errors import VtccError
from vtcc.grouping.intake import located
from vtcc.progress import note


@dataclass(frozen=True)
class Changes:
    """What became of the files of some results.

    Attributes:
        new, changed, gone: names as in the tables, in the order of their files.
        files: name -> where it is, of new and changed ones.
        stamps: name -> `folder.stamp`, of all that were found.
        classes: name -> the sub-folder that is its class, where the given folder has classes.
    """

    new: list[str]
    changed: list[str]
    gone: list[str]
    files: dict[str, Path]
    stamps: dict[str, str]
    classes: dict[str, str]

    @property
    def to_read(self) -> list[str]:
        """The names of the files to embed."""
        return [*self.new, *self.changed]


def find(more: Sequence[Path], summary: dict[str, Any], results: Path) -> Changes:
    """Compares files with what results say of them.

    A file outside the results' folder is called by its path from there, such as `../more/x.jpg`.

    Args:
        more: folders, searched through, and files, whatever they are called.
        summary: of the results. results: their folder, which must not be searched.

    Raises:
        VtccError: when a path is missing, cannot be read, or holds the results.
    """
    root = Path(summary["root"])
    listed, classes, searched = _listed(more, root, results)
    known = stamps_of(summary)
    places = located(root, summary["files"])
    stamps = {name: folder.stamp(file) for name, file in listed.items()}
    new = [name for name in listed if name not in known]
    changed = [name for name in listed if known.get(name) and known[name] != stamps[name]]
    gone = [
        name
        for name, file in places.items()
        if name not in listed
        and any(_below(file, top) for top in searched)
        and not os.path.lexists(file)  # a walk leaves out some that were named
    ]
    read = [*new, *changed]
    return Changes(
        new=new,
        changed=changed,
        gone=gone,
        files={name: listed[name] for name in read},
        stamps=stamps,
        classes={name: classes[name] for name in read if name in classes},
    )


def _listed(
    more: Sequence[Path], root: Path, results: Path
) -> tuple[dict[str, Path], dict[str, str], list[Path]]:
    """Name -> file; name -> class; the folders that were searched."""
    files: dict[str, Path] = {}
    classes: dict[str, str] = {}
    searched: list[Path] = []
    left_out: Counter[str] = Counter()
    for given in more:
        if not os.path.lexists(given):
            raise VtccError(f"{given}: no such file or folder; give images to add")
        if not given.is_dir():
            file = given.parent.resolve() / given.name
            files[_name(file, root)] = file
            continue
        top = given.resolve()
        own = results.resolve()
        if top.is_relative_to(own) or top in own.parents:
            raise VtccError(
                f"{given}: holds the results themselves, or is of them ({results}), whose "
                "pictures are none of the images; name the folder of images"
            )
        inside = folder.listed(top, left_out)
        labels, names = folder.first_level(folder.readable_names(inside), 0)
        for i, path in enumerate(inside):
            name = _name(top / path, root)
            files[name] = top / path
            if labels is not None:
                classes[name] = names[labels[i]]
        searched.append(top)
    if left_out:
        note(f"left out {in_words(left_out)}")
    return files, classes, searched


def _name(file: Path, root: Path) -> str:
    return as_text(os.path.relpath(file, root))


def _below(file: Path, top: Path) -> bool:
    return Path(os.path.normpath(file)).is_relative_to(top)


def stamps_of(summary: dict[str, Any]) -> dict[str, str]:
    """Name -> stamp of each file; empty in results of before they were kept: changes go unseen."""
    unknown = [""] * len(summary["files"])
    return dict(zip(summary["files"], summary.get("stamps") or unknown, strict=True))
