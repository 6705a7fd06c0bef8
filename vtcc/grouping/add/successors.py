"""Which file stands for a picture from now on, of which a walk took another file before."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from vtcc.data import walk


def of(names: Iterable[str], came: Collection[str], known: Collection[str]) -> dict[str, str]:
    """Name -> the file that came of the same picture: a RAW file's or film's by name, or a burst's.

    Of several known files of a picture, each was meant as an image: none has a successor.

    Args:
        names: of files that may have one. came: names of new files. known: names in the results.
    """
    shots = {walk.shot(Path(name)): name for name in came}
    bursts = {walk.burst(Path(name)): name for name in came}
    bursts.pop(None, None)
    folders = {_folder(name) for name in came}
    found: dict[str, str] = {}
    for name in names:
        if _folder(name) in folders:
            file = Path(name)
            picture = shots.get(walk.shot(file)) if walk.is_beside(file) else None
            if picture := picture or bursts.get(walk.burst(file)):
                found[name] = picture
    beside = {_folder(name) for name in found}
    times = Counter(_picture(name) for name in known if _folder(name) in beside)
    return {name: by for name, by in found.items() if times[_picture(name)] == 1}


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _picture(name: str) -> tuple[Any, Any]:
    file = Path(name)
    burst = walk.burst(file)
    return burst, None if burst else walk.shot(file)
