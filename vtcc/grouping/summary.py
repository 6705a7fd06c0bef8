"""summary.json of the results of `vtcc cluster`, for those who only read it: nothing heavy."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtcc import json_file
from vtcc.atomic import restore
from vtcc.errors import VtccError

FILE, MODEL = "summary.json", "model"  # in the folder of results
# Of `vtcc.grouping.trust`, from the least to the most that can be said of clusters.
LEVELS = ("chance", "one kind", "weak", "clear")
# What every reader needs.
READ = {
    "trust": dict, "trust.level": str, "trust.verdict": str, "clusters": list, "files": list,
    "errors": dict, "seconds": int | float, "collection": dict | None,
}  # fmt: skip


def read(results: Path, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The summary of a folder of results.

    Args:
        more: values that are needed beside `READ`, as of `json_file.checked`.

    Raises:
        VtccError: when there is none, or it is damaged.
    """
    restore(results)  # what a kill between two renamings left aside
    try:
        return json_file.checked(json_file.parsed(results / FILE), {**READ, **(more or {})})
    except (FileNotFoundError, NotADirectoryError):
        if not results.exists():
            raise VtccError(
                f"{results}: no such folder; give one of `vtcc cluster`, with report.html"
            ) from None
        raise VtccError(
            f"{results}: no results of `vtcc cluster` ({FILE} expected); give the folder that "
            "holds report.html"
        ) from None
    except (OSError, ValueError) as error:
        raise VtccError(f"{results / FILE}: damaged ({error}); run `vtcc cluster` again") from None


def stamps_of(summary: dict[str, Any]) -> dict[str, str]:
    """Name -> stamp of each file; empty in results of before they were kept: changes go unseen."""
    unknown = [""] * len(summary["files"])
    return dict(zip(summary["files"], summary.get("stamps") or unknown, strict=True))


def leads_astray(summary: Mapping[str, Any], results: Path, root: Path) -> bool:
    """Whether the links of the page no longer lead to the images, as the results were moved.

    Args:
        summary: of the results; those of before links were kept are taken to lead there.
        results: their folder. root: that of the images.
    """
    links = summary.get("links")
    # For a browser `..` of a link is where that link is; one of both ways is enough.
    ends = {os.path.normpath(at / (links or "")) for at in (results.absolute(), results.resolve())}
    return links is not None and root.resolve() not in {Path(end).resolve() for end in ends}


def once_proposed(summary: dict[str, Any]) -> frozenset[int]:
    """The numbers of the clusters that `vtcc add` proposes or ever proposed."""
    now = [proposal["id"] for proposal in summary.get("proposals", [])]
    return frozenset(now).union(*(made["proposed"] for made in summary.get("additions", [])))


def added(summary: dict[str, Any]) -> set[str]:
    """The files that came by `vtcc add` and are still there."""
    names: set[str] = set()
    for made in summary.get("additions", []):
        names = (names | set(made["files"]["new"])) - set(made["files"]["gone"])
    return names


def altered(summary: dict[str, Any]) -> frozenset[str]:
    """The files that `vtcc add` ever found gone or changed, and those that cannot be read."""
    files = [made["files"] for made in summary.get("additions", [])]
    return frozenset(summary["errors"]).union(*(f["gone"] + f["changed"] for f in files))


def scores(summary: Mapping[str, Any]) -> dict[str, float]:
    """Of the clusters against the sub-folders that were taken for classes; empty without any."""
    ours: dict[str, Any] = next(iter(summary.get("baselines", [])), {})
    return {name: value for name, value in ours.items() if name not in ("title", "agreement")}


def headline(results: Path, *, began: float | None = None) -> dict[str, Any]:
    """What `--json` prints of results: where they are, how many, how far to trust them.

    Args:
        results: their folder.
        began: when the command did, on `time.monotonic`'s clock; None: `seconds` are those that
            `vtcc cluster` took.

    Returns:
        `results`, `report`, `model` (absolute paths), `images`, `unreadable`, `clusters` (each
        with id, name, size, spread, confidence, nearest), `unclustered` (`images`, `share` and
        `limit` of what belongs nowhere; None where all are in clusters), `level` (of `LEVELS`),
        `verdict`, `minutes` (the limit that `vtcc cluster` was given; None in results of before it
        was kept), `scores` (`nmi` and `acc` of the clusters as `vtcc cluster` made them, against
        sub-folders taken for classes; None without), `seconds`.

    Raises:
        VtccError: as `read`.
    """
    summary = read(results)
    place = results.absolute()
    unreadable = len(summary["errors"])
    # Of a large collection `files` are its sample.
    collection = summary.get("collection", {})
    return {
        "results": str(place),
        "report": str(place / "report.html"),
        "model": str(place / MODEL),
        "images": collection.get("images", len(summary["files"]) - unreadable),
        "unreadable": collection.get("unreadable", unreadable),
        "clusters": summary["clusters"],
        "unclustered": summary.get("unclustered"),
        "level": summary["trust"]["level"],
        "verdict": summary["trust"]["verdict"],
        "minutes": summary.get("minutes"),
        "scores": scores(summary) or None,
        "seconds": summary["seconds"] if began is None else round(time.monotonic() - began, 1),
    }
