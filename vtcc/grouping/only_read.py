"""What nothing may be written into: folders of images, and results of `vtcc cluster`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vtcc.atomic import refuse_link
from vtcc.data import walk
from vtcc.errors import VtccError
from vtcc.grouping import summary as summaries

# What it is, and where.
Kept = list[tuple[str, Path]]


def folders(given: Iterable[str | os.PathLike[str]]) -> Kept:
    """Those of some inputs that are folders."""
    return [("the images' folder", Path(place)) for place in given if Path(place).is_dir()]


def of_results(results: Path, summary: dict[str, Any]) -> Kept:
    """Results, the folders that they were made of, and those that were searched since.

    Args:
        summary: with `root`.
    """
    root = summary["root"]
    additions = summary.get("additions", [])
    searched = {folder for made in additions for folder in made.get("searched", [])}
    # Records of before have no folders. One that holds the results was not searched.
    unsaid = {"additions": [made for made in additions if "searched" not in made]}
    added = {os.path.dirname(name) for name in summaries.added(unsaid)}  # noqa: PTH120
    places = folders(os.path.normpath(f"{root}/{folder}") for folder in sorted(added))
    home = results.resolve()
    places = [(what, at) for what, at in places if not home.is_relative_to(at.resolve())]
    given = folders([*summary.get("inputs", [root]), *sorted(searched)])
    return [("the results", results), *given, *places]


def check(out: Path, kept: Kept) -> None:
    """Refuses a place for something new in what is only read, or in any results, and a link.

    Raises:
        VtccError: naming where it lies, or leads to.
    """
    refuse_link("--out", out)
    whole = out.resolve()
    above = [("the results", folder) for folder in whole.parents if walk.is_results(folder)]
    for what, place in (*kept, *above):
        if place.resolve() in whole.parents:
            raise VtccError(f"--out: {out} lies inside {what}, {place}; name a place beside it")
