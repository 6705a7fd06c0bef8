"""What a folder of images is like: a sample of it is looked at before anything is chosen."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.analysis.features import hog
from vtcc.data import images as decoder
from vtcc.errors import VtccError

SAMPLE = 600  # images that are looked at
SIDE = 48  # pixels they are looked at
GREY = 6.0  # levels by which the colours of a grey image may differ on average
FOLDS = 4


@dataclass(frozen=True)
class Survey:
    """Facts about a sample of the images.

    Attributes:
        images: files there are. looked_at: files in the sample. unreadable: of those.
        short_side: median of the shorter side, in pixels.
        aspect: median of the longer side over the shorter one.
        colour: share of images with colour, 0-1.
        plain: share of images on ground of one colour, 0-1.
        dark_ground: share of those whose ground is dark, 0-1.
        thickness: of the shapes on plain ground, the radius of the largest circle in them, in
            image widths; small for strokes.
        mirror, upside_down, quarter: how well a linear classifier tells images from their
            mirrored, upside-down and quarter-turned copies, from .5 (it cannot) to 1.
    """

    images: int
    looked_at: int
    unreadable: int
    short_side: float
    aspect: float
    colour: float
    plain: float
    dark_ground: float
    thickness: float
    mirror: float
    upside_down: float
    quarter: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, rounded."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def look(files: Sequence[Path], *, max_pixels: int, seed: int = 0) -> Survey:
    """Decodes a seeded sample and measures it.

    Args:
        files: the images. max_pixels: as of `vtcc.data.images.decode`. seed: of the sample.

    Raises:
        VtccError: when not one of the sample can be read.
    """
    chosen = np.random.default_rng(seed).permutation(len(files))[:SAMPLE]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda i: _decode(files[i], max_pixels), np.sort(chosen)))
    decoded = [one for one in found if isinstance(one, decoder.Decoded)]
    if not decoded:
        first = next(one for one in found if isinstance(one, str))
        raise VtccError(
            f"not one of {len(found)} images could be read (first: {files[int(min(chosen))]}: "
            f"{first})"
        )
    pixels = np.stack([one.pixels for one in decoded])
    sides = np.array([(one.width, one.height) for one in decoded], dtype=float)
    grey = pixels.mean(axis=3)
    colour = np.abs(pixels - grey[..., None]).mean(axis=(1, 2, 3)) > GREY
    ground, plain = _ground(grey)
    turned = {
        "mirror": grey[:, :, ::-1],
        "upside_down": grey[:, ::-1],
        "quarter": np.rot90(grey, axes=(1, 2)),
    }
    upright = _gradients(grey)
    return Survey(
        images=len(files),
        looked_at=len(found),
        unreadable=len(found) - len(decoded),
        short_side=float(np.median(sides.min(axis=1))),
        aspect=float(np.median(sides.max(axis=1) / sides.min(axis=1))),
        colour=float(colour.mean()),
        plain=float(plain.mean()),
        dark_ground=float((ground[plain] < 128).mean()) if plain.any() else 0.0,
        thickness=_thickness(grey[plain], ground[plain]),
        **{name: _told_apart(upright, _gradients(other)) for name, other in turned.items()},
    )


def _decode(file: Path, max_pixels: int) -> decoder.Decoded | str:
    try:
        return decoder.decode(file, channels=3, max_pixels=max_pixels, size=SIDE)
    except decoder.UnreadableImage as error:
        return error.reason


def _ground(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, S, S) -> the ground's level (N,), and whether it is plain (N,): most of the border
    has it, and so has a good part of the image."""
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    level = np.median(border, axis=1)
    near = (np.abs(border - level[:, None]) < 12).mean(axis=1)
    whole = (np.abs(grey - level[:, None, None]) < 12).mean(axis=(1, 2))
    return level, (near > 0.6) & (whole > 0.2) & (whole < 0.98)


def _thickness(grey: np.ndarray, level: np.ndarray) -> float:
    """Median radius, in image widths, of the largest circle that fits into each shape."""
    from scipy import ndimage

    if not len(grey):
        return 0.5
    contrast = np.abs(grey - level[:, None, None])
    shapes = contrast > 0.3 * contrast.max(axis=(1, 2), keepdims=True)
    radii = [ndimage.distance_transform_edt(shape).max() for shape in shapes[:200]]
    return float(np.median(radii) / SIDE)


def _gradients(grey: np.ndarray) -> np.ndarray:
    """(N, S, S) -> (N, D): histograms of oriented gradients."""
    return hog(grey / 255, SIDE // 4)


def _told_apart(upright: np.ndarray, turned: np.ndarray) -> float:
    """Cross-validated accuracy of telling images from their turned copies, 0.5 at least.

    An image and its copy are always in the same fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    N = len(upright)
    if N < 2 * FOLDS:
        return 1.0  # too few to say: they are not turned
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    scores = cross_val_score(
        model,
        np.concatenate([upright, turned]),
        np.repeat([0, 1], N),
        groups=np.tile(np.arange(N), 2),
        cv=GroupKFold(FOLDS),
    )
    return float(max(scores.mean(), 0.5))
