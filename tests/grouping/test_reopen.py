"""Results that are changed: what lies in their folder is not lost, and modes stay in bounds."""

import json
import os
import shutil
import threading
from unittest.mock import create_autospec

import pytest

from tests.grouping import toy_results
from vtcc.atomic import sole_writer
from vtcc.errors import VtccError
from vtcc.grouping import assignments, by_cluster, result
from vtcc.grouping import run as cluster
from vtcc.grouping.options import Options
from vtcc.verbs import add, export, refine


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of 15 images of three kinds, and its results with copies by cluster."""
    root = tmp_path_factory.mktemp("reopened") / "photos"
    toy_results.folder_of(root, each=5)
    results = root.with_name("results")
    toy_results.write(root, results)
    summary = json.loads((results / "summary.json").read_text())
    (results / "summary.json").write_text(json.dumps(summary | {"folders": "copies"}))
    rows = assignments.read(results / "assignments.parquet")
    names = {0: "cluster 0", 1: "cluster 1", 2: "cluster 2"}
    for name, path in by_cluster.places(rows, names):
        (results / "folders" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, results / "folders" / path)
    return root.parent


@pytest.fixture
def place(made, tmp_path):
    """A copy of both, and an edit that renames a cluster."""
    here = tmp_path / "here"
    shutil.copytree(made, here)
    file = here / "results" / "summary.json"
    summary = json.loads(file.read_text())
    file.write_text(json.dumps(summary | {"root": str((here / "photos").resolve())}))
    edit = {"do": "rename", "cluster": 1, "name": "boats"}
    model = result.digest(here / "results" / "model")
    edits = {"format": 1, "model": model, "edits": [edit]}
    (here / "edits.json").write_text(json.dumps(edits))
    return here


def renew(place):
    """Makes the edit one of the results as they are now."""
    edits = json.loads((place / "edits.json").read_text())
    model = result.digest(place / "results" / "model")
    (place / "edits.json").write_text(json.dumps(edits | {"model": model}))


def contents(directory):
    return {
        file.relative_to(directory).as_posix(): file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name != by_cluster.PLACES
    }


def with_boats(folders):
    return {path.replace("cluster 1/", "boats/"): content for path, content in folders.items()}


@pytest.mark.parametrize("to", [None, "new"])
def test_copies_outlive_their_images(place, to, capsys):
    results, folders = place / "results", place / "results" / "folders"
    (folders / "cluster 1" / "notes.txt").write_text("my own")
    before = contents(folders)
    assert len(before) == 16
    shutil.rmtree(place / "photos")
    refine.run(results, place / "edits.json", to and place / to)
    after = contents((place / to if to else results) / "folders")
    own = after.pop("cluster 1/notes.txt")
    assert own == b"my own"
    assert after == with_boats({p: c for p, c in before.items() if "notes" not in p})
    said = capsys.readouterr().out
    assert "with the copies that were here of 15 images no longer in place" in said
    if to:
        assert contents(folders) == before
        shared = {file.stat().st_nlink for file in folders.rglob("*") if file.is_file()}
        assert shared == {1}


@pytest.mark.parametrize("mode", ["copies", ""])
def test_what_people_put_into_folders_and_the_last_copies_stay(place, mode, capsys):
    results, folders = place / "results", place / "results" / "folders"
    file = results / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"folders": mode}))
    toy_results.draw(folders / "mine" / "own.png", 0, 1)
    (folders / "cluster 0-clusters").mkdir()
    (folders / "cluster 0-clusters" / "summary.json").write_text("{}")
    before = contents(folders)
    refine.run(results, place / "edits.json")
    assert contents(folders) == (with_boats(before) if mode else before)
    (place / "photos" / "0-00.png").unlink()
    capsys.readouterr()
    add.run(results, [place / "photos"])
    assert contents(folders) == (with_boats(before) if mode else before)
    said = capsys.readouterr().out
    assert ("copies that were here of 1 image no longer in place" in said) == bool(mode)
    # An image that is back needs no second copy.
    shutil.copy2(folders / "cluster 0" / "0-00.png", place / "photos")
    add.run(results, [place / "photos"])
    assert contents(folders) == (with_boats(before) if mode else before)


def test_a_kill_before_the_folders_are_written_loses_no_copy(place, monkeypatch):
    """Of folders without a record: the tables have moved on, and these copies are nobody's."""
    results = place / "results"
    before = contents(results / "folders")
    shutil.rmtree(place / "photos")
    with monkeypatch.context() as patch:
        killed = create_autospec(by_cluster.write_folders, side_effect=KeyboardInterrupt)
        patch.setattr(by_cluster, "write_folders", killed)
        with pytest.raises(KeyboardInterrupt):
            refine.run(results, place / "edits.json")
    assert contents(results / "folders") == before
    renew(place)
    refine.run(results, place / "edits.json")
    assert sorted(contents(results / "folders").values()) == sorted(before.values())


