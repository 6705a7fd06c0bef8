import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.data.project import make_folder, make_project, picture
from tests.data.test_images import ONE_COLOUR, UNREADABLE, bomb
from tests.fakes import stand_in
from vtcc.data import images
from vtcc.data.cache import open_cache
from vtcc.errors import VtccError
from vtcc.stages import download, validate


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Makes a project whose source is the folder `in`, and goes there."""

    def make(**overrides):
        overrides = {"dataset__channels": 3, "dataset__source": str(tmp_path / "in")} | overrides
        directory = make_project(tmp_path / "project", **overrides)
        monkeypatch.chdir(directory)
        return directory

    return make


def verdict(home) -> dict:
    return json.loads((home / "reports/validation.json").read_text())


def test_good_images_become_a_cache(project, tmp_path, capsys, monkeypatch):
    names = [f"{i:02d} 😀\n.png" for i in range(10)]
    make_folder(tmp_path / "in", names)
    home = project(dataset__name="mine", dataset__holdout=0.2)
    download.run()
    seen = []
    original = images.decode
    stand_in(
        monkeypatch,
        images,
        "decode",
        lambda file, **k: seen.append(file.name) or original(file, **k),
    )
    validate.run()
    assert sorted(seen) == names  # each exactly once
    cache = open_cache(home / "data/cache")
    assert cache.paths == names and cache.name == "mine"
    assert cache.images.shape == (10, 16, 16, 3)
    for i, pixels in enumerate(cache.images):
        image = Image.fromarray(picture(i)).resize((16, 16), Image.Resampling.BICUBIC)
        assert (pixels == np.asarray(image)).all()
    assert cache.split.count("holdout") == 2
    found = verdict(home)
    assert found["success"] and found["failures"] == found["warnings"] == []
    assert (found["images"], found["train_images"], found["holdout_images"]) == (10, 8, 2)
    assert found["brightness"] == pytest.approx(cache.images.mean() / 255, abs=1e-6)
    assert (found["width_min"], found["height_max"]) == (8, 8)
    out = capsys.readouterr().out
    assert '"stage": "validate", "done": 10, "total": 10' in out
    assert "mine: 10 images of 16 x 16 in data/cache, 0 quarantined" in out
    first = cache.digest
    validate.run()
    assert open_cache(home / "data/cache").digest == first


def test_every_bad_file_is_handled_as_a_user_would_expect(project, tmp_path):
    source = make_folder(tmp_path / "in", ["good 1.png", "good 2.png"])
    expected = {}
    for i, (name, (data, colour)) in enumerate(ONE_COLOUR.items()):
        file = f"colour/{i} {name}.png".replace(":", "\n")
        expected[file] = colour
        (source / file).parent.mkdir(exist_ok=True)
        (source / file).write_bytes(data)
    reasons = {}
    for name, (data, reason) in UNREADABLE.items():
        reasons[f"bad/{name}.JPG"] = reason
        (source / "bad").mkdir(exist_ok=True)
        (source / f"bad/{name}.JPG").write_bytes(data)
    (source / "bad/bomb.png").write_bytes(bomb(20_000, 20_000))
    reasons["bad/bomb.png"] = "20000 x 20000 pixels, more than validate.max_pixels (100000000)"
    home = project(validate__max_unreadable=0.5)
    download.run()
    validate.run()
    cache = open_cache(home / "data/cache")
    assert set(cache.paths) == {*expected, "good 1.png", "good 2.png"}
    for path, pixels in zip(cache.paths, cache.images, strict=True):
        if path in expected:
            assert (pixels == expected[path]).all(), path
    with (home / "data/cache/quarantine.csv").open(newline="") as file:
        assert {row["path"]: row["reason"] for row in csv.DictReader(file)} == reasons
    found = verdict(home)
    assert found["unreadable"] == len(reasons) == 13
    assert found["one_colour"] == len(expected)
    assert found["success"] and len(found["warnings"]) >= 2
    page = (home / "reports/validation.html").read_text()
    assert "text, not an image" in page and "bomb.png" in page


def test_failure_is_told_in_words_and_leaves_the_verdict_but_no_cache(project, tmp_path):
    source = make_folder(tmp_path / "in", ["1.png", "2.png", "3.png"])
    home = project()
    download.run()
    validate.run()
    (source / "3.png").write_bytes(b"")
    (source / "4.png").write_text("hello")
    download.run()
    with pytest.raises(VtccError) as caught:
        validate.run()
    assert str(caught.value) == (
        "the images in data/raw/images are not fit to train on: expected at most 5 % of the files "
        "to be unreadable (validate.max_unreadable); found 2 of 4 (50 %): '3.png' (empty file "
        "(0 bytes)), '4.png' (text, not an image) (see reports/validation.html)"
    )
    found = verdict(home)
    assert not found["success"] and len(found["failures"]) == 1 and found["unreadable"] == 2
    assert "failed" in (home / "reports/validation.html").read_text()
    assert [p.name for p in (home / "data").iterdir() if "cache" in p.name] == []


def test_nothing_readable(project, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("1.png", "2.png"):
        (source / name).write_text("no")
    home = project(validate__max_unreadable=1.0)
    download.run()
    with pytest.raises(VtccError, match="at least 2 readable images to train on; found 0"):
        validate.run()
    assert verdict(home)["width_min"] is None
    assert (home / "reports/validation.html").exists()


def test_fewer_images_than_the_card_promised(project, tmp_path):
    make_folder(tmp_path / "in", ["1.png", "2.png"])
    home = project()
    download.run()
    facts = json.loads((home / "data/raw/dataset.json").read_text())
    (home / "data/raw/dataset.json").write_text(json.dumps(facts | {"expected_images": 3}))
    with pytest.raises(VtccError, match="expected the 3 images that the dataset's card promises"):
        validate.run()


def test_a_file_that_vanished_is_quarantined(project, tmp_path):
    make_folder(tmp_path / "in", [f"{i}.png" for i in range(30)])
    home = project()
    download.run()
    (home / "data/raw/images/7.png").unlink()
    validate.run()
    text = (home / "data/cache/quarantine.csv").read_text()
    assert text == '"path","reason"\n"7.png","cannot be opened (No such file or directory)"\n'


def test_a_file_without_the_band_asked_for_is_quarantined_by_its_number(project, tmp_path):
    make_folder(tmp_path / "in", ["1.png", "2.png"])
    Image.fromarray(picture(9)[..., 0]).save(tmp_path / "in/grey.png")
    home = project(validate__bands=[3, 2, 1], validate__max_unreadable=0.5)
    download.run()
    validate.run()
    cache = open_cache(home / "data/cache")
    bicubic = Image.fromarray(picture(0)).resize((16, 16), Image.Resampling.BICUBIC)
    assert (cache.images[0] == np.asarray(bicubic)[..., ::-1]).all()
    text = (home / "data/cache/quarantine.csv").read_text()
    assert '"grey.png","no band 2 (validate.bands): the image has 1 band"' in text or (
        '"grey.png","no band 3 (validate.bands): the image has 1 band"' in text
    )


def test_the_cards_promises_and_twins_are_told(project, tmp_path, capsys):
    make_folder(tmp_path / "in", [f"{i}.png" for i in range(8)])
    soft = Image.fromarray(picture(50, 9)).resize((40, 40), Image.Resampling.BICUBIC)
    soft.save(tmp_path / "in/soft.png")
    soft.resize((30, 30)).save(tmp_path / "in/soft small.png")
    shutil.copy(tmp_path / "in/0.png", tmp_path / "in/0 again.png")
    home = project(validate__near_duplicates=4)
    download.run()
    file = home / "data/raw/dataset.json"
    facts = json.loads(file.read_text())
    severity = {"exact_duplicates": "fail", "size": "warn", "mode": "fail"}
    card = {"image_size": [8, 8], "size_exceptions": 1, "modes": ["RGB"], "severity": severity}
    file.write_text(json.dumps(facts | {"card": card}))
    with pytest.raises(VtccError, match=r"group: '0\.png' is a copy of '0 again\.png' \(see"):
        validate.run()
    out = capsys.readouterr().out
    assert "sizes: 8 x 8 (9), 30 x 30 (1), 40 x 40 (1)\ncolours: RGB (11)\n" in out
    assert (
        "warning: expected no image to look like another; found 1 of 11 (9.09 %) in 1 group: "
        "'soft.png' looks like 'soft small.png'"
    ) in out
    assert (
        "warning: expected every image to be 8 x 8 pixels, but for at most 1 as documented; found "
        "2 of 11 (18.2 %) of another size: 'soft small.png' (30 x 30), 'soft.png' (40 x 40)"
    ) in out
    found = verdict(home)
    assert (found["duplicate_groups"], found["near_duplicates"]) == (1, 1)
    page = (home / "reports/validation.html").read_text()
    assert "Look like an earlier image: 1" in page
    file.write_text(json.dumps(facts | {"card": card | {"known": {"exact_duplicates": 1}}}))
    validate.run()
    assert verdict(home)["success"]


@pytest.mark.parametrize("missing", ["dataset.json", "manifest.csv"])
def test_without_a_download_it_says_what_to_run(project, tmp_path, missing):
    make_folder(tmp_path / "in", ["1.png", "2.png"])
    home = project()
    download.run()
    (home / "data/raw" / missing).unlink()
    with pytest.raises(VtccError, match=f"{missing}: no such file; run `vtcc download`"):
        validate.run()
    (home / "data/raw/dataset.json").write_text("{")
    with pytest.raises(VtccError, match=r"not readable as JSON|manifest\.csv"):
        validate.run()
    assert not (home / "reports").exists()


def test_an_unexpected_error_leaves_the_old_cache(project, tmp_path, monkeypatch):
    make_folder(tmp_path / "in", ["1.png", "2.png"])
    home = project()
    download.run()
    validate.run()
    digest = open_cache(home / "data/cache").digest
    stand_in(monkeypatch, images, "decode", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        validate.run()
    assert open_cache(home / "data/cache").digest == digest
    assert sorted(p.name for p in (home / "data").iterdir()) == ["cache", "labels", "raw"]


def test_labels_are_not_needed(project, tmp_path):
    make_folder(tmp_path / "in", ["a/1.png", "b/2.png"])
    home = project()
    download.run()
    validate.run()
    first = open_cache(home / "data/cache").digest
    shutil.rmtree(home / "data/labels")
    validate.run()
    assert open_cache(home / "data/cache").digest == first


def test_grey_cache_of_the_digits(project):
    from tests.data.project import ROOT

    home = project(
        dataset__source=str(ROOT / "data/catalog/digits.yaml"),
        dataset__channels=1,
        dataset__limit=100,
        validate__image_size=8,
        train__image_size=8,
    )
    download.run()
    validate.run()
    cache = open_cache(home / "data/cache")
    assert cache.images.shape == (100, 8, 8, 1)
    for path, pixels in zip(cache.paths[:5], cache.images, strict=False):
        file = io.BytesIO((home / "data/raw/images" / path).read_bytes())
        assert (pixels[..., 0] == np.asarray(Image.open(file))).all()
    assert verdict(home)["warnings"] == []
