"""`vtcc add` on toy results: what stays, what comes, what is proposed, what is kept when killed."""

import copy
import csv
import json
import os
import shutil
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest
from PIL import Image

from tests.fakes import stand_in
from tests.grouping import toy_results
from tests.pages.test_clusters import data
from tests.tracking import toy
from vtcc import atomic
from vtcc.analysis import features
from vtcc.analysis.features import unit_rows
from vtcc.data import duplicates, folder, images
from vtcc.engine.predict import Prediction
from vtcc.errors import VtccError
from vtcc.grouping import assignments, columns, describe, outputs, prepare, result
from vtcc.grouping.add import away, changes, drift, novelty, reading, update
from vtcc.grouping.clusters import Clusters, load_predictor
from vtcc.verbs import add, predict, refine

LIST = os.fsdecode(b"list-\xe9.txt")  # whose name is not UTF-8


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of 60 images of three kinds, and its results."""
    root = tmp_path_factory.mktemp("grows") / "photos"
    toy_results.folder_of(root)
    toy_results.write(root, root.with_name("results"))
    return root.parent


@pytest.fixture
def place(made, tmp_path):
    """A copy of both, with the times of change."""
    shutil.copytree(made, tmp_path / "here")
    here = tmp_path / "here"
    file = here / "results" / "summary.json"
    summary = json.loads(file.read_text())
    file.write_text(json.dumps(summary | {"root": str((here / "photos").resolve())}))
    return here


def table(results):
    return {row.file: row for row in assignments.read(results / "assignments.parquet")}


def summary_of(results):
    return json.loads((results / "summary.json").read_text())


def contents(results):
    return {
        str(file.relative_to(results)): file.read_bytes()
        for file in sorted(results.rglob("*"))
        if file.is_file()
    }


def new_kind(folder, n=12, first=0):
    for i in range(first, n):
        toy_results.draw(folder / f"new-{i:02d}.png", toy_results.NEW_KIND, 900 + i)


def test_what_was_there_stays_to_the_last_bit(place):
    results, photos = place / "results", place / "photos"
    before, model = table(results), contents(results / "model")
    embedding = outputs.Embedding.load(results)
    for kind in range(3):
        toy_results.draw(photos / "sub" / f"{kind}.png", kind, 500 + kind)
    add.run(results, [photos])
    after = table(results)
    assert {file: after[file] for file in before} == before
    assert set(after) - set(before) == {"sub/0.png", "sub/1.png", "sub/2.png"}
    cards = {"README.md", "DATA.md"}  # which say how many images there are
    after_model = contents(results / "model")
    assert after_model.keys() == model.keys()
    assert [name for name in model if after_model[name] != model[name]] == sorted(cards & {*model})
    now = outputs.Embedding.load(results)
    for name in ("h", "p", "base", "map", "tile", "looks", "known"):
        np.testing.assert_array_equal(getattr(now, name)[:60], getattr(embedding, name))
    assert now.known.tolist() == [True] * 60 + [False] * 3
    assert now.tile[60:].tolist() == [60, 61, 62]
    csv = (results / "assignments.csv").read_text().splitlines()
    assert len(csv) == 64


def test_an_added_image_is_where_predict_puts_it(place, tmp_path):
    results, more = place / "results", place / "more"
    for kind in range(3):
        toy_results.draw(more / f"{kind}.png", kind, 700 + kind)
    (more / "broken.png").write_bytes(b"no image")
    add.run(results, [more])
    predict.run([more], str(results / "model"), out=tmp_path / "p.parquet")
    told = {Path(f).name: row for f, row in table(results).items() if f.startswith("../")}
    predicted = {Path(row.file).name: row for row in assignments.read(tmp_path / "p.parquet")}
    assert set(told) == {"0.png", "1.png", "2.png", "broken.png"} == set(predicted)
    for name, row in told.items():
        assert (row.cluster, row.name, row.error) == (
            predicted[name].cluster,
            predicted[name].name,
            predicted[name].error,
        )
    assert summary_of(results)["errors"].keys() == {"../more/broken.png"}


def test_files_that_changed_or_are_gone(place, capsys):
    results, photos = place / "results", place / "photos"
    before = table(results)
    toy_results.draw(photos / "0-00.png", 2, 1234)
    (photos / "0-01.png").unlink()
    add.run(results, [photos])
    after = table(results)
    assert "0 new, 1 changed, 1 gone" in capsys.readouterr().out
    assert set(before) - set(after) == {"0-01.png"}
    assert after["0-00.png"].cluster == before["2-00.png"].cluster
    assert {f: r for f, r in after.items() if f != "0-00.png"} == {
        f: r for f, r in before.items() if f not in ("0-00.png", "0-01.png")
    }
    (record,) = summary_of(results)["additions"]
    assert record["files"] == {"new": [], "changed": ["0-00.png"], "gone": ["0-01.png"]}
    assert (record["images"], record["changed"], record["gone"]) == (59, 1, 1)
    state = contents(results)
    add.run(results, [photos])
    assert "nothing is new, changed or gone" in capsys.readouterr().out
    assert contents(results) == state


def test_a_table_adds_columns_to_images_that_are_there(place, capsys):
    results, photos = place / "results", place / "photos"
    before = table(results)
    (photos / "t.csv").write_text("path,who\n0-00.png,Ann\n0-01.png,Bo\n")
    answer = add.run(results, [photos / "t.csv"])
    assert (answer["addition"]["images"], answer["addition"]["new"]) == (60, 0)
    assert "0 new, 0 changed, 0 gone; from the table: who" in capsys.readouterr().out
    with (results / "assignments.csv").open(newline="") as file:
        who = {row["file"]: row["who"] for row in csv.DictReader(file)}
    assert (len(who), who["0-00.png"], who["0-01.png"], who["0-02.png"]) == (60, "Ann", "Bo", "")
    assert {f: replace(row, more={}) for f, row in table(results).items()} == before
    assert add.run(results, [photos / "t.csv"])["addition"] is None  # nothing else in it
    (photos / "t.csv").write_text("path,who\n0-00.png,Cy\n")
    assert add.run(results, [photos / "t.csv"])["addition"] is not None
    values, _ = columns.read(results)
    assert {f: v for f, v in values["who"].items() if v} == {"0-00.png": "Cy", "0-01.png": "Bo"}


def test_columns_of_exif_are_nobody_elses_and_follow_their_files(place):
    results, photos = place / "results", place / "photos"
    file = results / "summary.json"
    exif = ["camera", "latitude"]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"exif": exif}))
    columns.write(results, {"camera": {"0-00.png": "Leica"}, "latitude": {"0-00.png": 48.5}})
    (photos / "t.csv").write_text("path,camera\n0-00.png,mine\n")
    state = contents(results)
    with pytest.raises(VtccError, match="column 'camera' of the table of images: the results have"):
        add.run(results, [photos / "t.csv"])
    assert contents(results) == state
    toy_results.draw(photos / "0-00.png", 2, 1234)  # says nothing
    add.run(results, [photos])
    values, _ = columns.read(results)
    assert (values["camera"]["0-00.png"], values["latitude"]["0-00.png"]) == (None, None)


def test_nothing_is_kept_of_images_that_are_gone(place):
    """A new file of the same name says what it says itself."""
    results, photos = place / "results", place / "photos"
    columns.write(results, {"who": {"0-00.png": "Ann", "0-01.png": "Bo"}})
    (photos / "0-00.png").unlink()
    add.run(results, [photos])
    assert columns.read(results)[0] == {"who": {"0-01.png": "Bo"}}
    toy_results.draw(photos / "0-00.png", 1, 4321)
    add.run(results, [photos])
    rows = {row["file"]: row for row in assignments._of_parquet(results / "assignments.parquet")}
    assert [rows[n]["who"] for n in ("0-00.png", "0-01.png")] == [None, "Bo"]
    (shown,) = data((results / "report.html").read_text(encoding="utf-8"))["fields"]
    assert (shown["name"], shown["values"]) == ("who", ["Bo"])


def test_what_is_unpacked_lies_beside_the_new_results(place):
    results, out = place / "results", place / "there" / "out"
    out.parent.mkdir()
    toy_results.draw(place / "x" / "new.png", 0, 600)
    shutil.make_archive(str(place / "more"), "zip", place / "x")
    before = contents(place)
    add.run(results, [place / "more.zip"], out)
    now = contents(place)
    changed = {name for name, data in now.items() if before.get(name) != data}
    assert {Path(name).parts[:2] for name in changed} == {("there", "out"), ("there", "out-images")}
    (record,) = summary_of(out)["additions"]
    assert [name.rpartition("/")[2] for name in record["files"]["new"]] == ["new.png"]


@pytest.mark.parametrize("renamed", [True, False])
def test_unpacked_images_are_the_same_under_another_name_of_the_results(place, renamed):
    """They lie where they were unpacked first, whatever the results are called by now."""
    results, other = place / "results", place / "other"
    more = zipped(place / "more.zip", {"x.png": 600, "y.png": 601})
    add.run(results, [more])
    if renamed:
        results.rename(other)
    else:
        toy_results.draw(place / "photos" / "0-99.png", 0, 77)
        add.run(results, [place / "photos"], other)
    before = table(other)
    assert add.run(other, [more])["addition"] is None
    zipped(more, {"x.png": 600, "y.png": 601, "z.png": 602})
    add.run(other, [more])
    assert {Path(name).name for name in set(table(other)) - set(before)} == {"z.png"}
    assert not (place / "other-images").exists()


def test_the_jpeg_of_a_known_raw_file_takes_its_place(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("IMG_1.CR2", "IMG_2.CR2", "img_1.JPG", "IMG_3.dng", "IMG_3.jpg"):
        (photos / name).write_bytes(name.encode())
    known = ["IMG_1.CR2", "IMG_2.CR2", "IMG_3.dng", "IMG_3.jpg"]  # the last two by their names
    stamps = [folder.stamp(photos / name) for name in known]
    summary = {"root": str(photos), "files": known, "stamps": stamps}
    found = changes.find([photos], summary, tmp_path / "results")
    assert (found.new, found.changed, found.gone) == (["img_1.JPG"], [], ["IMG_1.CR2"])
    assert found.replaced == {"IMG_1.CR2": "img_1.JPG"}
    opened = SimpleNamespace(
        summary=summary,
        moved={"IMG_1.CR2": 4},
        embedding=SimpleNamespace(paths=known, known=np.ones(4, bool)),
    )
    assert away.returned(opened, found) == {"img_1.JPG": "IMG_1.CR2"}


@pytest.mark.parametrize("out", [None, "other"])
def test_images_of_a_shard_that_was_deleted_are_gone(place, out):
    results, shards = place / "results", place / "shards"
    (shards / "sub").mkdir(parents=True)
    zipped(shards / "a.zip", {"x.png": 600, "y.png": 601})
    deleted = zipped(shards / "sub" / "b.zip", {"x.png": 602})
    add.run(results, [shards])
    before = table(results)
    lost = {name for name in before if name.endswith("sub/b.zip/x.png")}
    file = place / "photos" / next(iter(lost))
    assert len(lost) == 1 and file.exists()
    deleted.unlink()
    other = out and place / out
    with pytest.raises(VtccError, match="no such file or directory"):
        add.run(results, [deleted])
    add.run(results, [shards], other)
    after = other or results
    assert set(before) - set(table(after)) == lost
    assert summary_of(after)["additions"][-1]["files"]["gone"] == list(lost)
    assert file.exists() == (out is not None)  # the old results lead there
    (shards / "a.zip").unlink()
    add.run(after, [shards])
    assert set(table(after)) == {name for name in before if "shards" not in name}
    kept = {"a.zip/x.png", "a.zip/y.png", "sub/b.zip/x.png"}  # those of the old results
    images = place / "results-images" / shards.relative_to("/")
    there = {str(file.relative_to(images)) for file in images.rglob("*.png")}
    assert there == (set() if out is None else kept)


@pytest.mark.parametrize("how", ["copied", "refined"])
def test_images_that_other_results_lead_to_stay(place, tmp_path, how, capsys):
    """A copy of results has its unpacked images where those of the first ones are."""
    results, shards, copy_of = place / "results", place / "shards", place / "copy"
    shards.mkdir()
    zipped(shards / "a.zip", {"x.png": 600})
    deleted = zipped(shards / "b.zip", {"y.png": 601})
    add.run(results, [shards])
    if how == "copied":
        shutil.copytree(results, copy_of)
    else:
        rename = {"do": "rename", "cluster": 0, "name": "boats"}
        content = {"format": 1, "model": result.digest(results / "model"), "edits": [rename]}
        (tmp_path / "e.json").write_text(json.dumps(content))
        refine.run(results, tmp_path / "e.json", copy_of)
    (file,) = (place / "results-images").rglob("y.png")
    deleted.unlink()
    add.run(copy_of, [shards])
    assert not any(name.endswith("y.png") for name in table(copy_of))
    assert file.exists()
    assert f"{file.parent}: stays, as other results may lead there; el" in capsys.readouterr().out
    add.run(results, [shards])
    assert not file.parent.exists()


def zipped(file, pictures):
    """A zip of pictures, each the first kind: name -> seed."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, seed in pictures.items():
            drawn = file.with_name(".drawn.png")
            toy_results.draw(drawn, 0, seed)
            archive.write(drawn, name)
            drawn.unlink()
    return file


