"""How far clusters can be trusted, without labels, and the verdict in words.

The thresholds were set on data with known answers, noise and a folder of one kind among them;
docs/cluster.md has the table.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc.analysis.features import kmeans, silhouette, subsample
from vtcc.analysis.metrics import contingency
from vtcc.analysis.selection import effective_clusters
from vtcc.grouping.clusters import Clusters

if TYPE_CHECKING:
    from sklearn.model_selection import StratifiedKFold

FOLDS = 4
FLAT = 5.0  # length of a sketch's differences below which an image has one colour
SAME_COLOUR = 8 / 255  # that mean colours of such images may be off the middle one
IMAGES = 3000  # that the measures are computed on
ALIKE = 0.8  # share of images that are near-copies of one, above which there is one kind
CHANCE_SEEDS, CHANCE_PREDICTED = 0.15, 0.15
CLEAR_SEEDS, CLEAR_SILHOUETTE, CLEAR_GAP = 0.7, 0.4, 0.25
PLACES = 21  # from the mean of a cluster to its neighbour's, at which density is compared
LOOKS = 0.8  # kappa from which clusters are no more than brightness, contrast and colour
FEW_IMAGES = 50  # below which agreement says little
CONFUSED = 0.5  # of two clusters: how alike the second training spreads their images
NAMED = 4  # confused pairs told


@dataclass(frozen=True)
class Trust:
    """Measures without labels; each is explained in docs/cluster.md.

    Attributes:
        seeds: adjusted Rand index with the groups of the second training alone, which had a part in
            the clusters; None where there was none.
        map_silhouette: silhouette in a UMAP of the embedding, of k-means with as many clusters.
        halves: agreement of k-means fitted to halves of the images in that map.
        reference_silhouette: silhouette of the clusters in a space that no training made
            (components of the gradients), the same for every clustering of these images.
        reference_kmeans: the same of k-means in that very space, its own best.
        predicted: how well the clusters are predicted from that space, cross-validated: Cohen's
            kappa, 0 for chance, 1 for always.
        looks: the same from brightness, contrast, colour and detail alone (`describe.looks`).
        confidence: mean probability of the clusters.
        balance: effective clusters, exp(entropy of the sizes), over K.
        alike: share of images that look nearly like one of them, or are copies of it.
        confused: pairs of clusters that the two trainings tell apart least, with the share.
        level: clear, weak, chance or one kind. verdict: in words.
        gap: how empty it is between a cluster and its nearest (`gap`); None in results made before
            it was measured.
    """

    seeds: float | None
    map_silhouette: float
    halves: float
    reference_silhouette: float
    reference_kmeans: float
    predicted: float
    looks: float
    confidence: float
    balance: float
    alike: float
    confused: list[tuple[int, int, float]]
    level: str
    verdict: str
    gap: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return asdict(self)


def measure(
    clusters: np.ndarray,
    confidence: np.ndarray,
    *,
    other: np.ndarray | None,
    reference: np.ndarray,
    looks: np.ndarray,
    map_silhouette: float,
    halves: float,
    alike: float,
    seed: int,
) -> Trust:
    """Measures a clustering of N images.

    Args:
        clusters: (N,) integers. confidence: (N,) 0-1.
        other: (N,) integers, the clusters of a training from another seed; -1 for images that
            were not compared.
        reference: (N, d) features that no training made.
        looks: (N, 6) of `describe.looks`.
        map_silhouette, halves: of `count.Criteria` at this K.
        alike: of `alike`. seed: of subsamples.
    """
    from sklearn.metrics import adjusted_rand_score

    rows = subsample(len(clusters), IMAGES, seed)
    K = len(np.unique(clusters))
    agreed, pairs = None, []
    if other is not None and (other >= 0).any():
        both = np.flatnonzero(other >= 0)
        agreed = float(adjusted_rand_score(clusters[both], other[both]))
        pairs = confused(clusters[both], other[both])
    own, best = _in_reference(reference[rows], clusters[rows], K, seed)
    measured = Trust(
        seeds=agreed,
        map_silhouette=map_silhouette,
        halves=halves,
        reference_silhouette=own,
        reference_kmeans=best,
        predicted=_predicted(reference[rows], clusters[rows], seed),
        looks=_predicted(_standardised(looks[rows]), clusters[rows], seed),
        confidence=float(confidence.mean()),
        balance=effective_clusters(clusters) / max(K, 1),
        alike=alike,
        confused=pairs,
        level="",
        verdict="",
        gap=gap(reference[rows], clusters[rows], seed),
    )
    level, verdict = judge(measured, K, len(clusters))
    return replace(measured, level=level, verdict=verdict)


def after_edits(measured: dict[str, Any], clusters: Clusters, images: int) -> Trust:
    """The trust in clusters that were edited by hand since it was measured.

    Nothing is measured again: the verdict says which clusters it is about, and names none that is
    gone.

    Args:
        measured: of `Trust.to_dict`. clusters: as they are now. images: N.
    """
    trust = Trust(**measured)
    pairs = [(a, b, s) for a, b, s in trust.confused if {a, b} <= clusters.names.keys()]
    trust, K = replace(trust, confused=pairs), len(clusters.of_base)
    level, verdict = judge(trust, K, images)
    if any(edit["do"] not in ("rename", "decline") for edit in clusters.edits):
        verdict += f" (measured on the {K} clusters before they were edited)"
    return replace(trust, level=level, verdict=verdict)


def judge(trust: Trust, K: int, images: int) -> tuple[str, str]:
    """The level and the verdict in words that the measures of K clusters come to.

    The verdict speaks of this K and names the measure that decided.

    Args:
        images: N.
    """
    if trust.seeds is None:
        agreed, again = trust.halves, f"halves of the images agree by {_below(trust.halves)} of 1"
    else:
        agreed, again = trust.seeds, f"a second training agrees by {_below(trust.seeds)} of 1"
    if trust.alike >= ALIKE:
        return "one kind", (
            f"one kind: {trust.alike:.0%} of the images look nearly alike or are copies of one, so "
            "the clusters divide small differences of one and the same thing"
        )
    if agreed < CHANCE_SEEDS or (agreed < 2 * CHANCE_SEEDS and trust.predicted < CHANCE_PREDICTED):
        return "chance", (
            f"no better than chance: with {K} clusters {again}; they should not be used. Another "
            "number of clusters may do better: see the curve"
        )
    pairs = [f"{a} and {b}" for a, b, _ in trust.confused[:NAMED]]
    end = f"; clusters {', '.join(pairs)} are confused" if pairs else ""
    if trust.looks >= LOOKS and trust.looks > trust.predicted:
        return "weak", (
            f"weak structure: the {K} clusters follow brightness and colour, by which alone "
            f"{trust.looks:.0%} of what is beyond chance is foretold, more than by content{end}"
        )
    failed = []
    if agreed < CLEAR_SEEDS:
        failed.append(f"{again} (clear from {CLEAR_SEEDS:g})")
    if trust.map_silhouette < CLEAR_SILHOUETTE:
        failed.append(
            f"the groups are {_below(trust.map_silhouette)} apart in the map (clear from "
            f"{CLEAR_SILHOUETTE:g})"
        )
    if trust.gap is not None and trust.gap < CLEAR_GAP:
        failed.append(
            "it is hardly less dense between neighbouring clusters than in them, as where one kind "
            f"is cut into parts (gap {_below(trust.gap)}, clear from {CLEAR_GAP:g})"
        )
    if images < FEW_IMAGES:
        failed.append(f"{images} images are too few to tell")
    if not failed:
        return "clear", f"clear structure: {K} clusters, {again}{end}"
    end = end or "; look at each cluster before you use it"
    return "weak", f"weak structure with {K} clusters: {', '.join(failed)}{end}"


def _below(value: float) -> str:
    """Two digits, never rounded up: what lies below a threshold must not read as if it met it."""
    return f"{math.floor(value * 100 + 1e-9) / 100:.2f}"


def confused(clusters: np.ndarray, other: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs of clusters whose images another clustering spreads alike, most alike first.

    Args:
        clusters, other: (N,) integers.

    Returns:
        (one, other, overlap of their distributions over the other clustering, 0-1), from
        `CONFUSED` up.
    """
    counts, names, _ = contingency(clusters, other)
    table = counts / counts.sum(axis=1, keepdims=True)
    overlaps = [
        (names[i], names[j], round(float(np.minimum(table[i], table[j]).sum()), 4))
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]
    return sorted((f for f in overlaps if f[2] >= CONFUSED), key=lambda f: (-f[2], f[0], f[1]))


