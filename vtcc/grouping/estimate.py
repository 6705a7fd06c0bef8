"""What a collection takes here, measured on a few of its images before anything starts."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtcc import config, encoders
from vtcc.data.decoding import decoded
from vtcc.data.images import UnreadableImage
from vtcc.engine import checkpoint, cpus, plan, runtime
from vtcc.engine.features import BLOCK
from vtcc.engine.frozen import FeatureInput
from vtcc.engine.model import build, build_encoder, with_projectors
from vtcc.engine.model_info import one_head_info
from vtcc.engine.schedule import selection_epochs
from vtcc.errors import VtccError
from vtcc.grouping.choices import epochs_for
from vtcc.grouping.options import LEAST_TRAINING, after_trainings
from vtcc.grouping.prepare import THUMBNAIL

MEASURED = 96  # images
BASE_BYTES = 2.4e9  # of a process with torch, trainings and maps of few images, at its peak
LATER_BYTES = 1.6e9  # of the same once the images are assigned
LISTED_BYTES = 500  # of a file in the listing: name, size and time, on the way through the inputs
SKETCH_BYTES = 5 * 8 * 9 * 4  # of an image while look-alikes are searched
TILE_BYTES = 3000  # of a picture of the page
ROW_BYTES = 260  # of an image in tables and page
ROW_SECONDS = 3e-4  # of an image in the tables, and of the search for its look-alikes


@dataclass(frozen=True)
class Rates:
    """Images/s here.

    Attributes:
        whole: decoded and embedded, one beside the other. embedded: once they are decoded.
        width: numbers of an embedding.
    """

    whole: float
    embedded: float
    width: int


@dataclass(frozen=True)
class Foreseen:
    """Seconds and bytes.

    Attributes:
        images: all. sample: those that clusters are made of.
        embedding: seconds for the features of the sample, in all views. assigning: for the others.
        after: for map, page and tables. least_trainings: that make sense.
        memory: bytes at most. work, results: bytes on the disk, meanwhile and in the end, without
            the model (`model_bytes`) and what trainings keep (`training_bytes`).
    """

    images: int
    sample: int
    embedding: float
    assigning: float
    after: float
    least_trainings: float
    memory: float
    work: float
    results: float

    @property
    def fixed(self) -> float:
        """Seconds that no limit of time makes fewer."""
        return self.embedding + self.assigning + self.after


def measured(files: Sequence[Path], params: dict[str, Any]) -> Rates:
    """Reads some images as the training's model will, with weights that are as large.

    Args:
        files: of which some are read. params: nested, as they were chosen for these images.

    Raises:
        VtccError: when not one of them can be read.
    """
    section = config.from_dict(config.Params, params)
    train, validate = section.train, section.validate
    size = train.image_size if train.model.frozen else validate.image_size
    channels = section.dataset.channels
    some = [files[int(i)] for i in np.linspace(0, len(files) - 1, min(len(files), MEASURED))]
    embed = _embedder(section)
    how: dict[str, Any] = {
        "channels": channels,
        "size": size,
        "max_pixels": validate.max_pixels,
        "bands": validate.bands,
        "stretch": validate.stretch,
        "stretch_range": validate.stretch_range,
    }
    blank = np.zeros((BLOCK, size, size, channels), np.uint8)
    width = embed(blank).shape[1]  # the first call is slower than those after it
    began = time.perf_counter()
    pixels: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    for _, image in decoded(some, **how):
        if isinstance(image, UnreadableImage):
            continue
        waiting.append(image.pixels)
        if len(waiting) == BLOCK:
            embed(np.stack(waiting))
            pixels += waiting
            waiting = []
    if waiting:
        embed(np.stack(waiting))
        pixels += waiting
    whole = len(some) / (time.perf_counter() - began)
    if not pixels:
        raise VtccError(f"not one of {len(some)} images could be read (first: {some[0]})")
    began = time.perf_counter()
    for start in range(0, len(pixels), BLOCK):
        embed(np.stack(pixels[start : start + BLOCK]))
    return Rates(whole, len(pixels) / (time.perf_counter() - began), width)


def _embedder(section: config.Params) -> Any:
    """(n, S, S, C) uint8 -> (n, width) by an encoder as large as that of the training."""
    train, channels = section.train, section.dataset.channels
    size = train.image_size
    if train.model.encoder != "vit":
        compute = runtime.of_encoder(
            train,
            channels=channels,
            kind=section.embed.runtime,
            pretrained=False,
            threads=train.threads,
        )
    else:
        model = build(train.model, 2, image_size=size, channels=channels).eval()
        compute = lambda x: model.embed(x).numpy()  # noqa: E731 - as a runtime is called
    from vtcc.engine.augment import plain

    def embedded(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            return np.asarray(compute(plain(x, size)))

    return embedded


def model_bytes(params: dict[str, Any]) -> int:
    """Of the results' model: one head, and the encoder where it is not referred to by its name.

    Args:
        params: as of `measured`.
    """
    section = config.from_dict(config.Params, params)
    train, K = section.train, section.train.num_clusters
    info = one_head_info({"model": params["train"]["model"]}, K)
    info["encoder"] = train.model.encoder in encoders.names()
    architecture = checkpoint.architecture(info)
    channels = section.dataset.channels
    model = build(architecture, K, image_size=train.image_size, channels=channels)
    return sum(tensor.nbytes for tensor in checkpoint.stored(model.state_dict(), info).values())


def longest_trainings(images: int, rates: Rates, params: dict[str, Any]) -> float:
    """Seconds of both trainings where time ends neither: more steps bring nothing.

    Args:
        images: that are trained on. rates: of `measured`. params: as there.
    """
    train = config.from_dict(config.Params, params).train
    batch, K = min(train.batch_size, images), min(train.num_clusters, images // 2)
    section = config.from_dict(
        config.Params, config.override(params, {"train.batch_size": batch, "train.num_clusters": K})
    )
    train, frozen = section.train, section.train.model.frozen
    n, draws = min(images, 4 * batch), np.random.default_rng(0)
    if frozen:
        d = train.model.components or rates.width
        x = draws.normal(size=(n, section.embed.views + 1, d)).astype(np.float32)
        mean: tuple[float, ...] = ()
    else:
        side, channels = section.validate.image_size, section.dataset.channels
        x = draws.integers(0, 256, (n, side, side, channels), np.uint8)
        mean = (0.5,) * channels
    with cpus.kept_threads():
        timing = plan.Rehearsal(x, np.arange(n), train, mean, mean).steps(1.0)
    a_step = timing.mean * batch / timing.batch
    per_epoch = images // batch
    return 2 * a_step * per_epoch * epochs_for(math.inf, a_step, per_epoch, frozen=frozen)


def training_bytes(images: int, rates: Rates, params: dict[str, Any]) -> int:
    """Of what one training keeps in the work directory, beside its model, until all is done.

    Its last two states and the next one while that is written, the weights of its candidates, and
    what its heads say of the images.

    Args:
        images: that are trained on. rates: of `measured`. params: as there.
    """
    section = config.from_dict(config.Params, params)
    train, channels = section.train, section.dataset.channels
    encoder = (
        FeatureInput(train.model.components or rates.width)
        if train.model.frozen
        else build_encoder(train.model, image_size=train.image_size, channels=channels)
    )
    model = with_projectors(encoder, train.model, train.num_clusters)
    weights: int = sum(tensor.nbytes for tensor in model.state_dict().values())
    moving = sum(tensor.nbytes for tensor in model.parameters() if tensor.requires_grad)
    state = weights * (2 if train.ema else 1) + 2 * moving  # of Adam
    d = int(encoder.embed_dim)  # type: ignore[arg-type]
    space = train.model.feature_dim if train.model.frozen else d
    said = d + space + len(model.cluster_projectors) * train.num_clusters
    return 3 * state + len(selection_epochs(train)) * weights + 4 * images * said


def foreseen(images: int, sample: int, rates: Rates, params: dict[str, Any]) -> Foreseen:
    """What so many images take.

    Args:
        images: all. sample: as of `Options`. rates: of `measured`. params: as there.
    """
    section = config.from_dict(config.Params, params)
    frozen = section.train.model.frozen
    n = min(images, sample) if sample else images
    others = images - n
    views = section.embed.views if frozen else 0
    d = (section.train.model.components or rates.width) if frozen else rates.width
    side = THUMBNAIL if frozen else section.validate.image_size
    pixels = n * side * side * section.dataset.channels
    features = n * (views + 1) * rates.width * 2.0 if frozen else 0.0
    row = 4.0 * (d + section.train.num_clusters) + 8 * 9 * 4 + ROW_BYTES
    results = images * row + n * TILE_BYTES
    return Foreseen(
        images=images,
        sample=n,
        embedding=n / rates.whole + n * views / rates.embedded,
        assigning=others / rates.whole,
        after=after_trainings(n) + ROW_SECONDS * others,
        least_trainings=2 * LEAST_TRAINING,
        memory=images * LISTED_BYTES
        # Features once as float32 for the map of the views, and once more for its unit rows.
        + max(BASE_BYTES + 5 * features + 3 * pixels, LATER_BYTES + images * SKETCH_BYTES),
        work=features + pixels + others * row,
        results=results,
    )