def test_results_of_before_there_were_stamps_learn_them(place):
    results, photos = place / "results", place / "photos"
    file = results / "summary.json"
    older = {k: v for k, v in json.loads(file.read_text()).items() if k != "stamps"}
    file.write_text(json.dumps(older))
    toy_results.draw(photos / "0-99.png", 0, 77)
    add.run(results, [photos])
    (record,) = summary_of(results)["additions"]
    assert (record["new"], record["changed"], record["gone"]) == (1, 0, 0)
    toy_results.draw(photos / "0-00.png", 2, 1234)
    add.run(results, [photos])
    assert summary_of(results)["additions"][1]["files"]["changed"] == ["0-00.png"]


def test_a_disk_that_is_not_there_takes_no_rows_away(place):
    results, photos = place / "results", place / "photos"
    state = contents(results)
    for file in photos.glob("[01]-*.png"):
        file.unlink()
    with pytest.raises(VtccError, match=r"40 of 60 images .* --allow-gone"):
        add.run(results, [photos])
    assert contents(results) == state
    add.run(results, [photos], allow_gone=True)
    assert len(table(results)) == 20


def confirmed(results, edits, kind="new", name="sevens"):
    (proposal,) = summary_of(results)["proposals"]
    edit = {"do": kind, "cluster": proposal["id"]}
    if kind == "new":
        edit |= {"name": name, "files": proposal["files"]}
    refined(results, edits, edit)
    return proposal


