"""Whether a folder holds one picture many times: copies that were cropped, turned, brightened.

Corners of some images (ORB, Rublee et al. 2011) are matched with those of a few of them; a copy is
an image many of whose matches are explained by one affine map.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.data import images as decoder
from vtcc.data.decoding import channels_of, in_threads

LOOKED_AT = 40  # images
FIRST = 12  # of them; where fewer than half of these are copies, the others are not looked at
REFERENCES = 3  # of them, that the others are matched with
SIDE = 192
CORNERS = 150
LEAST = 12  # matches that one map explains
SHARE = 0.35  # of all matches, likewise

Corners = tuple[np.ndarray, np.ndarray] | None


def share(files: Sequence[Path], *, seed: int, **decoding: Any) -> float:
    """Share of a sample of images that are copies of one of them, 0-1.

    Args:
        files: that can be read. seed: of the sample.
        decoding: max_pixels and others, as of `vtcc.data.images.decode`.
    """
    chosen = np.random.default_rng(seed).permutation(len(files))[:LOOKED_AT]
    mirrored = [_corners(files[at], decoding, mirrored=True) for at in chosen[:REFERENCES]]
    corners: list[Corners] = []
    highest = 0.0
    for end in (FIRST, LOOKED_AT):
        more = in_threads(lambda at: _corners(files[at], decoding), chosen[len(corners) : end], 1)
        corners += [found for _, found in more]
        highest = max(_copies(i, corners, mirrored[i], seed) for i in range(len(mirrored)))
        if highest < 0.5:
            break
    return highest


def _copies(i: int, corners: list[Corners], mirrored: Corners, seed: int) -> float:
    """Share of the other images that are copies of image i, as it is or mirrored."""
    if corners[i] is None:
        return 0.0
    others = [other for j, other in enumerate(corners) if j != i]
    same = sum(
        1 for other in others if any(_is_copy(m, other, seed) for m in (corners[i], mirrored))
    )
    return same / max(len(others), 1)


def _corners(file: Path, decoding: Mapping[str, Any], mirrored: bool = False) -> Corners:
    """Places (n, 2) and descriptors (n, 256) of corners; None where there are hardly any."""
    from skimage.feature import ORB

    try:
        channels = channels_of(decoding, 1)
        pixels = decoder.load(file, size=SIDE, channels=channels, **decoding)
    except decoder.UnreadableImage:
        return None
    orb = ORB(n_keypoints=CORNERS, fast_threshold=0.05)
    try:
        grey = pixels.mean(axis=-1) / 255
        orb.detect_and_extract(grey[:, ::-1] if mirrored else grey)
    except (RuntimeError, IndexError, ValueError):  # no corner at all
        return None
    places, descriptors = orb.keypoints, orb.descriptors
    if places is None or descriptors is None or len(places) < LEAST:
        return None
    return places, descriptors


def _is_copy(first: Corners, second: Corners, seed: int) -> bool:
    if first is None or second is None:
        return False
    from skimage.feature import match_descriptors
    from skimage.measure import ransac
    from skimage.transform import AffineTransform

    pairs = match_descriptors(first[1], second[1], max_ratio=0.85, cross_check=True)
    if len(pairs) < LEAST:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, inliers = ransac(
            (first[0][pairs[:, 0]], second[0][pairs[:, 1]]),
            AffineTransform,
            min_samples=3,
            residual_threshold=4,
            max_trials=200,
            rng=seed,
        )
    explained = 0 if inliers is None else int(inliers.sum())
    return explained >= LEAST and explained >= SHARE * len(pairs)