@pytest.mark.parametrize("mode", ["copies", "links"])
def test_a_kill_before_the_folders_are_written_leaves_no_stale_entry(place, mode, monkeypatch):
    """They are not what the tables say by then; the next change knows them all the same."""
    results, folders = place / "results", place / "results" / "folders"
    file = results / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"folders": mode}))
    refine.run(results, place / "edits.json")
    before = contents(folders)
    assert len(before) == 15
    (folders / "boats" / "notes.txt").write_text("my own")
    renew(place)
    edits = json.loads((place / "edits.json").read_text())
    move = {"do": "move", "files": ["0-00.png"], "to": 1}
    rename = {"do": "rename", "cluster": 2, "name": "cats"}
    (place / "edits.json").write_text(json.dumps(edits | {"edits": [move, rename]}))
    with monkeypatch.context() as patch:
        killed = create_autospec(by_cluster.write_folders, side_effect=KeyboardInterrupt)
        patch.setattr(by_cluster, "write_folders", killed)
        with pytest.raises(KeyboardInterrupt):
            refine.run(results, place / "edits.json")
    assert contents(folders) == before | {"boats/notes.txt": b"my own"}
    (place / "edits.json").write_text(json.dumps(edits))
    renew(place)
    refine.run(results, place / "edits.json")
    moved = {path.replace("cluster 2/", "cats/"): content for path, content in before.items()}
    moved["boats/0-00.png"] = moved.pop("cluster 0/0-00.png")
    assert contents(folders) == moved | {"boats/notes.txt": b"my own"}


def test_new_results_lie_neither_in_results_nor_among_images(place):
    results, photos, more = place / "results", place / "photos", place / "more"
    toy_results.draw(more / "sub" / "0.png", 0, 1)
    toy_results.draw(place / "1.png", 1, 2)
    add.run(results, [more, place / "1.png"])
    renew(place)
    toy_results.draw(place / "later" / "2.png", 2, 3)
    (place / "link").symlink_to(photos)
    (place / "other").mkdir()
    for name in ("summary.json", "report.html", "embedding.npz"):
        (place / "other" / name).touch()
    before = sorted(place.rglob("*"))
    for out, inside in (
        (photos / "new", f"the images' folder, {photos}"),
        (place / "link" / "new", f"the images' folder, {photos}"),
        (more / "sub" / "new", f"the images' folder, {more}"),
        (place / "later" / "new", f"the images' folder, {place / 'later'}"),
        (results / "new", f"the results, {results}"),
        (results / "folders" / "new", f"the results, {results}"),
        (place / "other" / "new", f"the results, {place / 'other'}"),
    ):
        message = f"^--out: {out}.* lies inside {inside}; name a place beside it$"
        if "later" not in out.parts:
            with pytest.raises(VtccError, match=message):
                refine.run(results, place / "edits.json", out)
            with pytest.raises(VtccError, match=message.replace("new.*", r"new\.json")):
                export.hand_over(results, "coco", out.with_suffix(".json"))
        with pytest.raises(VtccError, match=message):
            add.run(results, [place / "later"], out)
    assert sorted(place.rglob("*")) == before
    refine.run(results, place / "edits.json", place / "new")