def test_a_new_kind_is_proposed_confirmed_and_spoken(place, tmp_path, capsys):
    results, more = place / "results", place / "more"
    before = table(results)
    new_kind(more)
    add.run(results, [more])
    proposal = confirmed(results, tmp_path / "edits.json")
    assert sorted(proposal["files"]) == [f"../more/new-{i:02d}.png" for i in range(12)]
    assert proposal["id"] == 4
    assert "proposed: cluster 4, 12 images unlike the others" in capsys.readouterr().out
    after = table(results)
    assert {after[file].name for file in proposal["files"]} == {"sevens"}
    assert {f: after[f].cluster for f in before} == {f: r.cluster for f, r in before.items()}
    assert summary_of(results)["proposals"] == []
    new_kind(place / "again", 32, first=12)
    predict.run([place / "again"], str(results / "model"), out=tmp_path / "p.parquet")
    spoken = [row.name for row in assignments.read(tmp_path / "p.parquet")]
    assert spoken.count("sevens") >= 18
    # What the clusters hold now is not novel any more.
    add.run(results, [place / "again"])
    assert summary_of(results)["proposals"] == []


def refined(results, file, *edits):
    content = {"format": 1, "model": result.digest(results / "model"), "edits": list(edits)}
    file.write_text(json.dumps(content))
    refine.run(results, file)
    return summary_of(results)


def test_a_proposal_stays_itself_through_other_edits(place, tmp_path):
    results, more = place / "results", place / "more"
    new_kind(more)
    add.run(results, [more])
    (proposal,) = summary_of(results)["proposals"]
    assert proposal["id"] == 4 and sum(proposal["now_in"].values()) == 12
    held = int(next(iter(proposal["now_in"])))
    other = next(k for k in (0, 1, 2) if k != held)
    summary = refined(
        results,
        tmp_path / "edits.json",
        {"do": "split", "cluster": other, "into": 2},
        {"do": "merge", "clusters": [held, other], "into": other},
    )
    ids = {cluster["id"] for cluster in summary["clusters"]}
    assert 4 not in ids and 5 in ids and held not in ids
    (after,) = summary["proposals"]
    assert {k: v for k, v in after.items() if k != "now_in"} == {
        k: v for k, v in proposal.items() if k != "now_in"
    }
    rows = table(results)
    assert after["now_in"] == {str(other): 12}
    assert {rows[file].cluster for file in after["files"]} == {other}
    new_kind(more, 14, first=12)
    add.run(results, [more])
    assert [p["id"] for p in summary_of(results)["proposals"]] == [4]
    confirmed(results, tmp_path / "edits.json")
    assert {table(results)[file].cluster for file in proposal["files"]} == {4}


def test_edits_of_a_page_of_before_an_addition(place, tmp_path, capsys):
    """As an addition by schedule comes between the page and `vtcc refine`."""
    results, photos = place / "results", place / "photos"
    shown = data((results / "report.html").read_text(encoding="utf-8"))
    assert shown["next"] == 4
    kinds = [[f for f in shown["files"] if f.startswith(f"{kind}-")] for kind in (0, 1)]
    alone = next(f for f in shown["files"] if f.startswith("2-"))
    split = [
        {"do": "split", "cluster": table(results)[of[0]].cluster, "files": [of[5:], of[:5]]}
        for of in kinds
    ]
    rename = {"do": "rename", "cluster": 5, "name": "dogs"}
    here = table(results)[alone].cluster
    others = [f for f, row in table(results).items() if row.cluster == here and f != alone]
    gone = [
        {"do": "split", "cluster": here, "files": [others, [alone]]},
        {"do": "rename", "cluster": 6, "name": "cats"},
    ]
    for file in (kinds[0][0], alone):
        (photos / file).unlink()
    new_kind(place / "more")
    add.run(results, [photos, place / "more"])
    assert [p["id"] for p in summary_of(results)["proposals"]] == [4]
    assert data((results / "report.html").read_text(encoding="utf-8"))["next"] == 5
    content = {"model": shown["digest"], "next": shown["next"], "edits": [*split, *gone, rename]}
    (tmp_path / "edits.json").write_text(json.dumps({"format": 1} | content))
    capsys.readouterr()
    refine.run(results, tmp_path / "edits.json")
    out = capsys.readouterr().out
    assert "not made: cluster 7; left out: edit 3, edit 4\n" in out
    assert "3 edits applied: 6 clusters" in out
    dogs = {file for file, row in table(results).items() if row.name == "dogs"}
    assert dogs >= set(kinds[1][:5])
    assert dogs.isdisjoint(kinds[0])
    assert {table(results)[file].cluster for file in kinds[0][1:5]} == {5}
    assert kinds[0][0] not in table(results)


