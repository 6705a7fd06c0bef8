"""What distinguishes each cluster, as the page shows it."""

from collections.abc import Callable, Sequence

import numpy as np

from vtcc.pages.clusters import ClusterSummary
from vtcc.pages.thumbnails import displayable

SHOWN = 6  # images in a row
MEAN_OF = 400  # images, at most
WORDS = 3  # words on looks
PLAIN = 0.6  # standard deviations from all images at which something is said

LOOKS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("flatter", "richer in contrast"),
    "warmth": ("bluer", "redder"),
    "green": ("more purple", "greener"),
    "saturation": ("paler", "more colourful"),
    "detail": ("smoother", "richer in detail"),
}


def looks(images: np.ndarray) -> np.ndarray:
    """Simple measures of each image, a column per word of `LOOKS`.

    Args:
        images: (n, S, S, C) uint8.

    Returns:
        (n, 6) float32.
    """
    x = displayable(np.asarray(images)).astype(np.float32) / 255
    grey = x.mean(axis=3)
    red, green, blue = (x[..., c].mean(axis=(1, 2)) for c in range(3))
    across = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    down = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2))
    return np.stack(
        [
            grey.mean(axis=(1, 2)),
            grey.std(axis=(1, 2)),
            red - blue,
            green - (red + blue) / 2,
            (x.max(axis=3) - x.min(axis=3)).mean(axis=(1, 2)),
            across + down,
        ],
        axis=1,
    )


def summaries(
    *,
    cluster: np.ndarray,
    names: dict[int, str],
    confidence: np.ndarray,
    distance: np.ndarray,
    outlier: np.ndarray,
    centres: dict[int, np.ndarray],
    first: np.ndarray,
    looks: np.ndarray,
    read: Callable[[np.ndarray], np.ndarray],
    attention: Callable[[np.ndarray], np.ndarray | None],
    labels: Sequence[int] | None = None,
    classes: Sequence[str] = (),
) -> list[ClusterSummary]:
    """A summary per cluster, by id.

    Args:
        cluster: (N,) ids, -1 for excluded. names: id -> name.
        confidence, distance: (N,). outlier: (N,) bool. centres: id -> unit (d,).
        first: (N,) of `duplicates.groups`: the first of the images that look alike.
        looks: (N, 6) of the function `looks`.
        read: rows -> (n, S, S, C) uint8. attention: the same images -> (n, g, g) or None.
        labels: (N,) class numbers, -1 where there is none, only described. classes: their names.
    """
    scale = np.maximum(looks.std(axis=0), 1e-6)
    overall = looks.mean(axis=0)
    clusters = []
    for k in sorted(names):
        rows = np.flatnonzero(cluster == k)
        if not len(rows):
            clusters.append(ClusterSummary(k, names[k], 0, np.nan, np.nan, None, np.nan, (), ()))
            continue
        away = np.nan_to_num(distance[rows], nan=2.0)
        typical = rows[np.lexsort((rows, -confidence[rows], away))][:SHOWN]
        unsure = rows[np.lexsort((rows, confidence[rows]))][: min(SHOWN, max(len(rows) // 4, 1))]
        nearest, gap = _nearest(k, centres)
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MEAN_OF)).astype(int)]
        shown = read(typical)
        seen = attention(shown)
        clusters.append(
            ClusterSummary(
                id=k,
                name=names[k],
                size=len(rows),
                spread=float(np.nanmean(away)),
                confidence=float(confidence[rows].mean()),
                nearest=nearest,
                nearest_distance=gap,
                prototypes=typical.tolist(),
                boundary=unsure.tolist(),
                duplicates=_alike(rows, first),
                outliers=int(outlier[rows].sum()),
                about=_words((looks[rows].mean(axis=0) - overall) / scale),
                mean=read(some).mean(axis=0).round().astype(np.uint8),
                attention=[] if seen is None else list(seen),
                labels=_labels(rows, labels, classes),
            )
        )
    return clusters


def _nearest(k: int, centres: dict[int, np.ndarray]) -> tuple[int | None, float]:
    if k not in centres or len(centres) < 2:
        return None, np.nan
    gaps = {j: float(1 - centres[j] @ centres[k]) for j in centres if j != k}
    nearest = min(gaps, key=lambda j: (gaps[j], j))
    return nearest, gaps[nearest]


def _alike(rows: np.ndarray, first: np.ndarray) -> list[list[int]]:
    """Groups of rows that look alike, the largest first."""
    groups: dict[int, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(int(first[row]), []).append(row)
    several = [g for g in groups.values() if len(g) > 1]
    return sorted(several, key=lambda g: (-len(g), g[0]))[:20]


def _words(apart: np.ndarray) -> list[str]:
    """The looks that are farthest from those of all images."""
    strong = [i for i in np.argsort(-np.abs(apart)) if abs(apart[i]) >= PLAIN][:WORDS]
    words = [list(LOOKS.values())[i][int(apart[i] > 0)] for i in strong]
    return [f"{', '.join(words)} than most"] if words else []


def _labels(
    rows: np.ndarray, labels: Sequence[int] | None, classes: Sequence[str]
) -> list[tuple[str, float]]:
    if labels is None:
        return []
    known = np.asarray(labels)[rows]
    counts = np.bincount(known[known >= 0], minlength=len(classes))
    largest = np.argsort(-counts, kind="stable")[:3]
    return [(classes[i], counts[i] / len(rows)) for i in largest if counts[i]]
