"""What a folder of images is like: a sample of it is looked at before anything is chosen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtcc.analysis.features import hog
from vtcc.data.decoding import channels_of, decoded
from vtcc.data.images import UnreadableImage
from vtcc.errors import VtccError

SAMPLE = 600  # images that are looked at
SIDE = 48  # pixels they are looked at
GREY = 6.0  # levels by which the colours of a grey image may differ on average
FOLDS = 4


@dataclass(frozen=True)
class Survey:
    """Facts about a sample of the images.

    Attributes:
        images: files there are. looked_at: files in the sample.
        short_side: median of the shorter side, in pixels.
        colour: share of images with colour, 0-1.
        plain: share of images on ground of one colour, 0-1.
        dark_ground: share of those whose ground is dark, 0-1.
        mirror, upside_down, quarter: how well a linear classifier tells images from their
            mirrored, upside-down and quarter-turned copies, from .5 (it cannot) to 1.
    """

    images: int
    looked_at: int
    short_side: float
    colour: float
    plain: float
    dark_ground: float
    mirror: float
    upside_down: float
    quarter: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, rounded."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def look(files: Sequence[Path], *, seed: int = 0, **decoding: Any) -> Survey:
    """Decodes a seeded sample and measures it.

    Args:
        files: the images. seed: of the sample.
        decoding: max_pixels and others, as of `vtcc.data.images.decode`; with `bands` these are
            looked at, else red, green and blue.

    Raises:
        VtccError: when not one of the sample can be read.
    """
    chosen = np.random.default_rng(seed).permutation(len(files))[:SAMPLE]
    sample = [files[i] for i in np.sort(chosen)]
    images, reasons = [], []
    channels = channels_of(decoding, 3)
    for file, image in decoded(sample, channels=channels, size=SIDE, **decoding):
        if isinstance(image, UnreadableImage):
            reasons.append(f"{file}: {image.reason}")
        else:
            images.append(image)
    if not images:
        raise VtccError(f"not one of {len(sample)} images could be read (first: {reasons[0]})")
    pixels = np.stack([image.pixels for image in images])
    sides = np.array([(image.width, image.height) for image in images], dtype=float)
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
        looked_at=len(sample),
        short_side=float(np.median(sides.min(axis=1))),
        colour=float(colour.mean()),
        plain=float(plain.mean()),
        dark_ground=float((ground[plain] < 128).mean()) if plain.any() else 0.0,
        **{name: _told_apart(upright, _gradients(other)) for name, other in turned.items()},
    )


def _ground(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, S, S) -> the ground's level (N,), and whether it is plain (N,): most of the border
    has it, and so has a good part of the image."""
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    level = np.median(border, axis=1)
    near = (np.abs(border - level[:, None]) < 12).mean(axis=1)
    whole = (np.abs(grey - level[:, None, None]) < 12).mean(axis=(1, 2))
    return level, (near > 0.6) & (whole > 0.2) & (whole < 0.98)


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
