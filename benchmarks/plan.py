"""How well `vtcc plan` foretells: predicted against real time of short trainings.

    python -m benchmarks.plan --preset digits=30 --preset fashion-mnist=2

For each preset, over the epochs after its name: plan, train, plan again, in one process, on the
cached images where data/cache holds those of the preset, else on noise of the same number and
size, which takes as long. Writes benchmarks/records/performance/plan.json. Processor time is
compared as well: on a machine that other programs use, time on the clock says more about them.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OUT = Path("benchmarks/records/performance/plan.json")


def compare(preset: str, epochs: int, images: int | None, seconds: float) -> dict[str, Any]:
    """Plans and trains a preset for `epochs` epochs."""
    import numpy as np

    from vtcc import config
    from vtcc.config import compose
    from vtcc.engine import loop
    from vtcc.verbs import plan

    values = compose.compose(preset, overrides={"train.epochs": epochs})
    params = config.from_dict(config.Params, values)
    pixels, rows, mean, std, source = plan.pixels_for(params, images)
    before = plan.measure(params, images=images, seconds=seconds)
    with tempfile.TemporaryDirectory() as scratch:
        start, processor = time.perf_counter(), time.process_time()
        loop.fit(pixels, rows, params.train, mean=mean, std=std, scratch=Path(scratch) / "scratch")
        real = time.perf_counter() - start
        processor = time.process_time() - processor
    after = plan.measure(params, images=images, seconds=seconds)
    foretold = np.array([p["training_seconds"] for p in (before, after)])
    used = np.array([p["processor_seconds"] for p in (before, after)])
    return {
        "preset": preset,
        "epochs": epochs,
        "images": len(rows),
        "pixels": source,
        "real_seconds": real,
        "real_processor_seconds": processor,
        "planned_seconds": foretold.tolist(),
        "planned_processor_seconds": used.tolist(),
        "planned_over_real": (foretold / real).tolist(),
        "planned_over_real_processor": (used / processor).tolist(),
        "plan": before,
    }


def main() -> None:
    """Compares the presets asked for and writes the record."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--preset", action="append", metavar="NAME=EPOCHS", help="repeatable")
    parser.add_argument("--images", type=int, help="that many synthetic ones")
    parser.add_argument("--seconds", type=float, default=8.0, help="steps are measured for")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    asked = [one.partition("=") for one in given.preset or ["digits=30", "fashion-mnist=2"]]
    found = [
        compare(preset, int(epochs or 5), given.images, given.seconds)
        for preset, _, epochs in asked
    ]
    record = {
        "command": "python -m benchmarks.plan",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": load,
        "torch": torch.__version__,
        "presets": found,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for one in found:
        ratios = ", ".join(f"{r:.2f}" for r in one["planned_over_real"])
        used = ", ".join(f"{r:.2f}" for r in one["planned_over_real_processor"])
        print(f"{one['preset']}: real {one['real_seconds']:.1f} s; planned over real {ratios}")
        print(f"    processor: real {one['real_processor_seconds']:.1f} s; {used}")
    print(given.out)


if __name__ == "__main__":
    main()
