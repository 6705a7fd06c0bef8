"""`vtcc plan`: what the training of params.yaml will take here, before it starts.

Reads the cache where there is one, else draws noise of the same size. Writes nothing: no outs,
no scratch, no MLflow.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vtcc import config, paths
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.progress import several

if TYPE_CHECKING:
    from vtcc.engine.plan import Plan

NOISE = 1024  # different synthetic images; more would only take memory
AROUND = {True: 20.0, False: 8.0}  # s: imports, the run's start and end, with MLflow and without


def run(
    *,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    images: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measures and prints; returns what `measure` does.

    Args:
        preset: plan for this run preset instead of params.yaml.
        overrides: dotted keys and their values, `{"train.epochs": 2}`.
        images: plan for that many training images, synthetic ones.

    Raises:
        VtccError: when the batch does not fit the memory or the images, or their number is
            not known.
    """
    values = compose.compose(preset, overrides=overrides)
    params: config.Params = config.from_dict(config.Params, values)
    measured = measure(params, images=images)
    _show(console or Console(highlight=False), params, measured)
    return measured


def measure(
    params: config.Params, *, images: int | None = None, seconds: float = 8.0
) -> dict[str, Any]:
    """The plan as plain values: `engine.plan.Plan`, `pixels`, the stage's and evaluate's time."""
    from vtcc.engine import plan

    pixels, rows, mean, std, source = pixels_for(params, images)
    embedding: dict[str, float] = {}
    trained_on = pixels
    if params.train.model.reads_features:
        every = len(rows) if source == "synthetic" else len(pixels)  # held-out images as well
        trained_on, embedding = _features(params, pixels, every, mean, std, seconds)
    rehearsed = plan.rehearse(
        trained_on,
        rows,
        params.train,
        mean=mean,
        std=std,
        seconds=seconds,
    )
    around = AROUND[importlib.util.find_spec("mlflow") is not None]
    measured = rehearsed.to_dict() | {"pixels": source, **embedding}
    measured["stage_seconds"] = rehearsed.total + around
    measured["evaluate_seconds_rough"] = _evaluation(params, rehearsed, len(rows))
    return measured


def _features(
    params: config.Params, pixels: Any, images: int, mean: Any, std: Any, seconds: float
) -> tuple[Any, dict[str, float]]:
    """Noise in the place of the features, and what embedding all images takes.

    A few blocks are embedded with random weights, which take as long as the encoder's own.

    Returns:
        (N, V, d) float32; `embed_seconds`, `embed_images_per_second` (of images, not views) and
        `embed_bytes` on the disk.
    """
    import time

    import numpy as np

    from vtcc.engine.features import BLOCK, Drawing
    from vtcc.engine.runtime import of_encoder

    train, views = params.train, params.embed.views + 1
    drawing = Drawing(train.image_size, mean, std, train.augment, views - 1, params.embed.seed)
    compute = of_encoder(
        train, channels=pixels.shape[3], kind=params.embed.runtime, pretrained=False
    )
    block = pixels[:BLOCK]

    def embedded(number: int) -> int:
        outputs = [compute(x) for x in drawing.of_block(block, number)]
        return outputs[0].shape[1]

    width = embedded(0)  # the first call is slower than those after it
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < seconds / 2:
        embedded(done)
        done += 1
    rate = done * len(block) / (time.perf_counter() - start)
    d = train.model.components or width
    features = np.random.default_rng(0).standard_normal((len(pixels), views, d), np.float32)
    return features, {
        "embed_seconds": images / rate,
        "embed_images_per_second": rate,
        "embed_bytes": 2.0 * images * views * width,
    }


def pixels_for(params: config.Params, images: int | None = None) -> tuple[Any, Any, Any, Any, str]:
    """What the training would read, or noise like it: pixels, rows, mean, std, and their source."""
    from vtcc.engine.normalization import normalization

    cache = None if images else _cache(params)
    if cache is not None:
        mean, std = normalization(params.train.normalize, cache, params.train.model.encoder)
        return cache.images, cache.rows("train"), mean, std, f"{paths.CACHE} ({cache.name})"
    pixels, rows = _noise(params, images or _expected(params))
    C = params.dataset.channels
    return pixels, rows, (0.5,) * C, (0.25,) * C, "synthetic"


def _cache(params: config.Params) -> Any:
    """The cache, or None where there is none or it is of other images than params.yaml's."""
    if not (paths.CACHE / "cache.json").is_file():
        return None
    from vtcc.data.cache import open_cache

    cache = open_cache(paths.CACHE)
    wanted = params.dataset.name, params.validate.image_size, params.dataset.channels
    return cache if (cache.name, cache.image_size, cache.channels) == wanted else None


