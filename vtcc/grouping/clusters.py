"""How a model's clusters become the ones people see: names, merges, splits, flags.

`decide` is the one answer to what cluster an image is in, for every reader of a model: the
command line, Ray, the HTTP API, MLflow's pyfunc, `vtcc assess`, the estimator.

A model that `vtcc cluster` made has `clusters.json` and `clusters.safetensors` beside its
weights; `vtcc refine` rewrites them, the weights stay. A model without them speaks of its head's
clusters by number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc.analysis.features import row_blocks, unit_rows
from vtcc.errors import VtccError
from vtcc.grouping import levels
from vtcc.grouping.means import Means, outlying

if TYPE_CHECKING:
    from vtcc.engine.predict import Prediction, Predictor

FILE, ARRAYS = "clusters.json", "clusters.safetensors"
# Of images in no cluster, instead of its id: those put aside, and those that belong nowhere.
EXCLUDED, UNCLUSTERED = -1, -2
NO_CLUSTER = {EXCLUDED: "excluded", UNCLUSTERED: "unclustered"}


@dataclass(frozen=True)
class Applied:
    """What the clusters say of N images.

    Attributes:
        cluster: (N,) int64 ids, -1 for images of excluded clusters, -2 for those that belong
            nowhere.
        confidence: (N,) float32, the probability of that cluster, 0-1; where an image belongs
            nowhere, of the one it would be in.
        second: (N,) int64, the next most probable id, or the one it would be in; -1 for none.
        distance: (N,) float32, cosine distance of the embedding to the cluster's centre, 0-2.
        outlier: (N,) bool, farther from the centre than Tukey's fence of the cluster.
        novel: (N,) bool, unlike anything seen in training.
        novelty: (N,) float32, what decides it: the Mahalanobis distance to the nearest centre over
            the largest one that is not novel, so that novel images have more than 1.
        names: id -> name, of all clusters, empty ones too.
        shares: (N, K) float32, the probability of each id of `names`, ascending; what goes to
            excluded clusters is in none.
        groups: of each level, the coarsest first: id -> the smallest id of its group.
    """

    cluster: np.ndarray
    confidence: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    outlier: np.ndarray
    novel: np.ndarray
    novelty: np.ndarray
    names: dict[int, str]
    shares: np.ndarray
    groups: tuple[dict[int, int], ...] = ()

    @property
    def anyway(self) -> np.ndarray:
        """(N,) as `cluster`, with the ids of the clusters that unclustered images would be in."""
        return np.where(self.cluster == UNCLUSTERED, self.second, self.cluster)

    def name(self, row: int) -> str:
        """The name of an image's cluster, or why it is in none."""
        return (NO_CLUSTER | self.names)[int(self.cluster[row])]


def load_predictor(directory: Path, device: str = "auto") -> "Predictor":
    """A model with the clusters people see, where it knows them: as `decide` needs it.

    Args:
        directory: of the model. device: auto, cpu or cuda.

    Raises:
        VtccError: when it is no vtcc model, or its files are damaged.
    """
    from vtcc.engine import predict

    predictor = predict.load(directory, device)
    predictor.clusters = Clusters.load(directory)
    return predictor


def decide(predictor: "Predictor", prediction: "Prediction") -> Applied:
    """What cluster each image is in, and what else is known of it.

    Args:
        predictor: of `load_predictor`. prediction: what it says of N images.
    """
    known: Clusters | None = predictor.clusters
    if known is not None:
        return known.apply(prediction.probabilities, prediction.embedding)
    p = prediction.probabilities
    N, K = p.shape
    order = np.argsort(-p, axis=1, kind="stable")
    nothing, no = np.full(N, np.nan, np.float32), np.zeros(N, bool)
    return Applied(
        cluster=order[:, 0].astype(np.int64),
        confidence=p.max(axis=1),
        second=order[:, 1].astype(np.int64) if K > 1 else np.full(N, -1),
        distance=nothing,
        outlier=no,
        novel=no,
        novelty=nothing,
        names={k: f"cluster {k}" for k in range(K)},
        shares=p,
    )


