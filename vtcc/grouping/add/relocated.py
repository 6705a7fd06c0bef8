"""Where the folder of the results' images is now."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vtcc.data import folder, inputs
from vtcc.errors import VtccError
from vtcc.grouping import summary as summaries
from vtcc.grouping.intake import existing, located
from vtcc.progress import note

# Files that a folder that was moved is known by, and the share of them that must be there.
SAMPLE, RECOGNISED = 200, 0.5


def root_of(
    before: Path,
    parts: Sequence[inputs.Part],
    summary: dict[str, Any],
    given: Path | None,
    allow_gone: bool,
) -> Path:
    """Where the results' folder of images is now.

    Args:
        before: where it was. parts: what is given. summary: of the results.
        given: where it is said to be; None: where it was, or where the parts are or lie in, or a
            folder of its name in them.
        allow_gone: take it that none of the images is there any more.

    Raises:
        VtccError: when images are not in `given`, or nowhere, or are called by their path from a
            folder that moved without them.
    """
    known = summaries.stamps_of(summary)
    inside = [(n, seen) for n, seen in known.items() if not n.startswith("../")]
    some = dict(inside[:: -(-len(inside) // SAMPLE) or 1])
    if given is not None:
        root = existing(given)
        if root != before and not _held(root, some):
            raise VtccError(
                f"--root {given}: none of the results' images is there (one of them: "
                f"{next(iter(some), '')!r}); give the folder that {before} has become"
            )
    elif _held(before, dict.fromkeys(some, "")) or not some:
        return before
    else:
        tops = [part.top.resolve() for part in parts]
        homes = dict.fromkeys(h for t in tops for h in (t, *t.parents, (t / before.name).resolve()))
        root = next((home for home in homes if _held(home, some) >= RECOGNISED), before)
        whole = [top for top, part in zip(tops, parts, strict=True) if part.names is None]
        searched = any(before.is_relative_to(top) for top in whole)
        if root == before:
            told = (
                f"{before}: none of the results' images is there; if the folder was moved, say "
                "where it is: --root FOLDER"
            )
            # Where they are looked for, all are gone; else what was moved would come as new again.
            if not (searched or allow_gone):
                raise VtccError(f"{told}; if they are gone for good, --allow-gone")
            note(told)
    if root != before:
        outside = [name for name in summary["files"] if name.startswith("../")]
        for name, file in located(before, outside).items():
            there = located(root, [name])[name]
            if file.exists() and not there.exists():
                raise VtccError(
                    f"the images' folder {before} is now {root}, and {name!r}, whose name is its "
                    f"path from there, was not moved along; move {file} to {there}, or put the "
                    "folder back"
                )
        note(f"the images' folder {before} is now {root}")
    return root


def links_of(root: Path, files: Iterable[Path], tops: Iterable[Path]) -> dict[Path, Path]:
    """Folders, as they are without links -> by which path the names of images in them go.

    Args:
        root, files: of the results. tops: folders that are searched, as they are given.
    """
    here = root.resolve()
    held = {root, *(file.parent for file in files)}
    ways: dict[Path, Path] = {}
    for top in tops:  # by a link that was not there before
        paths = [top.relative_to(above) for above in top.parents if above.resolve() == here]
        ways |= {top.resolve(): root / path for path in paths}
    for link in sorted({above for inside in held for above in (inside, *inside.parents)}):
        if os.path.islink(link):  # noqa: PTH114 - of a closed folder it is no error
            ways[Path(os.path.realpath(link))] = link
    ways |= {inside: inside for inside in held}  # names that the results have stay
    # A folder that can be reached twice has the name without a link, as of a walk.
    outside = {place: way for place, way in ways.items() if not place.is_relative_to(here)}
    return outside | {here: root}


def by_way_of(links: dict[Path, Path], path: Path) -> Path:
    """A path as the names go, by the nearest of `links_of`."""
    near = next((above for above in (path, *path.parents) if above in links), None)
    return path if near is None else links[near] / path.relative_to(near)


def known_names(places: Mapping[str, Path]) -> Callable[[str, Path], str]:
    """Gives a file the name that results have of it, where links lead to it by several ways.

    Args:
        places: name -> file, of the results.

    Returns:
        A function of the name by the way that was gone, and the file; of an unknown file it
        returns that name.
    """
    real = cache(os.path.realpath)

    @cache
    def held() -> dict[str, list[str]]:
        """Folder without links -> what the names of its images begin with."""
        begins = {name[: name.rfind("/") + 1]: file for name, file in places.items()}
        folders: dict[str, list[str]] = {}
        for begin, file in begins.items():
            folders.setdefault(real(file.parent), []).append(begin)
        return folders

    def known(name: str, file: Path) -> str:
        if name in places:
            return name
        end = name[name.rfind("/") + 1 :]
        others = (begin + end for begin in held().get(real(file.parent), ()))
        return next((other for other in others if other in places), name)

    return known


def _held(root: Path, stamps: dict[str, str]) -> float:
    """The share of some files that are in a folder, of the size they had where that is known."""
    seen = {name: folder.stamp(file) for name, file in located(root, list(stamps)).items()}
    there = [name for name, stamp in stamps.items() if same_size(seen[name], stamp or seen[name])]
    return len(there) / max(len(stamps), 1)


def same_size(now: str, before: str) -> bool:
    """Whether a file is there, and of the size of another, by their `folder.stamp`."""
    return now != "gone" and now.partition(" ")[0] == before.partition(" ")[0]
