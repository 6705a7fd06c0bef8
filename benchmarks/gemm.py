"""The matrix products of a step, alone: how fast this machine does them at their own shapes."""

import functools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import wait

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
Key = tuple[str, tuple[tuple[tuple[int, ...], tuple[int, ...], torch.dtype], ...]]


class _Recorder(TorchDispatchMode):
    """Counts matrix products by name, shapes, strides and dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Key] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            key = tuple((tuple(a.shape), a.stride(), a.dtype) for a in tensors)
            self.found[name, key] += 1
        return func(*args, **(kwargs or {}))


def recorded(step: Callable[[], Any]) -> tuple[Counter[Key], int]:
    """The products of one step, and the floating-point operations of all of it.

    An operation is an addition or a multiplication; convolutions and fused attention count in
    the second figure, which is torch's own.
    """
    recorder, flops = _Recorder(), FlopCounterMode(display=False)
    with flops, recorder:
        step()
    return recorder.found, flops.get_total_flops()


def ceiling(products: Counter[Key], device: str, seconds: float = 0.2) -> tuple[float, float]:
    """FLOP per second of these products alone, and the seconds that they take in a step.

    Args:
        products: from `recorded`. device: to run on. seconds: per distinct product, at least.
    """
    total, flops = 0.0, 0
    for (name, key), count in products.items():
        operands = [_like(shape, stride, dtype, device) for shape, stride, dtype in key]
        call = functools.partial(getattr(torch, name), *operands)
        for _ in range(2):
            call()
        total += count * _least(call, seconds)
        flops += count * _flops(key)
    return flops / total, total


def _least(call: Callable[[], Any], seconds: float) -> float:
    """The least time of one call."""
    began, least = time.perf_counter(), float("inf")
    while time.perf_counter() - began < seconds:
        wait()
        start = time.perf_counter()
        call()
        wait()
        least = min(least, time.perf_counter() - start)
    return least


def _like(
    shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: str
) -> torch.Tensor:
    size = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    return torch.randn(size, device=device).to(dtype).as_strided(shape, stride)


def _flops(key: tuple[Any, ...]) -> int:
    """2 m k n, times the batch; a bias does not count."""
    (*batch, m, k), (*_, n) = key[-2][0], key[-1][0]
    return 2 * m * k * n * (batch[0] if batch else 1)