@pytest.mark.parametrize("how", ["unplugged", "renamed", "copied"])
def test_what_was_put_by_hand_is_there_again_when_its_files_are(place, tmp_path, capsys, how):
    results, photos = place / "results", place / "photos"
    names = [f"year/{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        toy_results.draw(photos / name, i % 3, 600 + i)
    add.run(results, [photos])
    kind = [table(results)[f"{k}-05.png"].cluster for k in range(3)]
    summary = refined(
        results,
        tmp_path / "e.json",
        {"do": "move", "files": names[:2], "to": kind[2]},
        {"do": "exclude_files", "files": [names[2], "0-00.png"]},
    )
    decided = {name: k for name, k in summary["moved"].items() if name in names}
    assert decided == {names[0]: kind[2], names[1]: kind[2], names[2]: -1}
    capsys.readouterr()
    aside = place / "aside"
    (photos / "year").rename(aside)
    (photos / "0-00.png").rename(aside / "0-00.png")  # one that the clusters are made of
    if how != "renamed":
        add.run(results, [photos])
        assert "away now: 4 images put by hand; what was decided is kept" in capsys.readouterr().out
        assert summary_of(results)["moved"] == {}
        # Other edits meanwhile: what is away follows them.
        merge = {"do": "merge", "clusters": [kind[2], kind[1]], "into": kind[1]}
        refined(results, tmp_path / "e.json", merge)
        kind[2] = kind[1]
    home = photos / ("old" if how == "renamed" else "year")
    if how == "copied":
        shutil.copytree(aside, home, copy_function=shutil.copyfile)
    else:
        aside.rename(home)
    (home / "0-00.png").rename(photos / ("other.png" if how == "renamed" else "0-00.png"))
    toy_results.draw(photos / "more.png", 0, 700)
    add.run(results, [photos])
    assert "back: 4 images put by hand; what was decided holds again" in capsys.readouterr().out
    summary, rows = summary_of(results), table(results)
    again = {f"{home.name}/{i}.png": k for i, k in enumerate([kind[2], kind[2], -1])}
    once = "other.png" if how == "renamed" else "0-00.png"
    assert summary["moved"] == again | {once: -1}
    assert summary["away"] == {}
    assert {name: rows[name].cluster for name in again} == {
        name: None if k < 0 else k for name, k in again.items()
    }
    embedding = outputs.Embedding.load(results)
    known = dict(zip(embedding.paths, embedding.known.tolist(), strict=True))
    assert (known[once], known[f"{home.name}/0.png"], known["more.png"]) == (True, False, False)
    state = contents(results)
    assert add.run(results, [photos])["addition"] is None
    assert contents(results) == state


def test_what_nobody_named_stays_through_an_absence_and_is_none_put_by_hand(place, capsys):
    results, photos = place / "results", place / "photos"
    name, other = "0-00.png", "0-01.png"
    k = (table(results)["1-05.png"]).cluster
    file = results / "summary.json"
    held = {"moved": {name: k, other: k}, "held": [name]}
    file.write_text(json.dumps(summary_of(results) | held))
    for there in (name, other):
        (photos / there).rename(place / there)
    add.run(results, [photos])
    assert "away now: 1 image put by hand; what was decided is kept" in capsys.readouterr().out
    assert (summary_of(results)["moved"], summary_of(results)["held"]) == ({}, [name])
    (place / name).rename(photos / "late.png")
    (place / other).rename(photos / other)
    add.run(results, [photos])
    summary, rows = summary_of(results), table(results)
    assert (summary["moved"], summary["held"]) == ({"late.png": k, other: k}, ["late.png"])
    assert [rows[n].cluster for n in ("late.png", other)] == [k, k]
    assert rows[other].confidence == 1 > rows["late.png"].confidence


def test_another_picture_of_the_same_name_or_time_takes_nothing_over(place, tmp_path):
    results, photos = place / "results", place / "photos"
    gone = ["0-00.png", "0-01.png", "0-02.png"]
    for name in gone:
        (photos / name).write_bytes((photos / name).read_bytes().ljust(2000, b"\0"))
        os.utime(photos / name, (10**9, 10**9))  # as archives keep times
    add.run(results, [photos])
    refined(results, tmp_path / "e.json", {"do": "exclude_files", "files": gone})
    kept = (photos / "0-02.png").read_bytes()
    for name in gone:
        (photos / name).unlink()
    add.run(results, [photos])
    toy_results.draw(photos / "0-00.png", 1, 4321)
    (photos / "else.png").write_bytes(kept)
    (photos / "sub").mkdir()
    (photos / "sub" / "0-02.png").write_bytes(kept)
    for name in ("else.png", "sub/0-02.png"):
        os.utime(photos / name, (10**9, 10**9))
    add.run(results, [photos])
    summary = summary_of(results)
    assert summary["moved"] == {"sub/0-02.png": -1}
    assert summary["away"].keys() == {"0-01.png"}


def test_looks_of_added_images_are_on_the_scale_of_those_before(tmp_path):
    """With a pretrained encoder, which reads 224 pixels, `vtcc cluster` measures them at 64."""
    y, x = np.mgrid[:400, :400]
    files = {}
    for i in range(4):
        files[f"{i}.png"] = tmp_path / f"{i}.png"
        wave = 128 + 90 * np.sin(x / (8 + i)) * np.sin(y / (9 + i))
        Image.fromarray(wave.astype(np.uint8)).save(files[f"{i}.png"])
    predictor = load_predictor(toy.model(tmp_path / "model", 0))
    as_clustered = [
        images.load(file, **predictor.decoding | {"size": prepare.THUMBNAIL})
        for file in files.values()
    ]
    want = describe.looks(np.stack(as_clustered))
    predictor.decoding["size"] = 224
    block = np.stack([images.load(file, **predictor.decoding) for file in files.values()])
    said = Prediction(np.full((4, 4), 0.25, np.float32), np.zeros((4, 16), np.float32))
    predictor.predict = create_autospec(predictor.predict, return_value=said)
    how = {"side": 64, "batch_size": 4, "room": tmp_path}
    predictor.info["model"] = {**predictor.info["model"], "frozen": True}
    frozen = reading.read(files, predictor, **how).looks
    assert frozen == pytest.approx(want, rel=0.1, abs=0.02)
    predictor.info["model"] = {**predictor.info["model"], "frozen": False}
    assert reading.read(files, predictor, **how).looks == pytest.approx(describe.looks(block))
    detail = list(describe.LOOKS).index("detail")
    assert (describe.looks(block)[:, detail] < 0.7 * want[:, detail]).all()


def test_few_today_and_more_tomorrow_become_a_group(place):
    results, more = place / "results", place / "more"
    new_kind(more, 3)
    add.run(results, [more])
    assert summary_of(results)["proposals"] == []
    new_kind(more, 6)
    add.run(results, [more])
    (first,) = summary_of(results)["proposals"]
    assert len(first["files"]) == 6
    new_kind(more, 8)
    add.run(results, [more])
    (second,) = summary_of(results)["proposals"]
    assert second["id"] == first["id"]
    assert len(second["files"]) == 8
    assert [a["proposed"] for a in summary_of(results)["additions"]] == [[], [4], [4]]


def test_a_declined_group_is_not_proposed_again(place, tmp_path):
    results, more = place / "results", place / "more"
    new_kind(more)
    add.run(results, [more])
    confirmed(results, tmp_path / "edits.json", "decline")
    assert 4 not in {row.cluster for row in table(results).values()}
    new_kind(more, 16, first=12)
    add.run(results, [more])
    assert summary_of(results)["proposals"] == []


def test_edits_of_before_apply_to_what_comes(place, tmp_path):
    results = place / "results"
    clusters = sorted({row.cluster for row in table(results).values()})
    edits = tmp_path / "edits.json"
    content = {
        "format": 1,
        "model": result.digest(results / "model"),
        "edits": [
            {"do": "merge", "clusters": clusters[:2], "into": clusters[0], "name": "both"},
            {"do": "move", "files": ["2-00.png"], "to": clusters[0]},
        ],
    }
    edits.write_text(json.dumps(content))
    refine.run(results, edits)
    before = table(results)
    assert before["2-00.png"].name == "both"
    for kind in range(3):
        toy_results.draw(place / "more" / f"{kind}.png", kind, 700 + kind)
    add.run(results, [place / "more"], tmp_path / "out")
    after = table(tmp_path / "out")
    assert {f: after[f] for f in before} == before
    assert table(results) == before
    for kind in range(3):
        assert after[f"../more/{kind}.png"].cluster == before[f"{kind}-05.png"].cluster


WRITES = (
    (os, "replace"),
    (os, "mkdir"),
    (os, "fsync"),
    (shutil, "copyfile"),
    (np, "savez_compressed"),
    (Image.Image, "save"),
)


class Killed(BaseException):
    """As `kill -9`: what would clear up after it does nothing."""


def test_a_killed_add_leaves_the_old_or_the_new_results(place, monkeypatch):
    results, more = place / "results", place / "more"
    new_kind(more)
    made = []
    real = update.updated
    stand_in(monkeypatch, update, "updated", lambda *a, **k: made.append(real(*a, **k)) or made[0])
    calls, at = [], [0]
    cleared = atomic.remove
    stand_in(monkeypatch, atomic, "remove", lambda path: None if at[0] < 0 else cleared(path))
    for owner, name in WRITES:
        monkeypatch.setattr(owner, name, killing(getattr(owner, name), calls, at))
    add.run(results, [more], place / "trial")
    writes, new = len(calls), set(contents(place / "trial"))
    assert writes > 20
    stand_in(monkeypatch, update, "updated", lambda *a, **k: copy.deepcopy(made[0]))
    made[0].summary["additions"] = []
    state, moment = contents(results), 0
    while contents(results) == state:
        moment += 1
        calls.clear()
        at[0] = moment
        with pytest.raises(Killed):
            add.run(results, [more])
        at[0] = 0
        atomic.restore(results)  # as the next command does first
    assert moment > writes - 5  # until the two changed places, it was as it had been
    assert set(contents(results)) == new
    assert len(table(results)) == 72
    stand_in(monkeypatch, update, "updated", real)
    (more / "new-00.png").unlink()
    add.run(results, [more])
    assert sorted(p.name for p in place.iterdir()) == ["more", "photos", "results", "trial"]


def killing(real, calls, at):
    def call(*given, **named):
        calls.append(real)
        if len(calls) == at[0] or at[0] < 0:
            at[0] = -1
            raise Killed
        return real(*given, **named)

    return call


def test_columns_stay_and_those_of_new_images_come(place):
    results, photos = place / "results", place / "photos"
    columns.write(results, {"group": {"0-00.png": "old"}, "camera": {"0-00.png": "A"}})
    summary = summary_of(results) | {"exif": ["camera"]}
    (results / "summary.json").write_text(json.dumps(summary))
    tags = Image.Exif()
    tags[0x0110] = "B"
    toy_results.draw(photos / "x.png", 1, 700)
    Image.open(photos / "x.png").save(photos / "x.png", exif=tags)
    (photos / "more.csv").write_text("path,group,number\nx.png,=new,-7\n")
    add.run(results, [photos / "more.csv"])
    rows = {row["file"]: row for row in assignments._of_parquet(results / "assignments.parquet")}
    assert list(rows["x.png"]) == [*assignments.NAMED, "group", "camera", "number"]
    assert [rows[n]["group"] for n in ("0-00.png", "0-01.png", "x.png")] == ["old", None, "=new"]
    assert [rows[n]["camera"] for n in ("0-00.png", "0-01.png", "x.png")] == ["A", None, "B"]
    with (results / "assignments.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert [last[n] for n in ("file", "group", "camera", "number")] == ["x.png", "'=new", "B", "-7"]
    assert len(table(results)) == 61  # the reader needs none of them
    (photos / "more.csv").write_text("path,novel\nx.png,1\n")
    with pytest.raises(VtccError, match=r"column 'novel' .*the results have one of that name"):
        add.run(results, [photos / "more.csv"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("none", "no such file or directory"),
        (".", "holds the results themselves"),
    ],
)
def test_mistakes_leave_the_results_as_they_were(place, more, message):
    state = contents(place / "results")
    with pytest.raises(VtccError, match=message):
        add.run(place / "results", [place / more])
    assert contents(place / "results") == state
    assert sorted(p.name for p in place.iterdir()) == ["photos", "results"]


def test_unreadable_files_are_told_once(place, capsys):
    results, photos = place / "results", place / "photos"
    before = table(results)
    (photos / "broken.png").write_bytes(b"no image")
    answer = add.run(results, [photos])
    assert (answer["addition"]["new"], answer["addition"]["unreadable"]) == (1, 1)
    assert answer["addition"]["drift"]["verdict"] == "fine: none was added"
    assert "unreadable: 'broken.png'" in capsys.readouterr().out
    after = table(results)
    assert after["broken.png"].error and after["broken.png"].cluster is None
    assert {file: after[file] for file in before} == before
    state = contents(results)
    assert add.run(results, [photos])["addition"] is None  # not tried again
    assert contents(results) == state
    toy_results.draw(photos / "broken.png", 0, 500)  # until it has changed
    assert add.run(results, [photos])["addition"]["changed"] == 1
    assert table(results)["broken.png"].cluster == before["0-05.png"].cluster
    assert summary_of(results)["errors"] == {}


def test_a_new_cover_of_a_burst_takes_its_row_once_it_can_be_read(place):
    results, photos = place / "results", place / "photos"
    first, cover = (f"IMG_20180914_094602_BURST{shot}.png" for shot in ("001", "002_COVER"))
    toy_results.draw(photos / first, 0, 600)
    add.run(results, [photos])
    row = table(results)[first]
    (photos / cover).write_bytes(b"no image")
    (record,) = summary_of(add_again(results, photos))["additions"][1:]
    assert (record["new"], record["gone"], record["unreadable"]) == (1, 0, 1)
    assert table(results)[first] == row and table(results)[cover].error
    toy_results.draw(photos / cover, 0, 601)
    assert summary_of(add_again(results, photos))["additions"][2]["files"] == {
        "new": [], "changed": [cover], "gone": [first],
    }  # fmt: skip
    assert first not in table(results) and not table(results)[cover].error


def add_again(results, photos):
    add.run(results, [photos])
    return results


def test_a_disk_that_fails_takes_no_rows_away(place):
    results, photos = place / "results", place / "photos"
    state = contents(results)
    for file in photos.glob("[01]-*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(VtccError, match=r"40 of 60 images are gone or can no longer be read"):
        add.run(results, [photos])
    assert contents(results) == state
    add.run(results, [photos], allow_gone=True)
    assert sum(not row.error for row in table(results).values()) == 20


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("given", [".", "sub", "sub/3.png"])
def test_a_folder_that_was_moved_is_known_by_its_files(place, given, copied, capsys):
    results, photos, now = place / "results", place / "photos", place / "disk" / "pictures"
    toy_results.draw(photos / "sub" / "3.png", 0, 600)
    add.run(results, [photos])
    before, file = table(results), results / "summary.json"
    inputs = ["s3://bucket/x", str(photos), str(photos / LIST), "/elsewhere"]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"inputs": inputs}))
    if copied:  # times are those of the copy
        shutil.copytree(photos, now, copy_function=shutil.copyfile)
        shutil.rmtree(photos)
    else:
        now.parent.mkdir()
        photos.rename(now)
    toy_results.draw(now / "sub" / "4.png", 1, 601)
    capsys.readouterr()
    add.run(results, [now / given, now / "sub" / "4.png"])
    assert f"the images' folder {photos} is now {now}" in capsys.readouterr().out
    after, summary = table(results), summary_of(results)
    assert {file: after[file] for file in before} == before
    assert set(after) - set(before) == {"sub/4.png"}
    assert summary["root"] == str(now) == summary["additions"][-1]["root"]
    assert summary["inputs"] == [inputs[0], str(now), str(now / LIST), inputs[3]]
    assert summary["title"] == "photos"  # of images of another name there
    assert summary["additions"][-1]["files"] == {"new": ["sub/4.png"], "changed": [], "gone": []}
    state = contents(results)
    assert add.run(results, [now])["addition"] is None
    assert contents(results) == state


