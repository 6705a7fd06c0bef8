"""Which kernels are fastest for a training's own step on this machine, measured once.

What was measured is kept beside the training's checkpoints, from where a resume takes it, and
in a directory of the machine, from where a repeat takes it: both then compute the same bits.
"""

import hashlib
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtcc.atomic import write_text
from vtcc.config import Train
from vtcc.engine.kernels import Kernels, resolve
from vtcc.engine.model import VTCC, build
from vtcc.engine.objective import Objective
from vtcc.engine.optim import make_optimizer
from vtcc.engine.prior import Prior
from vtcc.engine.schedule import view_seeds
from vtcc.engine.scratch import KERNELS
from vtcc.progress import note

# A training of fewer steps is over before a better choice has paid for its measurement.
MIN_STEPS = 200
# The rules stand unless another choice is faster by this much: less may be chance.
MARGIN = 0.05
ROUNDS = 4
LIMIT = 30.0  # seconds for all candidates
STEP = 0.5  # seconds that a measured step may take; the batch is cut where the real one is longer
LEAST = 4  # images of such a batch
# Compiling takes a minute on a GPU: tried where the training takes at least this many seconds.
WORTH_COMPILING = 600.0


class Trial:
    """One step of a training on given pixels, outside a training; its weights are thrown away.

    Args:
        params: the `train` section. kernels: what to run it with. channels: of the images.
        threads: as in `Objective`.
    """

    def __init__(self, params: Train, kernels: Kernels, channels: int, threads: int | None = None):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = prepared(
                build(
                    params.model,
                    params.num_clusters,
                    image_size=params.image_size,
                    channels=channels,
                    fused_attention=kernels.fused_attention,
                ),
                kernels,
            ).train()
        self.optimizer = make_optimizer(self.model, params.optimizer)
        half = (0.5,) * channels
        prior = Prior(params)
        self.objective = Objective(self.model, params, kernels, half, half, prior, threads=threads)
        self.seed, self.number = params.seed, 0

    def step(self, x: Tensor) -> None:
        """x: (B, C, H, W) uint8 on the device -> new weights."""
        losses = self.objective.contrast(x, view_seeds(self.seed, self.number))
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.backward(losses)
        self.optimizer.step()
        self.number += 1


def prepared(model: VTCC, kernels: Kernels) -> VTCC:
    """The model on its device, its convolutions in the kernels' memory layout."""
    model = model.to(kernels.device)
    return model.to(memory_format=torch.channels_last) if kernels.channels_last else model


def settle(
    params: Train,
    steps: int,
    shape: tuple[int, ...],
    scratch: Path,
    known: Path | None,
    begun: Mapping[str, Any] | None = None,
) -> Kernels:
    """The kernels of a training: those it began with, else known ones, else measured ones.

    Args:
        params: the `train` section. steps: of the whole training.
        shape: (H, W, C) of the cached images.
        scratch: the training's directory, where the choice is kept.
        known: directory of choices measured on this machine; None: the rules alone.
        begun: what the checkpoint that is gone on from was made with, if there is one.
    """
    rule = resolve(params)
    kept = _allowed(begun, params, rule) or _read(scratch / KERNELS)
    if kept:
        _write(scratch / KERNELS, kept)
        return kept
    chosen = rule
    if known is not None and steps >= MIN_STEPS and candidates(params, rule):
        identity = _identity(params, rule, steps, shape)
        file = known / _file_name(identity)
        found = _read(file)
        if not found:
            try:
                measured, seconds = measure(params, rule, steps, shape)
            except RuntimeError as error:  # of memory: the training itself may yet fit
                note(f"kernels: not measured ({' '.join(str(error).split())[:100]})")
                measured, seconds = rule, {}
            found = _read(file) or measured  # another process was first
            _write(file, found, seconds=seconds, measured_for=identity)
        chosen = found
    _write(scratch / KERNELS, chosen)
    return chosen


def recall(params: Train, steps: int, shape: tuple[int, ...], known: Path | None) -> Kernels:
    """As `settle` for a new training, without measuring: the rules' choice where none is known."""
    rule = resolve(params)
    if known is None or steps < MIN_STEPS or not candidates(params, rule):
        return rule
    return _read(known / _file_name(_identity(params, rule, steps, shape))) or rule


