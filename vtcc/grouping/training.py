"""Trainings of one folder: within a time, resumable, each to embeddings and probabilities."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtcc import config, zip_file
from vtcc.analysis.features import unit_rows
from vtcc.analysis.selection import Candidate, choose
from vtcc.atomic import atomic_file
from vtcc.data.cache import Cache
from vtcc.engine import checkpoint, cpus, kernels, loop
from vtcc.engine.frozen import FrozenFeatures
from vtcc.engine.model import VTCC, with_frozen_encoder
from vtcc.engine.model_info import trained_info
from vtcc.engine.normalization import normalization
from vtcc.engine.predict import Predictor
from vtcc.errors import VtccError
from vtcc.grouping.workdir import read_json, write_json
from vtcc.progress import note, report, several
from vtcc.version import __version__

_PART = 4096
_MODEL, _HEADS, _FINISHED = "model", "heads.npz", "finished.json"


@dataclass(frozen=True)
class Material:
    """What trainings read: the images, and their features where the encoder is frozen.

    Attributes:
        cache: N images. features: of them; None where pixels are trained on.
    """

    cache: Cache
    features: FrozenFeatures | None = None

    @property
    def inputs(self) -> np.ndarray:
        """What a training takes: (N, V, d) features, or (N, S, S, C) uint8 pixels."""
        return self.cache.images if self.features is None else self.features.reduced

    @property
    def digest(self) -> str:
        """Names what a training takes."""
        return self.cache.digest if self.features is None else self.features.digest


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        model: in eval mode on the CPU, its head chosen without labels.
        info: its `model.json`.
        h: (N, d) float32 embedding of the cached images.
        space: (N, m) float32 unit rows, in which groups are looked for: h, or, where the encoder
            is frozen, the mean of the instance features z of an image's views.
        heads: (heads, N, K) float32 probabilities of every head; head `chosen` is the model's.
        chosen: number of the head. params: nested, those it was trained with.
        steps, seconds: it took, resumes included in the steps alone.
        key: names parameters, images and code: what has the same key has the same values.
    """

    model: VTCC
    info: dict[str, Any]
    h: np.ndarray
    space: np.ndarray
    heads: np.ndarray
    chosen: int
    params: dict[str, Any]
    steps: int
    seconds: float
    key: str

    @property
    def p(self) -> np.ndarray:
        """(N, K) probabilities of the chosen head."""
        p: np.ndarray = self.heads[self.chosen]
        return p

    def predictor(self) -> Predictor:
        """The model with all it needs to read images."""
        return Predictor(self.model, self.info)


def train(
    material: Material,
    params: dict[str, Any],
    room: Path,
    *,
    limit: float | None,
    title: str,
    remedies: bool = True,
) -> Trained:
    """Trains, or goes on with or reads what an earlier call left.

    Args:
        material: what is trained on. params: nested.
        room: a directory of this training's own, kept between calls.
        limit: seconds after which it ends with fewer epochs; None: never.
        title: of the training, in what people read. remedies: as of `loop.fit`.

    Raises:
        VtccError: as `loop.fit`. Interrupted: after a signal, with the checkpoint written.
    """
    room.mkdir(parents=True, exist_ok=True)
    section = config.from_dict(config.Params, params).train
    cache = material.cache
    key = _key(section, material)
    trained = _finished(room, key, params, cache)
    if trained is not None:
        return trained
    epochs = several(section.epochs, "epochs")
    note(f"{title}: {epochs}, K = {section.num_clusters}, seed {section.seed}")
    mean, std = normalization(section.normalize, cache, section.model.encoder)
    started = time.monotonic()
    with cpus.kept_threads():
        fitted = loop.fit(
            material.inputs,
            cache.rows("train"),
            section,
            mean=mean,
            std=std,
            scratch=room / "scratch" / key,
            digest=material.digest,
            deadline=None if limit is None else started + limit,
            remedies=remedies,
        )
    best = choose([Candidate(**c) for c in fitted.candidates])
    model = fitted.choose(best.step, best.head)
    took = time.monotonic() - started
    info = trained_info(
        cache,
        section,
        max_pixels=params["validate"]["max_pixels"],
        mean=mean,
        std=std,
        head=best.head,
        epoch=best.epoch,
        kernels=fitted.kernels,
        processes=1,
    )
    if material.features is None:
        h, heads = embed(cache, model, info)
        space = unit_rows(h)
    else:
        info["cache_size"] = section.image_size  # files are decoded at the encoder's own size
        h, heads, space = project(material.features.reduced, model)
        model = with_frozen_encoder(
            model,
            section.model,
            material.features.reduction,
            image_size=section.image_size,
            channels=cache.channels,
        )
    with atomic_file(room / _HEADS) as building, building.open("wb") as file:
        np.savez(file, h=h, heads=heads, space=space, seconds=took)
    checkpoint.save_model(room / _MODEL, model, info)
    steps = int(fitted.candidates[-1]["step"])
    write_json(room / _FINISHED, {"key": key, "steps": steps})
    return Trained(model, info, h, space, heads, best.head, params, steps, took, key)


