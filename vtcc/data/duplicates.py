"""Images that look alike: a perceptual hash of each, and the earlier image it comes near to.

The hash is dHash (whether each of 8 x 8 places is brighter than its left neighbour), made from
a brightness of 8 x 9 places; two images are alike when few bits differ and those places agree.
"""

from functools import cache

import numpy as np

_ROWS, _COLUMNS = 8, 9
_LEAST_STEP = 2.0  # grey levels; what is flatter says nothing of an image
_LEAST_BITS = 8  # a picture of few edges, such as a dot on black, is like many others
_AGREE = 0.98  # correlation
_BLOCK_BYTES = 32 << 20
_LUMA = (0.299, 0.587, 0.114)


def sketch(pixels: np.ndarray) -> np.ndarray:
    """Mean brightness in 8 rows of 9 places, float32.

    Args:
        pixels: (S, S, C) uint8; of three channels luma, else the mean.
    """
    S, _, C = pixels.shape
    weights = np.asarray(_LUMA if C == 3 else [1 / C] * C, dtype=np.float32)
    grey = pixels.astype(np.float32) @ weights
    return _shares(S, _ROWS) @ grey @ _shares(S, _COLUMNS).T


@cache
def _shares(size: int, places: int) -> np.ndarray:
    """(places, size) float32: how much of each pixel lies in each place, rows sum to 1."""
    edges = np.linspace(0, size, places + 1)
    at = np.arange(size)
    overlap = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    return (overlap.clip(0) * places / size).astype(np.float32)


def hashes(sketches: np.ndarray) -> np.ndarray:
    """(N, 8, 9) float32 -> (N,) uint64."""
    brighter = np.diff(sketches, axis=2) > _LEAST_STEP
    packed = np.packbits(brighter.reshape(len(sketches), 64), axis=1)
    return np.ascontiguousarray(packed).view(np.uint64).ravel()


def nearest_earlier(sketches: np.ndarray, distance: int) -> np.ndarray:
    """For each image the first one before it that looks like it.

    All pairs are compared, some thousand rows at a time: 60,000 images take seconds and
    64 MiB at most.

    Args:
        sketches: (N, 8, 9) float32, as `sketch` makes them.
        distance: bits of 64 that may differ.

    Returns:
        (N,) int64: its number, or -1 where there is none.
    """
    nearest = np.full(len(sketches), -1, dtype=np.int64)
    codes = hashes(sketches)
    busy = np.flatnonzero(
        (np.bitwise_count(codes) >= _LEAST_BITS) & (np.bitwise_count(~codes) >= _LEAST_BITS)
    )
    codes, flat = codes[busy], _standardised(sketches[busy])
    rows = max(1, _BLOCK_BYTES // (8 * max(len(codes), 1)))
    for start in range(0, len(codes), rows):
        block = codes[start : start + rows]
        apart = np.bitwise_count(block[:, None] ^ codes[None, : start + len(block)])
        late, early = np.nonzero(apart <= distance)
        late += start
        late, early = late[early < late], early[early < late]
        for part in range(0, len(late), 1 << 16):
            i, j = late[part : part + (1 << 16)], early[part : part + (1 << 16)]
            alike = np.einsum("nd,nd->n", flat[i], flat[j]) >= _AGREE
            # Pairs come in ascending order; written backwards, the first one stays.
            i, j = i[alike][::-1], j[alike][::-1]
            fresh = nearest[busy[i]] < 0
            nearest[busy[i[fresh]]] = busy[j[fresh]]
    return nearest


def _standardised(sketches: np.ndarray) -> np.ndarray:
    """(N, 72) float32, rows of mean 0 and length 1, so that a product is a correlation."""
    flat = sketches.reshape(len(sketches), _ROWS * _COLUMNS)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-6)


def groups(earlier: np.ndarray) -> np.ndarray:
    """Follows each image to the first of its group.

    Args:
        earlier: (N,) as of `nearest_earlier`.

    Returns:
        (N,) int64: number of the group's first image; its own where it is alone or first.
    """
    first = np.where(earlier < 0, np.arange(len(earlier)), earlier)
    while (first != first[first]).any():
        first = first[first]
    return first
