"""What comes in, beside what the clusters were made of: a table and a verdict, without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vtcc.progress import several

SURE = 3.29  # standard errors: one in a thousand by chance
SHARE, CONFIDENCE, NOVEL = 0.1, 0.1, 0.1  # changes that are worth a look
AGAIN_NOVEL, AGAIN_CONFIDENCE = 0.3, 0.25  # changes that the clusters do not survive
FEW = 20  # images that say nothing of shares
LEAST = 5  # images that say something of confidence, where it is much less


@dataclass(frozen=True)
class Line:
    """One cluster, or all of them.

    Attributes:
        cluster: its id, None for all. name: of it.
        images_before, images_now: of the clustering, and of those just added.
        share_before, share_now: of the images. confidence_before, confidence_now: mean, 0-1.
        novel_before, novel_now: shares far from what the clusters were made of (in a sampled
            collection: `novel` as in the tables), or in a group that is proposed (`novelty`).
            None where there is no image.
    """

    cluster: int | None
    name: str
    images_before: int
    images_now: int
    share_before: float | None
    share_now: float | None
    confidence_before: float | None
    confidence_now: float | None
    novel_before: float | None
    novel_now: float | None


@dataclass(frozen=True)
class Drift:
    """The table, all clusters last, and what it comes to.

    Attributes:
        level: fine, look here or cluster again. verdict: the same in words.
    """

    lines: list[Line]
    level: str
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for summary.json."""
        return asdict(self)

    def text(self) -> list[str]:
        """The table and the verdict, for a terminal."""
        rows = [("cluster", "images", "share", "confidence", "novel or proposed")]
        for line in self.lines:
            before_now = (
                f"{line.images_before} {line.images_now:+d}",
                f"{_percent(line.share_before)} -> {_percent(line.share_now)}",
                f"{_number(line.confidence_before)} -> {_number(line.confidence_now)}",
                f"{_percent(line.novel_before)} -> {_percent(line.novel_now)}",
            )
            rows.append((line.name[:30], *before_now))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return [*table, self.verdict]


def measure(
    *,
    cluster: np.ndarray,
    confidence: np.ndarray,
    novel: np.ndarray,
    before: np.ndarray,
    now: np.ndarray,
    names: Mapping[int, str],
    grouped: Mapping[int, np.ndarray],
) -> Drift:
    """Compares the images that were just added with those that the clusters were made of.

    Args:
        cluster: (N,) ids, -1 for excluded. confidence: (N,). novel: (N,) bool.
        before, now: (N,) bool, the two sets. names: id -> name.
        grouped: proposed id -> rows, of each group that may be a cluster.
    """
    free = np.ones(len(cluster), bool)
    for rows in grouped.values():
        free[rows] = False
    novel = novel | ~free

    def line(k: int | None, name: str, of: np.ndarray) -> Line:
        mine = of if k is None else of & (cluster == k)
        figures: dict[str, Any] = {}
        for when, those in (("before", before & of), ("now", now & of)):
            rows = mine & those
            n, total = int(rows.sum()), int(those.sum())
            figures[f"images_{when}"] = n
            figures[f"share_{when}"] = round(n / total, 4) if total else None
            figures[f"confidence_{when}"] = round(float(confidence[rows].mean()), 4) if n else None
            figures[f"novel_{when}"] = round(float(novel[rows].mean()), 4) if n else None
        return Line(cluster=k, name=name, **figures)

    def table(of: np.ndarray) -> list[Line]:
        return [*(line(k, names[k], of) for k in sorted(names)), line(None, "all", of)]

    # What a proposal holds is explained by it.
    level, verdict = judge(table(free), {k: int(now[rows].sum()) for k, rows in grouped.items()})
    return Drift(table(np.ones(len(cluster), bool)), level, verdict)


def judge(lines: Sequence[Line], proposed: Mapping[int, int]) -> tuple[str, str]:
    """The level, and the verdict that names what moved.

    Args:
        lines: of the images that are in no proposed group, all clusters last.
        proposed: id -> images just added, of each group that may be a cluster.
    """
    *lines, rest = lines
    grown = [
        f"{count} new images may be a cluster of their own ({k})" for k, count in proposed.items()
    ]
    n = rest.images_now
    if not rest.images_before:
        gone = "no image is left of those that the clusters were made of"
        return "cluster again", "cluster again: " + ", ".join([gone, *grown])
    if not n:
        verdict = ", ".join(grown)
        return ("look here", f"look here: {verdict}") if grown else ("fine", "fine: none was added")
    assert rest.confidence_before is not None and rest.novel_before is not None
    assert rest.confidence_now is not None and rest.novel_now is not None
    lost = rest.confidence_before - rest.confidence_now
    strange = rest.novel_now - rest.novel_before
    others = " of the others" if grown else " of the new images"
    novel = f"{rest.novel_now:.0%}{others} are novel (before {_percent(rest.novel_before)})"
    unsure = (
        f"mean confidence{others} is {rest.confidence_now:.2f} (before "
        f"{_number(rest.confidence_before)})"
    )
    chance = _error(rest.novel_now, n)
    if n >= FEW and (strange >= AGAIN_NOVEL + chance or lost >= AGAIN_CONFIDENCE):
        return "cluster again", "cluster again: " + ", ".join([novel, unsure, *grown])
    moved = [*grown]
    if strange >= max(NOVEL, chance):
        moved.append(novel)
    if n >= LEAST and lost >= (CONFIDENCE if n >= FEW else AGAIN_CONFIDENCE):
        moved.append(unsure)
    for line in lines:
        was, share = line.share_before or 0.0, line.share_now or 0.0
        if n >= FEW and abs(share - was) >= max(SHARE, _error(max(was, 1 / n), n)):
            moved.append(f"{line.name!r} has {share:.0%} of the new images (before {was:.0%})")
    if moved:
        return "look here", "look here: " + ", ".join(moved)
    return "fine", f"fine: {several(n, 'images')} as those before"


def _error(share: float, n: int) -> float:
    """What chance alone explains of a share of n images."""
    return float(SURE * np.sqrt(max(share * (1 - share), 0.0) / n))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
