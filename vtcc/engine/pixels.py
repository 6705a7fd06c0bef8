"""The training images, where the training runs."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

# Of the GPU's free memory the images may take this much; the rest is the step's.
SHARE = 0.4
UPLOAD = 256 * 2**20  # bytes in one piece


class Pixels:
    """Random access to uint8 images.

    On a GPU whole where they fit, else a thread reads the next batch into pinned memory while
    the present one is trained on. On a CPU one copy, from the memory map into the batch: at
    224 pixels 1 to 2 ms of a step that takes seconds, so nothing is read ahead there.

    Args:
        images: (M, S, S, C) uint8, usually a memory map.
        rows: (N,) int64, the rows that training may see.
        device: "cpu" or "cuda".
        budget: bytes that the images may take on a GPU; None: a share of what is free.
    """

    def __init__(
        self, images: np.ndarray, rows: np.ndarray, device: str, budget: int | None = None
    ):
        self._images, self._rows, self._device = images, rows, device
        self._whole: Tensor | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._ahead: tuple[list[int], Future[Tensor]] | None = None
        if device == "cpu":
            return
        if budget is None:
            budget = int(SHARE * torch.cuda.mem_get_info()[0])
        if len(rows) * int(np.prod(images.shape[1:])) <= budget:
            self._whole = self._upload()
        else:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="pixels")

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, index: Tensor, following: Tensor | None = None) -> Tensor:
        """Pixels of some images.

        Args:
            index: (B,) int64 on the CPU.
            following: what will be asked for next, which may be read ahead.

        Returns:
            (B, C, S, S) uint8 on the device.
        """
        if self._whole is not None:
            batch = self._whole[index.to(self._whole.device, non_blocking=True)]
        elif self._reader is not None:
            batch = self._read_ahead(index, following)
        else:
            batch = self._read(index)
        return batch.permute(0, 3, 1, 2)

    def _read(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self._images[self._rows[index.numpy()]])

    def _read_ahead(self, index: Tensor, following: Tensor | None) -> Tensor:
        assert self._reader is not None
        wanted = index.tolist()
        if self._ahead is not None and self._ahead[0] == wanted:
            batch = self._ahead[1].result()
        else:
            batch = self._pinned(index)
        self._ahead = None
        if following is not None:
            self._ahead = following.tolist(), self._reader.submit(self._pinned, following)
        return batch.to(self._device, non_blocking=True)

    def _pinned(self, index: Tensor) -> Tensor:
        batch = self._read(index)
        return batch.pin_memory() if torch.cuda.is_available() else batch

    def _upload(self) -> Tensor:
        """All rows on the device, in pieces: they may not fit into the CPU's memory at once."""
        whole = torch.empty(
            (len(self._rows), *self._images.shape[1:]), dtype=torch.uint8, device=self._device
        )
        piece = max(1, UPLOAD // max(1, int(np.prod(self._images.shape[1:]))))
        for start in range(0, len(self._rows), piece):
            part = self._images[self._rows[start : start + piece]]
            whole[start : start + piece] = torch.from_numpy(part)
        return whole
