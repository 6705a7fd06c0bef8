"""What happens when: the order of images, the seed of every draw, the epochs that are scored."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from vtcc.config import Train
from vtcc.errors import VtccError

ORDER, VIEWS, RESTART = 0, 1, 3  # kinds of streams; the second views' is VIEWS + 1


def stream(seed: int, kind: int, number: int, rank: int = 0) -> int:
    """A generator seed of its own for every (training seed, kind of draw, epoch or step, rank).

    Hashed to 32 bits, since torch's CPU generator ignores all higher ones.
    """
    draw = [seed, kind, number] + ([rank] if rank else [])
    return int(np.random.SeedSequence(draw).generate_state(1, np.uint32)[0])


def view_seeds(seed: int, step: int, rank: int = 0) -> Callable[[int], int]:
    """The seed of the first (0) or second (1) views of a step."""
    return lambda side: stream(seed, VIEWS + side, step, rank)


@lru_cache(maxsize=2)  # asked for at every step; 70,000 images take a millisecond to shuffle
def epoch_order(images: int, seed: int, epoch: int) -> torch.Tensor:
    """The shuffled rows of one epoch, (images,) int64, a function of seed and epoch."""
    generator = torch.Generator().manual_seed(stream(seed, ORDER, epoch))
    return torch.randperm(images, generator=generator)


def batch(images: int, params: Train, step: int) -> torch.Tensor:
    """The rows of `step` (from 0), (batch_size,) int64; a partial last batch is dropped."""
    epoch, at = divmod(step, images // params.batch_size)
    start = at * params.batch_size
    return epoch_order(images, params.seed, epoch)[start : start + params.batch_size]


def restart_epoch(params: Train) -> int:
    """The epoch (from 1) after which half of the cluster heads begin afresh; 0: never."""
    return params.epochs // 2 if params.restart_heads else 0


def selection_epochs(params: Train) -> set[int]:
    """Epochs (from 1) whose checkpoints are compared: evenly over the last half, and the last.

    With self-labelling it is its last epoch alone: losses of two phases do not compare.
    """
    if params.self_label.epochs:
        return {params.epochs + params.self_label.epochs}
    points = params.selection.points
    return {max(1, round(params.epochs * (0.5 + 0.5 * (i + 1) / points))) for i in range(points)}


def saved_epochs(params: Train) -> set[int]:
    """Epochs (from 1) after which the state is saved, whatever the clock says.

    Those that are scored, and every tenth part of the training: at least ten times in all where
    there are as many epochs, rarely enough to cost nothing beside the epochs themselves.
    """
    epochs = params.epochs + params.self_label.epochs
    return selection_epochs(params) | set(
        range(max(1, epochs // 10), epochs + 1, max(1, epochs // 10))
    )


def check_fits(params: Train, images: int) -> None:
    """Refuses a K or a batch size that the number of training images does not allow."""
    if params.num_clusters > images:
        raise VtccError(
            f"train.num_clusters: {params.num_clusters} clusters for {images} training images; "
            f"use at most {images}"
        )
    if params.batch_size > images:
        raise VtccError(
            f"train.batch_size: {params.batch_size} is more than the {images} training images; "
            f"try {max(2, min(32, images // 2))}"
        )
