"""What a training contrasts: two views of every image, of its pixels or of its cached features."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vtcc.config import Positives, Train
from vtcc.engine.augment import plain, view

NEIGHBOUR_IMAGES = 50_000  # that neighbours are searched among; more would be quadratic
_BLOCK = 2048


class Views(Protocol):
    """Turns what `take` of the training data gives into what the encoder takes."""

    def view(self, x: Tensor, generator: torch.Generator, *, second: bool) -> Tensor:
        """A random view of every image."""

    def plain(self, x: Tensor) -> Tensor:
        """The images as prediction sees them."""


class PixelViews:
    """Augmented, normalised views of uint8 pixels.

    Args:
        params: the `train` section. mean, std: C floats each, of the pixels in range 0-1.
        device: of the batches.
    """

    def __init__(
        self, params: Train, mean: tuple[float, ...], std: tuple[float, ...], device: str = "cpu"
    ):
        self._augment, self._size = params.augment, params.image_size
        # On the device once: a copy to a GPU in every step would make the CPU wait for it.
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(mean, device=device).view(shape)
        self._std = torch.tensor(std, device=device).view(shape)

    def view(self, x: Tensor, generator: torch.Generator, *, second: bool) -> Tensor:
        """x: (B, C, H, W) uint8 -> (B, C, S, S) float32."""
        return self.normalize(view(x, self._augment, self._size, generator, second=second))

    def plain(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W) uint8 -> (B, C, S, S) float32."""
        return self.normalize(plain(x, self._size))

    def normalize(self, x: Tensor) -> Tensor:
        """x: (B, C, S, S) in 0-1 -> zero mean, unit deviation per channel."""
        return (x - self._mean) / self._std


class FeatureViews:
    """Views of images whose encoder is frozen: its features, made once, and their neighbours.

    The first view is one of an image's own cached views. The second is another one, or, in a
    share of the cases, a view of one of the image's nearest neighbours: they are the positives
    that augmentation cannot make (SCAN, arXiv 2005.12320, section 2.2). Both lose some of their
    numbers at random.

    It is the training data as well: `take` gives what `view` and `plain` want.

    Args:
        features: (N, V, d), V views of every image, the image as it is first.
        params: of the positives.
        device: "cpu" or "cuda".
        neighbours: (N, k) int64; None: computed where they are asked for.
    """

    def __init__(
        self,
        features: np.ndarray | Tensor,
        params: Positives,
        device: str = "cpu",
        neighbours: Tensor | None = None,
    ):
        values = torch.as_tensor(
            np.asarray(features) if not torch.is_tensor(features) else features
        )
        self._features = values.to(device)
        self._params = params
        count = min(params.neighbours, len(values) - 1)
        wanted = count > 0 and params.neighbour_share > 0
        if neighbours is None and wanted:
            neighbours = nearest(self._features.float().mean(dim=1), count)
        self._neighbours = neighbours.to(device) if neighbours is not None and wanted else None

    def __len__(self) -> int:
        return len(self._features)

    @property
    def features(self) -> int:
        """d, numbers of a view."""
        return int(self._features.shape[2])

    def take(self, index: Tensor, following: Tensor | None = None) -> Tensor:
        """(B,) rows -> the same, on the device; nothing has to be read ahead."""
        return index.to(self._features.device, non_blocking=True)

    def view(self, x: Tensor, generator: torch.Generator, *, second: bool) -> Tensor:
        """x: (B,) rows -> (B, d) float32."""
        device, V = self._features.device, self._features.shape[1]
        chosen = torch.randint(V, x.shape, generator=generator, device=device)
        if second and self._neighbours is not None:
            k = self._neighbours.shape[1]
            which = torch.randint(k, x.shape, generator=generator, device=device)
            share = torch.rand(x.shape, generator=generator, device=device)
            x = torch.where(share < self._params.neighbour_share, self._neighbours[x, which], x)
        h = self._features[x, chosen].float()
        rate = self._params.dropout
        if not rate:
            return h
        kept = torch.rand(h.shape, generator=generator, device=device) >= rate
        return h * kept / (1 - rate)

    def plain(self, x: Tensor) -> Tensor:
        """x: (B,) rows -> (B, d) float32, of the images as they are."""
        return self._features[x, 0].float()


@torch.no_grad()
def nearest(h: Tensor, count: int) -> Tensor:
    """The `count` most similar other rows of every row, by cosine, (N, count) int64.

    Of very many rows, neighbours are looked for among `NEIGHBOUR_IMAGES` of them, evenly spaced.

    Args:
        h: (N, d) float32 with more than `count` rows.
    """
    unit = torch.nn.functional.normalize(h, dim=1)
    N = len(unit)
    step = -(-N // NEIGHBOUR_IMAGES)
    among = torch.arange(0, N, step, device=unit.device)
    candidates = unit[among]
    rows = []
    for start in range(0, N, _BLOCK):
        part = torch.arange(start, min(start + _BLOCK, N), device=unit.device)
        similarity = unit[part] @ candidates.T
        similarity[among[None, :] == part[:, None]] = -2.0  # no image is its own neighbour
        rows.append(among[similarity.topk(min(count, len(among) - 1), dim=1).indices])
    return torch.cat(rows)