def _file_name(identity: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{digest[:24]}.json"


def _allowed(begun: Mapping[str, Any] | None, params: Train, rule: Kernels) -> Kernels | None:
    """The kernels of a checkpoint on this device; None where the user asks for others."""
    try:
        kernels = Kernels(**begun) if begun else None
    except TypeError:  # of another version
        return None
    if kernels is None or kernels.device != rule.device:
        return None
    asked = (
        params.precision in ("auto", kernels.precision),
        params.attention in ("auto", "fused" if kernels.fused_attention else "plain"),
        params.compile in ("auto", "always" if kernels.compile else "never"),
    )
    return kernels if all(asked) else None


def candidates(params: Train, rule: Kernels) -> list[Kernels]:
    """What could be better than `rule` and is not ruled out by the user; empty: nothing to ask.

    Half precision is tried where the processor has instructions for it, attention where the
    encoder is ours, compilation (last, on top of the best) on a GPU.
    """
    precisions, attentions = [rule.precision], [rule.fused_attention]
    if params.precision == "auto" and rule.precision == "bf16":
        precisions.append("fp32")
    if params.attention == "auto" and params.model.encoder == "vit":
        attentions.append(not rule.fused_attention)
    found = [
        replace(rule, precision=p, fused_attention=f)
        for p, f in itertools.product(precisions, attentions)
    ]
    if params.compile == "auto" and rule.device == "cuda":
        found.append(replace(rule, compile=True))
    return found[1:]


def measure(
    params: Train, rule: Kernels, steps: int, shape: tuple[int, ...]
) -> tuple[Kernels, dict[str, float | None]]:
    """Times a few steps with every candidate, in turn, and picks one.

    Returns:
        The choice, and seconds per step by candidate; None: failed or hopeless.
    """
    began = time.monotonic()
    eager = [k for k in candidates(params, rule) if not k.compile]
    batch = params.batch_size
    if rule.device == "cpu":
        few = min(batch, LEAST)
        first = _stopwatch(params, rule, few, shape)
        first()
        batch = min(batch, max(few, int(STEP * few / first())))
    note(f"measuring kernels on {batch} images a step (kept for later trainings on this machine)")
    seconds = _race([rule, *eager], params, batch, shape, began + LIMIT)
    best = _fastest(seconds, rule)
    later = replace(best, compile=True)
    rest = seconds.get(best, math.inf) * steps
    if params.compile == "auto" and rule.device == "cuda" and rest > WORTH_COMPILING:
        seconds |= _race([best, later], params, batch, shape, math.inf)
        best = _fastest({best: seconds[best], later: seconds[later]}, best)
    if rule.device == "cuda":
        torch.cuda.empty_cache()  # what the candidates held counts as taken otherwise
    shown = {label(k): None if math.isinf(s) else round(s, 5) for k, s in seconds.items()}
    listed = ", ".join(f"{k} {'-' if s is None else f'{1e3 * s:.0f} ms'}" for k, s in shown.items())
    note(f"kernels: {label(best)} ({listed}; {time.monotonic() - began:.0f} s)")
    return best, shown


def label(kernels: Kernels) -> str:
    """Such as `bf16 plain` or `bf16 fused compiled`."""
    parts = [kernels.precision, "fused" if kernels.fused_attention else "plain"]
    return " ".join([*parts, *(["compiled"] if kernels.compile else [])])


def _race(
    kernels: list[Kernels], params: Train, batch: int, shape: tuple[int, ...], until: float
) -> dict[Kernels, float]:
    """The least seconds of a step over some rounds, in which all take turns.

    The first is the one to beat: what is half as fast in a first step is not timed again, and
    when the time is up no further round begins.
    """
    watches: dict[Kernels, Callable[[], float]] = {}
    seconds = dict.fromkeys(kernels, math.inf)
    for k in kernels:
        try:
            watch = _stopwatch(params, k, batch, shape)
            watch()  # warms up, compiles
            seconds[k] = watch()
        except (RuntimeError, ImportError) as error:  # memory, no compiler, no such kernel
            if k == kernels[0]:
                raise
            note(f"kernels: {label(k)} not possible ({' '.join(str(error).split())[:100]})")
            continue
        if seconds[k] < 2 * seconds[kernels[0]]:
            watches[k] = watch
        if time.monotonic() > until:
            break
    for _ in range(ROUNDS - 1):
        for k, watch in watches.items():
            if time.monotonic() > until:
                return seconds
            seconds[k] = min(seconds[k], watch())
    return seconds


def _fastest(seconds: dict[Kernels, float], rule: Kernels) -> Kernels:
    best = min(seconds, key=lambda k: seconds[k])
    return best if seconds[best] < (1 - MARGIN) * seconds[rule] else rule


def _stopwatch(
    params: Train, kernels: Kernels, batch: int, shape: tuple[int, ...]
) -> Callable[[], float]:
    """A function that takes a step and returns its seconds.

    With one thread those are the processor's, which other programs change little.
    """
    trial = Trial(params, kernels, shape[2])
    x = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=_generator())
    x = x.permute(0, 3, 1, 2).to(kernels.device)
    alone = kernels.device == "cpu" and torch.get_num_threads() == 1
    now = time.process_time if alone else time.perf_counter

    def watch() -> float:
        _wait(kernels.device)
        start = now()
        trial.step(x)
        _wait(kernels.device)
        return now() - start

    return watch


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _identity(params: Train, rule: Kernels, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """All that the choice depends on, but for chance."""
    compiles = rule.device == "cuda" and params.compile == "auto"
    return {
        "machine": machine(rule.device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rule": asdict(rule),
        "asked": [params.precision, params.attention, params.compile],
        "shape": [list(shape), params.image_size, params.batch_size, params.num_clusters],
        "model": asdict(params.model),
        "optimizer": params.optimizer.name,
        "steps": steps if compiles else None,  # compiling pays for long trainings alone
    }


def machine(device: str) -> str:
    """The name of the processor or GPU, and what vector instructions torch uses on it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f"{match[1].strip() if match else 'cpu'}, {torch.backends.cpu.get_cpu_capability()}"


def _read(file: Path) -> Kernels | None:
    try:
        return Kernels(**json.loads(file.read_text(encoding="utf-8"))["kernels"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        note(f"{file}: damaged, not used")
        return None


def _write(file: Path, kernels: Kernels, **more: Any) -> None:
    text = json.dumps({"kernels": asdict(kernels), **more}, indent=1, sort_keys=True)
    write_text(file, text + "\n")
