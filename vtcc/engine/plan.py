"""What a training will take, measured over a few of its own steps before it starts.

Nothing is kept: the steps train a throw-away model, checkpoints go to a temporary directory.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtcc.config import Train
from vtcc.engine import loop
from vtcc.engine.distributed import ALONE
from vtcc.engine.flops import flops_per_image
from vtcc.engine.kernels import resolve
from vtcc.engine.memory import Footprint, Tracker, available_memory
from vtcc.engine.model import parameter_count
from vtcc.engine.pixels import SHARE
from vtcc.engine.schedule import check_fits, saved_epochs, selection_epochs
from vtcc.engine.scoring import place_centroids, score_heads
from vtcc.engine.scratch import Scratch
from vtcc.engine.views import NEIGHBOUR_IMAGES, FeatureViews, nearest

TINY = (2, 4)  # batches whose memory is measured; more images cost nothing but time
SMALL = (8, 32)  # the same where a step is quick: a longer line is a better one
QUICK = 0.5  # seconds of a step with TINY images up to which it is quick
SEARCHED = 4096  # images whose neighbours are searched for, to time the search
SLOW = 4.0  # seconds of a step above which a part of the batch is measured


@dataclass(frozen=True)
class Timing:
    """Of one step: seconds on the clock (mean, 10th and 90th percentile) and of the processor."""

    batch: int
    steps: int
    mean: float
    low: float
    high: float
    processor: float


@dataclass(frozen=True)
class Plan:
    """What a training takes, here.

    Attributes:
        device, precision, attention, threads: what the training would use.
        images, batch, steps_per_epoch, epochs: of the training; epochs of both phases.
        parameters, trainable: numbers of the model.
        flops_per_image: both views, forward and backward.
        memory, memory_available: bytes of a step with the batch, and free before it.
        largest_batch: that would fit.
        step: how a step was measured; with `batch` below the training's, it was scaled up.
        images_per_second: expected.
        seconds: of `steps`, `self_labelling`, `neighbours`, `scoring` and `checkpoints`; their
            sum is the training.
        processor_seconds: of all of it, which do not grow when others use the machine.
        images_scored_per_second: forward passes of one view, what evaluation is made of.
    """

    device: str
    precision: str
    attention: str
    threads: int
    images: int
    batch: int
    steps_per_epoch: int
    epochs: int
    parameters: int
    trainable: int
    flops_per_image: float
    memory: int
    memory_available: int
    largest_batch: int
    step: Timing
    images_per_second: float
    seconds: dict[str, float]
    processor_seconds: float
    images_scored_per_second: float

    @property
    def total(self) -> float:
        """Seconds of the training."""
        return sum(self.seconds.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the total among them."""
        return asdict(self) | {"training_seconds": self.total}


def rehearse(
    images: np.ndarray,
    rows: np.ndarray,
    params: Train,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seconds: float = 8.0,
) -> Plan:
    """Measures a training without starting it.

    Args:
        images: (M, S, S, C) uint8, or (M, V, d) features of a frozen encoder.
        rows: (N,) int64, those training may see.
        params: the `train` section.
        mean, std: C floats each, of the pixels in range 0-1.
        seconds: how long steps are measured, after a warm-up.

    Raises:
        VtccError: when K or the batch does not fit the images, or the batch not the memory.
    """
    # Before the rehearsal, whose own model and pixels are part of what a step takes.
    available = available_memory(resolve(params).device)
    features = images.shape[2] if loop.is_features(images) else 0
    # The search for neighbours is quadratic: timed on a part of the images, apart from the steps.
    asked = params.positives
    if features:
        params = replace(params, positives=replace(asked, neighbours=0))
    rehearsal = Rehearsal(images, rows, params, mean, std)
    footprint = rehearsal.footprint()
    footprint.refuse(params.batch_size, available, rehearsal.kernels.device)

    step = rehearsal.steps(seconds)
    scale = params.batch_size / step.batch
    run = rehearsal.run
    parts = {"steps": _both(step) * scale * run.contrastive_steps}
    if params.self_label.epochs:
        run.step = run.contrastive_steps
        second = rehearsal.steps(seconds / 2)
        scale = params.batch_size / second.batch
        parts["self_labelling"] = _both(second) * scale * (run.steps - run.contrastive_steps)
        run.step = 0
    if features and asked.neighbours and asked.neighbour_share:
        parts["neighbours"] = rehearsal.neighbours(asked.neighbours)
    points = len(selection_epochs(params))
    by_epoch = len(saved_epochs(params))
    scored, of_centroids, per_second = rehearsal.scoring(step.mean / step.batch)
    parts["scoring"] = points * (scored + of_centroids)
    by_time = int(sum(part[0] for part in parts.values()) / (60 * params.checkpoint_minutes))
    parts["checkpoints"] = (by_epoch + by_time) * rehearsal.checkpoint()
    return Plan(
        device=rehearsal.kernels.device,
        precision=rehearsal.kernels.precision,
        attention="fused" if rehearsal.kernels.fused_attention else "plain",
        threads=torch.get_num_threads(),
        images=len(rows),
        batch=params.batch_size,
        steps_per_epoch=run.steps_per_epoch,
        epochs=run.epochs,
        parameters=sum(p.numel() for p in run.model.parameters()),
        trainable=parameter_count(run.model),
        flops_per_image=flops_per_image(params, images.shape[-1], features),
        memory=footprint.bytes(params.batch_size),
        memory_available=available,
        largest_batch=footprint.largest(available),
        step=step,
        images_per_second=step.batch / step.mean,
        seconds={name: float(part[0]) for name, part in parts.items()},
        processor_seconds=float(sum(part[1] for part in parts.values())),
        images_scored_per_second=per_second,
    )


