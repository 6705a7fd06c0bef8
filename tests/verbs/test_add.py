"""What `vtcc add` and `vtcc refine` answer."""

import json
import shutil
import time

import pytest

from tests.grouping import toy_results
from tests.pages.test_clusters import data
from vtcc.errors import VtccError
from vtcc.grouping import result
from vtcc.verbs import add, refine


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images of three kinds, and results of them whose clustering took a second."""
    place = tmp_path_factory.mktemp("answers")
    toy_results.folder_of(place / "photos", 6)
    toy_results.write(place / "photos", place / "results")
    return place


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on each look at the clock is that much later than the one before."""
    looks = iter(range(1, 10_000))
    real = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: real + seconds * next(looks))


def test_seconds_are_those_of_the_command(place, tmp_path, monkeypatch):
    toy_results.draw(tmp_path / "more" / "0.png", 0, 500)
    rename = {"do": "rename", "cluster": 0, "name": "boats"}
    edits = {"format": 1, "model": result.digest(place / "results/model"), "edits": [rename]}
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    later(monkeypatch, 100.0)
    added = add.run(place / "results", [tmp_path / "more"], tmp_path / "added")
    refined = refine.run(place / "results", tmp_path / "edits.json", tmp_path / "refined")
    same = add.run(place / "results", [place / "photos"])
    assert added["addition"]["new"] == 1 and same["addition"] is None
    assert min(answer["seconds"] for answer in (added, refined, same)) >= 100.0
    # What clustering took stays in the results.
    kept = json.loads((tmp_path / "added" / "summary.json").read_text())["seconds"]
    assert kept == 1.0


@pytest.mark.parametrize("held", [None, "thesis.txt"])
def test_an_input_without_an_image_is_refused(place, tmp_path, held):
    given = tmp_path / "empty"
    given.mkdir()
    if held:
        (given / held).touch()
    with pytest.raises(VtccError, match=rf"^no image in {given}; images are known by .*\.png"):
        add.run(place / "results", [given], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_which_nothing_changed_is_no_mistake(place, capsys):
    assert add.run(place / "results", [place / "photos"])["addition"] is None
    said = f"nothing is new, changed or gone: {place / 'results'} stays as it is"
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_a_folder_whose_images_are_gone_is_no_mistake(tmp_path):
    toy_results.folder_of(tmp_path / "photos", 6)
    sub = tmp_path / "photos" / "sub"
    toy_results.draw(sub / "0.png", 0, 700)
    toy_results.write(tmp_path / "photos", tmp_path / "results")
    (sub / "0.png").unlink()
    assert add.run(tmp_path / "results", [sub])["addition"]["gone"] == 1


@pytest.mark.parametrize("given", ["photos/metal", "photos", "photos/metal/odd/2-97.png"])
def test_a_new_image_is_of_the_sub_folder_that_it_is_in(tmp_path, given):
    """Of the folder of the results, whatever part of it is given."""
    subs = ["cardboard", "glass", "metal"]
    for kind, sub in enumerate(subs):
        for i in range(4):
            toy_results.draw(tmp_path / "photos" / sub / f"{kind}-{i:02d}.png", kind, 9 * kind + i)
    toy_results.write(tmp_path / "photos", tmp_path / "results")
    file = tmp_path / "results" / "summary.json"
    summary = json.loads(file.read_text())
    labels = [subs.index(name.partition("/")[0]) for name in summary["files"]]
    file.write_text(json.dumps(summary | {"labels": labels, "classes": subs}))
    toy_results.draw(tmp_path / "photos/metal/odd/2-97.png", 2, 97)
    toy_results.draw(tmp_path / "photos/metal/even/2-98.png", 2, 98)
    toy_results.draw(tmp_path / "more/glass/1-99.png", 1, 99)
    toy_results.draw(tmp_path / "more/metal/1-98.png", 1, 98)
    add.run(tmp_path / "results", [tmp_path / given, tmp_path / "more"])
    after = json.loads(file.read_text())
    of = dict(zip(after["files"], after["labels"], strict=True))
    assert after["classes"] == subs
    assert {name: label for name, label in of.items() if name not in summary["files"]} == {
        name: 2 if name.startswith("metal") else -1 for name in of if name not in summary["files"]
    }
    assert of["metal/odd/2-97.png"] == 2 and of["../more/glass/1-99.png"] == -1
    assert after["labels"][: len(labels)] == labels


def test_results_that_were_moved_lead_to_their_images_again(place, tmp_path, capsys):
    """The links of the page are relative, so that results and images may move together."""
    here, deep = tmp_path / "here", tmp_path / "here" / "deep" / "results"
    shutil.copytree(place, here)
    file = here / "results" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"root": str(here / "photos")}))
    assert add.run(here / "results", [here / "photos"])["addition"] is None
    assert page(here / "results")["root"] == "../photos/"
    deep.parent.mkdir()
    (here / "results").rename(deep)
    before = page(deep)
    answer = add.run(deep, [here / "photos"])
    assert f"links of {deep / 'report.html'}" in capsys.readouterr().out
    assert [answer["addition"][kind] for kind in ("new", "changed", "gone")] == [0, 0, 0]
    after = page(deep)
    assert after["root"] == "../../photos/"
    assert (after["files"], after["cluster"]) == (before["files"], before["cluster"])
    link = tmp_path / "link"
    link.symlink_to(here / "deep")
    (here / "photos").rename(here / "disk")
    (here / "photos").symlink_to("disk")
    for same in (deep, link / "results"):
        assert add.run(same, [here / "photos"])["addition"] is None


def page(results):
    return data((results / "report.html").read_text(encoding="utf-8"))