def test_a_file_that_was_added_by_its_name_shuts_no_folder(place, tmp_path):
    """Nothing is searched there, so what is written there becomes no image."""
    results, downloads = place / "results", tmp_path / "downloads"
    toy_results.draw(downloads / "one.png", 0, 1)
    toy_results.draw(tmp_path / "more" / "sub" / "two.png", 1, 2)
    add.run(results, [downloads / "one.png", tmp_path / "more"])
    renew(place)
    # The whole folder that was searched is shut, below and beside the files that were found.
    for out in (tmp_path / "more" / "new", tmp_path / "more" / "sub" / "new"):
        with pytest.raises(VtccError, match=f"lies inside the images' folder, {tmp_path / 'more'}"):
            refine.run(results, place / "edits.json", out)
    refine.run(results, place / "edits.json", downloads / "new")
    file = results / "summary.json"  # as it was before folders were kept
    summary = json.loads(file.read_text())
    assert summary["additions"][0].pop("searched") == [str(tmp_path / "more")]
    file.write_text(json.dumps(summary))
    with pytest.raises(VtccError, match=f"lies inside the images' folder, {downloads};"):
        refine.run(results, place / "edits.json", downloads / "newer")


def test_a_cluster_that_is_grouped_again_has_its_results_elsewhere(place):
    results = place / "results"
    with pytest.raises(VtccError, match=f"-clusters lies inside the results, {results}; name a pl"):
        cluster.run(Options(results / "folders" / "cluster 1"))


def test_what_is_made_of_write_protected_results_can_be_written(place, monkeypatch):
    results = place / "results"
    for path in (*results.rglob("*"), results):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before, modes = contents(results), {p: p.stat().st_mode for p in results.rglob("*")}
    refine.run(results, place / "edits.json", place / "new")
    assert {p: p.stat().st_mode for p in results.rglob("*")} == modes
    for path in (place / "new", *(place / "new").rglob("*")):
        assert path.stat().st_mode & 0o600 == 0o600 or "folders" in path.parts, path
    refused = create_autospec(os.access, side_effect=lambda path, _: path != results)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", refused)
        for change in (
            lambda: refine.run(results, place / "edits.json"),
            lambda: add.run(results, [place / "photos"]),
        ):
            with pytest.raises(VtccError, match=f"^{results}: write-protected; give --out elsewh"):
                change()
    assert contents(results) == before
    assert sorted(p.name for p in place.iterdir()) == ["edits.json", "new", "photos", "results"]


def test_a_link_to_results_stays_one(place, tmp_path):
    results, link = place / "results", tmp_path / "link"
    link.symlink_to(results)
    refine.run(link, place / "edits.json")
    assert link.readlink() == results
    assert "boats" in {path.name for path in (results / "folders").iterdir()}
    toy_results.draw(place / "photos" / "new.png", 1, 9)
    with sole_writer(results, "busy"):
        refused = []

        def another():
            try:
                add.run(link, [place / "photos"])
            except VtccError as error:
                refused.append(str(error))

        thread = threading.Thread(target=another)
        thread.start()
        thread.join()
    assert refused and "is at work on it" in refused[0]
    add.run(link, [place / "photos"])
    assert link.readlink() == results
    assert (results / "folders" / "boats" / "new.png").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "link"]
    link.unlink()
    link.symlink_to(place / "gone" / "results")
    with pytest.raises(VtccError, match=f"^{link}: no such folder"):
        refine.run(link, place / "edits.json")


@pytest.mark.parametrize("to", ["nowhere", "empty", "results", "export"])
def test_a_link_is_no_place_for_results(place, to):
    results, out = place / "results", place / "link"
    (place / "empty").mkdir()
    if to == "export":
        export.hand_over(results, "fiftyone", place / "export")
    out.symlink_to(to)
    before = sorted(place.rglob("*"))
    for write in (
        lambda: refine.run(results, place / "edits.json", out),
        lambda: add.run(results, [place / "photos"], out),
        lambda: export.hand_over(results, "fiftyone", out, overwrite=True),
        lambda: cluster.run(Options(place / "photos", out=out, overwrite=True)),
    ):
        with pytest.raises(VtccError, match=f"^--out: {out} is a link; name .* to, {place / to}$"):
            write()
    assert sorted(place.rglob("*")) == before
