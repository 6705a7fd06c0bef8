"""What is kept of images that are away, for when their files come back, under another name too.

A disk that is not plugged in, or a folder that gets another name, must not undo what people put by
hand. In summary.json it is `away`: name -> stamp of the file, whether the clusters are made of the
image, and the id of the cluster it stays in (-1: excluded; null: by the model).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from vtcc.analysis.features import unit_rows
from vtcc.grouping import summary as summaries
from vtcc.grouping.add import reading
from vtcc.grouping.add.changes import Changes
from vtcc.grouping.clusters import EXCLUDED
from vtcc.grouping.reopen import Opened
from vtcc.progress import note, several

SAME = 1e-4  # cosine distance of two embeddings of one picture at most
SECOND = 10**9  # nanoseconds: archives, and some file systems, keep no finer times


class Kept(NamedTuple):
    """What is kept of an image. Attributes: as the module says."""

    stamp: str
    known: bool
    moved: int | None


def before_now(before: Opened) -> dict[str, Kept]:
    """What earlier additions kept."""
    return {name: Kept(*of) for name, of in before.summary.get("away", {}).items()}


def of_present(before: Opened, names: Collection[str]) -> dict[str, Kept]:
    """What is to be kept of some images of the results, if they go."""
    stamps, moved, wanted = summaries.stamps_of(before.summary), before.moved, set(names)
    kept = {
        path: Kept(stamps.get(path, ""), bool(known), moved.get(path))
        for path, known in zip(before.embedding.paths, before.embedding.known, strict=True)
        if path in wanted
    }
    return {name: of for name, of in kept.items() if of.known or of.moved is not None}


def returned(before: Opened, found: Changes) -> dict[str, str]:
    """Name of a file to read -> the name that its image has had.

    It is the same file where it has the same name and size; or the same size and time of change,
    and the same name in another folder, or a time that is finer than a second. And it is of the
    picture whose file has gone for it.
    """
    there = set(before.embedding.paths)
    pool = before_now(before) | of_present(before, found.gone)
    alike: dict[str, list[str]] = defaultdict(list)
    for name, of in pool.items():
        alike[of.stamp].append(name)
    back = {new: raw for raw, new in found.replaced.items() if raw in pool}
    for name in found.to_read:
        size, _, time = (stamp := found.stamps[name]).partition(" ")
        if name in there or name in back:
            continue
        if name in pool:
            if pool[name].stamp.partition(" ")[0] == size:
                back[name] = name
            continue
        same = alike.get(stamp, [])
        if len(same) > 1 or not time or int(time) % SECOND == 0:
            same = [n for n in same if PurePosixPath(n).name == PurePosixPath(name).name]
        if len(same) == 1:
            back[name] = same[0]
    return back


def settled(
    before: Opened, found: Changes, read: Collection[str]
) -> tuple[dict[str, int], dict[str, list[Any]], set[str], set[str]]:
    """What stays where it is, what is kept of images that are away, the names of those of both
    that nobody named, and the names of known images that are back.

    Args:
        read: names of the files to read that could be read.
    """
    pool = before_now(before) | of_present(before, {*found.gone, *found.changed})
    readable, ids = set(read), {*before.clusters.names, EXCLUDED}
    back = {name: was for name, was in returned(before, found).items() if name in readable}
    left = {*found.gone, *found.changed} - readable
    moved = {file: k for file, k in before.moved.items() if file not in left}
    by_hand = {name: pool[was].moved for name, was in back.items() if pool[was].moved in ids}
    there = (set(before.embedding.paths) - left) | readable
    away = {
        name: of for name, of in pool.items() if name not in there and name not in back.values()
    }
    held = before.held
    if gone := sum(
        of.moved is not None for name, of in away.items() if name in left and name not in held
    ):
        note(
            f"away now: {several(gone, 'images')} put by hand; what was decided is kept, and holds "
            "again after a return"
        )
    if again := sum(back[name] not in held for name in by_hand):
        note(f"back: {several(again, 'images')} put by hand; what was decided holds again")
    known = {name for name, was in back.items() if pool[was].known}
    moved |= {name: int(k) for name, k in by_hand.items() if k is not None}
    held |= {name for name, was in back.items() if was in held}
    held &= moved.keys() | away.keys()
    return moved, {name: list(of) for name, of in away.items()}, held, known


def still_known(before: Opened, images: reading.Images, back: Collection[str]) -> np.ndarray:
    """(n,) bool, of images that were read: whether the clusters are made of it all the same.

    So it is of a file that was only written again, or copied: the picture is nearer to what it was
    than that was to the centre of any cluster.

    Args:
        back: names of those that were away.
    """
    old, known = before.embedding, np.array([name in back for name in images.names], bool)
    row = {path: i for i, path in enumerate(old.paths)}
    now = np.array([i for i, name in enumerate(images.names) if name in row], int)
    if not len(now):
        return known
    was = np.array([row[images.names[i]] for i in now])
    here, there = unit_rows(images.h[now]), unit_rows(old.h[was])
    centres = [*before.clusters.centres.values()]
    apart = 1 - (there @ np.stack(centres).T).max(axis=1) if centres else np.zeros(len(now))
    change = 1 - (here * there).sum(axis=1)
    known[now] = old.known[was] & (change <= np.maximum(apart, SAME))
    return known


def relabelled(away: Mapping[str, list[Any]], moved: Mapping[str, int]) -> dict[str, list[Any]]:
    """The same with other ids of those that were put by hand.

    Args:
        moved: name -> id.
    """
    return {name: [*of[:2], moved.get(name, of[2])] for name, of in away.items()}