@pytest.mark.parametrize(
    ("title", "others", "after"),
    [
        ("photos", [], "pictures"),
        ("photos and 1 more", ["/x"], "pictures and 1 more"),
        ("My", [], "My"),
    ],
)
def test_results_are_headed_by_the_new_name_of_a_folder(place, title, others, after):
    results, photos, file = place / "results", place / "photos", place / "results" / "summary.json"
    of = {"title": title, "inputs": [str(photos), *others]}
    file.write_text(json.dumps(summary_of(results) | of))
    photos.rename(place / "pictures")
    add.run(results, [place / "pictures"])
    assert summary_of(results)["title"] == after
    assert f"<title>{after}: 60 images" in (results / "report.html").read_text()


def test_images_that_have_all_changed_were_not_moved(place, capsys):
    for file in (place / "photos").iterdir():
        file.write_bytes(file.read_bytes() + b"\0" * 1000)
    answer = add.run(place / "results", [place / "photos"])
    assert "--root" not in capsys.readouterr().out
    assert (answer["addition"]["changed"], answer["addition"]["gone"]) == (60, 0)


def test_files_that_were_written_again_are_what_the_clusters_are_made_of(place, tmp_path, capsys):
    """As after `touch`, a restored backup or a tool that writes metadata."""
    results, photos = place / "results", place / "photos"
    before, clusters = table(results), Clusters.load(results / "model")
    for file in photos.iterdir():
        os.utime(file, ns=(0, 0))
    toy_results.draw(photos / "0-00.png", 2, 1234)  # another picture
    answer = add.run(results, [photos])
    assert (answer["addition"]["changed"], answer["addition"]["gone"]) == (60, 0)
    embedding = outputs.Embedding.load(results)
    known = dict(zip(embedding.paths, embedding.known.tolist(), strict=True))
    assert [name for name, of in known.items() if not of] == ["0-00.png"]
    assert answer["addition"]["drift"]["lines"][-1]["images_before"] == 59
    assert answer["addition"]["drift"]["lines"][-1]["images_now"] == 1
    refined(results, tmp_path / "e.json", {"do": "rename", "cluster": 0, "name": "boats"})
    after = Clusters.load(results / "model")
    assert after.centres.keys() == clusters.centres.keys()
    assert after.tree == clusters.tree
    assert not any(np.isnan(row.distance) for row in table(results).values())
    new_kind(place / "more")
    add.run(results, [place / "more"])
    confirmed(results, tmp_path / "e.json")
    spoken = table(results)
    assert {row.name for f, row in spoken.items() if f.startswith("..")} == {"sevens"}
    assert {f: spoken[f].cluster for f in before if f != "0-00.png"} == {
        f: row.cluster for f, row in before.items() if f != "0-00.png"
    }


