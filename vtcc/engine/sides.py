"""Both views of a step beside each other: on a CPU, one thread of work for each.

The two passes of a step share weights and nothing else until the losses, and again after them.
Small operations gain little from a second thread inside each; a thread per view is busy all the
time. What is computed does not depend on how many threads do it: gradients of a weight are the
sum of two numbers, and each side has its own BatchNorm statistics, which are joined afterwards
in the order of the views.
"""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Sides(Generic[M]):
    """The two passes of a step, and the models they go through.

    Args:
        model: on the CPU; without random numbers of its own.
        threads: for both sides; with one, they take turns.

    Attributes:
        models: of the first and the second view. They share all weights; in train mode the second's
            BatchNorm layers hold the statistics of its last batch.
    """

    def __init__(self, model: M, threads: int):
        self.models = model, _twin(model)
        self._norms = [
            (own, other)
            for own, other in zip(*(m.modules() for m in self.models), strict=True)
            if isinstance(own, nn.modules.batchnorm._BatchNorm) and own.running_mean is not None
        ]
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1:
            # A thread of ours takes its own number of threads for the operations in it.
            each = max(1, threads // 2)
            self._pool = ThreadPoolExecutor(2, "side", torch.set_num_threads, (each,))

    def run(
        self, work: Callable[[int], T], meanwhile: Callable[[], object] | None = None
    ) -> tuple[T, T]:
        """`(work(0), work(1))`, at the same time where there are threads for it.

        Args:
            work: of a side. meanwhile: called here while the sides work, or after them.
        """
        if self._pool is None:
            done = work(0), work(1)
            if meanwhile:
                meanwhile()
            return done
        futures = [self._pool.submit(work, side) for side in (0, 1)]
        try:
            if meanwhile:
                meanwhile()
        finally:
            wait(futures)  # an error leaves no side at work on weights that others read
        first, second = futures
        return first.result(), second.result()

    @contextmanager
    def in_one_thread(self) -> Iterator[None]:
        """Inside, the sides take turns in the calling thread."""
        pool, self._pool = self._pool, None
        try:
            yield
        finally:
            self._pool = pool

    @torch.no_grad()
    def join_statistics(self) -> None:
        """Moves the model's running statistics by the second side's batch, after the first's.

        Where the second side's model is in eval mode it had none.
        """
        for own, other in self._norms:
            if not other.training:
                continue
            cast(Tensor, own.num_batches_tracked).add_(1)
            for name in ("running_mean", "running_var"):
                getattr(own, name).lerp_(getattr(other, name), own.momentum)

    @torch.no_grad()
    def share_statistics(self) -> None:
        """Gives the second side's model the running statistics of the first's."""
        for own, other in self._norms:
            for mine, theirs in zip(own.buffers(), other.buffers(), strict=True):
                theirs.copy_(mine)


class Open:
    """A side's outputs, cut off from its graph so that losses can be taken of both sides.

    Args:
        outputs: of a pass, with a graph.

    Attributes:
        leaves: the same values; what they get as gradients goes on into the graph by `close`.
    """

    def __init__(self, outputs: tuple[Tensor, ...]):
        self._outputs = outputs
        self.leaves = tuple(o.detach().requires_grad_(o.requires_grad) for o in outputs)

    def close(self) -> None:
        """The backward pass of this side, from the leaves' gradients."""
        pairs = zip(self._outputs, self.leaves, strict=True)
        reached = [(o, leaf.grad) for o, leaf in pairs if leaf.grad is not None]
        if reached:
            torch.autograd.backward([o for o, _ in reached], [g for _, g in reached])
        self._outputs = ()


def _twin(model: M) -> M:
    """The same weights (the very tensors), with buffers of its own."""
    twin = copy.deepcopy(model, {id(p): p for p in model.parameters()})
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # what it holds is its last batch's, whatever came before
    return twin
