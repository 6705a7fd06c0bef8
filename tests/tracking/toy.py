"""A project with 64 small images and models that need no training, for tests."""

import functools
from pathlib import Path

import numpy as np
import yaml

from vtcc import config, paths
from vtcc.data.cache import Cache, CacheWriter

SIZE, K = 16, 4


@functools.cache
def params() -> config.Params:
    """The tiny preset, for four kinds of images called `my toys`."""
    values = yaml.safe_load((config.PRESETS / "tiny.yaml").read_text())
    changes = {"dataset.name": "my toys", "train.num_clusters": K, "dataset.holdout": 0.0}
    return config.from_dict(config.Params, config.override(values, changes))


def images(n: int = 64) -> np.ndarray:
    """(n, SIZE, SIZE, 1) uint8: image i is bright in quadrant i % 4."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 40, (n, SIZE, SIZE, 1))
    half = SIZE // 2
    for i in range(n):
        y, x = divmod(i % 4, 2)
        pixels[i, y * half : (y + 1) * half, x * half : (x + 1) * half] += 180
    return pixels.astype(np.uint8)


def project(root: Path) -> Cache:
    """Writes params.yaml and data/cache below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.to_dict(params()), sort_keys=False)
    (root / paths.PARAMS).write_text(text, encoding="utf-8")
    writer = CacheWriter(root / paths.CACHE, name="my toys", image_size=SIZE, channels=1)
    with writer:
        for i, image in enumerate(images()):
            writer.add(f"toys/{i:02d}.png", "train", image)
        return writer.finish()


def model(directory: Path, seed: int = 0, *, able: bool = True, channels: int = 1, **more) -> Path:
    """Saves an untrained model.

    Args:
        directory: of the model.
        seed: of the weights.
        able: normalisation statistics are those of the images, so that the random network
            tells them apart; else it puts all into one cluster.
        channels: of the images it takes.
        more: goes into model.json.
    """
    from vtcc.engine import checkpoint

    p = params()
    info = {
        "model": config.to_dict(p.train.model),
        "num_clusters": K,
        "image_size": SIZE,
        "cache_size": SIZE,
        "channels": channels,
        "max_pixels": 10**6,
        "mean": [0.3] * channels,
        "std": [0.3] * channels,
        "head": 0,
        "epoch": 2,
        **more,
    }
    checkpoint.save_model(directory, _network(seed, able, channels), info)
    return directory


@functools.cache
def _network(seed: int, able: bool, channels: int):
    import torch

    from vtcc.engine.model import build

    torch.manual_seed(seed)
    net = build(params().train.model, K, image_size=SIZE, channels=channels)
    if able:
        x = torch.from_numpy(images()).permute(0, 3, 1, 2).float() / 255
        x = ((x - 0.3) / 0.3).expand(-1, channels, -1, -1)
        with torch.no_grad():
            for _ in range(60):
                net.train()(x, x)
    return net.eval()
