"""What becomes of files beside the sample of a large collection, when its folder has changed."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from vtcc.grouping import reopen, stream
from vtcc.grouping.add import away
from vtcc.grouping.add.changes import Changes
from vtcc.grouping.rest import Rest, Shard
from vtcc.progress import note

if TYPE_CHECKING:
    from vtcc.engine.predict import Predictor

MOST_SHOWN = 3  # times the sample, that the page may come to show


@dataclass(frozen=True)
class Followed:
    """What was done.

    Attributes:
        images: readable ones beside the shown, now. unreadable: of those that were read.
        lost: files that changed and can no longer be read.
        assigned: (m,) `cluster`, `confidence` and `novel` of those that were read now.
    """

    images: int = 0
    unreadable: int = 0
    lost: tuple[str, ...] = ()
    assigned: dict[str, np.ndarray] = field(default_factory=dict)


def divided(found: Changes, before: reopen.Opened) -> tuple[Changes, Changes]:
    """Changes of the images that the page shows, and of the others.

    New images are shown, among which new kinds are looked for, up to as many as the sample has;
    of more a seeded draw is. Once the page shows three times the sample, no more are.

    Args:
        found: changes of all. before: the results.
    """
    collection = before.summary.get("collection")
    if collection is None:
        nothing = replace(found, new=[], changed=[], gone=[], replaced={}, files={})
        return found, replace(nothing, stamps={}, columns={})
    ours = set(before.summary["files"])
    sample = int(collection["sample"])
    room = max(min(sample, MOST_SHOWN * sample - len(ours)), 0)
    shown = found.new
    if len(shown) > room:
        number = len(before.summary.get("additions", []))
        draw = np.random.default_rng([int(before.summary["seed"]), number])
        back = away.returned(before, found)  # of which something is known already
        shown = [name for name in found.new if name in back]
        fresh, room = [name for name in found.new if name not in back], max(room - len(shown), 0)
        shown += [fresh[i] for i in draw.choice(len(fresh), min(room, len(fresh)), replace=False)]
        note(
            f"{len(shown)} of {len(found.new)} new images are shown, and looked through for new "
            "kinds; the others are assigned"
        )
    ours |= set(shown)

    def part(inside: bool) -> Changes:
        def some(names: Iterable[str]) -> list[str]:
            return [name for name in names if (name in ours) == inside]

        return replace(
            found,
            new=some(found.new),
            changed=some(found.changed),
            gone=some(found.gone),
            replaced={name: found.replaced[name] for name in some(found.replaced)},
            files={name: found.files[name] for name in some(found.files)},
            stamps={name: found.stamps[name] for name in some(found.stamps)},
        )

    return part(True), part(False)


def follow(rest: Rest, found: Changes, predictor: "Predictor", *, batch_size: int) -> Followed:
    """Takes out what is gone or changed, and assigns what is new or changed, in shards behind.

    Args:
        rest: of the results that are being written. found: of `divided`.
        predictor: of their model. batch_size: images per forward pass.
    """
    if not rest.places and not found.to_read:
        return Followed()
    rest.drop({*found.gone, *found.changed})
    if found.moved:  # a copy has times of its own
        for place in rest.places:
            shard = Shard.read(place)
            stamps = [
                found.stamps.get(f, s) for f, s in zip(shard.files, shard.stamps, strict=True)
            ]
            if stamps != shard.stamps:
                replace(shard, stamps=stamps).write(place)
    names = found.to_read
    first = 1 + max((int(place.stem) for place in rest.places), default=-1)
    if names:
        rest.directory.mkdir(exist_ok=True)
        stream.assign(
            rest,
            names,
            [found.files[name] for name in names],
            [found.stamps[name] for name in names],
            predictor,
            first=first,
            batch_size=batch_size,
        )
    unread: list[str] = []
    assigned: dict[str, list[np.ndarray]] = {"cluster": [], "confidence": [], "novel": []}
    for place in rest.places:
        if int(place.stem) >= first:
            shard = Shard.read(place)
            unread += _unreadable(shard)
            for name, parts in assigned.items():
                parts.append(shard.applied[name])
    counts = rest.counts()
    changed = set(found.changed)
    return Followed(
        images=counts.files - len(counts.unreadable),
        unreadable=len(unread),
        lost=tuple(name for name in unread if name in changed),
        assigned={name: np.concatenate(parts) for name, parts in assigned.items() if parts},
    )


def _unreadable(shard: Shard) -> list[str]:
    return [file for file, error in zip(shard.files, shard.errors, strict=True) if error]