def _expected(params: config.Params) -> int:
    """Training images that the dataset's card promises.

    Raises:
        VtccError: when it promises none.
    """
    count = compose.expected_images(config.flatten(config.to_dict(params)), Path())
    if not count:
        raise VtccError(
            f"{paths.CACHE}: no images of {params.dataset.name!r} at "
            f"{params.validate.image_size} pixels here, and {params.dataset.source} does not say "
            "how many there are; run `vtcc validate`, or give --images N"
        )
    return count


def _noise(params: config.Params, images: int) -> tuple[Any, Any]:
    import numpy as np

    size = params.validate.image_size
    # Not more than 64 MiB: what is in it does not matter, how it is read does.
    each = size * size * params.dataset.channels
    different = max(2, min(images, NOISE, 2**26 // each))
    rng = np.random.default_rng(0)
    shape = (different, size, size, params.dataset.channels)
    return rng.integers(0, 256, shape, dtype=np.uint8), np.arange(images) % different


def _evaluation(params: config.Params, plan: "Plan", images: int) -> float:
    """Seconds of stage evaluate: forward passes as measured, the rest by rule of thumb."""
    evaluate = params.evaluate
    passes = 1 + ("kmeans_untrained" in evaluate.baselines)
    some = min(images, evaluate.quadratic_limit) / 10_000
    rest = 30 + 5 * images / 10_000
    if "ward" in evaluate.baselines:
        rest += 20 * some**2
    maps = {"umap_kmeans", "umap_kmeans_features", "umap_hdbscan_features"}
    if maps & set(evaluate.baselines) or evaluate.projection == "umap":
        rest += 20 + 40 * some
    return passes * images / plan.images_scored_per_second + rest


def _embedding(plan: dict[str, Any]) -> str:
    from vtcc.engine.memory import readable
    from vtcc.engine.plan import rounds

    if "embed_seconds" not in plan:
        return ""
    return (
        f"{rounds(plan['embed_seconds'])} before the first training, once for all: "
        f"{plan['embed_images_per_second']:,.3g} images/s with their views, "
        f"{readable(plan['embed_bytes'])} on the disk"
    )


def _show(console: Console, params: config.Params, plan: dict[str, Any]) -> None:
    from vtcc.engine.memory import readable
    from vtcc.engine.plan import rounds

    step, seconds = plan["step"], plan["seconds"]
    scaled = "" if step["batch"] == plan["batch"] else f", scaled from batches of {step['batch']}"
    rows = {
        "images": f"{plan['images']:,} of {plan['pixels']}, {params.train.image_size} px",
        "here": f"{plan['device']}, {plan['precision']}, {plan['attention']} attention, "
        f"{several(plan['threads'], 'threads')}",
        "parameters": f"{plan['parameters']:,}, trained {plan['trainable']:,}",
        "FLOPs": f"{plan['flops_per_image'] / 1e9:,.3g} G per image trained (two views, "
        "forward and backward)",
        "memory": f"{readable(plan['memory'])} for a batch of {plan['batch']}, "
        f"{readable(plan['memory_available'])} free; the largest batch is about "
        f"{plan['largest_batch']:,}",
        "step": f"{step['mean']:.3g} s ({step['low']:.3g} to {step['high']:.3g}) over "
        f"{several(step['steps'], 'steps')}{scaled}: {plan['images_per_second']:,.3g} images/s, "
        f"{plan['images_per_second'] * plan['flops_per_image'] / 1e9:,.3g} GFLOP/s",
        "training": f"{rounds(plan['training_seconds'])} for "
        f"{several(plan['epochs'], 'epochs')} of "
        f"{several(plan['steps_per_epoch'], 'steps')} ("
        + ", ".join(f"{name.replace('_', '-')} {rounds(s)}" for name, s in seconds.items())
        + ")",
        "embedding": _embedding(plan),
        "with start and end": f"about {rounds(plan['stage_seconds'])}",
        "evaluate": f"roughly {rounds(plan['evaluate_seconds_rough'])}",
    }
    show_rows(console, rows)
    alone = plan["processor_seconds"]
    if plan["device"] == "cpu" and plan["threads"] == 1 and alone < 0.8 * plan["training_seconds"]:
        console.print(
            f"Other programs had the processor for much of this time: on a quiet machine the "
            f"training would take about {rounds(alone)}."
        )


def show_rows(console: Console, rows: Mapping[str, str]) -> None:
    """Prints what is known, a name in bold before each; what is empty is left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    for name, text in rows.items():
        if text:
            table.add_row(name, text)
    console.print(table)
