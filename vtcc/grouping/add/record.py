"""What is kept, and said, of an addition."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtcc.grouping.add.beside import Followed
from vtcc.grouping.add.changes import Changes
from vtcc.grouping.add.update import Updated
from vtcc.grouping.clusters import NO_CLUSTER
from vtcc.progress import duration, several
from vtcc.version import __version__


def of(after: Updated, found: Changes, rest: Followed, *, began: float) -> dict[str, Any]:
    """One record of `additions` in summary.json.

    Args:
        after: the results as they will be. found: what became of all files.
        rest: of a large collection, what became of those beside its sample.
        began: on `time.monotonic`'s clock.
    """
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": __version__,
        "images": len(after.embedding.paths) + rest.images,
        "new": len(found.new),
        "changed": len(found.changed),
        "gone": len(found.gone),
        "unreadable": len(after.images.errors) + rest.unreadable,
        **({"root": str(found.root)} if found.moved else {}),
        "proposed": [p["id"] for p in after.summary["proposals"]],
        "drift": after.drift.to_dict(),
        "seconds": round(time.monotonic() - began, 1),
        "searched": found.searched,
        "files": {"new": found.new, "changed": found.changed, "gone": found.gone},
    }


def lines(after: Updated, made: dict[str, Any], target: Path, *, seconds: float) -> Sequence[str]:
    """The end of what `vtcc add` prints.

    Args:
        made: of `of`. target: where the results are. seconds: that all of it took.
    """
    said = after.drift.text()
    for proposal in after.summary["proposals"]:
        names = {str(k): name for k, name in (NO_CLUSTER | after.applied.names).items()}
        places = [f"{n} in {names.get(k, k)}" for k, n in list(proposal["now_in"].items())[:3]]
        said.append(
            f"proposed: {proposal['name']}, {several(len(proposal['files']), 'images')} unlike "
            f"the others, now {', '.join(places)}; confirm it in the page, then `vtcc refine`"
        )
    page = target / "report.html"
    return [*said, f"{several(made['images'], 'images')}, {duration(seconds)}: {page}"]
