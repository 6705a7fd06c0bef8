"""What is seen in a folder, and what is chosen for it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from vtcc.errors import VtccError
from vtcc.grouping import choices, survey


def write(folder, pictures, suffix=".png"):
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:03d}{suffix}")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    pictures = [(d * 15).astype(np.uint8) for d in load_digits().images[:200]]
    files = write(tmp_path_factory.mktemp("digits"), pictures)
    return survey.look(files, max_pixels=10**6)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Tiles of a photograph, half of them turned by any quarter: nothing is up."""
    whole, rng = load_sample_image("china.jpg"), np.random.default_rng(0)
    tiles = []
    for _ in range(120):
        y, x = rng.integers(0, 300), rng.integers(0, 500)
        tile = np.rot90(whole[y : y + 96, x : x + 96], rng.integers(0, 4))
        tiles.append(np.ascontiguousarray(tile[:, ::-1] if rng.random() < 0.5 else tile))
    return survey.look(write(tmp_path_factory.mktemp("tiles"), tiles), max_pixels=10**6)


def test_digits_are_grey_shapes_with_an_up(digits):
    assert digits.colour == 0
    assert digits.plain > 0.9
    assert digits.dark_ground == 1
    assert digits.short_side == 8
    assert min(digits.mirror, digits.upside_down, digits.quarter) > 0.75


def test_turned_tiles_of_a_photograph_have_none(photographs):
    assert photographs.colour > 0.5
    assert photographs.plain < 0.5
    assert max(photographs.mirror, photographs.upside_down, photographs.quarter) < 0.62


def test_choices_follow_what_was_seen(digits, photographs):
    made = choices.choose(digits, name="d", source="/d", clusters=10, seed=3)
    train = made.params["train"]
    assert (made.params["dataset"]["channels"], train["image_size"]) == (1, 16)
    assert made.reasons["augmentation"]["value"] == "glyphs"
    assert (train["augment"]["flip"], train["augment"]["quarter_turns"]) == (0.0, False)
    assert (train["seed"], train["num_clusters"]) == (3, 10)
    made = choices.choose(photographs, name="p", source="/p", clusters=7)
    train = made.params["train"]
    assert (made.params["dataset"]["channels"], train["image_size"]) == (3, 48)
    assert made.reasons["augmentation"]["value"] == "aerial"
    assert (train["augment"]["flip"], train["augment"]["quarter_turns"]) == (0.5, True)
    up = replace(photographs, upside_down=0.8, quarter=0.8)
    made = choices.choose(up, name="p", source="/p", clusters=7)
    assert made.reasons["augmentation"]["value"] == "natural"
    assert made.params["train"]["augment"]["vertical_flip"] == 0.0
    assert "80%" in made.reasons["flips"]["why"]


def test_few_images_get_a_small_batch(photographs):
    made = choices.choose(replace(photographs, images=40), name="p", source="/p", clusters=2)
    assert made.params["train"]["batch_size"] == 16


def test_unreadable_samples_are_counted_or_refused(tmp_path):
    files = write(tmp_path / "a", [np.full((9, 9, 3), i * 9, np.uint8) for i in range(6)])
    files[0].write_bytes(b"no image")
    seen = survey.look(files, max_pixels=10**6)
    assert (seen.images, seen.looked_at, seen.short_side) == (6, 6, 9)
    for file in files:
        file.write_bytes(b"no image")
    with pytest.raises(VtccError, match="not one of 6 images could be read"):
        survey.look(files, max_pixels=10**6)


@pytest.mark.parametrize(
    ("seconds", "per_step", "steps", "epochs"),
    [(100, 0.1, 10, 100), (0, 1.0, 10, 20), (1e9, 0.1, 10, 600), (5000, 1.0, 7000, 1)],
)
def test_epochs_fit_the_time(seconds, per_step, steps, epochs):
    assert choices.epochs_for(seconds, per_step, steps) == epochs


def test_chosen_bands_are_what_is_looked_at(tmp_path):
    """Two bands of four: a file of four numbers a pixel is not read as six or twelve."""
    rng = np.random.default_rng(0)
    files = write(tmp_path / "four", rng.integers(0, 256, (12, 24, 24, 4), dtype=np.uint8))
    seen = survey.look(files, bands=[4, 2], max_pixels=10**6)
    assert (seen.looked_at, seen.short_side, seen.colour) == (12, 24, 1.0)
    alike = np.repeat(rng.integers(0, 256, (12, 24, 24, 1), dtype=np.uint8), 4, axis=3)
    grey = survey.look(write(tmp_path / "grey", alike), bands=[1, 2], max_pixels=10**6)
    assert grey.colour == 0.0