def _key(section: config.Train, material: Material) -> str:
    """Names the training: another version, other images or parameters give another one."""
    resolved = vars(kernels.resolve(section))
    own = checkpoint.training_key(config.to_dict(section), material.digest, resolved)
    return f"{__version__}-{own}"


def _finished(room: Path, key: str, params: dict[str, Any], cache: Cache) -> Trained | None:
    """What an earlier call left, where it is whole and of this very training."""
    finished = read_json(room / _FINISHED)
    if finished is None:
        return None
    if finished.get("key") != key:
        note(f"{room}: a training of another version, other images or options: training again")
        return None
    try:
        model, info = checkpoint.read_model(room / _MODEL)
        saved = zip_file.arrays(
            room / _HEADS,
            {"h": "float N d", "heads": "float H N K", "space": "float N m", "seconds": "float"},
            N=len(cache.paths),
            d=int(model.encoder.embed_dim),  # type: ignore[arg-type]
            H=len(model.cluster_projectors),
            K=params["train"]["num_clusters"],
        )
        h, heads, space, head = saved["h"], saved["heads"], saved["space"], int(info["head"])
        seconds, steps = float(saved["seconds"]), int(finished.get("steps", 0))
    except (VtccError, OSError, ValueError, KeyError, TypeError) as error:
        note(f"{room}: what an earlier training left is damaged ({error}): training again")
        return None
    return Trained(model, info, h, space, heads, head, params, steps, seconds, key)


@torch.inference_mode()
def project(reduced: np.ndarray, model: VTCC) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What projectors trained on features say of the images.

    Args:
        reduced: (N, V, d) of any float type. model: in eval mode on the CPU.

    Returns:
        h (N, d) and the probabilities (heads, N, K) of the images as they are; unit rows (N, m),
        the mean over the views of z, or of h where instances were not contrasted.
    """
    heads: list[np.ndarray] = []
    space: list[np.ndarray] = []
    for start in range(0, len(reduced), _PART):
        views = torch.from_numpy(np.asarray(reduced[start : start + _PART], np.float32))
        z, p = model.project(views[:, 0])
        heads.append(p.numpy())
        instances = z[:, None] if z.shape[1] else views[:, :1]
        if z.shape[1]:
            others = [model.project(views[:, v])[0] for v in range(1, views.shape[1])]
            instances = torch.stack([z, *others], dim=1)
        space.append(unit_rows(instances.mean(dim=1).numpy()))
    h = np.ascontiguousarray(reduced[:, 0], np.float32)
    return h, np.concatenate(heads, axis=1), np.concatenate(space)


def embed(cache: Cache, model: VTCC, info: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """h (N, d) and the probabilities (heads, N, K) of every head, in fp32, with progress."""
    predictor = Predictor(model, info)
    N = len(cache.paths)
    h: list[np.ndarray] = []
    heads: list[np.ndarray] = []
    for start in range(0, N, _PART):
        embedding = predictor.predict(cache.images[start : start + _PART]).embedding
        h.append(embedding)
        with torch.inference_mode():
            x = torch.from_numpy(embedding).to(predictor.device)
            heads.append(
                np.stack(
                    [head(x).float().softmax(1).cpu().numpy() for head in model.cluster_projectors]
                )
            )
        report("assign", min(start + _PART, N), N)
    return np.concatenate(h), np.concatenate(heads, axis=1)
