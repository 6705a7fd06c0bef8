"""A training by several processes as one: shares of a batch, losses of the whole, one voice.

Every process computes the loss of the whole batch from the gathered rows and keeps the gradient
of its own rows, so that what a process computes for `z` and `p` is what one process alone would.
DistributedDataParallel averages the gradients of weights; `Team.backward` turns that into their
sum. With one process everything here is the identity and no process group exists.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vtcc.engine import cpus
from vtcc.engine.signals import Interrupted
from vtcc.errors import VtccError
from vtcc.process.launch import RENDEZVOUS, check_batch

T = TypeVar("T")

# Others wait while rank 0 scores candidates, or for a lock on the same training.
PATIENCE = timedelta(hours=2)
FAILED = "vtcc/failed"
GONE = "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed"


@dataclass(frozen=True)
class Team:
    """The processes of one training, seen from one of them.

    Attributes:
        rank: this process, from 0; rank 0 logs, scores and saves.
        world: how many there are.
        local_rank: this process on its machine, from 0: the number of its GPU.
        local_world: how many there are on its machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def main(self) -> bool:
        """Whether this process logs, scores and saves."""
        return self.rank == 0

    def described(self) -> str:
        """For the line that a training begins with; nothing where it is alone."""
        return f"{self.world} processes with each " if self.world > 1 else ""

    def shares(self, batch: int) -> list[int]:
        """How many of `batch` images each process takes; they differ by one at most."""
        return [batch // self.world + (rank < batch % self.world) for rank in range(self.world)]

    def share(self, batch: int) -> slice:
        """The rows of a batch that this process takes: consecutive, in the order of ranks."""
        shares = self.shares(batch)
        start = sum(shares[: self.rank])
        return slice(start, start + shares[self.rank])

    def check_fits(self, batch: int) -> None:
        """Raises VtccError where BatchNorm would see fewer than two images in a process."""
        check_batch(batch, self.world)

    def threads(self, wanted: int) -> int:
        """Threads of this process, where `wanted` are for all on a machine (0: its cores).

        0 leaves torch's default as it is, alone. No more than OMP_NUM_THREADS or the cores.
        """
        if self.world == 1:
            return min(wanted, _cores())
        return max(1, min(wanted or _cores(), _cores()) // self.local_world)

    def gather(self, batch: int, *outputs: Tensor) -> tuple[Tensor, ...]:
        """The whole batch's rows, in every process, in the order of `share`.

        Args:
            batch: images of all processes together.
            outputs: (n, F) or (heads, n, K) float32 each, with n rows of this process; heads, F
                and K may be 0.

        Returns:
            (batch, F) or (heads, batch, K) each. Of a loss that every process computes from
            them, each `outputs` gets the gradient of its own rows, as in one process.
        """
        if self.world == 1:
            return outputs
        # Images first, the rest in one row: one exchange for all outputs.
        rows = [t.movedim(-2, 0) for t in outputs]
        flat = torch.cat([t.reshape(len(t), t[0].numel()) for t in rows], dim=1)
        whole = _Gather.apply(flat, self.shares(batch), self.rank)
        parts = whole.split([t[0].numel() for t in rows], dim=1)
        return tuple(
            part.reshape(batch, *like.shape[1:]).movedim(0, -2)
            for part, like in zip(parts, rows, strict=True)
        )

    def backward(self, loss: Tensor) -> None:
        """Gradients of the whole batch's loss, the same in every process.

        A process holds the gradient that flows through its own rows; the whole is their sum,
        where DistributedDataParallel takes the mean.
        """
        (loss if self.world == 1 else loss * self.world).backward()

    def prepare(self, model: nn.Module, device: str) -> None:
        """Makes BatchNorm on GPUs use statistics of the whole batch.

        On CPUs each process normalises by its own images.
        """
        if self.world > 1 and device == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def parallel(
        self, trained: list[nn.Module], forward: Callable[..., T], *, all_used: bool = True
    ) -> Callable[..., T]:
        """`forward`, with the gradients of what is `trained` exchanged in its backward pass.

        Weights become those of rank 0. Every process must call this at the same point.

        Args:
            trained: modules whose every trainable weight takes part in the loss.
            forward: of tensors, through `trained`.
            all_used: False where some weights may take no part.
        """
        if self.world == 1:
            return forward
        with warnings.catch_warnings():
            # torch 2.15 renames `broadcast_buffers`; 2.11 does not know the new name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                _Phase(trained, forward),
                # Running statistics steer no training step, so they are not sent at every one.
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                find_unused_parameters=not all_used,
            )

    def share_buffers(self, model: nn.Module) -> None:
        """Gives every process rank 0's running statistics."""
        if self.world == 1:
            return
        buffers = [b for b in model.buffers() if b.is_floating_point() and b.numel()]
        if not buffers:
            return
        flat = torch.cat([b.flatten() for b in buffers])
        dist.broadcast(flat, 0)
        for buffer, values in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))

    def agree(self, flag: int) -> int:
        """The largest of the processes' flags, such as the number of a signal that one got."""
        if self.world == 1:
            return flag
        flags = torch.tensor(flag)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return int(flags)

    def once(self, action: Callable[[], T]) -> T:
        """What `action` gives in rank 0, in every process; the others do not call it."""
        if self.world == 1:
            return action()
        box: list[Any] = [action() if self.main else None]
        dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        return cast(T, box[0])


