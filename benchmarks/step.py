"""Our training step against one as such repositories write it (benchmarks/per_image.py).

    python -m benchmarks.step [--shapes paper digits fashion-mnist] [--rounds 5] [--seconds 20]

End to end: from cached uint8 pixels to new weights, checkpoints and scoring aside. The baseline
runs in fp32 and in bf16, each with the workers and threads that it is fastest with. Then one thing
of ours at a time is exchanged for the baseline's. All take turns in one run.
"""

import argparse
import functools
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import gemm, per_image, timing
from benchmarks.trial import Trial
from vtcc import config
from vtcc.config import Train
from vtcc.engine import schedule
from vtcc.engine.kernels import Kernels, resolve
from vtcc.engine.losses import cluster_loss, instance_loss
from vtcc.engine.pixels import Pixels

SHAPES = {"paper": 32, "digits": 128, "fashion-mnist": 128}  # presets, and the batch


@dataclass(frozen=True)
class Recipe:
    """What a step is made of; the defaults are ours."""

    kernels: Kernels
    threads: int
    workers: int | None = None  # None: our batched views; else per image, in so many workers
    fused_optimizer: bool = True
    shortcut: bool = True


class Step:
    """Steps of a training by a recipe, as a turn of `timing.interleaved`."""

    def __init__(self, params: Train, images: np.ndarray, recipe: Recipe):
        self.params, self.images, self.recipe = params, images, recipe
        trial = Trial(params, recipe.kernels, images.shape[3])
        self.trial, self.number = trial, 0
        if not recipe.fused_optimizer:
            rate = params.optimizer.learning_rate
            trial.optimizer = torch.optim.Adam(trial.model.parameters(), rate)
        if not recipe.shortcut:
            encoder: Any = trial.model.encoder
            encoder.forward = functools.partial(per_image.all_tokens, encoder)
        self.pixels = Pixels(images, np.arange(len(images)), recipe.kernels.device)
        self._batches: Iterator[list[Tensor]] | None = None

    def start(self) -> None:
        """Threads and workers."""
        torch.set_num_threads(self.recipe.threads)
        if self.recipe.workers is not None:
            self._batches = self._endless(self.recipe.workers)

    def stop(self) -> None:
        """Ends the workers, and frees the gradients: every recipe has a model of its own."""
        self._batches = None
        self.trial.optimizer.zero_grad(set_to_none=True)

    def step(self) -> int:
        """One batch."""
        if self._batches is not None:
            self._step_on_views(next(self._batches))
            return self.params.batch_size
        index, following = (
            schedule.batch(len(self.images), self.params, self.number + more) for more in (0, 1)
        )
        x = self.pixels.take(index, following)
        self.trial.step(x)
        self.number += 1
        return self.params.batch_size

    def _endless(self, workers: int) -> Iterator[list[Tensor]]:
        p = self.params
        batches = per_image.loader(self.images, p.augment, p.image_size, p.batch_size, workers)
        while True:
            yield from batches

    def _step_on_views(self, views: list[Tensor]) -> None:
        trial, loss, kernels = self.trial, self.params.loss, self.recipe.kernels
        x_a, x_b = (x.to(kernels.device, non_blocking=True) for x in views)
        with kernels.autocast():
            z_a, z_b, p_a, p_b = trial.model(x_a, x_b)
        total = instance_loss(z_a, z_b, loss.instance_temperature)
        heads = [
            cluster_loss(a, b, loss.cluster_temperature, loss.entropy_weight)
            for a, b in zip(p_a, p_b, strict=True)
        ]
        total = total + torch.stack(heads).mean()
        trial.optimizer.zero_grad(set_to_none=True)
        total.backward()
        trial.optimizer.step()


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes the record, prints its ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="per turn, at least")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batch", type=int, default=0, help="instead of each shape's own")
    parser.add_argument("--workers", type=int, nargs="+", help="to try; default: 0 to the cores")
    parser.add_argument("--compile", action="store_true", help="measure ours compiled as well")
    parser.add_argument(
        "--peak", type=float, help="TFLOP/s of the device in the step's precision (H100: 989)"
    )
    parser.add_argument(
        "--few",
        action="store_true",
        help="ours and the baselines alone, with all cores and no search: for slow shapes",
    )
    parser.add_argument("--quick", action="store_true", help="toy batches, to see that it works")
    parser.add_argument("--out", type=Path, help="instead of the record")
    given = parser.parse_args(arguments)
    if given.quick:
        given.rounds, given.seconds = 2, 0.01
    record = {
        **timing.facts(),
        "quick": given.quick,
        "rounds": given.rounds,
        "seconds": given.seconds,
        "shapes": {},
    }
    for name in given.shapes:
        record["shapes"][name] = measure(name, given, record["cores"])
        print(name, {k: v["median"] for k, v in record["shapes"][name]["ratios"].items()})
    print(timing.write("step", record, given.out))


