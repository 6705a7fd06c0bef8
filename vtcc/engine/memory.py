"""How much memory a training step takes, measured at small batches, and how much there is."""

import weakref
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vtcc.errors import VtccError

# The contrast of 2B rows holds about three (2B, 2B) fp32 matrices at once: not linear in B.
PER_PAIR = 3 * 4 * 4
# Scratch space of kernels and what the allocator cannot hand out again, over the tensors.
MARGIN = 1.1


class Tracker(TorchDispatchMode):
    """Counts the bytes of all tensors alive while it is on, and their peak.

    Attributes:
        live: bytes now. peak: the highest `live` so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # torch's protocol
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self.add(value)
        return out

    def add(self, tensor: Tensor) -> None:
        """Counts what is alive already; a storage counts once, and until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return

        def freed(_: object) -> None:
            self._seen.pop(key, None)
            self.live -= size

        self._seen[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)

    def add_module(self, module: nn.Module) -> None:
        """Counts parameters and buffers."""
        for tensor in (*module.parameters(), *module.buffers()):
            self.add(tensor)


@dataclass(frozen=True)
class Footprint:
    """Bytes of a step: `fixed`, `per_image` of the batch, and the losses' share, quadratic."""

    fixed: float
    per_image: float

    @classmethod
    def through(cls, small: tuple[int, int], large: tuple[int, int]) -> "Footprint":
        """The line through two measured (batch size, peak bytes)."""
        (b, low), (B, high) = ((n, peak - PER_PAIR * n * n) for n, peak in (small, large))
        per_image = max((high - low) / (B - b), 0.0)
        return cls(low - b * per_image, per_image)

    def bytes(self, batch: int) -> int:
        """Of a step with `batch` images, margin included."""
        tensors = self.fixed + batch * self.per_image + PER_PAIR * batch * batch
        return round(MARGIN * tensors)

    def largest(self, available: int) -> int:
        """The largest batch that fits in `available` bytes; 0 when none does."""
        return max(bisect_right(range(2**24), available, key=self.bytes) - 1, 0)

    def refuse(self, batch: int, available: int, device: str) -> None:
        """Raises VtccError for a batch that does not fit in `available` bytes."""
        needed = self.bytes(batch)
        if needed <= available:
            return
        largest = self.largest(available)
        way = (
            f"use at most {largest}"
            if largest >= 2
            else "no batch fits: a smaller train.image_size or train.model is needed"
        )
        where = "of GPU memory is" if device == "cuda" else "of memory is"
        raise VtccError(
            f"train.batch_size: a step with {batch} images needs about {readable(needed)}, but "
            f"{readable(available)} {where} free here; {way}"
        )


def readable(size: float) -> str:
    """`1536` -> `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def available_memory(device: str) -> int:
    """Bytes that a training may still take: free on the GPU, else here within any cgroup."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        # What torch holds without using it is free for a training as well.
        return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    import psutil

    return min(int(psutil.virtual_memory().available), cgroup_room())


def cgroup_room(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes left below the limit of this process's control group, 2**63 - 1 without one."""
    room = 2**63 - 1
    for directory, limit, used in (
        *((d, "memory.max", "memory.current") for d in _own(root)),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            most = int((directory / limit).read_text())
            held = int((directory / used).read_text())
            lines = (directory / "memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
        # File pages count as used, and are given up when memory is asked for.
        cached = {k: int(v) for k, v in (line.split()[:2] for line in lines)}
        room = min(room, max(most - held + cached.get("inactive_file", 0), 0))
    return room


def _own(root: Path) -> list[Path]:
    """This process's group and those around it; in a container that is the root alone."""
    try:
        named = Path("/proc/self/cgroup").read_text()
    except OSError:
        return [root]
    at = next((x[3:].strip("/") for x in named.splitlines() if x.startswith("0::")), "")
    own = root / at
    return [d for d in (own, *own.parents) if d == root or root in d.parents]
