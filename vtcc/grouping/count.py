"""How many clusters: three criteria per K, combined; docs/cluster.md explains them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vtcc.analysis.features import kmeans, silhouette, subsample, umap, unit_rows
from vtcc.schema import MAX_SEED

IMAGES = 3000  # that the criteria are computed on
SILHOUETTE_IMAGES = 1500
HALVES = 3  # splits into halves per map
MAPS = 2  # UMAPs, by seed
DIMENSIONS = 10
SHARPNESS = 0.01  # of the best score, below it a weight falls to 1/e
PEAKS = 3  # other peaks of the curve that are named
TOLERANCE = 0.03  # of the best score: what is within is the range
LEAD_OF_TWO = 0.04  # of its score, that K = 2 must be ahead by
MOST_FINER = 2  # times the best K, that a finer K may be taken instead


@dataclass(frozen=True)
class Criteria:
    """What speaks for a number of clusters K, each up to 1.

    Attributes:
        clusters: K.
        silhouette: of k-means in the maps, the mean over them.
        stability: adjusted Rand index between k-means fitted to either half of the images.
        maps: the same between maps made with different seeds; 1 where there is one map.
        score: the geometric mean of these three.
    """

    clusters: int
    silhouette: float
    stability: float
    maps: float
    score: float


@dataclass(frozen=True)
class Count:
    """The recommendation.

    Attributes:
        clusters: K. low, high: the range of K that score nearly as well.
        curve: the criteria for every K tried, ascending.
        reasons: in words.
    """

    clusters: int
    low: int
    high: int
    curve: list[Criteria]
    reasons: list[str]

    def at(self, clusters: int) -> Criteria:
        """The criteria for one of the K that were tried."""
        return next(c for c in self.curve if c.clusters == clusters)

    def to_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Count":
        """What `to_dict` gave."""
        return cls(**{**values, "curve": [Criteria(**c) for c in values["curve"]]})


def most(N: int, low: int, high: int) -> int:
    """The largest number of clusters to try: with at least 5 images each, but not below `low`.

    Args:
        N: images. low, high: bounds, inclusive.
    """
    return max(min(high, min(N, IMAGES) // 5), low)


def tried(N: int, low: int, high: int) -> list[int]:
    """The numbers of clusters to try: every one up to 15, then ever fewer, up to `most`.

    Args:
        N: images. low, high: bounds, inclusive.
    """
    numbers, k = [], low
    while k <= most(N, low, high):
        numbers.append(k)
        k += 1 if k < 15 else max(1, round(k * 0.12))
    return numbers


def count(
    h: np.ndarray,
    *,
    low: int,
    high: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Count:
    """Recommends a number of clusters between `low` and `high`.

    Args:
        h: (N, d) embedding. seed: of subsamples and starts.
        on_progress: called with steps done and their number.
    """
    rows = subsample(len(h), IMAGES, seed)
    unit = unit_rows(h[rows])
    numbers = tried(len(rows), low, high)
    # Where K is given, a second map would compare with nothing.
    count_of_maps = MAPS if len(numbers) > 1 else 1
    total = count_of_maps + len(numbers)
    maps = []
    for i in range(count_of_maps):
        maps.append(
            umap(unit, (seed + i) % (MAX_SEED + 1), DIMENSIONS, min_dist=0.0, metric="cosine")
        )
        on_progress(i + 1, total)
    curve = []
    for k in numbers:
        curve.append(_criteria(k, maps, seed))
        on_progress(count_of_maps + len(curve), total)
    few = len(rows) if most(len(rows), low, high) < high else None
    return recommend(curve, few)


def recommend(curve: list[Criteria], few: int | None = None) -> Count:
    """The middle of a range of K that score nearly as well as the best, round the finest peak.

    Of a coarser and a finer structure that are about as clear the finer one is taken, if it is not
    more than twice as fine: clusters are merged more easily than divided. Two clusters agree with
    themselves more easily than several do, so K = 2 must be ahead. In the range K weighs by exp of
    how far it is below its best, a hundredth of the best's score being 1: where scores are nearly
    level, one of them is best by chance.

    Args:
        curve: the criteria, ascending. few: images, where they are too few for the whole range.
    """
    every, two = curve, curve[0]
    best = max(curve, key=lambda c: c.score)
    if best.clusters == 2 and len(curve) > 1:
        several = max(curve[1:], key=lambda c: c.score)
        if several.score >= best.score * (1 - LEAD_OF_TWO):
            curve, best = curve[1:], several
    good = [c for c in curve if c.score >= best.score * (1 - TOLERANCE)]
    finer = [c for c in _peaks(curve) if c.clusters <= MOST_FINER * best.clusters]
    finest = max((c for c in [best, *finer] if c in good), key=lambda c: c.clusters)
    at = curve.index(finest)
    # Neighbours alone: beyond a dip, a K that happens to score as well is another structure.
    low = high = at
    while low > 0 and curve[low - 1] in good:
        low -= 1
    while curve[high + 1 : high + 2] and curve[high + 1] in good:
        high += 1
    within = curve[low : high + 1]
    top = max(c.score for c in within)
    weights = np.exp([(c.score - top) / (SHARPNESS * max(best.score, 1e-9)) for c in within])
    middle = float(np.average([c.clusters for c in within], weights=weights))
    chosen = min(within, key=lambda c: (abs(c.clusters - middle), c.clusters))
    why = f"K = {best.clusters} scores best ({best.score:.2f} of 1)"
    if curve is not every:
        why += f" but for K = 2 ({two.score:.2f}), which is too little ahead"
    if finest is not best:
        why += f"; K = {finest.clusters} is finer and about as clear"
    if len(within) > 1:
        why += (
            f"; from {within[0].clusters} to {within[-1].clusters} the score is within "
            f"{TOLERANCE:.0%} of the best, and the middle, weighted by the scores, is "
            f"{chosen.clusters}"
        )
    measured = (
        f"at K = {chosen.clusters} the silhouette is {chosen.silhouette:.2f}, halves of the images "
        f"agree by {chosen.stability:.2f}"
    )
    more = "if there are more kinds, give their number, not a range, by -k"
    if len(every) == 1:  # nothing to compare, and there was one map
        alone = f"K = {chosen.clusters} alone is tried"
        why = f"{alone} with {few:,} images; {more}" if few else alone
        return Count(chosen.clusters, chosen.clusters, chosen.clusters, every, [why, measured])
    reasons = [why, f"{measured}, maps by {chosen.maps:.2f}"]
    others = [c for c in _peaks(every) if c not in within][:PEAKS]
    if others:
        known = ", ".join(f"{c.clusters} ({c.score:.2f})" for c in others)
        reasons.append(f"other peaks of the curve, a coarser or finer structure: {known}")
    beyond = {every[0].clusters: "fewer", every[-1].clusters: "more"}.get(chosen.clusters)
    at_end = f"K = {chosen.clusters} is at the end of the range"
    if few and beyond == "more":
        reasons.append(f"{at_end}, and with {few:,} images no more are tried; {more}")
    elif beyond and chosen.clusters > 2 and len(every) > 2:
        reasons.append(f"{at_end}: {beyond} clusters may fit better; ask for another range by -k")
    return Count(chosen.clusters, within[0].clusters, within[-1].clusters, every, reasons)


def _peaks(curve: list[Criteria]) -> list[Criteria]:
    """Numbers of clusters that score better than their neighbours, best first."""
    padded = [-1.0, *(c.score for c in curve), -1.0]
    tops = [c for i, c in enumerate(curve, 1) if padded[i] > max(padded[i - 1], padded[i + 1])]
    return sorted(tops, key=lambda c: -c.score)


def _criteria(k: int, maps: list[np.ndarray], seed: int) -> Criteria:
    from sklearn.metrics import adjusted_rand_score

    N = len(maps[0])
    silhouettes, halves, partitions = [], [], []
    for i, points in enumerate(maps):
        labels = kmeans(points, k, seed, starts=5).labels_
        partitions.append(labels)
        some = np.random.default_rng(seed).permutation(N)[:SILHOUETTE_IMAGES]
        silhouettes.append(silhouette(points[some], labels[some]))
        for j in range(HALVES):
            order = np.random.default_rng(seed + 100 * i + j).permutation(N)
            by_first, by_second = (
                kmeans(points[half], k, seed, starts=3).predict(points)
                for half in (order[: N // 2], order[N // 2 :])
            )
            halves.append(adjusted_rand_score(by_first, by_second))
    between = [adjusted_rand_score(a, b) for i, a in enumerate(partitions) for b in partitions[:i]]
    agreement = float(np.mean(between)) if between else 1.0
    parts = [float(np.mean(silhouettes)), float(np.mean(halves)), agreement]
    score = float(np.prod(np.clip(parts, 0, 1)) ** (1 / len(parts)))
    return Criteria(k, parts[0], parts[1], parts[2], score)
