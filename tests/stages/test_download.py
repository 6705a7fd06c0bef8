import hashlib
import json
import os
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.data.layouts import gzip, idx
from tests.data.project import make_folder, make_project
from tests.data.test_catalog import CARD as ANY
from tests.fakes import stand_in
from vtcc.data import mirror
from vtcc.data.catalog import load_card
from vtcc.data.image_set import ImageSet
from vtcc.data.manifest import digest, read_labels, read_manifest
from vtcc.errors import VtccError
from vtcc.stages import download

CARD = ANY | {
    "loader": "idx",
    "images": 10,
    "classes": 10,
    "class_counts": {str(i): 1 for i in range(10)},
    "sources": [],
    "manual": "fetch toy from nowhere",
}
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
LABELS = np.arange(10, dtype=np.uint8)[::-1]


def write_mirror(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for stem, rows in (("train", slice(0, 6)), ("t10k", slice(6, 10))):
        for name, values in (("images-idx3", IMAGES[rows]), ("labels-idx1", LABELS[rows])):
            (directory / f"{stem}-{name}-ubyte.gz").write_bytes(gzip.compress(idx(values), mtime=0))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Makes a project with these overrides, and goes there."""
    monkeypatch.delenv("VTCC_MIRROR", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VTCC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(mirror, "DEBIAN_FASHION", tmp_path / "debian")

    def make(**overrides):
        directory = make_project(tmp_path / "project", **overrides)
        monkeypatch.chdir(directory)
        return directory

    return make


def card(directory, **changes) -> str:
    path = directory / "toy.yaml"
    path.write_text(yaml.safe_dump(CARD | changes, sort_keys=False))
    write_mirror(directory / "mirror/toy")
    return str(path)


def test_a_folder_arrives_as_it_is(project, tmp_path):
    names = ["b/😀 1.PNG", "a/new\nline.jpg", "a/,\"quote'.png", "NA/1.png"]
    source = make_folder(tmp_path / "in", names)
    home = project(dataset__source=str(source), dataset__name="mine")
    download.run()
    table = read_manifest(home / "data/raw/manifest.csv")
    assert table["path"].tolist() == sorted(names)
    assert table["split"].tolist() == ["train"] * 4
    for row in table.itertuples():
        copied = (home / "data/raw/images" / row.path).read_bytes()
        assert copied == (source / row.path).read_bytes() and len(copied) == row.bytes
        assert hashlib.sha256(copied).hexdigest() == row.sha256
    labels = read_labels(home / "data/labels/labels.csv")
    assert labels["path"].tolist() == sorted(names)
    assert labels["class_name"].tolist() == ["NA", "a", "a", "b"]
    assert labels["label"].tolist() == [0, 1, 1, 2]
    assert json.loads((home / "data/raw/dataset.json").read_text()) == {
        "name": "mine",
        "source": str(source),
        "images": 4,
        "classes": 3,
        "digest": digest(table["path"].tolist(), table["sha256"].tolist()),
        "expected_images": None,
        "card": None,
    }
    assert sorted(p.name for p in (home / "data").iterdir()) == ["labels", "raw"]


def test_an_unlabelled_folder_has_a_header_for_labels(project, tmp_path):
    home = project(dataset__source=str(make_folder(tmp_path / "in", ["1.png", "2.png"])))
    download.run()
    assert (home / "data/labels/labels.csv").read_text() == '"path","label","class_name"\n'
    assert json.loads((home / "data/raw/dataset.json").read_text())["classes"] is None
    assert read_labels(home / "data/labels/labels.csv").empty


def test_an_archive_gives_what_its_folder_gives(project, tmp_path):
    source = make_folder(tmp_path / "in", ["a/1.png", "b/2.png"])
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as packed:
        for file in source.rglob("*.png"):
            packed.write(file, file.relative_to(source))
    results = []
    for path in (source, tmp_path / "in.zip"):
        home = project(dataset__source=str(path))
        download.run()
        results.append(
            [(home / f"data/{f}").read_bytes() for f in ("raw/manifest.csv", "labels/labels.csv")]
        )
    assert results[0] == results[1]
    assert sorted(p.name for p in (home / "data").iterdir()) == ["labels", "raw"]


def test_limit_and_holdout(project, tmp_path):
    source = make_folder(tmp_path / "in", [f"{c}/{i:02d}.png" for c in "ab" for i in range(20)])
    home = project(dataset__source=str(source), dataset__limit=20, dataset__holdout=0.25)
    download.run()
    table = read_manifest(home / "data/raw/manifest.csv")
    assert len(table) == 20 and table["split"].value_counts()["holdout"] == 5
    files = [p for p in (home / "data/raw/images").rglob("*") if p.is_file()]
    assert len(files) == 20
    assert read_labels(home / "data/labels/labels.csv")["path"].tolist() == table["path"].tolist()
    again = project(
        dataset__source=str(source), dataset__limit=20, dataset__holdout=0.25, dataset__seed=1
    )
    download.run()
    assert read_manifest(again / "data/raw/manifest.csv")["path"].tolist() != table["path"].tolist()


def test_labels_do_not_reach_the_split(project, tmp_path):
    manifests = []
    for classes in ("ab", "ba"):
        names = [f"{i:02d}.png" for i in range(20)]
        source = make_folder(tmp_path / classes, names)
        for i, name in enumerate(names):  # the same images in the same order, other folders
            target = source / f"{i:02d}" / classes[i % 2]
            target.mkdir(parents=True)
            (source / name).rename(target / name)
        home = project(dataset__source=str(source), dataset__limit=10, dataset__holdout=0.4)
        download.run()
        table = read_manifest(home / "data/raw/manifest.csv")
        manifests.append([(p[:2], s) for p, s in zip(table["path"], table["split"], strict=True)])
    assert manifests[0] == manifests[1]


def test_a_card_with_a_mirror(project, tmp_path, capsys):
    home = project(
        dataset__source=card(tmp_path), download__mirror=str(tmp_path / "mirror"), dataset__limit=4
    )
    download.run()
    table = read_manifest(home / "data/raw/manifest.csv")
    assert len(table) == 4
    labels = read_labels(home / "data/labels/labels.csv").set_index("path")
    for path in table["path"]:
        part, number = path.split("/")[1:]
        index = int(number[:5]) + 6 * (part == "test")
        with Image.open(home / "data/raw/images" / path) as image:
            assert (np.asarray(image) == IMAGES[index]).all()
        assert labels.loc[path, "label"] == 9 - index
    facts = json.loads((home / "data/raw/dataset.json").read_text())
    assert (facts["images"], facts["classes"], facts["expected_images"]) == (4, 10, None)
    assert facts["card"] == {
        "images": 10,
        "classes": 10,
        "class_counts_checked": True,
        "image_size": [4, 6],
        "size_exceptions": 1,
        "modes": ["RGB"],
        "severity": CARD["expectations"]["severity"],
        "known": {"exact_duplicates": None},
        "whole": False,
    }
    out = capsys.readouterr().out
    assert '"stage": "download", "done": 4, "total": 4' in out and "digits: 4 images in" in out


def test_vtcc_mirror_wins(project, tmp_path, monkeypatch):
    home = project(dataset__source=card(tmp_path), download__mirror=str(tmp_path))
    monkeypatch.setenv("VTCC_MIRROR", (tmp_path / "mirror").as_uri())
    download.run()
    facts = json.loads((home / "data/raw/dataset.json").read_text())
    assert (facts["images"], facts["expected_images"], facts["card"]["whole"]) == (10, 10, True)


def test_a_count_short_of_the_card_is_refused_unless_allowed(project, tmp_path, capsys):
    source = card(tmp_path, images=12, class_counts=CARD["class_counts"] | {"9": 3})
    mirror = str(tmp_path / "mirror")
    home = project(dataset__source=source, download__mirror=mirror)
    with pytest.raises(VtccError) as caught:
        download.run()
    assert str(caught.value) == (
        "dataset 'toy': expected 12 images, found 10; run `vtcc download` again, or set "
        "download.allow_missing"
    )
    assert not any((home / "data").iterdir())
    project(dataset__source=source, download__mirror=mirror, download__allow_missing=True)
    download.run()
    assert len(read_manifest(home / "data/raw/manifest.csv")) == 10
    assert "toy: 10 of 12 images; going on (allow_missing)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 1], "its card promises 2 images, found 3; correct the card"),
        ([1, 1], r"expected 2 classes, found 1 \(missing: a\); the files are not what the card"),
    ],
)
def test_other_counts_than_the_cards(labels, message, tmp_path):
    changes = {"images": 2, "classes": 2, "class_counts": {"a": 1, "b": 1}}
    toy = load_card(card(tmp_path, **changes))
    found = ImageSet(["x"] * len(labels), lambda i: b"", labels, ["a", "b"])
    with pytest.raises(VtccError, match=message):
        download.check_card(toy, found, allow_missing=False)


def test_an_error_leaves_what_was_there(project, tmp_path, monkeypatch):
    source = make_folder(tmp_path / "in", ["1.png", "2.png"])
    home = project(dataset__source=str(source))
    download.run()
    before = (home / "data/raw/manifest.csv").read_bytes()
    make_folder(source, ["3.png", "4.png", "5.png"])
    stand_in(monkeypatch, download.manifest, "digest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        download.run()
    assert (home / "data/raw/manifest.csv").read_bytes() == before
    assert sorted(p.name for p in (home / "data").iterdir()) == ["labels", "raw"]


def test_an_unreadable_file_is_named(project, tmp_path, monkeypatch):
    source = make_folder(tmp_path / "in", ["1.png", "2.png"])
    project(dataset__source=str(source))
    opened = Path.open

    def refuse(path, *args, **kwargs):  # permissions do not hold root back
        if path == source / "2.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(VtccError, match=r"in/2\.png: cannot be read \(Permission denied\)"):
        download.run()


@pytest.mark.parametrize("source", ["data/raw/images", "data/raw", ".", "data/labels/x"])
def test_the_pipelines_own_output_is_no_source(project, source):
    home = project(dataset__source=source)
    make_folder(home / source, ["1.png", "2.png"])
    with pytest.raises(VtccError, match="which the pipeline writes; move the images elsewhere"):
        download.run()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no image in "),
        (["one.png"], "1 image in .*, and grouping needs at least 2"),
        (["a.txt", "b.pdf"], "no image in .*left out: 2 other files"),
        (None, "does not exist in "),
    ],
)
def test_nothing_to_cluster_is_one_line(project, tmp_path, names, message):
    if names is not None:
        (tmp_path / "in").mkdir()
        make_folder(tmp_path / "in", names)
    home = project(dataset__source=str(tmp_path / "in"))
    with pytest.raises(VtccError) as caught:
        download.run()
    assert re.fullmatch(f"dataset.source: .*{message}.*", str(caught.value))
    assert not (home / "data/raw").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes are a Linux matter")
def test_names_that_are_not_text_become_text(project, tmp_path):
    source = make_folder(tmp_path / "in", ["a.png"])
    Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9.png")).write_bytes(b"x")
    home = project(dataset__source=str(source))
    download.run()
    paths = read_manifest(home / "data/raw/manifest.csv")["path"].tolist()
    assert paths == ["a.png", "caf%E9.png"]
    assert (home / "data/raw/images/caf%E9.png").read_bytes() == b"x"