def test_pictures_that_are_all_others_are_nothing_to_tell_new_kinds_by(place, capsys):
    results, photos = place / "results", place / "photos"
    clusters = Clusters.load(results / "model")
    for i, file in enumerate(sorted(photos.iterdir())):
        toy_results.draw(file, toy_results.NEW_KIND, 2000 + i)
    add.run(results, [photos])
    assert "no image is left as it was when the clusters were made" in capsys.readouterr().out
    assert not outputs.Embedding.load(results).known.any()
    refined(results, place / "e.json", {"do": "rename", "cluster": 0, "name": "boats"})
    after = Clusters.load(results / "model")
    assert (after.fences, after.tree) == (clusters.fences, clusters.tree)


def test_a_folder_that_was_moved_and_is_not_known(place):
    results, photos, now = place / "results", place / "photos", place / "now"
    toy_results.draw(place / "more" / "x.png", 0, 600)
    add.run(results, [place / "more"])
    photos.rename(now)
    for file in now.glob("[01]-*.png"):
        file.unlink()
    state = contents(results)
    nowhere = rf"^{photos}: none of the results' images is there; if the folder was moved, say"
    with pytest.raises(VtccError, match=nowhere):
        add.run(results, [photos])
    with pytest.raises(VtccError, match=r"--root .*more: none of the results' images is there"):
        add.run(results, [now], root=place / "more")
    with pytest.raises(VtccError, match="40 of 61 images are gone"):
        add.run(results, [now], root=now)
    assert contents(results) == state
    add.run(results, [now], root=now, allow_gone=True)
    assert summary_of(results)["root"] == str(now)
    assert len(table(results)) == 21
    (place / "deep").mkdir()
    now.rename(place / "deep" / "now")
    state = contents(results)
    with pytest.raises(VtccError, match=r"'\.\./more/x\.png', whose name is its path from there"):
        add.run(results, [place / "deep" / "now"])
    assert contents(results) == state


