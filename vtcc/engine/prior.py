"""The cluster sizes that the entropy term pulls to, per cluster head.

Uniform, as in the paper, suits balanced images. With `given`, sizes are known but not which
cluster is which, so each head's clusters take them in the order of their present sizes. With
`estimated`, the prior follows the sizes that a head finds by itself: the term then only slows
clusters down as they grow or shrink, instead of forcing them to be equal.
"""

import torch
from torch import Tensor

from vtcc.config import Train
from vtcc.engine.totals import cluster_heads

MOMENTUM = 0.8  # of the estimate, per epoch
FLOOR = 0.1  # least share of a cluster, over 1/K: an empty cluster could never come back


class Prior:
    """Prior sizes, updated after every epoch from hard assignments, without labels.

    Attributes:
        params: the `train` section, whose epochs a deadline may shorten.
        sizes: (heads, K), rows sum to 1; None while uniform.
    """

    def __init__(self, params: Train):
        self.params = params
        self._given = None
        if params.loss.prior == "given":
            given = torch.tensor(params.loss.prior_sizes)
            self._given = (given / given.sum()).sort(descending=True).values
        self.sizes: Tensor | None = None

    def of(self, head: int) -> Tensor | None:
        """(K,) prior of one head, or None for uniform."""
        return None if self.sizes is None else self.sizes[head]

    def restart(self, heads: range) -> None:
        """Makes the prior of heads that begin afresh uniform until the next `update`.

        Clusters of a new head have nothing to do with those of the same number before.
        """
        if self.sizes is not None:
            self.sizes = self.sizes.clone()
            self.sizes[heads.start : heads.stop] = 1 / self.params.num_clusters

    def update(self, epoch: int, shares: Tensor) -> None:
        """After `epoch` (from 1) with (heads, K) shares of the images by first choice."""
        loss = self.params.loss
        if loss.prior == "uniform" or epoch < loss.prior_start * self.params.epochs:
            return
        heads, K = cluster_heads(self.params), self.params.num_clusters
        if self._given is not None:
            rank = shares.argsort(dim=1, descending=True)
            given = self._given.to(shares).expand(heads, K)
            self.sizes = torch.empty_like(given).scatter(1, rank, given)
            return
        before = torch.full((heads, K), 1 / K) if self.sizes is None else self.sizes
        sizes = MOMENTUM * before.to(shares) + (1 - MOMENTUM) * shares
        sizes = sizes.clamp(min=FLOOR / K)
        self.sizes = sizes / sizes.sum(dim=1, keepdim=True)
