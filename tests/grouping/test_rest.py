"""The images of a collection beside its sample, in shards."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.grouping import toy_results
from tests.test_zip_file import member
from vtcc.errors import VtccError
from vtcc.grouping import result
from vtcc.verbs import add, refine

SHOWN, BESIDE, SHARD = 13, 10, 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of images, and results of a third more images than they show."""
    root = tmp_path_factory.mktemp("collection") / "photos"
    results = root.with_name("results")
    toy_results.folder_of(root, SHOWN // 3)
    edges = np.random.default_rng(0).integers(100, 112, (8, 8), np.uint8).repeat(2, 0).repeat(2, 1)
    Image.fromarray(edges).save(root / "0-edges.png")
    results.mkdir()
    toy_results.write(root, results)
    shutil.copy(root / "0-edges.png", root / "1-copy.png")
    for i in range(BESIDE - 1):
        toy_results.draw(root / f"{i % 3}-beside{i}.png", i % 3, 5000 + i)
    toy_results.beside(root, results, shard=SHARD)
    return root, results


@pytest.fixture
def results(made, tmp_path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(made[1], tmp_path / "results"))


def rename(results: Path) -> Path:
    """Edits that give a cluster a name."""
    edits = [{"do": "rename", "cluster": 1, "name": "cars"}]
    place = results.with_name("edits.json")
    of = {"format": 1, "model": result.digest(results / "model"), "edits": edits}
    place.write_text(json.dumps(of), encoding="utf-8")
    return place


def alike(results: Path) -> dict[str, str]:
    with (results / "duplicates.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["looks_like"] for row in csv.DictReader(file)}


def test_look_alikes_stay_and_come_when_images_are_added(made, results, tmp_path):
    assert alike(results) == {"1-copy.png": "0-edges.png"}
    (tmp_path / "more").mkdir()
    shutil.copy(made[0] / "0-edges.png", tmp_path / "more" / "0-again.png")
    toy_results.draw(tmp_path / "more" / "2-new.png", 2, 9000)
    add.run(results, [tmp_path / "more"])
    again = next(name for name in alike(results) if name.endswith("0-again.png"))
    assert alike(results) == {again: "0-edges.png", "1-copy.png": "0-edges.png"}
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    assert summary["collection"]["alike"] == 2


def test_edits_keep_the_count_of_a_whole_collection(results):
    assert refine.run(results, rename(results))["images"] == SHOWN + BESIDE


@pytest.mark.parametrize(
    ("name", "place"), [("rest/000001.npz", 10), ("embedding.npz", 10), ("embedding.npz", 8)]
)
def test_a_damaged_file_is_refused_in_one_line(made, results, name, place):
    """A byte in it of which Python's zipfile raises NotImplementedError or RuntimeError."""
    (results / name).write_bytes(member((results / name).read_bytes(), place, 9))
    message = re.escape(f"{results / name}: damaged (") + ".*run `vtcc cluster` again"
    with pytest.raises(VtccError, match=message):
        refine.run(results, rename(results))
    with pytest.raises(VtccError, match=message):
        add.run(results, [made[0]])


@pytest.mark.parametrize("file", ["embedding.npz", "rest/000001.npz"])
@pytest.mark.parametrize(
    "odd", [{"h": np.zeros((1, 4), np.float32)}, {"p": np.float32(1)}, {"files": np.bytes_(b"a")}]
)
def test_arrays_of_other_lengths_are_refused(results, file, odd):
    with np.load(results / file) as saved:
        arrays = dict(saved)
    np.savez(results / file, **arrays | odd)
    shape = r"\w+: found \S+ \([\d, ]*\), expected \w+ \([\w, ]+\)"
    message = rf"/{re.escape(file)}: damaged \({shape}\); run `vtcc cluster` again$"
    with pytest.raises(VtccError, match=message):
        refine.run(results, rename(results))


def test_a_shard_of_fewer_images_than_it_names_is_refused(results):
    file = results / "rest/000001.npz"
    with np.load(file) as saved:
        arrays = dict(saved)
    texts = ("files", "stamps", "errors")
    np.savez(file, **{n: a if n in texts else a[:-1] for n, a in arrays.items()})
    message = rf"damaged \(of {SHARD - 1} images, and it names {SHARD}\)"
    with pytest.raises(VtccError, match=message):
        refine.run(results, rename(results))


@pytest.mark.parametrize("odd", [b"other.png", b"0-00.png"])
def test_an_embedding_of_other_files_is_refused(made, results, odd):
    with np.load(results / "embedding.npz") as saved:
        arrays = dict(saved)
    files = arrays["files"].tolist()
    files[-1] = odd
    np.savez(results / "embedding.npz", **arrays | {"files": np.array(files)})
    message = r"embedding\.npz: of other images than summary\.json; run `vtcc cluster` again"
    with pytest.raises(VtccError, match=message):
        refine.run(results, rename(results))
    with pytest.raises(VtccError, match=message):
        add.run(results, [made[0]])


@pytest.mark.parametrize("lost", ["000001.npz", "."])
def test_shards_that_are_missing_take_no_images_away(made, results, lost):
    place = results / "rest" / lost
    left = 0 if lost == "." else BESIDE - SHARD
    shutil.rmtree(place) if lost == "." else place.unlink()
    table = (results / "assignments.csv").read_bytes()
    message = re.escape(
        f"{results / 'rest'}: damaged ({left} images in its files, {BESIDE} expected); "
        "run `vtcc cluster` again"
    )
    with pytest.raises(VtccError, match=message):
        refine.run(results, rename(results))
    with pytest.raises(VtccError, match=message):
        add.run(results, [made[0]])
    assert (results / "assignments.csv").read_bytes() == table
