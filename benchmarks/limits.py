"""How far the training loop is from what bounds it.

    python -m benchmarks.limits [--shapes paper digits fashion-mnist] [--epochs 6] [--seconds 20]

By shape, in turns inside one training (between its epochs): the loop itself, without
checkpoints and scoring; synthetic-only, the step on views that lie there already; data-only,
reading and two views; the step's matrix products alone. Two bounds: `min(synthetic, data)`,
which a loop reaches whose data path runs beside the step, and `1 / (1/synthetic + 1/data)`,
which one reaches that has the same processor do both, one after the other.
"""

import argparse
import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import gemm, timing
from benchmarks.step import SHAPES, shape
from benchmarks.trial import Trial
from vtcc.config import Train
from vtcc.engine import loop, schedule
from vtcc.engine.distributed import ALONE
from vtcc.engine.kernels import Kernels, resolve
from vtcc.engine.pixels import Pixels


class Data:
    """Reading and two normalised views, nothing else."""

    def __init__(self, params: Train, images: np.ndarray, trial: Trial, kernels: Kernels):
        self.params, self.trial, self.number = params, trial, 0
        self.pixels = Pixels(images, np.arange(len(images)), kernels.device)
        self.make = trial.objective._view

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def views(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the next batch."""
        p, images = self.params, len(self.pixels)
        x = self.pixels.take(
            schedule.batch(images, p, self.number), schedule.batch(images, p, self.number + 1)
        )
        self.number += 1
        seeds = schedule.view_seeds(p.seed, self.number)
        return self.make(x, seeds, 0), self.make(x, seeds, 1)

    def step(self) -> int:
        """One batch of views."""
        self.views()
        return self.params.batch_size


class Synthetic:
    """The step on two views that lie there already."""

    def __init__(self, data: Data):
        self.data, self.trial = data, data.trial
        self.fixed = data.views()
        self.trial.objective._view = self._ready  # type: ignore[method-assign]
        self.x = torch.zeros(data.params.batch_size, 1, 1, 1, dtype=torch.uint8)

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Frees the gradients."""
        self.trial.optimizer.zero_grad(set_to_none=True)

    def _ready(self, x: Any, seeds: Any, side: int) -> torch.Tensor:
        return self.fixed[side]

    def step(self) -> int:
        """Forward, backward, new weights."""
        self.trial.step(self.x)
        return self.data.params.batch_size


class Enough(Exception):  # noqa: N818
    """All rounds are measured."""


class Between(loop.Silent):
    """Times the loop's epochs, and the other turns between them."""

    def __init__(self, turns: dict[str, timing.Turn], images: int, rounds: int, seconds: float):
        self.turns, self.images, self.rounds, self.seconds = turns, images, rounds, seconds
        self.rates: dict[str, list[float]] = {"loop": [], **{name: [] for name in turns}}
        self.memory: list[float] = []
        self.clock = timing.Stopwatch()

    def on_epoch(self, epoch: int, figures: dict[str, float]) -> None:
        """The first epoch is not counted: it warms up."""
        seconds = self.clock.read()
        self.memory.append(timing.resident())
        if epoch > 1:
            self.rates["loop"].append(self.images / seconds)
            for name, turn in self.turns.items():
                self.rates[name].append(timing.rate(turn, self.seconds))
        if epoch > self.rounds:
            raise Enough
        self.clock = timing.Stopwatch()


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes the record, prints the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--epochs", type=int, default=6, help="of the loop, after a first one")
    parser.add_argument("--steps", type=int, default=8, help="of an epoch")
    parser.add_argument("--seconds", type=float, default=20, help="per turn of the others")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batch", type=int, default=0, help="instead of each shape's own")
    parser.add_argument("--threads", type=int, help="instead of the preset's")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--quick", action="store_true", help="toy batches, to see that it works")
    parser.add_argument("--out", type=Path, help="instead of the record")
    given = parser.parse_args(arguments)
    if given.quick:
        given.epochs, given.steps, given.seconds = 2, 4, 0.01
    record = {**timing.facts(), "quick": given.quick, "shapes": {}}
    for name in given.shapes:
        found = record["shapes"][name] = measure(name, given)
        print(name, {k: round(found[k]["median"], 3) for k in ("of_min", "of_serial")})
    print(timing.write("limits", record, given.out))


def measure(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """All bounds at one shape."""
    params, images = shape(name, given.batch or (8 if given.quick else 0), given.device)
    params = replace(
        params,
        epochs=given.epochs + 2,
        selection=replace(params.selection, points=1),
        checkpoint_minutes=1e6,
        compile="always" if given.compile else "never",
        threads=params.threads if given.threads is None else given.threads,
    )
    if threads := ALONE.threads(params.threads):
        torch.set_num_threads(threads)
    kernels, B = resolve(params), params.batch_size
    rows = np.arange(B * given.steps) % len(images)
    trial = Trial(params, kernels, images.shape[3])
    data = Data(params, images, trial, kernels)
    synthetic = Synthetic(data)
    products, flops = gemm.recorded(synthetic.step)
    between = Between(
        {"synthetic": synthetic, "data": data}, len(rows), given.epochs, given.seconds
    )
    half = (0.5,) * images.shape[3]
    with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(Enough):
        loop.fit(
            images,
            rows,
            params,
            mean=half,
            std=half,
            scratch=Path(scratch),
            callbacks=between,
        )
    rates = between.rates
    bound = [min(s, d) for s, d in zip(rates["synthetic"], rates["data"], strict=True)]
    serial = [1 / (1 / s + 1 / d) for s, d in zip(rates["synthetic"], rates["data"], strict=True)]
    per_image = flops / B
    each = min(0.5, max(0.005, given.seconds / 40))
    gemm_rate, gemm_seconds = gemm.ceiling(products, kernels.device, each)
    model_rate = [per_image * r for r in rates["synthetic"]]
    return {
        "batch": B,
        "image_size": params.image_size,
        "threads": torch.get_num_threads(),
        "kernels": vars(kernels),
        "images_per_second": {k: timing.summary(v) for k, v in rates.items()},
        "of_min": timing.ratios(rates["loop"], bound),
        "of_serial": timing.ratios(rates["loop"], serial),
        "bound_by": "step" if sum(rates["synthetic"]) < sum(rates["data"]) else "data",
        "flop_per_image": per_image,
        "gemm_flop_per_second": gemm_rate,
        "gemm_share_of_step_time": gemm_seconds * timing.summary(rates["synthetic"])["median"] / B,
        "step_flop_per_second": timing.summary(model_rate),
        "step_of_gemm": timing.summary([r / gemm_rate for r in model_rate]),
        "loop_of_gemm": timing.summary([per_image * r / gemm_rate for r in rates["loop"]]),
        "resident_mb_by_epoch": between.memory,
    }


if __name__ == "__main__":
    main()
