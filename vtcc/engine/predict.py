"""Prediction: cached pixels in, probabilities and embedding out."""

import copy
import threading
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
from vtcc.engine.runtime import Runtime, runtime
from vtcc.engine.timm_encoder import TimmEncoder
from vtcc.errors import VtccError

PIXELS = 1 << 21  # of a forward pass at most: at 224 pixels a hundred images would fill gigabytes
# Images of a pretrained encoder from which on `runtime` chooses what computes it. Fewer are left to
# torch: a conversion takes what onnxruntime gains on 20 to 90 (docs/design.md).
MANY = 64
_CONVERTING = threading.Lock()  # torch's exporter keeps its state in globals


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

    A pretrained encoder of it is computed by what `engine.runtime` chooses, as `embed` computes it,
    once `MANY` images have come; all else is torch's.

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
        # The caller's stays where it is: others go on with it on the CPU.
        own = model if self.device == "cpu" else copy.deepcopy(model)
        self.model = own.to(self.device).eval()
        self.info = info
        self._seen = 0
        self._by_torch = self._runtime("torch")
        self._by_choice: Runtime | None = None
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
            batch_size: images per forward pass, fewer where they are large; like what computes the
                encoder, it does not change the result beyond rounding.

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

        self._seen += len(images)
        if self._seen >= MANY:
            self.prepare()
        features = self._by_choice or self._by_torch

        def embedded(part: slice) -> torch.Tensor:
            x = self._normalized(torch.from_numpy(np.array(images[part])).to(self.device))
            return self._reduced(features(x)) if features else self.model.embed(x)

        return self._assigned(len(images), batch_size, embedded)

    def prepare(self) -> None:
        """Has what computes a pretrained encoder for many images ready: some seconds, once."""
        with _CONVERTING:
            self._by_choice = self._by_choice or self._runtime("auto")

    @torch.inference_mode()
    @_full_precision()
    def predict_features(self, features: np.ndarray, batch_size: int = 4096) -> Prediction:
        """Assigns images by features that its frozen encoder made before.

        Args:
            features: (N, D) of any float type, as `vtcc.engine.features` keeps them.
            batch_size: images at a time.
        """
        return self._assigned(len(features), batch_size, lambda part: self._reduced(features[part]))

    def _reduced(self, features: np.ndarray) -> torch.Tensor:
        """(n, D) of any float type -> h: (n, d), what a frozen encoder makes of its backbone's."""
        x = torch.from_numpy(np.asarray(features, np.float32)).to(self.device)
        encoder = self.model.encoder
        return encoder.reduce(x) if isinstance(encoder, FrozenEncoder) else x

    def _runtime(self, kind: str) -> Runtime | None:
        """What computes the features of a pretrained encoder, in fp32; None for one of our own."""
        encoder = self.model.encoder
        backbone = encoder.backbone if isinstance(encoder, FrozenEncoder) else encoder
        if not isinstance(backbone, TimmEncoder):
            return None
        return runtime(
            backbone,
            image_size=self.info["image_size"],
            channels=self.info["channels"],
            device=self.device,
            kind=kind,
            half=False,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without what computes the encoder, which only a process can hold."""
        return self.__dict__ | {"_seen": 0, "_by_torch": None, "_by_choice": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self._by_torch = self._runtime("torch")

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

    def _normalized(self, x: torch.Tensor) -> torch.Tensor:
        """(N, S, S, C) uint8 -> (N, C, s, s) normalised, s = the training's image size."""
        images = plain(x.permute(0, 3, 1, 2), self.info["image_size"])
        return normalize(images, tuple(self.info["mean"]), tuple(self.info["std"]))


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
        section = replace(
            section, components=0, projectors="cluster", num_cluster_heads=1, assign="heads"
        )
    model = build(
        section,
        info["num_clusters"],
        image_size=info["image_size"],
        channels=info["channels"],
    )
    return Predictor(model, info).predict(images).embedding