@dataclass(frozen=True)
class Split:
    """A cluster of the head whose images go to the nearest of several centres.

    Attributes:
        ids: m final ids. centres: (m, d) float32, unit rows.
    """

    ids: tuple[int, ...]
    centres: np.ndarray


@dataclass(frozen=True)
class Clusters:
    """The final clusters of a model.

    Attributes:
        names: id -> name.
        of_base: the head's cluster -> final id, or -1 where it is excluded.
        splits: the head's cluster -> how it is split; these win over `of_base`.
        centres: id -> (d,) float32 unit mean embedding of the training images.
        fences: id -> cosine distance above which an image is an outlier.
        means: what novelty and doubt are measured by.
        tree: over the clusters that have images.
        edits: that were applied since.
    """

    names: dict[int, str]
    of_base: tuple[int, ...]
    splits: dict[int, Split]
    centres: dict[int, np.ndarray]
    fences: dict[int, float]
    means: Means
    tree: levels.Tree = ()
    edits: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def fit(cls, p: np.ndarray, h: np.ndarray, names: Sequence[str] | None = None) -> "Clusters":
        """The head's own clusters, measured on the training images.

        Args:
            p: (N, K) probabilities. h: (N, d) embeddings. names: K; default "cluster 3".
        """
        K, cluster = p.shape[1], p.argmax(axis=1)
        fitted = cls(
            names={k: names[k] if names else f"cluster {k}" for k in range(K)},
            of_base=tuple(range(K)),
            splits={},
            centres={},
            fences={},
            means=Means.fit(h, cluster),
        ).measured(h, cluster)
        return replace(fitted, tree=levels.grown(fitted.centres))

    def measured(self, h: np.ndarray, cluster: np.ndarray) -> "Clusters":
        """These clusters with centres and fences of the images assigned to them.

        Args:
            h: (N, d) embeddings. cluster: (N,) final ids, -1 for none.
        """
        unit = _unit(h)
        centres, fences = {}, {}
        for k in self.names:
            members = unit[cluster == k]
            if not len(members):
                continue
            centres[k] = _unit(members.mean(axis=0, keepdims=True))[0]
            away = 1 - members @ centres[k]
            low, high = np.quantile(away, [0.25, 0.75])
            fences[k] = float(high + 1.5 * (high - low))
        return replace(self, centres=centres, fences=fences)

    @property
    def ids(self) -> list[int]:
        """The final ids, ascending."""
        return sorted(self.names)

    def apply(self, p: np.ndarray, h: np.ndarray, base: np.ndarray | None = None) -> Applied:
        """Assigns images: each goes where the head's cluster of it went.

        So a merge moves no image of a third cluster, even where the probabilities of the merged
        ones add up to more than its own; confidence and second choice are by these sums.

        Args:
            p: (N, K) probabilities of the head. h: (N, d) embeddings.
            base: (N,) the head's cluster of each image, where it was kept: `p` may have been
                rounded since.

        Raises:
            VtccError: when the head has another number of clusters, or embeddings another length.
        """
        if p.shape[1] != len(self.of_base):
            raise VtccError(
                f"{FILE} is of a model with {len(self.of_base)} clusters, this one has "
                f"{p.shape[1]}; they do not belong together"
            )
        if h.shape[1] != self.means.means.shape[1]:
            raise VtccError(
                f"{ARRAYS} is of embeddings of {self.means.means.shape[1]} numbers, these have "
                f"{h.shape[1]}; they do not belong together"
            )
        base = p.argmax(axis=1) if base is None else base
        row_bytes = 24 * (len(self.names) + 1) + 24 * h.shape[1]
        blocks = list(row_blocks(len(p), row_bytes)) or [slice(0)]
        parts = [self._applied(p[rows], h[rows], base[rows]) for rows in blocks]
        arrays = [f.name for f in fields(Applied) if f.name not in ("names", "groups")]
        whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        return Applied(names=self.names, groups=levels.of(self.tree), **whole)

    def _applied(self, p: np.ndarray, h: np.ndarray, base: np.ndarray) -> Applied:
        """`apply` of some rows, of which there may be none."""
        unit, ids = _unit(h), self.ids
        column = {k: i for i, k in enumerate(ids)} | {EXCLUDED: len(ids)}
        mass = np.zeros((len(p), len(ids) + 1), np.float64)
        own, every = np.zeros(len(p), np.int64), np.arange(len(p))
        for i, k in enumerate(self.of_base):
            where = np.full(len(p), column[k])
            if i in self.splits:
                where = np.array([column[j] for j in self.splits[i].ids])[self._part(i, unit)]
            mass[every, where] += p[:, i]
            own[base == i] = where[base == i]
        confidence = mass[every, own]
        ranked = -mass
        ranked[every, own] = -np.inf  # the first choice, whatever the sums
        order = np.argsort(ranked, axis=1, kind="stable")
        number = np.array([*ids, EXCLUDED])
        cluster = number[order[:, 0]]
        second = number[_second(order, len(ids))] if len(ids) > 1 else np.full(len(p), -1)
        away = self.means.distances(h)
        if self.means.unclustered:
            nowhere = self.means.doubt(away, cluster) > self.means.limit
            second[nowhere], cluster[nowhere] = cluster[nowhere], UNCLUSTERED
        distance = self.distances(h, cluster)
        novelty = away.min(axis=1) / self.means.threshold
        return Applied(
            cluster=cluster.astype(np.int64),
            confidence=confidence.clip(0, 1).astype(np.float32),
            second=second.astype(np.int64),
            distance=distance,
            outlier=outlying(distance, cluster, self.fences),
            novel=novelty > 1,
            novelty=novelty.astype(np.float32),
            names=self.names,
            shares=mass[:, : len(ids)].astype(np.float32),
        )

    def placed(self, base: np.ndarray, h: np.ndarray) -> np.ndarray:
        """(N,) final ids of images by the head's clusters of them, whatever their doubt.

        Args:
            base: (N,) the head's clusters. h: (N, d) embeddings.
        """
        ids: np.ndarray = np.array(self.of_base)[base]
        for i, split in self.splits.items():
            of = np.flatnonzero(base == i)
            ids[of] = np.array(split.ids)[self._part(i, _unit(h[of]))]
        return ids

    def _part(self, base: int, unit: np.ndarray) -> np.ndarray:
        """(N,) the parts of a split cluster of the head that (N, d) unit rows are nearest to."""
        part: np.ndarray = (unit @ self.splits[base].centres.T).argmax(axis=1)
        return part

    def distances(self, h: np.ndarray, cluster: np.ndarray) -> np.ndarray:
        """(N,) float32 cosine distances to the centres of the given clusters; NaN without one."""
        unit = _unit(h)
        found = np.full(len(h), np.nan, np.float32)
        for k, centre in self.centres.items():
            of = cluster == k
            found[of] = 1 - unit[of] @ centre
        return found

    def write(self, directory: Path) -> None:
        """Writes both files, each in one step."""
        from vtcc.grouping import clusters_file

        clusters_file.write(self, directory)

    @classmethod
    def load(cls, directory: Path) -> "Clusters | None":
        """What `write` wrote; None where there is nothing.

        Raises:
            VtccError: when the files are damaged or do not belong together.
        """
        from vtcc.grouping import clusters_file

        return clusters_file.read(directory) if (directory / FILE).exists() else None


def _second(order: np.ndarray, excluded: int) -> np.ndarray:
    """The second best of three columns or more that is not the excluded one."""
    return np.where(order[:, 1] != excluded, order[:, 1], order[:, 2])


def _unit(h: np.ndarray) -> np.ndarray:
    return unit_rows(np.asarray(h, np.float32))
