"""Prediction: cached pixels in, probabilities and embedding out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtcc.engine.augment import normalize, plain
from vtcc.engine.checkpoint import read_model
from vtcc.engine.frozen import FrozenEncoder
from vtcc.engine.kernels import resolve_device
from vtcc.engine.model import VTCC
from vtcc.errors import VtccError

PIXELS = 1 << 21  # of a forward pass at most: at 224 pixels a hundred images would fill gigabytes


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keeps GPUs from TF32, which cuDNN's convolutions take by default: 10 bits instead of 23."""
    backends: Any = torch.backends
    kinds = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


@dataclass(frozen=True)
class Prediction:
    """What a model says of N images.

    Attributes:
        probabilities: (N, K) float32, rows sum to 1.
        embedding: (N, d) float32, the class token h.
    """

    probabilities: np.ndarray
    embedding: np.ndarray

    @property
    def cluster(self) -> np.ndarray:
        """(N,) int64, the most probable cluster."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> np.ndarray:
        """(N,) float32, the probability of that cluster."""
        return np.asarray(self.probabilities.max(axis=1))


class Predictor:
    """A trained model with all it needs to read images as training read them.

    Attributes:
        info: the model's `model.json`.
        num_clusters: K. cache_size: side in pixels of the images `predict` takes.
        channels: C.
        decoding: how image files become such pixels, keywords of `vtcc.data.images.load`.
        clusters: names, centres and limits (`vtcc.grouping.clusters.Clusters`), where whoever
            loaded the model loaded them too; None otherwise.
    """

    clusters: Any = None

    def __init__(self, model: VTCC, info: dict[str, Any], device: str = "auto"):
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval()
        self._frozen = isinstance(model.encoder, FrozenEncoder)
        if self._frozen:  # large images through convolutions: twice as fast in this layout
            self.model.encoder.to(memory_format=torch.channels_last)
        self.info = info
        self.num_clusters: int = info["num_clusters"]
        self.cache_size: int = info["cache_size"]
        self.channels: int = info["channels"]
        self.decoding: dict[str, Any] = {
            "channels": self.channels,
            "max_pixels": info["max_pixels"],
            "size": self.cache_size,
            # Models of vtcc 0.1 say nothing of these.
            "bands": info.get("bands", []),
            "stretch": info.get("stretch", "type"),
            "stretch_range": info.get("stretch_range", [0.0, 255.0]),
        }

    @torch.inference_mode()
    @_full_precision()
    def predict(self, images: np.ndarray, batch_size: int = 512) -> Prediction:
        """Assigns images to clusters, in fp32 whatever the training used.

        Args:
            images: (N, S, S, C) uint8 with S = `cache_size`, as `vtcc.data.images.load`
                and the cache give them.
            batch_size: images per forward pass, fewer where they are large; does not change the
                result beyond rounding.

        Raises:
            VtccError: when the shape is not the one the model was trained on.
        """
        S, C = self.cache_size, self.channels
        if images.shape[1:] != (S, S, C):
            raise VtccError(
                f"the model takes images of shape ({S}, {S}, {C}), found {images.shape[1:]}; "
                "decode them with the model's cache_size and channels"
            )
        batch_size = min(batch_size, max(1, PIXELS // self.info["image_size"] ** 2))

        def embedded(part: slice) -> torch.Tensor:
            x = torch.from_numpy(np.array(images[part])).to(self.device)
            return self.model.embed(self._prepare(x))

        return self._assigned(len(images), batch_size, embedded)

    @torch.inference_mode()
    @_full_precision()
    def predict_features(self, features: np.ndarray, batch_size: int = 4096) -> Prediction:
        """Assigns images by features that its frozen encoder made before.

        Args:
            features: (N, D) of any float type, as `vtcc.engine.features` keeps them.
            batch_size: images at a time.
        """
        encoder = self.model.encoder

        def embedded(part: slice) -> torch.Tensor:
            x = torch.from_numpy(np.asarray(features[part], np.float32)).to(self.device)
            return encoder.reduce(x) if isinstance(encoder, FrozenEncoder) else x

        return self._assigned(len(features), batch_size, embedded)

    def _assigned(
        self, N: int, batch_size: int, embedded: Callable[[slice], torch.Tensor]
    ) -> Prediction:
        """The clusters of N images by their embeddings h, a part of them at a time."""
        d = int(self.model.encoder.embed_dim)  # type: ignore[arg-type]
        probabilities = np.empty((N, self.num_clusters), np.float32)
        embedding = np.empty((N, d), np.float32)
        for start in range(0, N, batch_size):
            part = slice(start, start + batch_size)
            h = embedded(part)
            embedding[part] = h.cpu().numpy()
            probabilities[part] = self.model.assign_embedding(h).cpu().numpy()
        return Prediction(probabilities, embedding)

    def _prepare(self, x: torch.Tensor) -> torch.Tensor:
        """(N, S, S, C) uint8 -> (N, C, s, s) normalised, s = the training's image size."""
        images = plain(x.permute(0, 3, 1, 2), self.info["image_size"])
        x = normalize(images, tuple(self.info["mean"]), tuple(self.info["std"]))
        return x.contiguous(memory_format=torch.channels_last) if self._frozen else x


def load(directory: Path | str, device: str = "auto") -> Predictor:
    """Loads a model directory (safetensors and JSON; no code is run).

    Raises:
        VtccError: when it is not a vtcc model.
    """
    model, info = read_model(Path(directory))
    return Predictor(model, info, device)


def embed_untrained(info: dict[str, Any], images: np.ndarray, seed: int = 0) -> np.ndarray:
    """The embedding of the same architecture before any training, the fair zero of a baseline.

    Args:
        info: a model's `model.json`.
        images: (N, S, S, C) uint8. seed: of the random weights.

    Returns:
        (N, d) float32; of a frozen encoder without its principal components, which are fitted.
    """
    from vtcc.engine.checkpoint import architecture
    from vtcc.engine.model import build

    torch.manual_seed(seed)
    section = architecture(info)
    if section.components:
        section = replace(section, components=0, projectors="cluster", num_cluster_heads=1)
    model = build(
        section,
        info["num_clusters"],
        image_size=info["image_size"],
        channels=info["channels"],
    )
    return Predictor(model, info).predict(images).embedding
