"""Images that look alike: a perceptual hash of each, and the earlier image it comes near to.

The hash is dHash (whether each of 8 x 8 places is brighter than its left neighbour), made from
a brightness of 8 x 9 places; two images are alike when few bits differ and those places agree.
"""

import itertools
from functools import cache

import numpy as np

from vtcc.progress import note

_ROWS, _COLUMNS = 8, 9
_LEAST_STEP = 2.0  # grey levels; what is flatter says nothing of an image
_LEAST_BITS = 8  # a picture of few edges, such as a dot on black, is like many others
_AGREE = 0.98  # correlation
_PAIRS = 1 << 16  # compared at a time
_MOST = 4096  # earlier images of one key that an image is compared with
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

    Of hashes cut into `distance + 2` bands two bands at least are alike where no more than
    `distance` bits differ, so only images that share two of them are compared: the result is that
    of all pairs. Where more than `_MOST` share two, the time is bounded instead, and a note says
    so: the later ones are compared with the first `_MOST`, and by their other bands.
    Memory: the sketches three times, and some numbers for each image.

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
    if not len(busy):
        return nearest
    # The same picture a thousand times is compared once.
    rows = np.ascontiguousarray(sketches[busy]).reshape(len(busy), -1)
    whole = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, first, of = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(first)  # by their places among the images
    first, of = first[order], np.argsort(order)[of]
    codes, flat = codes[busy[first]], _standardised(sketches[busy[first]])
    earlier = np.full(len(first), len(first), dtype=np.int64)
    bounded = np.zeros(len(first), dtype=bool)
    for mask in _masks(distance):
        bounded[_compare(codes, flat, codes & mask, distance, earlier)] = True
    if bounded.any():
        note(
            f"look-alikes: {int(bounded.sum())} images share half of their hash with more than "
            f"{_MOST} earlier ones, and are compared with the first {_MOST} of these"
        )
    found = np.where(earlier < len(first), busy[first[earlier.clip(max=len(first) - 1)]], -1)
    nearest[busy] = found[of]
    again = np.arange(len(busy)) != first[of]
    alone = again & (nearest[busy] < 0)
    nearest[busy[alone]] = busy[first[of[alone]]]
    return nearest


def _masks(distance: int) -> list[np.uint64]:
    """Two bands of the 64 bits each, of `distance + 2` bands, in every combination.

    Bits of each row and of each column go to the bands in turn: where a part of all pictures is
    plain, such as the ground behind a product, each band keeps bits that differ.
    """
    count = min(distance + 2, 64)
    bands = [0] * count
    for row, column in itertools.product(range(8), range(8)):
        bands[(8 * row + (row + column) % 8) % count] |= 1 << (8 * row + column)
    return [np.uint64(a | b) for a, b in itertools.combinations(bands, 2)]


def _compare(
    codes: np.ndarray, flat: np.ndarray, keys: np.ndarray, distance: int, earlier: np.ndarray
) -> np.ndarray:
    """Lowers `earlier` to the first image that looks alike, of those with the same key.

    All images are compared with the first of their key, those unlike it with the second, and so
    on, up to `_MOST`.

    Args:
        codes: (n,) hashes. flat: (n, 72) standardised. keys: (n,). earlier: (n,), changed.

    Returns:
        Numbers of the images for which that was not to the end.
    """
    order = np.argsort(keys, kind="stable")  # of one key the first image first
    keys = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    start = np.repeat(begins, np.diff(np.concatenate([begins, [len(keys)]])))
    at, number = np.flatnonzero(start != np.arange(len(keys))), 0
    while True:
        with_ = start[at] + number
        i, j = order[with_], order[at]
        # An earlier one that looks alike may be known by another key.
        left = (with_ < at) & (i < earlier[j])
        at, i, j = at[left], i[left], j[left]
        if not len(at) or number == _MOST:
            return j
        alike = np.bitwise_count(codes[i] ^ codes[j]) <= distance
        near = np.flatnonzero(alike)
        for part in range(0, len(near), _PAIRS):
            some = near[part : part + _PAIRS]
            alike[some] = np.einsum("nd,nd->n", flat[i[some]], flat[j[some]]) >= _AGREE
        earlier[j[alike]] = i[alike]
        at, number = at[~alike], number + 1


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