def shape(name: str, batch: int, device: str) -> tuple[Train, np.ndarray]:
    """The `train` section of a preset and noise for images, as large as its cache."""
    params = config.from_dict(config.Params, config.read_yaml(config.PRESETS / f"{name}.yaml"))
    train = replace(params.train, batch_size=batch or SHAPES[name], device=device)
    side, rng = params.validate.image_size, np.random.default_rng(0)
    count = max(1024 if side < 64 else 256, 4 * train.batch_size)
    images = rng.integers(0, 256, (count, side, side, params.dataset.channels), np.uint8)
    return train, images


def measure(name: str, given: argparse.Namespace, cores: int) -> dict[str, Any]:
    """All recipes at one shape."""
    batch = given.batch or (4 if given.quick else 0)
    params, images = shape(name, batch, given.device)
    kernels = resolve(params)
    ours = Recipe(kernels, params.threads or cores)
    workers = given.workers or list(range(cores + 1))
    upstream = Recipe(
        replace(kernels, precision="fp32", fused_attention=False, channels_last=False),
        cores,
        workers[-1],
        fused_optimizer=False,
        shortcut=False,
    )
    tries: dict[str, float] = {}

    def best(recipe: Recipe, label: str) -> Recipe:
        """With the workers (of per-image views) and threads that it is fastest with."""
        if given.few:
            return replace(recipe, threads=cores)
        threads = sorted({1, cores})
        options = [
            replace(recipe, workers=w, threads=t)
            for w, t in itertools.product(
                workers if recipe.workers is not None else [None], threads
            )
        ]
        found = {o: timing.rate(Step(params, images, o), given.seconds / 2) for o in options}
        for o, r in found.items():
            tries[f"{label}: {_workers(o)}{o.threads} threads"] = r
        return max(found, key=lambda o: found[o])

    half = replace(kernels, precision="bf16")
    recipes = {
        "ours": ours,
        "ours, best threads": best(ours, "ours"),
        "per image fp32": best(upstream, "fp32"),
        "per image bf16": best(
            replace(upstream, kernels=replace(upstream.kernels, precision="bf16")), "bf16"
        ),
    }
    fast = recipes["ours, best threads"]
    changed = {
        "augmentation": best(replace(fast, workers=workers[-1]), "ours, views per image"),
        "precision": replace(fast, kernels=replace(kernels, precision="fp32")),
        "attention": replace(fast, kernels=replace(kernels, fused_attention=False)),
        "optimiser": replace(fast, fused_optimizer=False),
        "last block": replace(fast, shortcut=False),
    }
    if given.few:
        changed = {}
    elif kernels.precision == "fp32":
        del changed["precision"]
        recipes["ours bf16"] = replace(fast, kernels=half)
    if (
        not kernels.fused_attention and not given.few
    ):  # ours is the baseline's here; the other one for comparison
        del changed["attention"]
        recipes["ours, fused attention"] = replace(
            fast, kernels=replace(kernels, fused_attention=True)
        )
    if given.compile:
        recipes["ours compiled"] = replace(fast, kernels=replace(kernels, compile=True))
    recipes |= {f"without our {thing}": recipe for thing, recipe in changed.items()}
    x = torch.zeros(params.batch_size, *images.shape[1:], dtype=torch.uint8)
    x = x.permute(0, 3, 1, 2).to(kernels.device)
    _, flops = gemm.recorded(lambda: Trial(params, kernels, images.shape[3]).step(x))
    turns = {label: Step(params, images, recipe) for label, recipe in recipes.items()}
    rates = timing.interleaved(turns, given.rounds, given.seconds)
    return {
        "batch": params.batch_size,
        "image_size": params.image_size,
        "flop_per_image": flops / params.batch_size,
        "peak_flop_per_second": given.peak and given.peak * 1e12,
        "tried": tries,
        "recipes": {label: asdict(recipe) for label, recipe in recipes.items()},
        "images_per_second": {label: timing.summary(r) for label, r in rates.items()},
        "ratios": {
            f"{mine} / {theirs}": timing.ratios(rates[mine], rates[theirs])
            for mine in recipes
            if mine.startswith("ours")
            for theirs in ("per image fp32", "per image bf16")
        },
        "factors": {
            thing: timing.ratios(rates["ours, best threads"], rates[f"without our {thing}"])
            for thing in changed
        },
    }


def _workers(recipe: Recipe) -> str:
    return "" if recipe.workers is None else f"{recipe.workers} workers, "


if __name__ == "__main__":
    main()
