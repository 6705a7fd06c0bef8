"""Views per second and core: ours, torchvision per image on PIL and on tensors, kornia.

    python -m benchmarks.augment [--quick] [--out FILE]

One thread. Every contestant makes one batch of float32 views in 0-1 of the same uint8 images,
with the same ranges and probabilities. They take turns (A, B, A, B, ...) after a warm-up that is
not counted. `wall` counts all seconds, `cpu` those in which this thread ran: on a machine that
does other work, compare the latter. A ratio is another contestant's time over ours of the same
round; medians and ranges are over rounds.

What cannot be the same: torchvision crops to whole pixels, antialiases on PIL, turns in a second
interpolation with black corners, and its blur stops at 3 deviations of the widest; kornia's
likewise, with mirrored corners, and its noise has one deviation for all.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.augment_others import kornia_views, torchvision_views
from vtcc import config, provenance
from vtcc.config import Augment
from vtcc.engine.augment import view

PRESETS = ("natural", "aerial", "paper", "glyphs")
BATCH = {32: 512, 224: 64}
CONTESTANTS = ("ours", "torchvision-pil", "torchvision-tensor", "kornia")
PROFILED = 3
TITLES = ("preset", "size", "contestant", "wall/s", "cpu/s", "times ours (cpu)", "range")

Views = Callable[[], Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, help="instead of the record")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 224])
    parser.add_argument("--presets", nargs="+", default=PRESETS, metavar="NAME")
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    parser.add_argument("--quick", action="store_true", help="tiny batches: does it run")
    given = parser.parse_args(arguments)
    rounds = 2 if given.quick else given.rounds
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows, profiles = [], {}
        for size in given.sizes:
            batch = 4 if given.quick else BATCH.get(size, max(16, 2**22 // size**2))
            for name in given.presets:
                channels = 1 if name == "glyphs" else 3
                images = photos(batch, channels, size)
                for row in duel(images, preset(name), given.contestants, rounds):
                    rows.append({"preset": name, "size": size, "batch": batch} | row)
                    print_row(rows[-1], first=len(rows) == 1)
                profiles[f"{name} {size}"] = profile(images, preset(name))
    finally:
        torch.set_num_threads(threads)
    for name, table in profiles.items():
        print_profile(name, table)
    record = {
        "machine": machine(),
        "rounds": rounds,
        "quick": given.quick,
        "rows": rows,
        "profiles": profiles,
    }
    print(f"\nwritten: {timing.write('augment', record, given.out)}")


def preset(name: str) -> Augment:
    """The ranges of an augmentation preset."""
    file = config.PRESETS / "augment" / f"{name}.yaml"
    return config.from_dict(Augment, config.read_yaml(file), name)


def photos(n: int, channels: int, size: int) -> Tensor:
    """(n, channels, size, size) uint8, smooth with some noise."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 8, 8, generator=g)
    x = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    x = x + 0.05 * torch.randn(x.shape, generator=g)
    return (x.clamp(0, 1) * 255).to(torch.uint8)


def duel(
    images: Tensor, params: Augment, contestants: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    """A row per contestant: images per second, and its time over ours."""
    makers: dict[str, Callable[[Tensor, Augment], Views]] = {
        "ours": our_views,
        "torchvision-pil": lambda x, p: torchvision_views(x, p, pil=True),
        "torchvision-tensor": lambda x, p: torchvision_views(x, p, pil=False),
        "kornia": kornia_views,
    }
    ready: dict[str, Views] = {}
    missing: dict[str, str] = {}
    for name in contestants:
        try:
            ready[name] = makers[name](images, params)
        except ImportError:
            missing[name] = f"{name} is not installed (pip install 'vtcc[bench]')"
    expected = (*images.shape[:2], images.shape[-1], images.shape[-1])
    for name, make in ready.items():
        out = make()
        if out.shape != expected or out.dtype != torch.float32:
            raise AssertionError(f"{name} made {tuple(out.shape)} {out.dtype}, not {expected}")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, make in ready.items():
            wall, cpu = time.perf_counter(), time.thread_time()
            make()
            times[name].append((time.perf_counter() - wall, time.thread_time() - cpu))
    rows: list[dict[str, Any]] = []
    for name in contestants:
        if name in missing:
            rows.append({"contestant": name, "missing": missing[name]})
            continue
        row: dict[str, Any] = {"contestant": name}
        for clock, label in enumerate(("wall", "cpu")):
            row[label] = timing.summary([len(images) / one[clock] for one in times[name]])
            pairs = zip(times[name], times.get("ours", ()), strict=False)
            ratios = [its[clock] / own[clock] for its, own in pairs]
            row[f"ratio_{label}"] = timing.summary(ratios) if ratios else None
        rows.append(row)
    return rows


def our_views(images: Tensor, params: Augment) -> Views:
    """Second views, which may be solarized."""
    g = torch.Generator().manual_seed(0)
    return lambda: view(images, params, images.shape[-1], g, second=True)


def profile(images: Tensor, params: Augment, top: int = 12) -> list[dict[str, Any]]:
    """Where our time goes: operations by their own share, of all seconds (a quiet machine's)."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    make = our_views(images, params)
    make()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        for _ in range(PROFILED):
            make()
    found = sorted(recorded.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in found)
    return [
        {
            "operation": e.key,
            "share": e.self_cpu_time_total / total,
            "microseconds_per_image": e.self_cpu_time_total / PROFILED / len(images),
            "calls": e.count // PROFILED,
        }
        for e in found[:top]
    ]


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "cpu": provenance.cpu(),
        "cores": os.cpu_count(),
        "threads": 1,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "pillow": version("pillow"),
    }


def print_row(row: dict[str, Any], *, first: bool) -> None:
    if first:
        print("{:8} {:>4}  {:18} {:>9} {:>9} {:>17}  {}".format(*TITLES))
    start = f"{row['preset']:8} {row['size']:4}  {row['contestant']:18}"
    if "missing" in row:
        print(f"{start} {row['missing']}")
        return
    line = f"{start} {row['wall']['median']:9,.0f} {row['cpu']['median']:9,.0f}"
    ratio = row["ratio_cpu"]
    if ratio:
        line += f" {ratio['median']:17.1f}  {ratio['low']:.1f}-{ratio['high']:.1f}"
    print(line, flush=True)


def print_profile(name: str, table: list[dict[str, Any]]) -> None:
    print(f"\nours, {name}: own time per image")
    for row in table:
        print(
            f"  {row['operation']:26} {row['share']:6.1%} "
            f"{row['microseconds_per_image']:9.1f} us {row['calls']:6} calls"
        )


if __name__ == "__main__":
    main()
