import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from vtcc.data import cache as cache_module
from vtcc.data.cache import CacheWriter, open_cache
from vtcc.errors import VtccError

NAMES = [
    'a "b", c.png',
    "new\nline.png",
    "carriage\rreturn.png",
    "😀 é.png",
    "NA",
    " x ",
    "d/e.png",
]
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
SPLIT = ["train", "holdout", "train", "train", "holdout", "train", "train"]


def write(directory, pixels=PIXELS, names=NAMES, split=SPLIT, name="t"):
    with CacheWriter(directory, name=name, image_size=4, channels=3) as writer:
        for row in zip(names, split, pixels, strict=True):
            writer.add(*row)
        writer.quarantine("bad\n,.jpg", "truncated")
        return writer.finish()


def test_what_was_written_is_read(tmp_path):
    write(tmp_path / "data/cache")
    cache = open_cache(tmp_path / "data/cache")
    assert isinstance(cache.images, np.memmap) and not cache.images.flags.writeable
    assert (cache.images == PIXELS).all() and cache.images.dtype == np.uint8
    assert (cache.paths, cache.split) == (NAMES, SPLIT)
    assert (cache.name, cache.image_size, cache.channels) == ("t", 4, 3)
    assert cache.rows("train").tolist() == [0, 2, 3, 5, 6]
    assert cache.rows("holdout").tolist() == [1, 4] and cache.rows("holdout").dtype == np.int64
    with pytest.raises(ValueError, match=r"train \| holdout"):
        cache.rows("test")
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["cache"]


def test_it_says_how_files_became_pixels_and_an_older_one_that_it_was_as_ever(tmp_path):
    how = {"bands": [4, 3, 2], "stretch": "fixed", "stretch_range": [0.0, 10000.0]}
    writer = CacheWriter(tmp_path / "cache", name="t", image_size=4, channels=3, **how)
    with writer:
        writer.add("a", "train", PIXELS[0])
        writer.finish()
    assert open_cache(tmp_path / "cache").decoding == how
    file = tmp_path / "cache/cache.json"
    info = json.loads(file.read_text())
    assert {key: info.pop(key) for key in how} == how
    file.write_text(json.dumps(info))
    old = open_cache(tmp_path / "cache").decoding
    assert old == {"bands": [], "stretch": "type", "stretch_range": [0.0, 255.0]}


def test_mean_and_deviation_are_of_the_training_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_FLUSH_BYTES", 100)  # several blocks
    cache = write(tmp_path / "cache")
    train = PIXELS[[0, 2, 3, 5, 6]] / 255
    assert cache.mean == pytest.approx(train.mean((0, 1, 2)), abs=1e-12)
    assert cache.std == pytest.approx(train.std((0, 1, 2)), abs=1e-12)


def test_deviation_is_safe_to_divide_by(tmp_path):
    cache = write(tmp_path / "cache", pixels=np.full_like(PIXELS, 255))
    assert (cache.mean, cache.std) == ([1.0] * 3, [1 / 255] * 3)


def test_tables_survive_pandas(tmp_path):
    write(tmp_path / "cache")
    index = pd.read_csv(tmp_path / "cache/index.csv", keep_default_na=False)
    assert index["path"].tolist() == NAMES and index["split"].tolist() == SPLIT
    quarantine = pd.read_csv(tmp_path / "cache/quarantine.csv")
    assert quarantine.to_dict("list") == {"path": ["bad\n,.jpg"], "reason": ["truncated"]}


def test_digest_covers_pixels_paths_and_splits_alone(tmp_path, monkeypatch):
    first = write(tmp_path / "a").digest
    monkeypatch.setattr(cache_module, "_FLUSH_BYTES", 1)
    assert write(tmp_path / "b", name="other").digest == first
    pixels = PIXELS.copy()
    pixels[3, 0, 0, 0] ^= 1
    others = [
        write(tmp_path / "c", pixels=pixels).digest,
        write(tmp_path / "d", names=["z", *NAMES[1:]]).digest,
        write(tmp_path / "e", split=["holdout", *SPLIT[1:]]).digest,
        write(tmp_path / "f", pixels=PIXELS[:6], names=NAMES[:6], split=SPLIT[:6]).digest,
    ]
    assert len({first, *others}) == 5 and len(first) == 64


def test_an_error_leaves_the_old_cache_and_no_traces(tmp_path):
    write(tmp_path / "cache")
    with (
        pytest.raises(KeyboardInterrupt),
        CacheWriter(tmp_path / "cache", name="new", image_size=4, channels=3) as writer,
    ):
        writer.add("a", "train", PIXELS[0])
        raise KeyboardInterrupt
    assert open_cache(tmp_path / "cache").name == "t"
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / ".cache.0123abcd.building").mkdir()
    (tmp_path / ".cache.0123abcd.building/junk").write_text("x")
    write(tmp_path / "cache")
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        "cache.json",
        "images.npy",
        "index.csv",
        "quarantine.csv",
    ]


