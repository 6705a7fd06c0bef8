"""What a training costs against images, resolution, tokens, K and batch, one at a time.

    python -m benchmarks.scaling [--rounds 3] [--seconds 5]

From the digits preset's step, on noise; milliseconds per step and image, and FLOPs.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import gemm, timing
from benchmarks.step import Recipe, Step, shape
from vtcc.config import Train
from vtcc.engine.kernels import resolve

SWEEPS: dict[str, tuple[int, ...]] = {
    "images": (1000, 10000, 100000),
    "resolution": (16, 32, 64),  # at as many tokens
    "tokens": (16, 64, 256),  # at as many pixels
    "clusters": (10, 100, 1000),
    "batch": (32, 128, 512),
}


def main(arguments: list[str] | None = None) -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="per turn, at least")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--quick", action="store_true", help="toy batches, to see that it works")
    parser.add_argument("--out", type=Path, help="instead of the record")
    given = parser.parse_args(arguments)
    if given.quick:
        given.rounds, given.seconds = 2, 0.01
    base, _ = shape("digits", 8 if given.quick else 0, given.device)
    record = {**timing.facts(), "quick": given.quick, "threads": base.threads, "sweeps": {}}
    for name in given.sweeps:
        values = SWEEPS[name][: 2 if given.quick else None]
        record["sweeps"][name] = sweep(name, values, base, given.rounds, given.seconds)
        print(name, {k: v["ms_per_image"]["median"] for k, v in record["sweeps"][name].items()})
    print(timing.write("scaling", record, given.out))


def sweep(
    name: str, values: tuple[int, ...], base: Train, rounds: int, seconds: float
) -> dict[str, Any]:
    """One dimension; the points take turns."""
    turns, facts = {}, {}
    for value in values:
        params, images = point(name, value, base)
        step = Step(params, images, Recipe(resolve(params), params.threads or 1))
        x = torch.zeros(params.batch_size, *images.shape[1:], dtype=torch.uint8)
        x = x.permute(0, 3, 1, 2).to(step.recipe.kernels.device)
        _, flops = gemm.recorded(lambda s=step, x=x: s.trial.step(x))
        turns[str(value)] = step
        facts[str(value)] = {"flop_per_image": flops / params.batch_size}
    rates = timing.interleaved(turns, rounds, seconds)
    return {
        value: {**facts[value], "ms_per_image": timing.summary([1e3 / r for r in found])}
        for value, found in rates.items()
    }


def point(name: str, value: int, base: Train) -> tuple[Train, np.ndarray]:
    """The base with one thing changed, and noise for images."""
    params, count = base, max(1024, 2 * base.batch_size)
    if name == "images":
        count = value
    elif name == "resolution":
        patch = base.model.patch_size * value // base.image_size
        params = replace(base, image_size=value, model=replace(base.model, patch_size=patch))
    elif name == "tokens":
        side = 32
        patch = side // round(value**0.5)
        params = replace(base, image_size=side, model=replace(base.model, patch_size=patch))
    elif name == "clusters":
        params = replace(base, num_clusters=value)
    else:
        params, count = replace(base, batch_size=value), max(count, 2 * value)
    shape_ = (count, params.image_size, params.image_size, 1)
    return params, np.random.default_rng(0).integers(0, 256, shape_, np.uint8)


if __name__ == "__main__":
    main()
