"""ImageClusterer: arrays, paths and folders give the same; predict agrees with fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import vtcc
from tests.fakes import stand_in
from tests.grouping.test_run import SMALL, pictures
from vtcc.errors import VtccError
from vtcc.grouping import assignments, run, summary
from vtcc.grouping.means import AT_MOST
from vtcc.verbs import export

FAST = SMALL | {"train.epochs": 4}
pytestmark = pytest.mark.usefixtures("no_copies")


@pytest.fixture(scope="module")
def images():
    return np.stack(list(pictures(60)))


@pytest.fixture(scope="module")
def fitted(images, no_copies):
    how = {"minutes": 0.1, "random_state": 1, "encoder": "none", "params": FAST}
    return vtcc.ImageClusterer(3, **how).fit(images)


def test_fit_says_a_cluster_of_every_image(fitted, images):
    assert fitted.labels_.shape == (60,)
    assert set(fitted.labels_.tolist()) <= {0, 1, 2}
    assert fitted.n_clusters_ == 3
    assert fitted.names_ == {0: "cluster 0", 1: "cluster 1", 2: "cluster 2"}
    assert fitted.trust_["verdict"]
    assert ((fitted.confidence_ > 0) & (fitted.confidence_ <= 1)).all()
    assert np.linalg.norm(fitted.embedding_, axis=1) == pytest.approx(np.ones(60), abs=1e-3)


def test_more_images_than_the_sample_all_get_their_cluster(images):
    how = {"minutes": 1.0, "random_state": 1, "encoder": "none", "params": FAST}
    fitted = vtcc.ImageClusterer(3, sample=36, **how).fit(images)
    assert (fitted.labels_ >= 0).all()
    assert fitted.predict(images).tolist() == fitted.labels_.tolist()
    assert (fitted.confidence_ > 0).all()
    assert np.abs(fitted.transform(images) - fitted.embedding_).max() < 2e-3


def test_predict_and_transform_agree_with_fit(fitted, images, tmp_path):
    assert fitted.predict(images).tolist() == fitted.labels_.tolist()
    assert np.abs(fitted.transform(images) - fitted.embedding_).max() < 2e-3
    p = fitted.predict_proba(images[:7])
    assert p.shape == (7, 3)
    assert p.sum(axis=1) == pytest.approx(np.ones(7), abs=1e-5)
    for i, image in enumerate(images[:5]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes(b"no image")
    paths = sorted(tmp_path.iterdir())
    assert fitted.predict(paths).tolist() == [*fitted.labels_[:5].tolist(), -1]
    assert fitted.predict(images[..., None] / 255).tolist() == fitted.labels_.tolist()


def test_predict_takes_a_folder_of_any_size(fitted, images, tmp_path):
    with pytest.raises(VtccError, match="no image in"):
        fitted.predict(tmp_path)
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    assert fitted.predict(tmp_path).tolist() == fitted.labels_[:1].tolist()
    Image.fromarray(images[1]).save(tmp_path / "1.png")
    assert fitted.predict(str(tmp_path)).tolist() == fitted.labels_[:2].tolist()
    with pytest.raises(VtccError, match="found 2 images, and grouping needs at least 10"):
        vtcc.ImageClusterer(2).fit(tmp_path)


def test_images_that_belong_nowhere_have_no_label(fitted, images, monkeypatch):
    known = fitted.predictor_.clusters
    strict = replace(known, means=replace(known.means, limit=0.0, unclustered=True))
    monkeypatch.setattr(fitted.predictor_, "clusters", strict)
    assert fitted.predict(images).tolist() == [-1] * 60
    asked = []
    stand_in(monkeypatch, run, "run", lambda options, listed: asked.append(options) or 1 / 0)
    for unclustered in (False, True, 0.1):
        with pytest.raises(ZeroDivisionError):
            clone(fitted).set_params(unclustered=unclustered).fit(images)
    shares = [(options.unclustered, options.unclustered_at_most) for options in asked]
    assert shares == [(False, AT_MOST), (True, AT_MOST), (True, 0.1)]
    with pytest.raises(VtccError, match="unclustered: found 2; give True, or a share"):
        clone(fitted).set_params(unclustered=2).fit(images)


@pytest.fixture
def photos(images, tmp_path):
    """Files and a folder with an image in it, as people keep them."""
    folder = tmp_path / "photos"
    (folder / "album").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    Image.fromarray(images[0]).save(folder / "album" / "x.png")
    (folder / "notes.txt").write_text("00.png")
    (folder / "broken").write_bytes(b"no image")
    return folder


def test_paths_with_a_folder_among_them_and_twice_the_same_get_their_labels(fitted, photos):
    paths = [*sorted(photos.glob("*")), photos / "00.png", photos.parent / "photos/album/../00.png"]
    again = clone(fitted).fit(paths)
    unlabelled = [path.name for path, k in zip(paths, again.labels_, strict=True) if k < 0]
    assert unlabelled == ["album", "broken", "notes.txt"]
    assert (again.confidence_ > 0).tolist() == (again.labels_ >= 0).tolist()
    assert again.labels_[-2:].tolist() == again.labels_[:1].tolist() * 2
    assert (again.embedding_[-1] == again.embedding_[0]).all()
    assert again.predict(paths).tolist() == again.labels_.tolist()
    with pytest.raises(VtccError, match="found 9 images"):
        clone(fitted).fit([photos, *sorted(photos.glob("0*.png"))[:9]])


@pytest.mark.parametrize("given", ["folder", "paths", "array"])
def test_results_that_are_kept_lead_to_the_images(fitted, images, photos, tmp_path, given):
    results = tmp_path / "results"
    files = sorted(photos.glob("*.png"))
    X = {"folder": str(photos), "paths": files, "array": images}[given]
    kept = clone(fitted).set_params(output=results).fit(X)
    content = summary.read(results)
    root = tmp_path / "results-images" if given == "array" else photos
    assert content["root"] == str(root)
    expected = [str(file) for file in files] if given == "paths" else [str(root)]
    assert content["inputs"] == expected
    table = assignments.read(results / "assignments.csv")
    inside = ["album/x.png"] if given == "folder" else []
    names = [f"{i:08}.png" for i in range(60)] if given == "array" else [f.name for f in files]
    assert [row.file for row in table] == sorted(names + inside)
    assert all((root / row.file).is_file() for row in table)
    where = [row.file for row in table] if given == "folder" else names
    at = {row.file: row.cluster for row in table}
    assert kept.labels_.tolist() == [at[name] for name in where]
    out = tmp_path / "coco.json"
    export.hand_over(results, "coco", out)
    assert len(json.loads(out.read_text())["images"]) == len(table)
    with pytest.raises(VtccError, match="there are results already"):
        clone(fitted).set_params(output=results).fit(X)


def test_an_array_that_cannot_be_grouped_leaves_nothing(fitted, images, tmp_path):
    results = tmp_path / "results"
    wrong = clone(fitted).set_params(output=results, n_clusters=40)
    with pytest.raises(VtccError, match="at most 30, two images a cluster"):
        wrong.fit(images)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "results-images").mkdir()
    with pytest.raises(VtccError, match="results-images, for the images of the array, is there"):
        clone(fitted).set_params(output=results).fit(images)


@pytest.mark.slow  # as of `vtcc cluster`, of which test_collection.py compares two runs
def test_the_same_seed_gives_the_same(fitted, images):
    again = clone(fitted).fit(images)
    assert again.labels_.tolist() == fitted.labels_.tolist()


def test_follows_scikit_learns_rules(images):
    made = vtcc.ImageClusterer((2, 5), minutes=3)
    assert made.get_params()["n_clusters"] == (2, 5)
    assert clone(made).set_params(minutes=1).minutes == 1
    with pytest.raises(NotFittedError):
        made.predict(images)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((5, 5)), r"shape \(5, 5\)"),
        (np.zeros((5, 5, 5, 2), np.uint8), "C 1, 3 or 4"),
        (np.zeros((5, 5, 5), np.int32), "found int32"),
        (np.full((5, 5, 5), 7.0), "floats in 0-1"),
        ([1, 2], "a sequence with int"),
        (["/no/such.png"], "no such file"),
        (np.zeros((4, 8, 8), np.uint8), "at least 10"),
    ],
)
def test_images_that_cannot_be_used(X, message):
    with pytest.raises(VtccError, match=message):
        vtcc.ImageClusterer(2).fit(X)
    with pytest.raises(VtccError, match="integer from 0"):
        vtcc.ImageClusterer(2, random_state=1.5).fit(np.zeros((20, 8, 8), np.uint8))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"minutes": None}, "minutes: found None; give a number above 0"),
        ({"minutes": "20"}, "minutes: found '20'; give"),
        ({"encoder": None}, "encoder: found None; give 'auto', 'none' or a name"),
        ({"weights": 3}, "weights: found 3; give a path, or None"),
        ({"params": ["x"]}, r"params: found \['x'\]; give a dictionary of dotted names, or None"),
        ({"params": {1: 2}}, "1: unknown parameter"),
        ({"unclustered": None}, "unclustered: found None; give True, False or a share"),
        ({"unclustered": "some"}, "unclustered: found 'some'; give"),
        ({"output": 5}, "output: found 5; give a path, or None"),
        ({"minutes": True}, "minutes: found True; give"),
        ({"sample": "a"}, "sample: found 'a'; give a whole number, or 0"),
        ({"sample": 50.0}, "sample: found 50.0; give"),
        ({"sample": None}, "sample: found None; give"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_are_named(given, message):
    with pytest.raises(VtccError, match=message):
        vtcc.ImageClusterer(2, **given).fit(np.zeros((20, 8, 8), np.uint8))


@pytest.mark.parametrize(
    "given",
    [
        {"unclustered": np.True_, "minutes": np.float32(3), "sample": np.int64(12)},
        {"unclustered": np.False_, "minutes": 3},
        {"unclustered": np.float64(0.1), "sample": 0},
    ],
    ids=str,
)
def test_numpys_own_numbers_are_numbers(given, monkeypatch):
    def stop(options, listed=None):
        raise VtccError(f"{options.unclustered} {options.unclustered_at_most}")

    stand_in(monkeypatch, run, "run", stop)
    share = 0.1 if given["unclustered"] == 0.1 else AT_MOST
    with pytest.raises(VtccError, match=f"{bool(given['unclustered'])} {share}$"):
        vtcc.ImageClusterer(2, **given).fit(np.zeros((20, 8, 8), np.uint8))


@pytest.mark.parametrize(("place", "message"), [("missing", "does not exist"), ("/proc", "cannot")])
def test_an_output_that_cannot_be_made_is_named(tmp_path, place, message):
    parent = tmp_path / place
    with pytest.raises(VtccError, match=f"{parent}:? {message}"):
        vtcc.ImageClusterer(2, output=parent / "out").fit(np.zeros((20, 8, 8), np.uint8))
