"""Two models on the same images, views and reference space: is the new one better?

The rule itself is `vtcc.analysis.selection.promote`, explained in docs/selection.md.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc import paths
from vtcc.errors import VtccError, in_one_line

if TYPE_CHECKING:
    from vtcc.data.cache import Cache
    from vtcc.engine.predict import Predictor

IMAGES = 2000
LARGE_IMAGES = 400  # where a pretrained encoder has to embed both views of them
SEED = 20220627

# The views of docs/selection.md, independent of what either model was trained with.
_MILD: dict[str, Any] = {
    "crop_scale": (0.8, 1.0),
    "crop_ratio": (1.0, 1.0),
    "flip": 0.0,
    "vertical_flip": 0.0,
    "quarter_turns": False,
    "rotation": 5.0,
    "shear": 0.0,
    "elastic": 0.0,
    "elastic_grid": 4,
    "padding": "reflection",
    "jitter": 1.0,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.0,
    "hue": 0.0,
    "gamma": 0.0,
    "grey": 0.0,
    "blur": 0.0,
    "blur_sigma": (0.1, 0.1),
    "solarize": 0.0,
    "noise": 0.0,
    "erase": 0.0,
    "erase_scale": (0.0, 0.0),
}


def challenge(
    challenger: Path, champion: Callable[[Path], Path], cache_dir: Path = paths.CACHE
) -> tuple[bool, str, dict[str, float]]:
    """Scores both models now and decides without labels.

    Where the two cannot be compared (no images here, a champion that does not load) the
    champion stays: an unknown is no reason to replace what people may rely on.

    Args:
        challenger: directory of the new model.
        champion: fetches the present one into a directory and says where it lies there.
        cache_dir: holds the images, whose files lie beside it as in a project; at most 2,000
            training rows are used, 400 where one of the models has a pretrained encoder.

    Returns:
        Whether the challenger becomes champion; why, in one sentence; and the figures,
        `challenger_*` and `champion_*`.
    """
    from vtcc.analysis.selection import promote
    from vtcc.data.cache import open_cache
    from vtcc.engine import predict

    try:
        cache = open_cache(cache_dir)
    except VtccError as error:
        return False, f"there are no images to compare on ({error})", {}
    try:
        with tempfile.TemporaryDirectory() as room:
            theirs = predict.load(champion(Path(room)), device="cpu")
    except Exception as error:  # whatever a foreign file or a store can raise
        return False, f"the champion could not be loaded ({in_one_line(error)})", {}
    ours = predict.load(challenger, device="cpu")
    try:
        new, old = _measured(cache, cache_dir, ours, theirs)
    except VtccError as error:
        return False, f"the models decode images differently ({in_one_line(error)})", {}
    better, reason = promote(new, old)
    figures = {f"challenger_{k}": v for k, v in new.items()}
    return better, reason, figures | {f"champion_{k}": v for k, v in old.items()}


def unopposed(model: Path, cache_dir: Path = paths.CACHE) -> tuple[str, dict[str, float]]:
    """Why a model becomes champion where there is none, and its figures.

    Args:
        model: its directory. cache_dir: as of `challenge`; without images here nothing is measured.
    """
    from vtcc.analysis.selection import promote
    from vtcc.data.cache import open_cache
    from vtcc.engine import predict

    try:
        cache = open_cache(cache_dir)
        [new] = _measured(cache, cache_dir, predict.load(model, device="cpu"))
    except VtccError:
        return "there was no champion", {}
    return promote(new, None)[1], {f"challenger_{k}": v for k, v in new.items()}


def _measured(cache: "Cache", cache_dir: Path, *models: "Predictor") -> list[dict[str, float]]:
    """`scores` of each model on the same images; raises as `_as_seen`."""
    files = cache_dir.parent / paths.IMAGES.relative_to(paths.CACHE.parent)
    rows = cache.rows("train")
    keep = np.sort(np.random.default_rng(SEED).permutation(len(rows))[: _most(*models)])
    images = np.asarray(cache.images[rows[keep]])
    seen = [_as_seen(cache, files, rows[keep], images, model) for model in models]
    return [
        scores(model, fixed_views(pixels), images)
        for model, pixels in zip(models, seen, strict=True)
    ]


def _most(*models: "Predictor") -> int:
    """How many images they are compared on: each model embeds two views of every one."""
    from_scratch = all(model.info["model"].get("encoder", "vit") == "vit" for model in models)
    return IMAGES if from_scratch else LARGE_IMAGES


def _as_seen(
    cache: "Cache", files: Path, rows: np.ndarray, images: np.ndarray, predictor: "Predictor"
) -> np.ndarray:
    """The images as a model decodes them: (N, S, S, C) uint8.

    Those of the cache where that is how it was made; else what is below `files` is decoded again.

    Raises:
        UnreadableImage: when a file is not there, or lacks a band that the model asks for.
    """
    from vtcc.data.images import load

    alike = all(predictor.decoding[key] == value for key, value in cache.decoding.items())
    channels = {cache.channels, predictor.channels}
    if alike and (len(channels) == 1 or channels == {1, 3}):
        return images
    return np.stack([load(files / cache.paths[row], **predictor.decoding) for row in rows])


def fixed_views(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two mild random views of each image, the same in every call.

    Args:
        images: (N, S, S, C) uint8.

    Returns:
        Two arrays like `images`.
    """
    import torch

    from vtcc.config import Augment
    from vtcc.engine.augment import view

    mild = Augment(**_MILD)
    generator = torch.Generator().manual_seed(SEED)
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for part in torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).split(256):
        for side in sides:
            x = view(part, mild, images.shape[1], generator)
            side.append((x * 255).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(sides[0]), np.concatenate(sides[1])


def scores(
    predictor: "Predictor", views: tuple[np.ndarray, np.ndarray], images: np.ndarray
) -> dict[str, float]:
    """`selection.comparison_scores` of one model.

    Args:
        predictor: an `engine.predict.Predictor`.
        views: two arrays (N, S, S, C) uint8, brought to the model's size and channels.
        images: (N, S, S, C) uint8, the common reference.
    """
    from vtcc.analysis.selection import comparison_scores

    a, b = (predictor.predict(_fit(v, predictor)).cluster for v in views)
    return comparison_scores(a, b, images, predictor.num_clusters)


def _fit(images: np.ndarray, predictor: "Predictor") -> np.ndarray:
    """The images in the size and channels that a model takes."""
    import torch
    import torch.nn.functional as F

    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    if x.shape[1] != predictor.channels:
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        else:  # as Pillow makes grey of colour
            weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
            x = (x.float() * weights).sum(1, keepdim=True).round().byte()
    size = predictor.cache_size
    if x.shape[-1] != size:
        x = F.interpolate(x.float(), (size, size), mode="bilinear", antialias=True)
        x = x.clamp(0, 255).round().byte()
    return x.permute(0, 2, 3, 1).contiguous().numpy()
