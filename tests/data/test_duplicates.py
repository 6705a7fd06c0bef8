import time

import numpy as np
import pytest
from PIL import Image

from vtcc.data import duplicates
from vtcc.data.duplicates import groups, hashes, nearest_earlier, sketch


def photo(seed, size=64):
    """A picture of soft shapes, (size, size, 3) uint8."""
    rough = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((size, size), Image.Resampling.BICUBIC))


def sketches(*pictures):
    return np.stack([sketch(picture) for picture in pictures])


def test_a_sketch_is_the_mean_brightness_of_72_places():
    columns = np.repeat(np.arange(9, dtype=np.uint8) * 10, 8)
    pixels = np.tile(columns, (72, 1))[..., None]
    assert sketch(pixels) == pytest.approx(np.tile(np.arange(9) * 10.0, (8, 1)))
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert sketch(red) == pytest.approx(np.full((8, 9), 0.299 * 255), abs=1e-3)
    bands = np.full((5, 5, 5), [10, 20, 30, 40, 50], dtype=np.uint8)
    assert sketch(bands) == pytest.approx(np.full((8, 9), 30.0), abs=1e-3)


def test_hashes_are_of_what_is_brighter_than_its_left_neighbour():
    rising = np.tile(np.arange(9, dtype=np.float32) * 10, (8, 1))
    flat = rising / 100  # less than a grey level apart says nothing
    assert hashes(np.stack([rising, rising[:, ::-1], flat])).tolist() == [2**64 - 1, 0, 0]


def test_the_first_earlier_image_alike_is_found():
    a, b = photo(0), photo(1)
    brighter = (a * 0.8 + 30).astype(np.uint8)
    smaller = np.asarray(Image.fromarray(a).resize((40, 40), Image.Resampling.BICUBIC))
    found = nearest_earlier(sketches(a, b, brighter, smaller, b, photo(2)), 4)
    assert found.tolist() == [-1, -1, 0, 0, 1, -1]
    assert nearest_earlier(sketches(a, photo(3)), 16).tolist() == [-1, -1]


def test_pictures_of_little_say_nothing():
    black, white = np.zeros((9, 9, 1), np.uint8), np.full((9, 9, 1), 255, np.uint8)
    dot = black.copy()
    dot[4, 4] = 255
    assert nearest_earlier(sketches(black, black, white, dot, dot), 4).tolist() == [-1] * 5
    assert nearest_earlier(np.zeros((0, 8, 9), np.float32), 2).tolist() == []


def test_against_all_pairs_one_by_one(monkeypatch):
    monkeypatch.setattr(duplicates, "_PAIRS", 7)  # many parts
    rng = np.random.default_rng(0)
    some = rng.normal(0, 40, (40, 8, 9))
    many = some[rng.integers(0, 40, 300)] + rng.normal(0, 2, (300, 8, 9))
    many = many.astype(np.float32)
    codes = [int(c) for c in hashes(many)]
    expected = []
    for i in range(300):
        alike = [
            j
            for j in range(i)
            if (codes[i] ^ codes[j]).bit_count() <= 3
            and np.corrcoef(many[i].ravel(), many[j].ravel())[0, 1] >= 0.98
        ]
        expected.append(alike[0] if alike else -1)
    assert nearest_earlier(many, 3).tolist() == expected
    assert sum(e >= 0 for e in expected) > 100


def test_groups_follow_chains_to_their_first():
    assert groups(np.array([-1, 0, 1, -1, 2, 3])).tolist() == [0, 0, 0, 3, 0, 3]


def test_ten_thousand_take_little_time():
    many = np.random.default_rng(0).normal(0, 40, (10_000, 8, 9)).astype(np.float32)
    start = time.monotonic()
    assert (nearest_earlier(many, 2) == -1).all()
    assert time.monotonic() - start < 10


