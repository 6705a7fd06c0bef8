import csv
import errno
import functools
import json
import os
import re
import stat
import tarfile
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.data.camera_files import dng, film, jpeg
from tests.fakes import stand_in
from tests.scale import test_ray
from tests.tracking import toy
from vtcc.cli import app
from vtcc.data import camera
from vtcc.errors import VtccError
from vtcc.grouping import assignments
from vtcc.scale import ray
from vtcc.verbs import predict

ODD_NAMES = ["a b.png", "cl\nust\rer.png", "\N{CAMERA}\N{VARIATION SELECTOR-16}.png", 'q"u,o.png']


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 12 images in three levels with odd names, and things that are no images."""
    root = tmp_path_factory.mktemp("photos")
    names = [*ODD_NAMES, *(f"sub/deep/{i}.PNG" for i in range(4)), *(f"{i}.png" for i in range(4))]
    for name, image in zip(names, toy.images(len(names)), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(root / name, "PNG")
    (root / "notes.txt").write_text("no image", encoding="utf-8")
    (root / ".hidden.png").write_bytes(b"no image")
    (root / "loop").symlink_to(root)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy.model(tmp_path_factory.mktemp("model") / "model", 0)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    return tmp_path


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def expected(photos, model):
    """file -> (cluster, confidence) by the engine itself, whole folder in one batch."""
    from vtcc.data import images
    from vtcc.engine import predict as engine

    files = sorted(f for f in photos.rglob("*") if f.suffix.lower() == ".png" and f.name[0] != ".")
    pixels = [images.load(f, channels=1, max_pixels=10**6, size=16) for f in files]
    found = engine.load(model, "cpu").predict(np.stack(pixels))
    rows = zip(files, found.cluster, found.confidence, strict=True)
    return {f.as_posix(): (int(k), float(p)) for f, k, p in rows}


@pytest.mark.parametrize("batch_size", [1, 5, 512])
def test_folder_gives_what_the_engine_gives(photos, model, place, batch_size):
    answer = predict.run([photos], str(model), out=place / "out.csv", batch_size=batch_size)
    rows = read(place / "out.csv")
    used = sorted({int(row["cluster"]) for row in rows})
    assert answer == {
        "out": str(place / "out.csv"), "images": 12, "unreadable": 0, "unclustered": 0,
        "outliers": 0, "clusters": used,
    }  # fmt: skip
    want = expected(photos, model)
    assert {row["file"] for row in rows} == set(want)
    assert len(rows) == len(want) == 12
    assert list(rows[0]) == ["file", "cluster", "confidence", "error"]
    for row in rows:
        cluster, confidence = want[row["file"]]
        assert int(row["cluster"]) == cluster
        assert float(row["confidence"]) == pytest.approx(confidence, abs=1e-5)
        assert row["error"] == ""
    assert len({row["cluster"] for row in rows}) > 1


def test_all_three_formats_say_the_same(photos, model, place):
    for suffix in assignments.SUFFIXES:
        predict.run([photos], str(model), out=place / f"out{suffix}")
    plain = read(place / "out.csv")
    objects = json.loads((place / "out.json").read_text(encoding="utf-8"))
    frame = pd.read_parquet(place / "out.parquet")
    assert [r["file"] for r in plain] == [r["file"] for r in objects] == frame["file"].tolist()
    assert [int(r["cluster"]) for r in plain] == frame["cluster"].tolist()
    assert [r["cluster"] for r in objects] == frame["cluster"].tolist()
    assert np.allclose([r["confidence"] for r in objects], frame["confidence"], atol=1e-6)
    assert pd.read_csv(place / "out.csv")["cluster"].tolist() == frame["cluster"].tolist()
    names = {f.rpartition("/")[2] for f in frame["file"]}
    assert names > set(ODD_NAMES)


def test_unreadable_files_are_listed_counted_and_told(photos, model, place, capsys):
    (place / "bad.jpg").write_text("no image", encoding="utf-8")
    (place / "empty.png").touch()
    good = photos / "0.png"
    (place / "image.dat").write_bytes(good.read_bytes())  # named, so taken whatever its suffix
    paths = [place / "bad.jpg", good, place / "empty.png", place / "image.dat"]
    for suffix in (".csv", ".parquet"):
        predict.run(paths, str(model), out=place / f"out{suffix}")
    rows = read(place / "out.csv")
    assert [row["error"] for row in rows] == [
        "text, not an image",
        "",
        "empty file (0 bytes)",
        "",
    ]
    assert [row["cluster"] == "" for row in rows] == [True, False, True, False]
    assert rows[1]["cluster"] == rows[3]["cluster"]
    frame = pd.read_parquet(place / "out.parquet")
    assert frame["cluster"].isna().tolist() == [True, False, True, False]
    said = capsys.readouterr().out
    assert "2 images, 1 of 4 clusters, 2 unreadable: " in said
    assert f"unreadable: '{place / 'bad.jpg'}': text, not an image" in said


def test_outliers_are_counted_and_told(place, capsys):
    tally = predict.Tally(place / "out.csv")
    row = functools.partial(assignments.Row, cluster=0, confidence=0.9, error="")
    bad = assignments.Row("c.png", None, None, "empty file (0 bytes)")
    tally.add([row("a.png", outlier=True), row("b.png", outlier=False), row("d.png"), bad])
    assert tally.told(of=" of 4")["outliers"] == 1
    assert "3 images, 1 of 4 clusters, 1 outlier, 1 unreadable: " in capsys.readouterr().out


def test_nothing_readable_is_an_error_and_leaves_what_was_there(model, place):
    (place / "bad.png").write_text("no image", encoding="utf-8")
    out = place / "out.csv"
    before = "file,cluster,confidence\na.png,0,0.9\n"
    out.write_text(before, encoding="utf-8")
    with pytest.raises(VtccError, match=r"not one readable image in 1 file .*text, not an image"):
        predict.run([place / "bad.png"], str(model), out=out)
    assert out.read_text(encoding="utf-8") == before
    assert sorted(f.name for f in place.iterdir()) == ["bad.png", "out.csv"]


def test_films_and_raw_files_are_rows_like_others_and_damage_costs_one(model, place):
    folder = place / "camera"
    folder.mkdir()
    (folder / "a.dng").write_bytes(dng(jpeg()))
    (folder / "b.jpg").write_bytes(jpeg())
    good = film(folder / "c.mp4").read_bytes()
    (folder / "d.MOV").write_bytes(good[: len(good) // 2])
    predict.run([folder], str(model), out=place / "out.csv")
    camera.end()
    rows = read(place / "out.csv")
    assert [Path(row["file"]).name for row in rows] == ["a.dng", "b.jpg", "c.mp4", "d.MOV"]
    assert [row["error"] for row in rows] == [
        "", "", "", "a film without readable pictures, or a truncated one",
    ]  # fmt: skip
    assert rows[0]["cluster"] == rows[1]["cluster"] == rows[2]["cluster"] != ""  # one picture
    assert rows[3]["cluster"] == ""


@pytest.mark.parametrize("suffix", assignments.SUFFIXES)
def test_a_table_is_replaced_and_no_other_file(photos, model, place, suffix, capsys):
    out = place / f"out{suffix}"
    predict.run([photos / "0.png"], str(model), out=out)
    assert capsys.readouterr().out.endswith(f": {out}\n")
    assert predict.run([photos], str(model), out=out)["images"] == 12
    assert capsys.readouterr().out.endswith(f": {out} (replaced)\n")
    others = {
        ".csv": b"name,label\na.png,3\n",
        ".json": b'[{"name": "a"}]',
        ".parquet": b"PAR1 is not all of it",
    }
    out.write_bytes(others[suffix])
    with pytest.raises(VtccError, match="is there, and no table of clusters that may be replaced"):
        predict.run([photos], str(model), out=out)
    assert out.read_bytes() == others[suffix]
    out.write_bytes(b"")
    assert predict.run([photos], str(model), out=out)["images"] == 12


def test_interruption_leaves_nothing_half_written(photos, model, place, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    stand_in(monkeypatch, predict.progress, "report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict.run([photos], str(model), out=place / "out.parquet", batch_size=2)
    assert list(place.iterdir()) == []


def test_names_that_are_not_utf8_are_escaped(model, place, photos):
    folder = place / "in"
    folder.mkdir()
    name = os.fsencode(folder) + b"/caf\xe9.png"
    with open(name, "wb") as file:  # noqa: PTH123
        file.write((photos / "0.png").read_bytes())
    predict.run([folder], str(model), out=place / "out.json")
    (row,) = json.loads((place / "out.json").read_text(encoding="utf-8"))
    assert row["file"].endswith("in/caf%E9.png")
    assert row["cluster"] is not None


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_closed_directory_below_is_a_row(photos, model, place, monkeypatch):
    (place / "in" / "closed").mkdir(parents=True)
    (place / "in" / "a.png").write_bytes((photos / "0.png").read_bytes())
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(predict.os, "scandir", refuse)  # the super-user may read everything
    predict.run([place / "in"], str(model), out=place / "out.csv")
    rows = read(place / "out.csv")
    assert [row["error"] for row in rows] == ["", "directory cannot be read (Permission denied)"]


def test_lists_and_shards_are_answered_by_the_names_they_have(photos, model, place):
    (place / "set").mkdir()
    with tarfile.open(place / "set" / "a.tar", "w") as tar:
        tar.add(photos / "0.png", "in/0.png")
    (place / "l").mkdir()
    (place / "l" / "b.png").write_bytes((photos / "0.png").read_bytes())
    (place / "l" / "list.txt").write_text("b.png\n")
    given = ["set", "l/list.txt", str(photos / "0.png")]
    predict.run(given, str(model), out=place / "out.csv")
    rows = read(place / "out.csv")
    assert [row["file"] for row in rows] == ["set/a.tar/in/0.png", "l/b.png", given[2]]
    assert len({(row["cluster"], row["confidence"], row["error"]) for row in rows}) == 1
    assert sorted(f.name for f in place.iterdir()) == ["l", "out.csv", "set"]


@pytest.mark.parametrize("by_ray", [False, True])
def test_columns_of_tables_and_of_exif_come_along(photos, model, place, monkeypatch, by_ray):
    tags = Image.Exif()
    tags[0x0110] = "Kamera"
    tags[0x8825] = {1: "S", 2: (48.0, 30.0, 0.0), 3: "E", 4: (16.0, 0.0, 0.0)}
    for name in ("a.png", "b.png", "=c.png"):
        with Image.open(photos / "0.png") as image:
            image.save(place / name, exif=tags if name == "a.png" else None)
    (place / "bad.png").touch()
    (place / "t.csv").write_text('path,shop,n\na.png,=1+1,1\nbad.png,B,2\n"=c.png",,3\n')
    more = pa.table({"path": ["b.png"], "n": [7], "ok": [True], "price": [float("nan")]})
    pq.write_table(more, place / "t.parquet")
    given = ["t.csv", "t.parquet", str(photos / "1.png")]
    exif = ("camera", "latitude")

    def run(out, **how):
        if not by_ray:
            return predict.run(given, str(model), out=out, **how)
        stand_in(monkeypatch, ray, "_cluster", test_ray.no_cluster)
        stand_in(monkeypatch, ray, "_answers", test_ray.answers_here)
        return ray.run(given, str(model), out=out, shard=2, **how)

    run(place / "o.parquet", exif=exif)
    table = pq.read_table(place / "o.parquet")
    assert table.column_names[4:] == ["shop", "n", "ok", "price", "camera", "latitude"]
    kinds = {name: str(table.schema.field(name).type) for name in ("n", "ok", "price", "latitude")}
    assert kinds == {"n": "string", "ok": "bool", "price": "double", "latitude": "double"}
    rows = [list(row.values())[4:] for row in table.to_pylist()]
    assert np.isnan(rows[3].pop(3))
    assert rows == [
        ["=1+1", "1", None, None, "Kamera", -48.5],
        ["B", "2", None, None, None, None],
        ["", "3", None, None, None, None],
        [None, "7", True, None, None],
        [None, None, None, None, None, None],
    ]
    assert [bool(error) for error in table["error"].to_pylist()] == [False, True, *[False] * 3]
    run(place / "o.csv")
    first, _, third, *_ = read(place / "o.csv")
    assert list(first) == ["file", "cluster", "confidence", "error", "shop", "n", "ok", "price"]
    assert (first["shop"], first["n"]) == ("'=1+1", "1")
    assert third["file"] == "./=c.png"
    with pytest.raises(VtccError, match="column 'shop' of the table of images: the results have"):
        run(place / "o.csv", exif=("shop",))
    (place / "t.csv").write_text("path,cluster\na.png,1\n")
    with pytest.raises(VtccError, match="column 'cluster' of the table of images: the results"):
        run(place / "o.csv")


def test_the_command_asks_for_exif(place, monkeypatch):
    (place / "a").touch()
    asked = stand_in(monkeypatch, predict, "run", lambda *args, **how: {})
    given = ["predict", "a", "--out", "o.csv"]
    for flags, columns in (
        ([], ()),
        (["--exif"], ("taken_at", "camera")),
        (["--place"], ("latitude", "longitude")),
    ):
        told = CliRunner().invoke(app, [*given, *flags])
        assert told.exit_code == 0, told.output
        assert asked.call_args.kwargs["exif"] == columns


@pytest.mark.parametrize(
    ("paths", "out", "model_name", "message"),
    [
        (["in"], "out.xlsx", "model", r"--out: found 'out.xlsx'; allowed: .*\.csv, \.parquet"),
        (["in"], "out", "model", "--out: found 'out'; allowed"),
        (["in"], "in", "model", "--out: in is a directory; name a file"),
        (["in"], "no/out.csv", "model", "--out: the folder no does not exist"),
        (["gone.png"], "out.csv", "model", "gone.png: no such file or directory"),
        (["empty"], "out.csv", "model", r"no image in empty; images are known by \.avif"),
        (
            ["in"],
            "out.csv",
            "gone",
            "gone: no such model; give --model RESULTS/model",
        ),
        (["in"], "out.csv", "empty", "empty: not a vtcc model .*RESULTS/model"),
        (["in"], "out.csv", "models:/vtcc-x@champion", "no registered model 'vtcc-x': the store"),
        (["in"], "out.csv", "runs:/1/model", "runs:/1/model: not found: the store sqlite:"),
        (["in"], "out.csv", "s3://me:pw@b/m", "^s3://b/m: not fetched; name a model of MLflow"),
        (["in"], "out.csv", "http://b/m", "http://b/m: not fetched; name a model of MLflow"),
    ],
)
def test_mistakes_are_one_clear_line(place, photos, model, paths, out, model_name, message):
    (place / "empty").mkdir()
    (place / "in").mkdir()
    (place / "in" / "a.png").write_bytes((photos / "0.png").read_bytes())
    name = str(model) if model_name == "model" else model_name
    with pytest.raises(VtccError, match=message) as caught:
        predict.run([place.__class__(p) for p in paths], name, out=place.__class__(out))
    assert "\n" not in str(caught.value)
    assert {f.name for f in place.iterdir()} == {"empty", "in"}


def test_model_is_found_from_below_the_project(place, photos, monkeypatch):
    monkeypatch.delenv("VTCC_HOME")
    (place / "params.yaml").touch()
    toy.model(place / "models" / "model", 0)
    (place / "below").mkdir()
    monkeypatch.chdir(place / "below")
    predict.run([photos / "0.png"], out=place / "out.csv")
    assert len(read(place / "out.csv")) == 1


def test_batch_size_is_checked(place):
    with pytest.raises(VtccError, match="--batch-size: found 0"):
        predict.run([place], "m", out=place / "out.csv", batch_size=0)


def test_a_file_that_two_inputs_hold_is_one_row(photos, model, place):
    (photos / "t.csv").write_text("path,who\n0.png,Ann\n", encoding="utf-8")
    try:
        given = [photos, photos / "sub", photos / "t.csv", photos / "0.png"]
        answer = predict.run(given, str(model), out=place / "twice.csv")
    finally:
        (photos / "t.csv").unlink()
    rows = read(place / "twice.csv")
    assert answer["images"] == len(rows) == 12
    assert {row["file"]: row["who"] for row in rows if row["who"]} == {f"{photos}/0.png": "Ann"}


def test_a_file_of_a_byte_order_mark_alone_is_no_table(tmp_path):
    (tmp_path / "o.csv").write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(VtccError, match="and no table of clusters that may be replaced"):
        assignments.check(tmp_path / "o.csv")


def test_a_pipe_and_a_link_that_leads_nowhere_are_not_replaced(tmp_path):
    pipe, link = tmp_path / "pipe.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "gone.csv")
    for out in (pipe, link):
        with pytest.raises(VtccError, match=f"--out: {re.escape(str(out))} is there, and no file"):
            assignments.check(out)
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and link.is_symlink()


def test_a_link_to_a_table_is_not_replaced(tmp_path):
    table, link = tmp_path / "table.csv", tmp_path / "link.csv"
    table.write_text("file,cluster\n", encoding="utf-8")
    link.symlink_to("table.csv")
    assignments.check(table)
    with pytest.raises(VtccError) as caught:
        assignments.check(link)
    assert str(caught.value) == f"--out: {link} is a link; name what it leads to, {table}"


def test_a_table_of_results_is_not_replaced(tmp_path):
    results = tmp_path / "photos-clusters"
    results.mkdir()
    (results / "summary.json").write_text("{}", encoding="utf-8")
    for name in ("more.csv", "assignments.csv"):
        (results / name).write_text("file,cluster\n", encoding="utf-8")
    link = tmp_path / "link.csv"
    link.symlink_to(results / "assignments.csv")
    for out in (results / "assignments.csv", results / "assignments.json", link):
        with pytest.raises(VtccError) as caught:
            assignments.check(out)
        assert str(caught.value) == (
            f"--out: {out} is a file of the results in {results}, and no table of clusters that "
            "may be replaced; name another file"
        )
    assignments.check(results / "more.csv")  # the user's own
    assignments.check(tmp_path / "assignments.csv")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/sys/.x.csv.lock"), "no permission "
         "to write in {}; choose another folder"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/.x.csv.lock"), "{} "
         "cannot be written to (No such file or directory); choose another folder"),
    ],
)  # fmt: skip
def test_a_folder_that_takes_no_file_is_named(tmp_path, monkeypatch, error, message):
    locked = create_autospec(assignments.sole_writer, side_effect=error)
    monkeypatch.setattr(assignments, "sole_writer", locked)
    with pytest.raises(VtccError) as caught, assignments.alone(tmp_path / "x.csv"):
        pass
    assert str(caught.value) == f"--out: {message.format(tmp_path)}"
