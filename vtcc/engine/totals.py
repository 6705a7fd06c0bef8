"""What an epoch adds up to, and how long the rest will take."""

import math
import time
from dataclasses import dataclass

import torch

from vtcc.config import Train

_OF_CLUSTERS = ("entropy", "smallest_cluster", "confidence", "clusters_used", "largest_cluster")


def cluster_heads(params: Train) -> int:
    """Cluster projectors that are trained: none where only instances are contrasted."""
    return 0 if params.model.projectors == "instance" else params.model.num_cluster_heads


@dataclass
class Totals:
    """Sums over the steps of an epoch, per cluster head."""

    steps: int
    instance: torch.Tensor  # ()
    cluster: torch.Tensor  # (heads,)
    mass: torch.Tensor  # (heads, K) sum of batch-mean assignments
    counts: torch.Tensor  # (heads, K) images by argmax
    confidence: torch.Tensor  # (heads,)
    health: torch.Tensor  # (2,) spread and agreement; nan where a step does not know them

    @classmethod
    def zero(cls, params: Train) -> "Totals":
        """An epoch that has not begun."""
        heads, K = cluster_heads(params), params.num_clusters
        zeros = torch.zeros
        of_heads = zeros(heads), zeros(heads, K), zeros(heads, K), zeros(heads)
        return cls(0, zeros(()), *of_heads, zeros(2))

    def add(
        self,
        instance: torch.Tensor,
        cluster: torch.Tensor,
        p: torch.Tensor,
        health: torch.Tensor | None = None,
    ) -> None:
        """Adds a step: its losses, (heads,) for clusters, p (heads, N, K) and health (2,)."""
        self.steps += 1
        self.instance = self.instance.to(p.device) + instance
        self.health = self.health.to(p.device) + (math.nan if health is None else health)
        if not len(p):
            return
        K = p.shape[2]
        top, arg = p.max(dim=2)
        self.cluster = self.cluster.to(p.device) + cluster
        self.mass = self.mass.to(p.device) + p.mean(dim=1)
        hits = torch.nn.functional.one_hot(arg, K).sum(dim=1)
        self.counts = self.counts.to(p.device) + hits
        self.confidence = self.confidence.to(p.device) + top.mean(dim=1)

    def shares(self) -> torch.Tensor:
        """(heads, K): the share of images that each cluster was the first choice of."""
        return self.counts / self.counts.sum(dim=1, keepdim=True)

    def figures(self) -> dict[str, float]:
        """Label-free figures of the epoch; of the head with the lowest cluster loss so far.

        Without cluster heads their loss is exactly 0 and what they would assign is nan.
        """
        instance = float(self.instance / self.steps)
        spread, agreement = (self.health / self.steps).tolist()
        health = {"spread": spread, "agreement": agreement}
        if not len(self.cluster):
            unknown = dict.fromkeys(_OF_CLUSTERS, math.nan)
            return {"instance_loss": instance, "cluster_loss": 0.0, **unknown, **health}
        head = int(self.cluster.nan_to_num(math.inf).argmin())
        mean = self.mass[head] / self.steps
        counts = self.counts[head]
        return {
            "instance_loss": instance,
            "cluster_loss": float(self.cluster[head] / self.steps),
            "entropy": float(-torch.xlogy(mean, mean).sum() / math.log(len(mean))),
            "smallest_cluster": float(counts.min() / counts.sum()),
            "confidence": float(self.confidence[head] / self.steps),
            "clusters_used": int((counts > 0).sum()),
            "largest_cluster": float(counts.max() / counts.sum()),
            **health,
        }


class Clock:
    """Steps per second, and the time that the steps left will take."""

    def __init__(self, steps_left: int):
        self._left, self._done, self._start = steps_left, 0, time.monotonic()

    def tick(self) -> None:
        """A step is done."""
        self._done += 1
        self._left -= 1

    def shorten(self, steps_left: int) -> None:
        """There are fewer steps left than was planned."""
        self._left = steps_left

    def rate(self) -> float:
        """Steps per second since the start."""
        return self._done / max(time.monotonic() - self._start, 1e-9)

    def left(self) -> float:
        """Seconds until the end."""
        return self._left / self.rate()