def test_results_that_are_none(place, tmp_path):
    with pytest.raises(VtccError, match="no results of `vtcc cluster`"):
        add.run(place / "photos", [place / "photos"])
    with pytest.raises(VtccError, match="is there already"):
        add.run(place / "results", [place / "photos"], tmp_path)


def blobs(rng, means, each, spread=0.15):
    rows = np.repeat(np.arange(len(means)), each)
    return np.eye(8)[means][rows] + rng.normal(0, spread, (len(rows), 8)), rows


def test_ordinary_images_are_no_group_however_many():
    rng = np.random.default_rng(0)
    old, k = blobs(rng, [0, 1, 2], 100)
    new, _ = blobs(rng, [0, 1, 2], 400)
    h, known = np.concatenate([old, new]), np.arange(1500) < 300
    cluster = np.concatenate([k, np.repeat([0, 1, 2], 400)])
    found = novelty.find(h, known, ~known, cluster, copies=known & ~known, seed=0)
    assert found.groups == []
    assert (found.score[known] > 1).mean() == pytest.approx(0.05, abs=0.01)
    assert (found.score[~known] > 1).mean() == pytest.approx(0.05, abs=0.04)


def test_more_of_a_kind_that_is_there_is_no_new_kind():
    rng = np.random.default_rng(0)
    old, k = blobs(rng, [0, 1, 2], 100)
    more, _ = blobs(rng, [1], 300)
    known = np.arange(600) < 300
    cluster = np.concatenate([k, np.ones(300, int)])
    none = np.zeros(600, bool)
    found = novelty.find(np.concatenate([old, more]), known, ~known, cluster, copies=none, seed=0)
    assert found.groups == []


def test_two_new_kinds_are_two_groups():
    rng = np.random.default_rng(1)
    old, k = blobs(rng, [0, 1, 2], 100)
    new, kind = blobs(rng, [3, 4, 0], 30)
    known = np.arange(390) < 300
    cluster = np.concatenate([k, np.zeros(90, int)])
    h, none = np.concatenate([old, new]), np.zeros(390, bool)
    found = novelty.find(h, known, ~known, cluster, copies=none, seed=0)
    assert [sorted(set(kind[g - 300].tolist())) for g in found.groups] in ([[0], [1]], [[1], [0]])
    assert all(len(g) >= 28 for g in found.groups)


