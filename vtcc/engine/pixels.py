"""The training images, where the training runs."""

import numpy as np
import torch
from torch import Tensor


class Pixels:
    """Random access to uint8 images: on the GPU whole, else read from the memory map.

    Args:
        images: (M, S, S, C) uint8, usually a memory map.
        rows: (N,) int64, the rows that training may see.
        device: "cpu" or "cuda".
    """

    def __init__(self, images: np.ndarray, rows: np.ndarray, device: str):
        self._images, self._rows = images, rows
        self._on_device = None
        if device == "cuda":
            self._on_device = torch.from_numpy(images[rows]).to(device)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, index: Tensor) -> Tensor:
        """index: (B,) int64 on the CPU -> (B, C, S, S) uint8 on the device."""
        if self._on_device is not None:
            batch = self._on_device[index.to(self._on_device.device)]
        else:
            batch = torch.from_numpy(self._images[self._rows[index.numpy()]])
        return batch.permute(0, 3, 1, 2)
