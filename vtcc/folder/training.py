"""Trainings of one folder: within a time, resumable, each to embeddings and probabilities."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtcc import config
from vtcc.analysis.selection import Candidate, choose
from vtcc.atomic import atomic_file, write_text
from vtcc.data.cache import Cache
from vtcc.engine import checkpoint, loop, plan, record
from vtcc.engine.model import VTCC
from vtcc.engine.predict import Predictor
from vtcc.folder.choices import epochs_for
from vtcc.progress import note, report
from vtcc.stages.train import normalization

_PART = 4096


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        model: in eval mode on the CPU, its head chosen without labels.
        info: its `model.json`.
        h: (N, d) float32 embedding of the cached images.
        heads: (heads, N, K) float32 probabilities of every head; head `chosen` is the model's.
        chosen: number of the head. params: nested, those it was trained with.
        steps, seconds: it took, resumes included in the steps alone.
    """

    model: VTCC
    info: dict[str, Any]
    h: np.ndarray
    heads: np.ndarray
    chosen: int
    params: dict[str, Any]
    steps: int
    seconds: float

    @property
    def p(self) -> np.ndarray:
        """(N, K) probabilities of the chosen head."""
        return self.heads[self.chosen]

    def predictor(self) -> Predictor:
        """The model with all it needs to read images."""
        return Predictor(self.model, self.info)


def train(
    cache: Cache, params: dict[str, Any], room: Path, *, seconds: float | None, title: str
) -> Trained:
    """Trains for about `seconds`; a second call goes on or reads what the first one left.

    Args:
        cache: the images. params: nested.
        seconds: replaces `train.epochs` by as many as fit this time; None: leaves them.
        room: a directory of this training's own, kept between calls.
        title: of the training, in what people read.

    Raises:
        VtccError: as `loop.fit`. Interrupted: after a signal, with the checkpoint written.
    """
    room.mkdir(parents=True, exist_ok=True)
    if seconds is not None:
        params = _with_epochs(cache, params, room, seconds)
    section = config.from_dict(config.Params, params).train
    mean, std = normalization(section.normalize, cache)
    done = room / "model"
    if not (done.exists() and (room / "heads.npz").exists()):
        note(f"{title}: {section.epochs} epochs, K = {section.num_clusters}, seed {section.seed}")
        started = time.monotonic()
        fitted = loop.fit(
            cache.images,
            cache.rows("train"),
            section,
            mean=mean,
            std=std,
            scratch=room / "scratch",
            digest=cache.digest,
            known_kernels=room.parent / "kernels",
        )
        best = choose([Candidate(**c) for c in fitted.candidates])
        model = fitted.choose(best.step, best.head)
        took = time.monotonic() - started
        info = {
            "model": config.to_dict(section.model),
            "num_clusters": section.num_clusters,
            "image_size": section.image_size,
            "cache_size": cache.image_size,
            "channels": cache.channels,
            **cache.decoding,
            "max_pixels": params["validate"]["max_pixels"],
            "mean": list(mean),
            "std": list(std),
            "head": best.head,
            "epoch": best.epoch,
            "dataset": {"name": cache.name, "digest": cache.digest, "images": len(cache.paths)},
            "train": config.to_dict(section),
            "kernels": vars(fitted.kernels),
            "processes": 1,
            "versions": record.versions(),
        }
        h, heads = embed(cache, model, info)
        with atomic_file(room / "heads.npz") as building, building.open("wb") as file:
            np.savez(file, h=h, heads=heads, seconds=took)
        checkpoint.save_model(done, model, info)
    model, info = checkpoint.read_model(done)
    with np.load(room / "heads.npz", allow_pickle=False) as saved:
        h, heads, took = saved["h"], saved["heads"], float(saved["seconds"])
    steps = section.epochs * (len(cache.paths) // section.batch_size)
    return Trained(model, info, h, heads, info["head"], params, steps, took)


def embed(cache: Cache, model: VTCC, info: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """h (N, d) and the probabilities (heads, N, K) of every head, in fp32, with progress."""
    predictor = Predictor(model, info)
    N = len(cache.paths)
    h: list[np.ndarray] = []
    heads: list[np.ndarray] = []
    for start in range(0, N, _PART):
        found = predictor.predict(cache.images[start : start + _PART])
        h.append(found.embedding)
        with torch.inference_mode():
            x = torch.from_numpy(found.embedding).to(predictor.device)
            said = [head(x).float().softmax(1).cpu().numpy() for head in model.cluster_projectors]
        heads.append(np.stack(said))
        report("assign", min(start + _PART, N), N)
    return np.concatenate(h), np.concatenate(heads, axis=1)


def _with_epochs(
    cache: Cache, params: dict[str, Any], room: Path, seconds: float
) -> dict[str, Any]:
    """The parameters with the epochs that fit the time, measured once and kept."""
    kept = room / "epochs.json"
    if kept.exists():
        epochs = json.loads(kept.read_text(encoding="utf-8"))["epochs"]
        return config.override(params, {"train.epochs": epochs})
    trial = config.override(params, {"train.epochs": 10})
    section = config.from_dict(config.Params, trial).train
    mean, std = normalization(section.normalize, cache)
    rows = cache.rows("train")
    made = plan.rehearse(cache.images, rows, section, mean=mean, std=std, seconds=4.0)
    per_step = made.step.mean * section.batch_size / made.step.batch
    per_epoch = len(rows) // section.batch_size
    epochs = epochs_for(seconds, per_step, per_epoch)
    needed = epochs * per_epoch * per_step
    if needed > 1.5 * seconds:
        note(
            f"the time asked for is too short for {epochs * per_epoch} steps, the least that makes "
            f"sense: this training takes about {needed / 60:.1f} minutes"
        )
    write_text(kept, json.dumps({"epochs": epochs, "seconds_per_step": per_step}) + "\n")
    return config.override(params, {"train.epochs": epochs})