def peak(does):
    """MiB beyond what there was, and what was made."""
    tracemalloc.start()
    try:
        made = does()
        return tracemalloc.get_traced_memory()[1] / 2**20, made
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_pairs_of_images(monkeypatch):
    rng = np.random.default_rng(0)
    h, k = blobs(rng, [0, 1, 2, 3], 750)
    h = np.concatenate([h, rng.normal(0, 0.1, (3000, 24))], axis=1).astype(np.float32)
    known = np.arange(3000) % 750 < 600
    p = np.eye(4, dtype=np.float32)[k]
    clusters = Clusters.fit(p[known], h[known])

    def novel():
        none = np.zeros(3000, bool)
        return novelty.find(h, known, ~known, k, copies=none, seed=0)

    whole, all_at_once = clusters.apply(p, h), novel()
    order = np.argsort(~known, kind="stable")
    places = rng.random((2400, 2)).astype(np.float32)
    placed = update._placed(places, unit_rows(h[order]))
    monkeypatch.setattr(features, "BLOCK_BYTES", 1 << 20)
    used, found = peak(novel)  # 2,400 x 3,000 similarities and their order would be 82 MiB
    assert used < 12
    np.testing.assert_allclose(found.score, all_at_once.score, rtol=1e-4, atol=1e-4)
    assert [g.tolist() for g in found.groups] == [g.tolist() for g in all_at_once.groups]
    used, some = peak(lambda: update._placed(places, unit_rows(h[order])))
    assert used < 6
    np.testing.assert_allclose(some, placed, atol=1e-6)
    used, applied = peak(lambda: clusters.apply(p, h))
    assert used < 4
    for name in ("cluster", "second", "novel", "outlier"):
        assert np.array_equal(getattr(applied, name), getattr(whole, name))
    for name in ("confidence", "distance", "novelty", "shares"):
        np.testing.assert_allclose(getattr(applied, name), getattr(whole, name), atol=1e-5)


def drifted(now_cluster, now_confidence, now_novel, grouped=()):
    before, now = np.arange(300) < 200, np.arange(300) >= 200
    cluster = np.concatenate([np.arange(200) % 2, now_cluster])
    confidence = np.concatenate([np.full(200, 0.9), np.full(100, now_confidence)])
    novel = np.concatenate([np.arange(200) < 10, np.arange(100) < now_novel])
    return drift.measure(
        cluster=cluster,
        confidence=confidence,
        novel=novel,
        before=before,
        now=now,
        names={0: "boats", 1: "cars"},
        grouped=dict(grouped),
    )


def test_copies_that_are_added_are_known_as_such(place):
    results, photos = place / "results", place / "photos"
    before = outputs.Embedding.load(results)
    names = [f"0-{i:02d}.png" for i in range(20)]
    for name in names:
        shutil.copy(photos / name, photos / f"0-copy{name[2:]}")
    add.run(results, [photos])
    after = outputs.Embedding.load(results)
    np.testing.assert_array_equal(after.sketches[:60], before.sketches)
    row = {path: i for i, path in enumerate(after.paths)}
    twice = np.concatenate([before.sketches[:20], before.sketches[:20]])
    busy = np.flatnonzero(duplicates.nearest_earlier(twice, 2)[20:] == np.arange(20))
    assert len(busy) > 4
    for i in busy:
        copy, original = row[f"0-copy{names[i][2:]}"], row[names[i]]
        assert after.first[copy] == after.first[original]


def test_sketches_of_results_without_them_are_of_the_pages_pictures(place):
    results, photos = place / "results", place / "photos"
    before = outputs.Embedding.load(results)
    replace(before, sketches=None).save(results)
    assert outputs.Embedding.load(results).sketches is None
    toy_results.draw(photos / "0-new.png", 0, 999)
    add.run(results, [photos])
    sketches = outputs.Embedding.load(results).sketches
    assert sketches.shape == (61, 8, 9)
    np.testing.assert_allclose(sketches[:60], before.sketches, atol=12)  # JPEG


@pytest.mark.parametrize("now", [3, 100, 0])
def test_the_drift_is_not_fine_where_nothing_is_before(now):
    came = np.arange(100) < now
    told = drift.measure(
        cluster=np.arange(100) % 2,
        confidence=np.full(100, 0.9),
        novel=np.zeros(100, bool),
        before=np.zeros(100, bool),
        now=came,
        names={0: "boats", 1: "cars"},
        grouped={7: np.flatnonzero(came)[:2]} if now else {},
    )
    grown = ", 2 new images may be a cluster of their own (7)" if now else ""
    assert told.level == "cluster again"
    assert told.verdict == (
        f"cluster again: no image is left of those that the clusters were made of{grown}"
    )


@pytest.mark.parametrize(
    ("images", "sure", "verdict"),
    [
        (4, 0.3, "fine: 4 images as those before"),
        (5, 0.65, "look here: mean confidence of the new images is 0.65 (before 0.90)"),
        (19, 0.7, "fine: 19 images as those before"),
        (20, 0.7, "look here: mean confidence of the new images is 0.70 (before 0.90)"),
    ],
)
def test_a_few_images_are_not_fine_where_they_are_much_less_sure(images, sure, verdict):
    def line(cluster, name):
        return drift.Line(cluster, name, 50, images, 0.5, 0.5, 0.9, sure, 0.0, 0.0)

    lines = [line(0, "boats"), line(1, "cars"), line(None, "all")]
    assert drift.judge(lines, {})[1] == verdict


def test_the_verdict_of_drift():
    even = np.arange(100) % 2
    fine = drifted(even, 0.9, 5)
    assert (fine.level, fine.verdict) == ("fine", "fine: 100 images as those before")
    boats, cars, every = fine.lines
    assert (boats.images_before, boats.images_now, boats.share_now) == (100, 50, 0.5)
    assert (every.novel_before, every.novel_now, every.confidence_now) == (0.05, 0.05, 0.9)
    assert cars.name == "cars"
    moved = drifted((np.arange(100) < 80).astype(int), 0.9, 5)
    assert moved.level == "look here"
    assert "'cars' has 80% of the new images (before 50%)" in moved.verdict
    unsure = drifted(even, 0.75, 5)
    assert unsure.verdict == ("look here: mean confidence of the new images is 0.75 (before 0.90)")
    grown = drifted(even, 0.9, 5, grouped={7: np.arange(200, 220)})
    assert grown.verdict == "look here: 20 new images may be a cluster of their own (7)"
    assert grown.lines[-1].novel_now == 0.2
    again = drifted(even, 0.9, 60)
    assert again.level == "cluster again"
    assert "60% of the new images are novel (before 5%)" in again.verdict
    assert fine.text()[-1] == fine.verdict
    assert fine.text()[0].split() == [
        "cluster",
        "images",
        "share",
        "confidence",
        "novel",
        "or",
        "proposed",
    ]
