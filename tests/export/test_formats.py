"""Results of `vtcc cluster` in other tools' formats, read by these where they are small.

`datasets` and `pycocotools` read what is theirs. Label Studio and FiftyOne (which needs a database)
are held to what their documentation says of the format, written down here.
"""

import ast
import io
import json
import os
import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tests.data.camera_files import dng, film, jpeg
from tests.data.test_stripped import exif
from tests.fakes import stand_in
from tests.grouping import toy_results
from vtcc.cli import app
from vtcc.data import camera
from vtcc.data.inputs import kept
from vtcc.errors import VtccError
from vtcc.export import coco, formats
from vtcc.export.dataset import Dataset
from vtcc.export.dataset import Image as ExportedImage
from vtcc.grouping import assignments, handover, outputs
from vtcc.verbs import export

ODD = ("0 50%.png", "1=é.png", "2-a::b[1].png", "0-.a.b.png", "sub/1-x.png", "sub/1-x.jpg")
NOT_UTF8 = b"1-\xe9.png"
NAMES = {0: 'a <"b"> & c', 1: "same", 2: "same"}
CALLED = {0: 'a <"b"> & c', 1: "same", 2: "same (2)", 3: "cluster 3"}
MORE = {
    "taken_at": {"0-00.png": "2024-05-01T10:00:00", "sub/1-x.png": "unknown"},
    "price": {"0-01.png": 1.5, "1-00.png": float("nan")},
    "count": {"0-01.png": 3},
    "latitude": {"0-01.png": 48.2},
    "image": {"0-01.png": "x"},
    "id": {"0-01.png": "y"},
    "_a.b": {"0-01.png": True},
    "my_file_name": {"0-01.png": "z"},
    "my_file_name_": {"0-01.png": "other"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of 31 images, and results in which some belong nowhere."""
    place = tmp_path_factory.mktemp("hand over")
    root = place / "photos x"
    toy_results.folder_of(root, 8)
    for name in ODD:
        toy_results.draw(root / name, int(Path(name).name[0]), 7)
    with open(os.fsencode(root) + b"/" + NOT_UTF8, "wb") as file:  # noqa: PTH123
        file.write((root / "1-00.png").read_bytes())
    toy_results.write(root, place / "results", 0.1, more=MORE, names_of=NAMES)
    return root, place / "results"


@pytest.fixture(scope="module")
def table(made):
    rows = assignments.read(made[1] / "assignments.parquet")
    assert sum(row.cluster is None for row in rows) == 3
    assert len(rows) == 31
    return {row.file: row for row in rows}


def test_an_export_into_a_folder_of_images_of_odd_bytes_is_refused(made, tmp_path):
    odd, results = tmp_path / os.fsdecode(b"fotos\xe9"), tmp_path / "results"
    odd.mkdir()
    shutil.copytree(made[1], results)
    file = results / "summary.json"
    inputs = [kept(odd), kept(made[0])]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"inputs": inputs}))
    with pytest.raises(VtccError, match=r"x\.json lies inside the images' folder"):
        export.hand_over(results, "coco", odd / "x.json")
    assert list(odd.iterdir()) == []


def hand_over(made, to, out, **how):
    return export.hand_over(made[1], to, out, **how)


def test_datasets_reads_an_imagefolder(made, table, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    answer = hand_over(made, "imagefolder", tmp_path / "hf")
    assert answer == {
        "out": str(tmp_path / "hf"), "to": "imagefolder", "images": 31, "in_clusters": 28,
        "left_out": 0, "unreadable": 0,
    }  # fmt: skip
    read = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))["train"]
    assert read.features["label"].names == list(CALLED.values())
    assert read.features["taken_at"].dtype == "string"  # a table of text alone would make it a date
    kinds = {name: read.features[name].dtype for name in ("count", "price", "_a.b", "cluster", "x")}
    assert kinds == {
        "count": "int64", "price": "float64", "_a.b": "bool", "cluster": "int64", "x": "float64",
    }  # fmt: skip
    rows = {row["file"]: row for row in read}
    assert rows.keys() == table.keys()
    at = outputs.Embedding.load(made[1])
    for row, place in zip(read, at.map, strict=True):
        known = table[row["file"]]
        assert (row["cluster"], row["confidence"]) == (known.cluster, known.confidence)
        assert row["label"] == known.cluster  # ids begin at 0 here
        assert row["name"] == (known.name if known.cluster is None else CALLED[known.cluster])
        assert (row["x"], row["y"]) == pytest.approx(tuple(place))
        file = made[0] / row["file"]
        if file.exists():
            assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(file)))
    one = rows["0-01.png"]
    assert (one["price"], one["count"], one["image_"], one["id"]) == (1.5, 3, "x", "y")
    assert (one["_a.b"], one["my_file_name__"], "latitude" in one) == (True, "z", False)
    assert one["my_file_name_"] == "other"
    assert rows["sub/1-x.png"]["taken_at"] == "unknown"
    assert all(file.is_symlink() for file in (tmp_path / "hf" / "images").iterdir())


def test_the_data_card_is_valid_and_names_no_place(made, tmp_path):
    from huggingface_hub import DatasetCard

    hand_over(made, "imagefolder", tmp_path / "hf")
    text = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": ["metadata.parquet", "images/*"]}],
        }
    ]
    assert DatasetCard.load(tmp_path / "hf" / "README.md").data.task_categories == [
        "image-classification"
    ]
    assert "# 31 images in 4 clusters\n" in text
    assert "| images in no cluster | 3 |" in text
    assert '| 0: a \\<"b"\\> \\& c |' in text
    assert "clear structure" in text
    assert str(made[0].parent) not in text
    assert "photos x" not in text


def test_pycocotools_reads_coco(made, table, tmp_path, capsys):
    from pycocotools.coco import COCO

    Image.new("L", (9, 5)).save(made[0] / "turned", "JPEG", exif=exif())
    kept = (made[0] / "sub/1-x.jpg").read_bytes()
    shutil.move(made[0] / "turned", made[0] / "sub/1-x.jpg")
    try:
        answer = hand_over(made, "coco", tmp_path / "c.json")
    finally:
        (made[0] / "sub/1-x.jpg").write_bytes(kept)
    assert (answer["images"], answer["in_clusters"], answer["left_out"]) == (30, 27, 1)
    assert (
        "left out, as coco cannot name a path that is not UTF-8: 1 image (first:"
        in capsys.readouterr().out
    )
    read = COCO(str(tmp_path / "c.json"))
    assert {c["id"]: c["name"] for c in read.loadCats(read.getCatIds())} == CALLED
    images = {image["file_name"]: image for image in read.loadImgs(read.getImgIds())}
    assert images.keys() == table.keys() - {"1-%E9.png"}
    for name, image in images.items():
        seen = read.loadAnns(read.getAnnIds(imgIds=[image["id"]]))
        known = table[name]
        expected = [] if known.cluster is None else [(known.cluster, known.confidence)]
        assert [(a["category_id"], a["score"]) for a in seen] == expected
        if seen:
            assert read.annToMask(seen[0]).sum() == image["width"] * image["height"] > 0
    assert (images["sub/1-x.jpg"]["width"], images["sub/1-x.jpg"]["height"]) == (5, 9)
    assert images["0-01.png"]["attributes"]["count"] == 3
    assert "price" not in images["1-00.png"]["attributes"]  # JSON has no NaN
    assert min(read.getAnnIds()) == min(read.getImgIds()) == 1


def test_label_studio_gets_tasks_and_a_configuration(made, table, tmp_path, capsys):
    """As its guide has it: "Import pre-annotated data", "Local storage", tags Image and Choices.

    A result names the control tag (`from_name`), the object tag (`to_name`) and the control's type,
    and its choices are among those of the configuration.
    """
    hand_over(made, "label-studio", tmp_path / "ls")
    served = shlex.quote(str(made[0].parent))
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={served}, give" in capsys.readouterr().out
    view = ElementTree.parse(tmp_path / "ls" / "config.xml").getroot()
    shown, choices = view
    assert (view.tag, shown.tag, choices.tag) == ("View", "Image", "Choices")
    assert (shown.get("value"), choices.get("toName")) == ("$image", shown.get("name"))
    assert [choice.get("value") for choice in choices] == list(CALLED.values())
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["file"] for task in tasks] == [n for n in table if n != "1-%E9.png"]
    for task in tasks:
        address = urlsplit(task["data"]["image"])
        (path,) = parse_qs(address.query)["d"]
        assert (address.path, address.scheme) == ("/data/local-files/", "")
        assert (made[0].parent / path).samefile(made[0] / task["data"]["file"])
        known = table[task["data"]["file"]]
        if known.cluster is None:
            assert task["predictions"] == []
            continue
        (prediction,) = task["predictions"]
        assert prediction["score"] == known.confidence
        assert prediction["result"] == [
            {
                "from_name": choices.get("name"),
                "to_name": shown.get("name"),
                "type": "choices",
                "value": {"choices": [CALLED[known.cluster]]},
            }
        ]


def test_fiftyone_gets_a_dataset_directory(made, table, tmp_path):
    """As its guide has it, FiftyOneImageClassificationDataset.

    `labels.json` maps the stem of each file in `data/` to null or to a number of `classes`, with
    confidence and attributes, which become fields: no dot, no `_` first, none of its own.
    """
    hand_over(made, "fiftyone", tmp_path / "fo")
    content = json.loads((tmp_path / "fo" / "labels.json").read_text(encoding="utf-8"))
    assert content["classes"] == list(CALLED.values())
    files = {os.path.splitext(f.name)[0]: f for f in (tmp_path / "fo" / "data").iterdir()}  # noqa: PTH122
    assert files.keys() == content["labels"].keys()
    assert len(files) == 31
    assert [stem for stem in files if stem.startswith(".")] == []
    assert sum(label is None for label in content["labels"].values()) == 3
    for stem, label in content["labels"].items():
        if label is None:
            continue
        known = table[label["attributes"]["file"]]
        assert (label["label"], label["confidence"]) == (known.cluster, known.confidence)
        fields = label["attributes"].keys()
        assert [name for name in fields if not re.fullmatch(r"[^\W_]\w*", name)] == []
        assert not fields & {"id", "tags", "label", "confidence", "logits"}
        assert files[stem].exists()
    said = content["labels"]["0-01"]["attributes"]
    assert (said["count"], said["id_"], said["a_b"]) == (3, "y", True)


def test_embedding_atlas_gets_map_thumbnails_and_neighbours(made, table, tmp_path):
    import pyarrow.parquet as pq

    hand_over(made, "embedding-atlas", tmp_path / "a.parquet")
    read = pq.read_table(tmp_path / "a.parquet").to_pylist()
    embedding = outputs.Embedding.load(made[1])
    assert [row["file"] for row in read] == embedding.paths == list(table)
    assert [(row["x"], row["y"]) for row in read] == [tuple(map(float, p)) for p in embedding.map]
    unit = embedding.h / np.linalg.norm(embedding.h, axis=1, keepdims=True)
    far = 1 - unit @ unit.T
    for i, row in enumerate(read):
        near = row["neighbors"]
        assert len(near["ids"]) == len(set(near["ids"])) == 15
        assert i not in near["ids"]
        others = np.sort(np.delete(far[i], i))[:15]
        assert near["distances"] == pytest.approx(others, abs=1e-5)
        assert far[i][near["ids"]] == pytest.approx(others, abs=1e-5)
        assert row["name"] == CALLED.get(table[row["file"]].cluster, table[row["file"]].name)
        thumbnail = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("L"), int)
        if (made[0] / row["file"]).exists():
            original = np.asarray(Image.open(made[0] / row["file"]), int)
            assert np.abs(thumbnail - original).mean() < 12
    assert {row["name"] for row in read if row["cluster"] is None} == {"unclustered"}


def test_images_that_are_not_on_the_map_are_in_all_but_the_map(made, tmp_path):
    """Of a large collection the embedding has a part."""
    import pyarrow.parquet as pq

    shutil.copytree(made[1], tmp_path / "results")
    whole = outputs.Embedding.load(made[1])
    order = np.arange(30, 9, -1)  # and in another order than the table, as after an addition
    some = {f.name: getattr(whole, f.name) for f in fields(whole)} | {
        "paths": [whole.paths[i] for i in order]
    }
    some = {n: v[order] if isinstance(v, np.ndarray) else v for n, v in some.items()}
    outputs.Embedding(**some).save(tmp_path / "results")
    here = (made[0], tmp_path / "results")
    answer = hand_over(here, "embedding-atlas", tmp_path / "a.parquet")
    assert (answer["images"], answer["left_out"]) == (21, 10)
    read = {row["file"]: row for row in pq.read_table(tmp_path / "a.parquet").to_pylist()}
    hand_over(made, "embedding-atlas", tmp_path / "whole.parquet")
    all_of = {row["file"]: row for row in pq.read_table(tmp_path / "whole.parquet").to_pylist()}
    for name, row in read.items():
        assert (row["x"], row["y"], row["image"]) == (
            all_of[name]["x"], all_of[name]["y"], all_of[name]["image"],
        )  # fmt: skip
        nearest = list(read)[row["neighbors"]["ids"][0]]
        assert Path(nearest).name[0] == Path(name).name[0]  # its kind
    assert hand_over(here, "imagefolder", tmp_path / "hf")["images"] == 31
    rows = pq.read_table(tmp_path / "hf" / "metadata.parquet").to_pylist()
    assert sum(row["x"] is None for row in rows) == 10


def test_a_level_is_the_supercategory(tmp_path):
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    images = [
        ExportedImage("a.png", tmp_path / "a.png", "a.png", k, "x", 1.0, {"level_1": 2})
        for k in (2, 5)
    ]
    names = {2: "two", 5: "five", 7: "empty"}
    given = Dataset(images, tmp_path, names, {}, "m", "", 0, 0, np.zeros((0, 1)), lambda rows: rows)
    coco.write(given, tmp_path / "c.json")
    read = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert read["categories"] == [
        {"id": 2, "name": "two", "supercategory": "level_1 2"},
        {"id": 5, "name": "five", "supercategory": "level_1 2"},
        {"id": 7, "name": "empty", "supercategory": "cluster"},
    ]


def test_coco_has_the_size_of_films_and_raw_files_as_they_are_shown(tmp_path):
    film(tmp_path / "a.mp4", 90)
    (tmp_path / "b.dng").write_bytes(dng(jpeg(), 6))
    images = [ExportedImage(n, tmp_path / n, n, 0, "x", 1.0, {}) for n in ("a.mp4", "b.dng")]
    none = np.zeros((0, 1))
    given = Dataset(images, tmp_path, {0: "all"}, {}, "m", "", 0, 0, none, lambda rows: rows)
    coco.write(given, tmp_path / "c.json")
    camera.end()
    read = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert [(image["width"], image["height"]) for image in read["images"]] == [(24, 32)] * 2


def test_columns_are_told_apart_whatever_their_case():
    taken = {"x", "name", "image"}
    assert handover._free(["X", "x_", "", "Name", "shop", "Shop"], taken) == {
        "X": "X__", "x_": "x_", "": "column", "Name": "Name_", "shop": "shop", "Shop": "Shop_",
    }  # fmt: skip


def test_neighbours_of_very_few_images():
    from vtcc.export.embedding_atlas import _nearest

    assert _nearest(np.ones((1, 3), np.float32)) == ([[]], [[]])
    assert _nearest(np.eye(2, dtype=np.float32)) == ([[1], [0]], [[1.0], [1.0]])


@pytest.mark.parametrize("to", formats.FORMATS)
def test_no_place_leaves_unless_it_is_asked_for(tmp_path, to):
    root, results = tmp_path / "in", tmp_path / "results"
    toy_results.folder_of(root, 4)
    for kind in range(3):
        with Image.open(root / f"{kind}-00.png") as image:
            image.save(root / f"{kind}-00.jpg", "JPEG", exif=exif(turn=1))
    toy_results.write(root, results, more={"latitude": {"0-00.jpg": 48.2}})
    form = formats.FORMATS[to]
    how = {"images": "copies"} if form.media else {}

    def written(place):
        out = tmp_path / f"out-{place}{form.suffix}"
        export.hand_over(results, to, out, place=place, **how)
        files = [out] if form.suffix else [f for f in out.rglob("*") if f.is_file()]
        assert not any(file.is_symlink() for file in files)
        return b"".join(file.read_bytes() for file in files)

    without, whole = written(False), written(True)
    for said in (b"latitude", b"Kamera", b"48.2", bytes(str(tmp_path), "utf-8")):
        assert said not in without
    assert b"latitude" in whole
    assert (b"Kamera" in whole) == bool(form.media)


def test_a_moved_folder_is_named_and_gone_images_are_told(made, tmp_path):
    root, results = tmp_path / "in", tmp_path / "results"
    toy_results.folder_of(root, 4)
    toy_results.write(root, results)
    root.rename(tmp_path / "now")
    with pytest.raises(
        VtccError, match=r"/in: without 12 of its 12 images: '0-00.png', .*, \.\.\."
    ):
        export.hand_over(results, "fiftyone", tmp_path / "fo")
    export.hand_over(results, "fiftyone", tmp_path / "fo", root=tmp_path / "now")
    assert (tmp_path / "fo" / "data" / "2-03.png").resolve() == tmp_path / "now" / "2-03.png"
    (tmp_path / "now" / "1-01.png").unlink()
    with pytest.raises(
        VtccError, match=r"/now: without 1 of its 12 images: '1-01.png'; if the"
    ) as e:
        export.hand_over(results, "coco", tmp_path / "c.json", root=tmp_path / "now")
    assert "--root FOLDER; what is gone, `vtcc add` takes" in str(e.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fo", "now", "results"]
    export.hand_over(results, "embedding-atlas", tmp_path / "a.parquet")  # which needs no files


def test_an_export_is_replaced_when_asked_as_a_whole_or_not_at_all(made, tmp_path, monkeypatch):
    out = tmp_path / "hf"
    out.mkdir()
    hand_over(made, "imagefolder", out)  # an empty folder is as good as none
    (out / "mine.txt").touch()
    with pytest.raises(VtccError, match=r"hf is there already; name another, or give --overwrite"):
        hand_over(made, "imagefolder", out)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        stand_in(patched, "vtcc.export.imagefolder", "_card", full)
        with pytest.raises(VtccError, match=r"hf: could not be written \(No space left"):
            hand_over(made, "imagefolder", out, overwrite=True)
    assert (out / "mine.txt").exists()
    hand_over(made, "imagefolder", out, overwrite=True, images="copies")
    assert not (out / "mine.txt").exists()
    assert not (out / "images" / "0-00.png").is_symlink()
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize("to", ["fiftyone", "imagefolder", "label-studio"])
def test_a_folder_of_ones_own_is_not_replaced_whatever_it_is_called(made, tmp_path, to):
    own = tmp_path / "own"
    (own / "data").mkdir(parents=True)
    for name in ("labels.json", "metadata.parquet", "tasks.json", "data/a.png"):
        (own / name).write_text("mine", encoding="utf-8")
    with pytest.raises(VtccError, match="own holds other files; name a new folder"):
        hand_over(made, to, own, overwrite=True)
    assert (own / "labels.json").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(("to", "name"), [("coco", "a.json"), ("embedding-atlas", "a.parquet")])
def test_a_file_of_ones_own_is_not_replaced(made, tmp_path, to, name):
    out = tmp_path / name
    out.write_text('{"info": {"description": "mine"}}', encoding="utf-8")
    with pytest.raises(VtccError, match=r"is no export of vtcc; name a new file"):
        hand_over(made, to, out, overwrite=True)
    out.unlink()
    hand_over(made, to, out)
    hand_over(made, to, out, overwrite=True)


def test_an_export_that_holds_the_images_is_not_replaced(made, tmp_path):
    """Images put into an earlier export, and the results told so."""
    out = tmp_path / "own"
    hand_over(made, "fiftyone", out, images="copies")
    photos = out / "photos"
    shutil.copytree(json.loads((made[1] / "summary.json").read_text("utf-8"))["root"], photos)
    with pytest.raises(VtccError, match="own holds the"):
        hand_over(made, "fiftyone", out, overwrite=True, root=photos)
    assert sum(1 for file in photos.rglob("*") if file.is_file()) >= 30


@pytest.mark.parametrize(
    ("to", "out", "how", "message"),
    [
        (
            "voc",
            "o",
            {},
            r"--to: found 'voc'; allowed: fiftyone, label-studio, imagefolder, coco, ",
        ),
        ("coco", "o", {}, r"--out: found 'o'; allowed for coco: a name that ends in \.json"),
        ("embedding-atlas", "o.csv", {}, r"a name that ends in \.parquet"),
        ("coco", "o.json", {"images": "copies"}, "--images: coco leaves the images where they are"),
        ("fiftyone", "o", {"images": "link"}, "--images: found 'link'; allowed: links, copies"),
        ("fiftyone", "no/o", {}, "--out: the folder .*no does not exist"),
        ("fiftyone", "file", {"overwrite": True}, "file is a file; name another"),
        ("coco", "other.json", {"overwrite": True}, "other.json is a folder; name another"),
        ("fiftyone", "other.json", {"overwrite": True}, "other.json holds other files; name a new"),
        ("fiftyone", ".", {"overwrite": True}, "holds the current directory; name a new folder"),
        ("fiftyone", "results/o", {}, "lies inside the results"),
        ("coco", "o.json", {"root": Path("gone")}, "gone: no such folder"),
    ],
)
def test_mistakes_are_one_clear_line(made, tmp_path, monkeypatch, to, out, how, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(made[1])
    (tmp_path / "file").touch()
    (tmp_path / "other.json").mkdir()
    (tmp_path / "other.json" / "x").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VtccError, match=message) as caught:
        export.hand_over(Path("results"), to, tmp_path / out, **how)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_says_what_belongs_together(made, tmp_path):
    run = CliRunner().invoke
    given = ["export", str(made[1]), "--to", "coco"]
    told = run(app, [*given, "--out", str(tmp_path / "c.json"), "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["images"] == 30
    for more, message in (
        ([], "of results, give all of: vtcc export RESULTS --to FORMAT --out PATH"),
        (
            ["--out", "c.json", "--model", "models:/other@champion"],
            "RESULTS belongs to results, --model to a model; export one",
        ),
        (["--onnx", "m.onnx"], "RESULTS belongs to results, --onnx and --with-encoder to a model"),
    ):
        assert message in str(run(app, [*given, *more]).exception)
    nothing = run(app, ["export"])
    assert "nothing to write; give --onnx FILE.onnx or" in str(nothing.exception)
    nowhere = run(app, ["export", str(tmp_path), "--to", "coco", "--out", "c.json"])
    assert "no results of `vtcc cluster`" in str(nowhere.exception)
    none = run(app, ["export", str(tmp_path / "none"), "--to", "coco", "--out", "c.json"])
    assert f"{tmp_path / 'none'}: no such folder; give one of `vtcc cluster`" in str(none.exception)


@pytest.mark.parametrize("name", ["plain", "a b #1", "it's"])
def test_what_opens_an_export_can_be_pasted(name):
    out = Path("/x") / name
    dataset = Dataset([], out, {}, {}, "", "", 0, 0, np.empty((0, 2)), np.asarray)
    opened = {to: form.opened(dataset, out) for to, form in formats.FORMATS.items()}
    assert shlex.split(opened["embedding-atlas"], comments=True)[1] == str(out)
    assert f"DOCUMENT_ROOT={shlex.quote(str(out.parent))}, give" in opened["label-studio"]
    for to in ("fiftyone", "imagefolder"):
        call = ast.parse(opened[to], mode="eval").body
        assert isinstance(call, ast.Call)
        assert ast.literal_eval(call.args[0]) == str(out)