def refuse_large_batch(
    images: np.ndarray,
    rows: np.ndarray,
    params: Train,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    limit: float = 2e10,
) -> None:
    """Raises VtccError for a batch that cannot fit; does nothing where that is slow to find out.

    Args:
        limit: floating-point operations that finding out may cost on a CPU, about 1 s of it.
        The others are those of `rehearse`.
    """
    check_fits(params, len(rows))
    few = rows[: max(params.batch_size, params.num_clusters)]
    device = resolve(params).device
    available = available_memory(device)
    if device == "cuda" and len(rows) * images[0].nbytes <= SHARE * available:
        available -= (len(rows) - len(few)) * images[0].nbytes  # the training holds them all
    rehearsal = Rehearsal(images, few, params, mean, std)
    tokens = (params.image_size // params.model.patch_size) ** 2 + 1
    if loop.is_features(images):
        tokens = 1
    # Six operations per weight, token and view: a rule of thumb is enough to decide by.
    cost = 12 * parameter_count(rehearsal.run.model) * tokens * (TINY[0] * 2 + TINY[1])
    if device == "cuda" or cost <= limit:
        footprint = rehearsal.footprint(longer=False)
        footprint.refuse(params.batch_size, max(available, 0), device)


def _both(step: Timing) -> np.ndarray:
    return np.array([step.mean, step.processor])


class Rehearsal:
    """A training of its own, in memory, of which single steps are taken."""

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        params: Train,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ):
        self.params = params
        if threads := ALONE.threads(params.threads):
            torch.set_num_threads(threads)
        self.kernels = resolve(params)
        check_fits(params, len(rows))
        nowhere = Scratch(Path("no-scratch"))  # never written: `checkpoint` has its own
        self.run = loop.Training(images, rows, params, self.kernels, mean, std, nowhere)
        self.run.model.train()

    def take(self, batch: int) -> float:
        """One step of the training loop with `batch` images; its seconds."""
        run = self.run
        run.params = replace(self.params, batch_size=batch)
        start = time.perf_counter()
        run.take_step()
        self._wait()
        run.params = self.params
        return time.perf_counter() - start

    def footprint(self, longer: bool = True) -> Footprint:
        """Memory of a step, from small batches."""
        sizes = TINY
        first = self.take(sizes[0])  # the optimiser's state appears with the first step
        if longer and first < 4 * QUICK and self.take(sizes[0]) < QUICK:
            sizes = SMALL
        b, B = (min(size, self.params.batch_size) for size in sizes)
        if b == B:
            b = max(2, B // 2) if B > 2 else 2
        peaks = [self._peak(n) for n in (b, B)]
        if b == B:  # a batch of two: there is no smaller one
            return Footprint(peaks[0], 0.0)
        return Footprint.through((b, peaks[0]), (B, peaks[1]))

    def _peak(self, batch: int) -> int:
        """Bytes at the peak of a step, what lives before it included."""
        if self.kernels.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.take(batch)
            return torch.cuda.max_memory_allocated()
        tracker = Tracker()
        modules = [self.run.model, *([self.run.average] if self.run.average else [])]
        for module in modules:
            tracker.add_module(module)
        for state in self.run.optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    tracker.add(value)
        with tracker:
            self.take(batch)
        return tracker.peak

    def steps(self, seconds: float) -> Timing:
        """Times steps for `seconds`, after a warm-up: with the whole batch unless that is slow."""
        batch = min(self.params.batch_size, 8)
        once = self.take(batch)
        once = min(once, self.take(batch)) if once < QUICK else once
        whole = once * self.params.batch_size / batch
        some = max(batch, int(batch * SLOW / once))
        batch = self.params.batch_size if whole <= SLOW else some
        if self.kernels.device == "cuda" or once * 4 < seconds:
            self.take(batch)
        taken: list[float] = []
        processor = time.process_time()
        start = time.perf_counter()
        while time.perf_counter() - start < seconds or len(taken) < 2:
            taken.append(self.take(batch))
        mean = (time.perf_counter() - start) / len(taken)
        low, high = np.quantile(taken, [0.1, 0.9])
        used = (time.process_time() - processor) / len(taken)
        return Timing(batch, len(taken), mean, float(low), float(high), used)

    def neighbours(self, count: int) -> np.ndarray:
        """Seconds (a pair) to find every image's nearest `count`, from a part of them."""
        data = self.run.data
        assert isinstance(data, FeatureViews)
        some = torch.arange(min(len(data), SEARCHED))
        h = data.plain(data.take(some))
        spent = self._timed(lambda: nearest(h, min(count, len(h) - 1)))
        return spent * (len(data) / len(h)) * (min(len(data), NEIGHBOUR_IMAGES) / len(h))

    def scoring(self, per_image: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Seconds to score the heads once, to place centroids once, and forward passes/s.

        Seconds are pairs, as those of `_timed`.

        Args:
            per_image: seconds of a training step per image; a scored image costs about a third.
        """
        params, run = self.params, self.run
        affordable = int(1.5 / max(per_image / 3, 1e-9))
        wanted = min(params.selection.images, len(run.data))
        some = max(2, min(affordable, wanted, 512))
        few = replace(params, selection=replace(params.selection, images=some, views=1))
        if run.model.has_centroids:
            run.model.centroids.normal_()
        spent = self._timed(
            lambda: score_heads(run.model, run.data, run.views, few, self.kernels, run.prior)
        )
        scored = spent * wanted * params.selection.views / some
        centroids = np.zeros(2)
        if run.model.has_centroids and len(run.data) <= some:
            centroids = self._timed(lambda: place_centroids(run.model, run.data, run.views, params))
        elif run.model.has_centroids:
            centroids = spent / some / 2 * len(run.data)
        return scored, centroids, 2 * some / float(spent[0])

    def checkpoint(self) -> np.ndarray:
        """Seconds (a pair) to write the state and a candidate."""
        run = self.run
        with tempfile.TemporaryDirectory(prefix="vtcc-plan-") as directory:
            run.scratch = Scratch(Path(directory) / "scratch")
            run.loss, run.totals = torch.zeros(()), loop.Totals.zero(self.params)

            def write() -> None:
                run.save()
                run.scratch.keep(run.step, run.model.state_dict())

            return self._timed(write)

    def _timed(self, work: Callable[[], Any]) -> np.ndarray:
        """Seconds of `work` on the clock and of the processor, (2,)."""
        start = np.array([time.perf_counter(), time.process_time()])
        work()
        self._wait()
        return np.subtract([time.perf_counter(), time.process_time()], start - 1e-9)

    def _wait(self) -> None:
        if self.kernels.device == "cuda":
            torch.cuda.synchronize()


def rounds(seconds: float) -> str:
    """`5400` -> `1.5 h`: two figures, as an estimate deserves."""
    for unit, size in (("s", 60), ("min", 60), ("h", 48)):
        if seconds < size * 1.5:
            return f"{float(f'{seconds:.2g}'):g} {unit}"
        seconds /= size if unit != "h" else 24
    return f"{math.ceil(seconds)} days"
