"""A small project directory to run stages in."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from vtcc import config

ROOT = Path(__file__).parents[2]


def make_project(directory: Path, **overrides: Any) -> Path:
    """Writes params.yaml with `dataset__limit=5` for `dataset.limit: 5`."""
    directory.mkdir(parents=True, exist_ok=True)
    values = config.read_yaml(ROOT / "vtcc/presets/digits.yaml")
    values = config.override(values, {k.replace("__", "."): v for k, v in overrides.items()})
    (directory / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return directory


def picture(seed: int, size: int = 8) -> np.ndarray:
    """(size, size, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def make_folder(directory: Path, names: list[str]) -> Path:
    """Writes a different small PNG under each name."""
    for i, name in enumerate(names):
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(file, "PNG")
    return directory
