"""Watches a training for collapse, without labels: what is seen, the likely cause, the remedy.

Thresholds are far from what healthy trainings showed (digits, imbalanced digits, UC-Merced and
the ablations of both, see docs/plan.md) and close to what trainings showed that had collapsed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vtcc.config import Train

GRACE_STEPS = 100  # after the warm-up: before, an untrained model looks collapsed
PATIENCE = 3  # epochs in a row that must show it
WORSE = 0.2  # by which the level (0-1) must rise for the same warning to come again

Figures = Mapping[str, float]


@torch.no_grad()
def spread_and_agreement(u_a: Tensor, u_b: Tensor) -> Tensor:
    """How far images lie apart, and how near the two views of an image lie.

    Args:
        u_a: (N, D) float, N >= 2, the first views. u_b: (N, D), the second views.

    Returns:
        (2,) float32: 1 - the mean cosine between different images of `u_a` (0 when all are the
        same, 1 when they point everywhere), and the mean cosine between the views of an image.
    """
    N = len(u_a)
    a, b = F.normalize(u_a.float(), dim=1), F.normalize(u_b.float(), dim=1)
    # |sum of unit rows|^2 is the sum of all cosines, N of which are of a row with itself.
    others = (a.sum(dim=0).square().sum() - N) / (N * (N - 1))
    return torch.stack([1 - others, (a * b).sum(dim=1).mean()])


@dataclass(frozen=True)
class Warned:
    """One warning.

    Attributes:
        kind: embedding, chance, undecided, balance, clusters, agreement or rising.
        epoch: from 1.
        collapsed: the state is not worth training on; `train.collapse: abort` stops here.
        text: what is seen, the likely cause and what to do.
    """

    kind: str
    epoch: int
    collapsed: bool
    text: str

    def __str__(self) -> str:
        return f"warning, epoch {self.epoch}: {self.text}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for reports."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    level: float  # 0-1, how bad
    collapsed: bool
    what: str


class Guard:
    """Remembers the epochs of one training and warns once per kind, again when it gets worse.

    A function of the curves alone: a resume shows it the rows of the checkpoint once more.

    Args:
        params: the `train` section.
        steps_per_epoch: of this training.

    Attributes:
        params: the `train` section, whose epochs a deadline may shorten.
        remedies: whether people chose these parameters, so that they can change them; otherwise
            only a collapse is told, without what to do.
        warnings: all so far.
        collapsed: what the last epoch showed of a collapse, or None while there is none.
    """

    def __init__(self, params: Train, steps_per_epoch: int):
        self.params, self._steps_per_epoch = params, steps_per_epoch
        self.remedies = True
        self._rows: list[Figures] = []
        self._streak: dict[str, int] = {}
        self._level: dict[str, float] = {}
        self.collapsed: str | None = None
        self.warnings: list[Warned] = []

    def watch(self, figures: Figures) -> list[Warned]:
        """Takes the figures of the next epoch and returns new warnings.

        Args:
            figures: a row of the curves; what is nan or missing is not judged.
        """
        self._rows.append(figures)
        epoch, params = len(self._rows), self.params
        warmup = round(params.optimizer.warmup * self._steps_per_epoch * params.epochs)
        early = epoch * self._steps_per_epoch < warmup + GRACE_STEPS
        lasting: dict[str, _Seen] = {}
        for kind, check in _CHECKS.items():
            seen = None if early else check(params, self._rows)
            self._streak[kind] = self._streak.get(kind, 0) + 1 if seen else 0
            if seen and self._streak[kind] >= PATIENCE:
                lasting[kind] = seen
        # One collapse shows in many figures: the first of its kinds is the nearest to the cause.
        first = sorted(
            (k for k in lasting if k in _COLLAPSE), key=lambda k: not lasting[k].collapsed
        )
        kinds = [*first[:1], *(k for k in lasting if k not in _COLLAPSE)]
        new: list[Warned] = []
        self.collapsed = None
        for kind in kinds:
            seen = lasting[kind]
            text = seen.what
            if self.remedies:
                text += f". {_REMEDIES[kind](params, epoch > params.epochs)}"
            elif not seen.collapsed:
                continue
            if seen.collapsed:
                self.collapsed = text
            if seen.level >= self._level.get(kind, -math.inf) + WORSE:
                self._level[kind] = seen.level
                new.append(Warned(kind, epoch, seen.collapsed, text))
        self.warnings += new
        return new


def _known(row: Figures, *names: str) -> bool:
    return all(not math.isnan(row.get(name, math.nan)) for name in names)


def _contrasting(params: Train, rows: list[Figures]) -> bool:
    return len(rows) <= params.epochs


def _clusters(params: Train, rows: list[Figures]) -> _Seen | None:
    if not _known(rows[-1], "clusters_used"):
        return None
    K, used = params.num_clusters, round(rows[-1]["clusters_used"])
    if used == K:
        return None
    return _Seen(
        1 - used / K,
        used == 1 or used <= K / 4,
        f"{used} of {K} clusters in use, the others are empty",
    )


def _balance(params: Train, rows: list[Figures]) -> _Seen | None:
    row = rows[-1]
    if not _known(row, "largest_cluster", "entropy"):
        return None
    K, sizes = params.num_clusters, params.loss.prior_sizes
    shares = [s / sum(sizes) for s in sizes] or [1 / K] * K
    expected = -sum(s * math.log(s) for s in shares) / math.log(K)
    largest, entropy = row["largest_cluster"], row["entropy"]
    if entropy >= 0.7 * expected and largest < max(0.5, 1.5 * max(shares)):
        return None
    return _Seen(
        max(largest, 1 - entropy / expected),
        largest > max(0.9, (1 + max(shares)) / 2) or entropy < 0.3 * expected,
        f"one cluster holds {largest:.0%} of the images, the entropy of the assignments is "
        f"{entropy:.2f} of {expected:.2f}",
    )


def _undecided(params: Train, rows: list[Figures]) -> _Seen | None:
    if not _known(rows[-1], "confidence") or not _contrasting(params, rows):
        return None
    least, confidence = 1 / params.num_clusters, rows[-1]["confidence"]
    if confidence - least > 0.05 * (1 - least):
        return None
    return _Seen(
        1,
        True,
        f"every image gets all clusters alike: confidence {confidence:.3f} of 1/K {least:.3f}",
    )


def _embedding(params: Train, rows: list[Figures]) -> _Seen | None:
    if not _known(rows[-1], "spread"):
        return None
    # Without instance features it is taken from the encoder, whose images always lie close.
    least = 0.05 if params.model.projectors != "cluster" else 0.001
    spread = rows[-1]["spread"]
    if spread > least:
        return None
    return _Seen(1, True, f"all images have nearly the same embedding: spread {spread:.4f} of 1")


def _chance(params: Train, rows: list[Figures]) -> _Seen | None:
    if params.model.projectors == "cluster" or not _contrasting(params, rows):
        return None
    chance, loss = math.log(2 * params.batch_size - 1), rows[-1]["instance_loss"]
    if loss < 0.998 * chance:
        return None
    return _Seen(
        1, True, f"images are not told apart: instance loss {loss:.2f}, by chance {chance:.2f}"
    )


def _agreement(params: Train, rows: list[Figures]) -> _Seen | None:
    if not _known(rows[-1], "agreement") or not _contrasting(params, rows):
        return None
    agreement, spread = rows[-1]["agreement"], rows[-1]["spread"]
    # Where all images are the same, so are the views: that is told by `embedding`.
    if params.model.projectors == "cluster" or agreement < 0.98 or spread < 0.5:
        return None
    return _Seen(
        1, False, f"the two views of an image are nearly the same: agreement {agreement:.3f} of 1"
    )


def _rising(params: Train, rows: list[Figures]) -> _Seen | None:
    if not _contrasting(params, rows) or len(rows) < 2 * PATIENCE:
        return None
    losses = [row["instance_loss"] + row["cluster_loss"] for row in rows]
    first, best, now = losses[0], min(losses), losses[-1]
    # Of what had been won; a loss that never fell is told by `chance` and `undecided`.
    if first - best < 0.05 * abs(first) or now < best + 0.3 * (first - best):
        return None
    at = losses.index(best) + 1
    return _Seen(
        min((now - best) / (first - best), 1),
        False,
        f"the loss rises: {now:.3f}, from {best:.3f} at epoch {at}",
    )


def _of_clusters(params: Train, second: bool) -> str:
    loss = params.loss
    if second:
        return (
            "Likely cause: self-labelling strengthens large clusters; raise "
            "train.self_label.threshold, lower its learning_rate or epochs"
        )
    if loss.entropy_weight < 0.5:
        return (
            f"Likely cause: train.loss.entropy_weight is {loss.entropy_weight:g}, so that little "
            "keeps clusters from emptying; set it to 1"
        )
    if loss.prior == "estimated":
        return (
            "Likely cause: train.loss.prior: estimated lets small clusters shrink; set "
            "train.loss.prior: uniform, or lower train.num_clusters if the images hold fewer kinds"
        )
    if params.num_clusters > params.batch_size / 4:
        return (
            f"Likely cause: K = {params.num_clusters} is large for batches of "
            f"{params.batch_size}; raise train.batch_size or lower train.num_clusters"
        )
    return (
        f"Likely cause: K = {params.num_clusters} is more than the images hold, or steps are too "
        f"large; lower train.num_clusters or train.optimizer.learning_rate, or raise "
        f"train.loss.entropy_weight above {loss.entropy_weight:g}"
    )


def _of_steps(params: Train, second: bool) -> str:
    optimizer = params.optimizer
    return (
        f"Likely cause: steps too large, or views that have nothing in common; lower "
        f"train.optimizer.learning_rate ({optimizer.learning_rate:g}) or lengthen its warmup "
        f"({optimizer.warmup:g}), then try a milder augmentation (vtcc augment-preview)"
    )


def _of_views(params: Train, second: bool) -> str:
    return (
        "Likely cause: the augmentation changes too little, so that clusters may follow "
        "brightness or position; look at vtcc augment-preview and choose a stronger preset "
        "(vtcc presets)"
    )


_CHECKS: dict[str, Callable[[Train, list[Figures]], _Seen | None]] = {
    "embedding": _embedding,
    "chance": _chance,
    "undecided": _undecided,
    "balance": _balance,
    "clusters": _clusters,
    "agreement": _agreement,
    "rising": _rising,
}
_COLLAPSE = ("embedding", "chance", "undecided", "balance", "clusters")
_REMEDIES: dict[str, Callable[[Train, bool], str]] = {
    "embedding": _of_steps,
    "chance": _of_steps,
    "undecided": _of_steps,
    "balance": _of_clusters,
    "clusters": _of_clusters,
    "agreement": _of_views,
    "rising": _of_steps,
}
