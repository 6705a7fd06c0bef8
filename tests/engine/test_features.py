"""Features on disk: what they are, what a cut leaves, what names them."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from vtcc import config
from vtcc.engine import features
from vtcc.engine.augment import normalize, plain
from vtcc.errors import VtccError

COUNT, SIZE, VIEWS = 40, 12, 2
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
ENCODER = {"name": "means", "digest": "abc"}


def drawing(**changes):
    augment = config.load(config.PRESETS / "folder.yaml").train.augment
    made = features.Drawing(
        image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3, augment=augment, views=VIEWS, seed=0
    )
    return dataclasses.replace(made, **changes)


def means(x):
    """Four numbers per image instead of an encoder: (n, C, S, S) -> (n, 4)."""
    return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(1, 2, 3))[:, None]], dim=1).numpy()


def rows(start):
    assert start % features.BLOCK == 0
    return IMAGES[start:]


def embed(directory, images=rows, runtime=means, **changes):
    return features.embed(
        directory,
        images,
        COUNT,
        runtime=runtime,
        drawing=drawing(**changes),
        encoder=ENCODER,
        digest="pixels",
    )


def failing(after, error):
    """A runtime that raises after so many calls."""
    left = [after]

    def runtime(x):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return means(x)

    return runtime


@pytest.fixture
def eager(monkeypatch):
    """Every block is flushed."""
    monkeypatch.setattr(features, "_SECONDS", 0.0)


def test_features_are_of_the_image_as_it_is_and_of_its_views(tmp_path):
    found = embed(tmp_path / "f")
    assert found.values.shape == (COUNT, VIEWS + 1, 4) and found.values.dtype == np.float16
    assert found.info == {
        "encoder": ENCODER,
        "key": features.features_key(drawing(), ENCODER, "pixels"),
        "images": COUNT,
        "views": VIEWS,
        "features": 4,
    }
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    own = means(normalize(plain(x, 8), (0.5,) * 3, (0.25,) * 3))
    assert np.allclose(found.values[:, 0], own, atol=2e-3)
    assert not np.allclose(found.values[:, 1], found.values[:, 0], atol=0.05)
    assert not np.allclose(found.values[:, 1], found.values[:, 2], atol=0.05)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_cut_costs_nothing_and_changes_no_byte(tmp_path, eager, capsys, error):
    embed(tmp_path / "whole")
    with pytest.raises(type(error)):
        embed(tmp_path / "cut", runtime=failing(2 * (VIEWS + 1), error))
    assert not (tmp_path / "cut").exists()
    begun = []
    embed(tmp_path / "cut", lambda start: begun.append(start) or rows(start))
    assert begun == [2 * features.BLOCK]
    assert "features: going on at image 32 of 40" in capsys.readouterr().out
    for name in (features.FILE, features.INFO):
        whole, cut = ((tmp_path / d / name).read_bytes() for d in ("whole", "cut"))
        assert whole == cut


def test_features_that_are_there_are_not_made_again(tmp_path):
    embed(tmp_path / "f")
    embed(tmp_path / "f", runtime=failing(0, AssertionError()))
    with pytest.raises(AssertionError):
        embed(tmp_path / "f", runtime=failing(0, AssertionError()), seed=1)


@pytest.mark.parametrize("damage", ["shorter", "other key", "no json", "negative", "too many"])
def test_what_a_cut_left_is_used_only_where_it_is_whole_and_the_same(tmp_path, eager, damage):
    with pytest.raises(OSError, match="full"):
        embed(tmp_path / "f", runtime=failing(2 * (VIEWS + 1), OSError("full")))
    building = tmp_path / ".f.building"
    if damage == "shorter":
        content = (building / features.FILE).read_bytes()
        (building / features.FILE).write_bytes(content[:-100])
    elif damage == "other key":
        state = json.loads((building / "done.json").read_text())
        (building / "done.json").write_text(json.dumps(state | {"key": "other"}))
    elif damage in ("negative", "too many"):
        state = json.loads((building / "done.json").read_text())
        odd = -features.BLOCK if damage == "negative" else COUNT + features.BLOCK
        (building / "done.json").write_text(json.dumps(state | {"images": odd}))
        with (building / features.FILE).open("ab") as file:
            file.write(bytes(10**4))
    else:
        (building / "done.json").write_text("{")
    begun = []
    found = embed(tmp_path / "f", lambda start: begun.append(start) or rows(start))
    assert begun == [0]
    assert np.array_equal(found.values, embed(tmp_path / "fresh").values)


def test_the_key_names_all_that_the_numbers_depend_on():
    key = features.features_key(drawing(), ENCODER, "pixels")
    augment = dataclasses.replace(drawing().augment, flip=0.1)
    others = [
        features.features_key(drawing(**{name: value}), ENCODER, "pixels")
        for name, value in {
            "image_size": 9,
            "mean": (0.4,) * 3,
            "std": (0.2,) * 3,
            "augment": augment,
            "views": 3,
            "seed": 1,
        }.items()
    ]
    others.append(features.features_key(drawing(), ENCODER, "other pixels"))
    others.append(features.features_key(drawing(), ENCODER | {"digest": "def"}, "pixels"))
    assert len({key, *others}) == 9
    elsewhere = ENCODER | {"source": "elsewhere", "licence": "MIT"}
    assert features.features_key(drawing(), elsewhere, "pixels") == key


def test_damaged_features_are_refused(tmp_path):
    embed(tmp_path / "f")
    with pytest.raises(VtccError, match="no features here; run `vtcc embed`"):
        features.open_features(tmp_path / "g")
    file = tmp_path / "f" / features.FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(VtccError, match="/f: damaged"):
        features.open_features(tmp_path / "f")
    np.save(file, np.zeros((COUNT, VIEWS + 1, 4), np.float32))
    with pytest.raises(VtccError, match=r"damaged \(an array of .* float32, expected"):
        features.open_features(tmp_path / "f")
    info = tmp_path / "f" / features.INFO
    info.write_text(
        json.dumps({k: v for k, v in json.loads(info.read_text()).items() if k != "key"})
    )
    with pytest.raises(VtccError, match=r"damaged \(without key\)"):
        features.open_features(tmp_path / "f")
    assert (embed(tmp_path / "f"), file.read_bytes())[1] == whole


def test_numbers_that_are_none_and_images_that_are_missing_are_refused(tmp_path):
    with pytest.raises(VtccError, match="not finite, or above 65,504, for images 0 to 15"):
        embed(tmp_path / "f", runtime=lambda x: means(x) * np.nan)
    with pytest.raises(VtccError, match="features: 16 of 40 images were given"):
        embed(tmp_path / "f", lambda start: IMAGES[start:16])
    assert not (tmp_path / "f").exists()


def test_numbers_beyond_float16_are_refused(tmp_path):
    with pytest.raises(VtccError, match=r"above 65,504, for images 0 to 15"):
        embed(tmp_path / "f", runtime=lambda x: means(x) * 0 + 7e4)
    assert not (tmp_path / "f").exists()


def test_the_seconds_that_are_left_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_REPORTED", -1.0)
    left = []
    features.embed(
        tmp_path / "f",
        rows,
        COUNT,
        runtime=means,
        drawing=drawing(),
        encoder=ENCODER,
        digest="pixels",
        on_left=left.append,
    )
    assert len(left) == 3 and left[-1] == 0.0 and min(left[:2]) > 0