def every_pair(drawn, distance):
    """What `nearest_earlier` gives, by comparing each image with all before it."""
    flat = drawn.reshape(len(drawn), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-6)
    codes = hashes(drawn)
    bits = np.bitwise_count(codes)
    busy = (bits >= 8) & (bits <= 56)
    near = np.bitwise_count(codes[:, None] ^ codes) <= distance
    near &= (flat @ flat.T >= 0.98) & busy & busy[:, None]
    near &= np.tri(len(drawn), k=-1, dtype=bool)
    return np.where(near.any(axis=1), near.argmax(axis=1), -1)


@pytest.mark.parametrize("distance", [0, 1, 2, 5])
@pytest.mark.parametrize(("kinds", "noise"), [(300, 3), (60, 6), (4, 2)])
def test_no_pair_is_missed(distance, kinds, noise):
    rng = np.random.default_rng(kinds)
    pictures = rng.integers(0, 256, (kinds, 8, 9))
    drawn = pictures[rng.integers(0, kinds, 800)] + rng.normal(0, noise, (800, 8, 9))
    drawn[rng.integers(0, 800, 200)] = drawn[rng.integers(0, 800, 200)]  # the very same
    drawn[::90] = 7  # of one colour
    drawn = drawn.astype(np.float32)
    found = nearest_earlier(drawn, distance)
    assert np.array_equal(found, every_pair(drawn, distance))
    assert (found >= 0).mean() > 0.2


def on_plain_ground(rng, count, top=2, left=2):
    """Things in the middle of white pictures, a fifth of them once more, a bit darker."""
    drawn = np.full((count, 8, 9), 250.0)
    inside = drawn[:, top:-top, left:-left]
    inside[:] = rng.uniform(0, 250, inside.shape)
    again = rng.integers(count // 2, count, count // 5)
    drawn[again] = drawn[rng.integers(0, count // 2, len(again))] * 0.97
    return (drawn + rng.normal(0, 0.5, drawn.shape)).astype(np.float32)


@pytest.mark.parametrize("distance", [0, 1, 2, 5])
@pytest.mark.parametrize("left", [1, 2])
def test_no_pair_is_missed_on_plain_ground(distance, left):
    drawn = on_plain_ground(np.random.default_rng(left), 1000, left=left)
    found = nearest_earlier(drawn, distance)
    assert np.array_equal(found, every_pair(drawn, distance))
    assert (found >= 0).mean() > 0.1


@pytest.mark.parametrize("distance", [0, 1, 2, 5, 62])
def test_no_band_lies_in_a_part_of_the_picture_alone(distance):
    masks = [int(mask) for mask in duplicates._masks(distance)]
    bands = min(distance + 2, 64)
    assert len(masks) == bands * (bands - 1) // 2
    assert sum(mask.bit_count() for mask in masks) == 64 * (bands - 1)  # each bit in one band
    if distance == 2:
        rows = [sum(1 << (8 * row + column) for column in range(8)) for row in range(8)]
        columns = [sum(1 << (8 * row + column) for row in range(8)) for column in range(8)]
        assert {(mask & part).bit_count() for mask in masks for part in rows + columns} == {4}


def test_time_is_bounded_where_all_share_one_hash(monkeypatch, capsys):
    monkeypatch.setattr(duplicates, "_MOST", 20)
    rng = np.random.default_rng(0)
    rises = np.where(rng.random((8, 9)) < 0.5, 1, -1)
    drawn = np.cumsum(rng.choice([3.0, 60.0], (100, 8, 9)) * rises, axis=2).astype(np.float32)
    drawn[60], drawn[61], drawn[90] = drawn[10] * 1.01, drawn[10], drawn[50] * 1.01
    assert len(np.unique(hashes(drawn))) == 1
    expected = np.full(100, -1)
    expected[[60, 61]] = 10  # of the first 20, which the copy of image 50 is not
    assert np.array_equal(nearest_earlier(drawn, 2), expected)
    assert capsys.readouterr().out == (
        "look-alikes: 77 images share half of their hash with more than 20 earlier ones, and are "
        "compared with the first 20 of these\n"
    )
    monkeypatch.setattr(duplicates, "_MOST", 100)
    expected[90] = 50
    assert np.array_equal(nearest_earlier(drawn, 2), expected)
    assert capsys.readouterr().out == ""
