"""Copies of one photograph are known, crops of two and digits are not taken for them."""

import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits, load_sample_image

from vtcc.grouping import copies


def test_jittered_copies_of_one_photograph(tmp_path):
    rng, photo = np.random.default_rng(0), Image.fromarray(load_sample_image("china.jpg"))
    for i in range(16):
        scale = rng.uniform(0.75, 1)
        x, y = rng.uniform(0, 640 * (1 - scale)), rng.uniform(0, 427 * (1 - scale))
        copy = photo.crop((int(x), int(y), int(x + 640 * scale), int(y + 427 * scale)))
        copy = copy.rotate(rng.uniform(-12, 12)).resize((240, 160))
        if i % 2:
            copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ImageEnhance.Brightness(copy).enhance(rng.uniform(0.7, 1.3)).save(tmp_path / f"{i}.jpg")
    assert copies.share(sorted(tmp_path.iterdir()), max_pixels=10**6, seed=0) > 0.8


def test_other_images_are_no_copies(tmp_path):
    for i, digit in enumerate(load_digits().images[:12]):
        Image.fromarray((digit * 15).astype(np.uint8)).save(tmp_path / f"{i}.png")
    assert copies.share(sorted(tmp_path.iterdir()), max_pixels=10**6, seed=0) == 0
    noise = np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8)
    for i, image in enumerate(noise):
        Image.fromarray(image).save(tmp_path / f"noise{i}.png")
    assert copies.share(sorted(tmp_path.glob("noise*")), max_pixels=10**6, seed=0) == 0