def alike(sketches: np.ndarray, looks: np.ndarray) -> float:
    """Share of images whose brightness correlates by at least .8 with that of the middle one,
    or of plain ones of nearly the same colour.

    Args:
        sketches: (N, 8, 9) float32, of `vtcc.data.duplicates.sketch`.
        looks: (N, 6) of `describe.looks`, which has the mean colour in columns 0, 2 and 3.
    """
    flat = sketches.reshape(len(sketches), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    plain = lengths[:, 0] < FLAT
    flat = np.where(plain[:, None], 0.0, flat / np.maximum(lengths, 1e-9))
    middle = flat[int((flat @ flat.mean(axis=0)).argmax())]
    correlated = float((flat @ middle >= 0.8).mean())
    if not plain.any():
        return correlated
    colours = looks[plain][:, [0, 2, 3]]
    near = (np.abs(colours - np.median(colours, axis=0)) <= SAME_COLOUR).all(axis=1)
    return max(correlated, float(near.sum() / len(plain)))


def _in_reference(
    reference: np.ndarray, clusters: np.ndarray, K: int, seed: int
) -> tuple[float, float]:
    """Silhouettes in the reference space: of the clusters, and of k-means there."""
    if K < 2:
        return 0.0, 0.0
    best = kmeans(reference, K, seed, starts=3).labels_
    return silhouette(reference, clusters), silhouette(reference, best)


def _standardised(features: np.ndarray) -> np.ndarray:
    """(n, d) with zero mean and unit deviation per column."""
    spread = np.maximum(features.std(axis=0), 1e-6)
    scaled: np.ndarray = (features - features.mean(axis=0)) / spread
    return scaled


def gap(reference: np.ndarray, clusters: np.ndarray, seed: int) -> float:
    """How empty it is between clusters and their nearest: 0 as dense as in them, 1 empty.

    Images are placed on the line between two clusters' means by linear discriminants that were
    fitted without them (folds), so that one cloud, however it is cut, remains a single hill there.
    The gap is what its lowest place lacks to the lower of the hills on its two sides. The mean over
    clusters, weighted by their images.

    Args:
        reference: (N, d) features that no training made. clusters: (N,) integers. seed: of folds.
    """
    from scipy.stats import gaussian_kde
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import cross_val_predict

    keep, folds = _folds(clusters, seed)
    names, own, sizes = np.unique(clusters[keep], return_inverse=True, return_counts=True)
    K = len(names)
    if K < 2:
        return 0.0
    scores = cross_val_predict(
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        reference[keep],
        own,
        cv=folds,
        method="decision_function",
    )
    if K == 2:
        scores = np.stack([-scores, scores], axis=1)
    means = np.stack([scores[own == a].mean(axis=0) for a in range(K)])
    gaps = []
    for a in range(K):
        b = int(np.where(np.arange(K) == a, -np.inf, means[a]).argmax())
        line = (scores[:, a] - scores[:, b])[(own == a) | (own == b)]
        places = np.linspace(means[a, a] - means[a, b], means[b, a] - means[b, b], PLACES)
        if not np.ptp(line) > 0:
            gaps.append(0.0)  # the same image again and again
            continue
        density = gaussian_kde(line)(places)
        left = np.maximum.accumulate(density)
        right = np.maximum.accumulate(density[::-1])[::-1]
        gaps.append(1 - float((density / np.maximum(np.minimum(left, right), 1e-300)).min()))
    return float(np.average(gaps, weights=sizes))


def _folds(clusters: np.ndarray, seed: int) -> tuple[np.ndarray, "StratifiedKFold"]:
    """(N,) whether an image's cluster is in every fold, and the folds of those that are."""
    from sklearn.model_selection import StratifiedKFold

    names, counts = np.unique(clusters, return_counts=True)
    keep = np.isin(clusters, names[counts >= FOLDS])
    return keep, StratifiedKFold(FOLDS, shuffle=True, random_state=seed)


def _predicted(reference: np.ndarray, clusters: np.ndarray, seed: int) -> float:
    """Cohen's kappa of nearest neighbours that predict the clusters, cross-validated."""
    from sklearn.metrics import cohen_kappa_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    keep, folds = _folds(clusters, seed)
    if len(np.unique(clusters[keep])) < 2:
        return 0.0
    guessed = cross_val_predict(
        KNeighborsClassifier(min(5, keep.sum() // FOLDS)), reference[keep], clusters[keep], cv=folds
    )
    return float(cohen_kappa_score(clusters[keep], guessed))
