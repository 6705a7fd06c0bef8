"""How fast features of a frozen encoder are made: torch, its layouts and precisions, onnxruntime.

    python -m benchmarks.runtimes --encoder lite2 --size 224

In turns, medians over rounds, warm-up excluded; images per second of one view, decoding and
augmentation left out. Writes benchmarks/records/performance/runtimes.json.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import interleaved, machine
from vtcc import config
from vtcc.config.compose import compose
from vtcc.engine import record
from vtcc.engine.model import build
from vtcc.engine.runtime import runtime

RECORD = Path(__file__).parent / "records" / "performance" / "runtimes.json"


class Turn:
    """A way to compute features, as a turn of `timing.interleaved`."""

    def __init__(self, features: Callable[[Tensor], object], x: Tensor):
        self.features, self.x = features, x

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def step(self) -> int:
        """One block of images."""
        self.features(self.x)
        return len(self.x)


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes the record, prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtimes", description=__doc__)
    parser.add_argument("--encoder", default="lite2")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--block", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    values = compose("folder", encoder=options.encoder)
    section = config.from_dict(config.Params, values).train
    size = options.size

    def encoder() -> torch.nn.Module:
        whole = build(section.model, 2, image_size=size, channels=3, pretrained=True)
        return whole.encoder.backbone.eval()  # type: ignore[union-attr,return-value]

    x = torch.randn(options.block, 3, size, size, generator=torch.Generator().manual_seed(0))
    plain, last = encoder(), encoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def torch_fp32(x: Tensor) -> None:
        with torch.inference_mode():
            plain(x)

    def torch_bf16(x: Tensor) -> None:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            last(x.to(memory_format=torch.channels_last))

    shape = {"image_size": size, "channels": 3, "device": "cpu"}
    ways = {
        "torch, fp32": torch_fp32,
        "torch, fp32, channels last": runtime(encoder(), kind="torch", **shape),  # type: ignore[arg-type]
        "torch, bf16, channels last": torch_bf16,
        "onnxruntime": runtime(encoder(), kind="onnxruntime", **shape),  # type: ignore[arg-type]
    }
    turns = {name: Turn(features, x) for name, features in ways.items()}
    rates = interleaved(turns, rounds=options.rounds, seconds=options.seconds)
    made = {
        "encoder": options.encoder,
        "image_size": size,
        "block": options.block,
        "threads": options.threads,
        "machine": machine("cpu"),
        "versions": record.versions(),
        "images_per_second": {k: [round(v, 2) for v in values] for k, values in rates.items()},
    }
    RECORD.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(made["images_per_second"], indent=1))


if __name__ == "__main__":
    main()