ALONE = Team()


class _Gather(torch.autograd.Function):
    """Rows of all processes; backward takes this process's own, without an exchange.

    `torch.distributed.nn.all_gather` would add up what every process's copy of the loss sends
    back, `world` times the same, and wants equal shares.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shares: list[int], rank: int) -> Tensor:
        """rows: (n, F) -> (sum of shares, F)."""
        start = sum(shares[:rank])
        ctx.own = slice(start, start + shares[rank])
        longest = max(shares)
        padded = rows.new_zeros(longest, rows.shape[1])
        padded[: len(rows)] = rows
        parts = rows.new_empty(len(shares) * longest, rows.shape[1])
        dist.all_gather_into_tensor(parts, padded)
        # Padding ends here: it never reaches a loss.
        return torch.cat([p[:n] for p, n in zip(parts.split(longest), shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """grads: one, (sum of shares, F) -> (n, F)."""
        return grads[0][ctx.own], None, None


class _Phase(nn.Module):
    """What DistributedDataParallel needs to see: the weights of a phase and its forward pass."""

    def __init__(self, trained: list[nn.Module], forward: Callable[..., Any]):
        super().__init__()
        self.trained = nn.ModuleList(trained)
        self._forward = forward

    def forward(self, *inputs: Tensor) -> Any:
        """What `forward` gives."""
        return self._forward(*inputs)


@contextlib.contextmanager
def join(device: str) -> Iterator[Team]:
    """Meets the other processes of torchrun, `accelerate launch` or `vtcc train --processes`.

    Without their environment variables, or with one process, it does nothing. With several only
    rank 0 writes to stdout, and of all that fail one tells why: the first.

    Args:
        device: "cpu" or "cuda"; with cuda a process takes the GPU of its local rank.

    Raises:
        VtccError: when there are fewer GPUs than processes, or another process is gone.
    """
    team = _by_environment()
    if team.world == 1:
        yield team
        return
    if device == "cuda":
        if team.local_rank >= torch.cuda.device_count():
            raise VtccError(
                f"{team.local_world} processes on this machine, but torch finds "
                f"{torch.cuda.device_count()} GPUs; start one process per GPU, or set "
                "train.device: cpu"
            )
        torch.cuda.set_device(team.local_rank)
    meeting = os.environ.get(RENDEZVOUS)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        init_method=f"file://{meeting}" if meeting else "env://",
        rank=team.rank,
        world_size=team.world,
        timeout=PATIENCE,
    )
    with contextlib.ExitStack() as stack:
        if not team.main:
            nowhere = stack.enter_context(
                Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")
            )
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield team
        except (SystemExit, KeyboardInterrupt, Interrupted):
            raise
        except Exception as error:
            if not _first_to_fail():
                sys.exit(getattr(error, "status", 1))
            if isinstance(error, RuntimeError) and any(text in str(error) for text in GONE):
                raise VtccError(
                    f"another of the {team.world} processes is gone (killed, or out of memory?); "
                    "run the stage again to go on from the last checkpoint"
                ) from None
            raise
        dist.destroy_process_group()


def _first_to_fail() -> bool:
    """Whether no other process has failed before this one; one asks once."""
    try:
        return dist.distributed_c10d._get_default_store().add(FAILED, 1) == 1
    except RuntimeError:  # the process that kept the store is gone: it knew why
        return False


def _by_environment() -> Team:
    """The team by the variables that torchrun and accelerate set."""
    env = os.environ
    if "RANK" not in env or "WORLD_SIZE" not in env:
        return ALONE
    if RENDEZVOUS not in env and not {"MASTER_ADDR", "MASTER_PORT"} <= env.keys():
        return ALONE
    world = int(env["WORLD_SIZE"])
    return Team(
        int(env["RANK"]),
        world,
        int(env.get("LOCAL_RANK", env["RANK"])),
        int(env.get("LOCAL_WORLD_SIZE", world)),
    )


def _cores() -> int:
    """Processor threads that there are to use."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit() and int(limit):
        return int(limit)
    return cpus.usable()