def test_peek_reads_back_what_was_added(tmp_path):
    with CacheWriter(tmp_path / "cache", name="t", image_size=4, channels=3) as writer:
        for name, pixels in zip(NAMES, PIXELS, strict=True):
            writer.add(name, "train", pixels)
        assert (writer.peek(5) == PIXELS[5]).all()
        writer.add("late", "train", PIXELS[0])
        assert (writer.peek(7) == PIXELS[0]).all()
        assert (writer.finish().images[:7] == PIXELS).all()


@pytest.mark.parametrize(
    ("image", "split"),
    [
        (PIXELS[0].astype(float), "train"),
        (PIXELS[0, :3], "train"),
        (PIXELS[0, ..., :1], "train"),
        (PIXELS[0], "test"),
    ],
)
def test_a_wrong_image_or_split_is_a_bug(tmp_path, image, split):
    with (
        CacheWriter(tmp_path / "cache", name="t", image_size=4, channels=3) as writer,
        pytest.raises(ValueError, match=r"a\.png"),
    ):
        writer.add("a.png", split, image)


def test_no_training_image_is_refused(tmp_path):
    with pytest.raises(VtccError, match="no readable training image among 7 images and 1"):
        write(tmp_path / "cache", split=["holdout"] * 7)
    assert not list(tmp_path.iterdir())


def test_missing_cache_says_what_to_run(tmp_path):
    with pytest.raises(VtccError, match=r"cache\.json: no such file; run `vtcc validate`"):
        open_cache(tmp_path)


@pytest.mark.parametrize(
    "damage", ["info", "npy", "kind", "index", "cells", "header", "csv", "rows"]
)
def test_a_damaged_cache_is_refused_in_one_line(tmp_path, damage):
    write(tmp_path)
    if damage == "info":
        (tmp_path / "cache.json").write_text("{")
    elif damage == "npy":
        (tmp_path / "images.npy").write_bytes((tmp_path / "images.npy").read_bytes()[:200])
    elif damage == "kind":
        np.save(tmp_path / "images.npy", PIXELS.astype(np.float32))
    elif damage == "index":
        (tmp_path / "index.csv").write_text("")
    elif damage == "cells":
        index = (tmp_path / "index.csv").read_text()
        (tmp_path / "index.csv").write_text(index.replace('"train"', "", 1).replace(",\n", "\n"))
    elif damage == "header":
        index = (tmp_path / "index.csv").read_text()
        (tmp_path / "index.csv").write_text(index.replace("split", "splat"))
    elif damage == "csv":
        (tmp_path / "index.csv").write_text('"path","split"\n' + "x" * 200_000)
    else:
        info = json.loads((tmp_path / "cache.json").read_text())
        (tmp_path / "cache.json").write_text(json.dumps(info | {"images": 6}))
    with pytest.raises(VtccError, match="validate") as caught:
        open_cache(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_split_of_another_name_is_refused(tmp_path):
    write(tmp_path)
    index = (tmp_path / "index.csv").read_text()
    (tmp_path / "index.csv").write_text(index.replace('"holdout"', '"test"'))
    message = (
        r"index\.csv: found split 'test'; allowed: train \| holdout\); run `vtcc validate` again"
    )
    with pytest.raises(VtccError, match=message):
        open_cache(tmp_path)


def test_reading_needs_numpy_alone(tmp_path):
    write(tmp_path / "cache")
    code = """if True:
        import sys
        for name in ("pandas", "PIL", "great_expectations", "torch", "sklearn", "yaml", "jinja2"):
            sys.modules[name] = None
        from vtcc.data.cache import open_cache
        print(open_cache(sys.argv[1]).images.shape)
    """
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cache")], capture_output=True, text=True
    )
    assert run.stdout.strip() == "(7, 4, 4, 3)", run.stderr


@pytest.mark.parametrize(
    ("values", "words"),
    [({}, "without name"), ({"images": None}, "images: found None"), ([], r"found \[\]")],
)
def test_a_description_that_is_not_ours_is_one_line(tmp_path, values, words):
    write(tmp_path / "cache")
    file = tmp_path / "cache/cache.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(whole | values if values else values))
    with pytest.raises(VtccError, match=rf"cache: not a readable image cache .{words}.*; run `vt"):
        open_cache(tmp_path / "cache")
