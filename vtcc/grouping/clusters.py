"""How a model's clusters become the ones people see: names, merges, splits, flags.

`decide` is the one answer to what cluster an image is in, for every reader of a model: the
command line, Ray, the HTTP API, MLflow's pyfunc, `vtcc assess`, the estimator.

A model that `vtcc cluster` made has `clusters.json` and `clusters.safetensors` beside its
weights; `vtcc refine` rewrites them, the weights stay. A model without them speaks of its head's
clusters by number. numpy only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc import json_file
from vtcc.analysis.features import row_blocks, unit_rows
from vtcc.errors import VtccError

if TYPE_CHECKING:
    from vtcc.engine.predict import Prediction, Predictor

FILE, ARRAYS = "clusters.json", "clusters.safetensors"
FORMAT = 1
EXCLUDED, EXCLUDED_NAME = -1, "excluded"
NOVEL = 0.99  # share of the training images below the threshold of novelty
RIDGE = 0.01  # of the covariance's mean variance, added so that it can be inverted


@dataclass(frozen=True)
class Applied:
    """What the clusters say of N images.

    Attributes:
        cluster: (N,) int64 ids, -1 for images of excluded clusters.
        confidence: (N,) float32, the probability of that cluster, 0-1.
        second: (N,) int64, the next most probable id; -1 where there is none.
        distance: (N,) float32, cosine distance of the embedding to the cluster's centre, 0-2.
        outlier: (N,) bool, farther from the centre than Tukey's fence of the cluster.
        novel: (N,) bool, unlike anything seen in training.
        novelty: (N,) float32, what decides it: the Mahalanobis distance to the nearest centre over
            the largest one that is not novel, so that novel images have more than 1.
        names: id -> name, of all clusters, empty ones too.
        shares: (N, K) float32, the probability of each id of `names`, ascending; what goes to
            excluded clusters is in none.
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

    def name(self, row: int) -> str:
        """The name of an image's cluster."""
        return self.names.get(int(self.cluster[row]), EXCLUDED_NAME)


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
        means: (m, d) float32, mean embeddings for novelty, one per trained cluster.
        precision: (d, d) float32, the inverse of their shared covariance.
        threshold: Mahalanobis distance above which an image is novel.
    """

    names: dict[int, str]
    of_base: tuple[int, ...]
    splits: dict[int, Split]
    centres: dict[int, np.ndarray]
    fences: dict[int, float]
    means: np.ndarray
    precision: np.ndarray
    threshold: float
    edits: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def fit(cls, p: np.ndarray, h: np.ndarray, names: Sequence[str] | None = None) -> "Clusters":
        """The head's own clusters, measured on the training images.

        Args:
            p: (N, K) probabilities. h: (N, d) embeddings. names: K; default "cluster 3".
        """
        K, cluster = p.shape[1], p.argmax(axis=1)
        used = np.unique(cluster)
        means = np.stack([h[cluster == k].mean(axis=0) for k in used]).astype(np.float64)
        rest = h - means[np.searchsorted(used, cluster)]
        covariance = rest.T @ rest / max(len(rest) - len(used), 1)
        ridge = max(RIDGE * float(np.trace(covariance)) / len(covariance), 1e-12)
        precision = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
        found = cls(
            names={k: names[k] if names else f"cluster {k}" for k in range(K)},
            of_base=tuple(range(K)),
            splits={},
            centres={},
            fences={},
            means=means.astype(np.float32),
            precision=precision.astype(np.float32),
            threshold=np.inf,
        )
        threshold = max(float(np.quantile(found._novelty(h), NOVEL)), 1e-9)
        return replace(found, threshold=threshold).measured(h, cluster)

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
            VtccError: when the head has another number of clusters.
        """
        if p.shape[1] != len(self.of_base):
            raise VtccError(
                f"{FILE} is of a model with {len(self.of_base)} clusters, this one has "
                f"{p.shape[1]}; they do not belong together"
            )
        base = p.argmax(axis=1) if base is None else base
        row_bytes = 24 * (len(self.names) + 1) + 24 * h.shape[1]
        blocks = list(row_blocks(len(p), row_bytes)) or [slice(0)]
        parts = [self._applied(p[rows], h[rows], base[rows]) for rows in blocks]
        arrays = [f.name for f in fields(Applied) if f.name != "names"]
        whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        return Applied(names=self.names, **whole)

    def _applied(self, p: np.ndarray, h: np.ndarray, base: np.ndarray) -> Applied:
        """`apply` of some rows, of which there may be none."""
        unit, ids = _unit(h), self.ids
        column = {k: i for i, k in enumerate(ids)} | {EXCLUDED: len(ids)}
        mass = np.zeros((len(p), len(ids) + 1), np.float64)
        own, every = np.zeros(len(p), np.int64), np.arange(len(p))
        for i, k in enumerate(self.of_base):
            if i in self.splits:
                split = self.splits[i]
                nearest = (unit @ split.centres.T).argmax(axis=1)
                where = np.array([column[j] for j in split.ids])[nearest]
            else:
                where = np.full(len(p), column[k])
            mass[every, where] += p[:, i]
            own[base == i] = where[base == i]
        confidence = mass[every, own]
        ranked = -mass
        ranked[every, own] = -np.inf  # the first choice, whatever the sums
        order = np.argsort(ranked, axis=1, kind="stable")
        number = np.array([*ids, EXCLUDED])
        cluster = number[order[:, 0]]
        second = number[_second(order, len(ids))] if len(ids) > 1 else np.full(len(p), -1)
        distance = self.distances(h, cluster)
        fence = np.array([self.fences.get(int(k), np.inf) for k in cluster])
        novelty = self._novelty(h) / self.threshold
        return Applied(
            cluster=cluster.astype(np.int64),
            confidence=confidence.clip(0, 1).astype(np.float32),
            second=second.astype(np.int64),
            distance=distance,
            outlier=distance > fence,
            novel=novelty > 1,
            novelty=novelty.astype(np.float32),
            names=self.names,
            shares=mass[:, : len(ids)].astype(np.float32),
        )

    def distances(self, h: np.ndarray, cluster: np.ndarray) -> np.ndarray:
        """(N,) float32 cosine distances to the centres of the given clusters; NaN without one."""
        unit = _unit(h)
        found = np.full(len(h), np.nan, np.float32)
        for k, centre in self.centres.items():
            of = cluster == k
            found[of] = 1 - unit[of] @ centre
        return found

    def _novelty(self, h: np.ndarray) -> np.ndarray:
        """(N,) Mahalanobis distance to the nearest mean, with one covariance for all."""
        away = np.full(len(h), np.inf)
        for mean in self.means:
            gap = h.astype(np.float64) - mean
            away = np.minimum(away, np.einsum("nd,nd->n", gap @ self.precision, gap))
        distance: np.ndarray = np.sqrt(away.clip(0))
        return distance

    def write(self, directory: Path) -> None:
        """Writes both files, each in one step."""
        from safetensors.numpy import save

        from vtcc.atomic import atomic_file, write_text

        arrays = {"means": self.means, "precision": self.precision}
        arrays |= {f"centre.{k}": v.astype(np.float32) for k, v in self.centres.items()}
        arrays |= {f"split.{b}": s.centres.astype(np.float32) for b, s in self.splits.items()}
        with atomic_file(directory / ARRAYS) as building:
            building.write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        said = {
            "format": FORMAT,
            "names": {str(k): self.names[k] for k in self.ids},
            "of_base": [None if k == EXCLUDED else k for k in self.of_base],
            "splits": {str(b): list(s.ids) for b, s in sorted(self.splits.items())},
            "outlier": {str(k): round(v, 6) for k, v in sorted(self.fences.items())},
            "novelty": {
                "kind": "Mahalanobis distance to the nearest mean",
                "threshold": self.threshold,
                "training_images_below": NOVEL,
            },
            "edits": self.edits,
        }
        write_text(directory / FILE, json.dumps(said, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "Clusters | None":
        """What `write` wrote; None where there is nothing.

        Raises:
            VtccError: when the files are damaged or do not belong together.
        """
        from safetensors.numpy import load

        if not (directory / FILE).exists():
            return None
        try:
            said = json_file.parse((directory / FILE).read_text(encoding="utf-8"))
            if said["format"] != FORMAT:
                raise VtccError(
                    f"{directory / FILE}: format {said['format']}, and this vtcc reads {FORMAT}; "
                    "use the vtcc that wrote it"
                )
            arrays = load((directory / ARRAYS).read_bytes())
            names = {int(k): str(v) for k, v in said["names"].items()}
            found = cls(
                names=names,
                of_base=tuple(EXCLUDED if k is None else int(k) for k in said["of_base"]),
                splits={
                    int(b): Split(tuple(map(int, ids)), arrays[f"split.{b}"])
                    for b, ids in said["splits"].items()
                },
                centres={k: arrays[f"centre.{k}"] for k in names if f"centre.{k}" in arrays},
                fences={int(k): float(v) for k, v in said["outlier"].items()},
                means=arrays["means"],
                precision=arrays["precision"],
                threshold=float(said["novelty"]["threshold"]),
                edits=list(said.get("edits", [])),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise VtccError(
                f"{directory}: {FILE} or {ARRAYS} is damaged ({type(error).__name__}: {error}); "
                "make the model again, or delete both to use it without names"
            ) from None
        except Exception as error:  # safetensors has an error of its own
            if isinstance(error, VtccError):
                raise
            raise VtccError(f"{directory / ARRAYS}: cannot be read ({error})") from None
        mentioned = {k for k in found.of_base if k != EXCLUDED}
        for split in found.splits.values():
            mentioned |= set(split.ids) - {EXCLUDED}
        if unknown := mentioned - set(names):
            raise VtccError(f"{directory / FILE}: cluster {min(unknown)} has no name")
        return found


def _second(order: np.ndarray, excluded: int) -> np.ndarray:
    """The second best column that is not the excluded one."""
    return np.where(order[:, 1] != excluded, order[:, 1], order[:, 2 if order.shape[1] > 2 else 0])


def _unit(h: np.ndarray) -> np.ndarray:
    return unit_rows(np.asarray(h, np.float32))
