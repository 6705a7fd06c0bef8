"""What an interrupted `vtcc cluster` keeps, and what of it is used again."""

import json
import shlex
import shutil
import threading
import zipfile
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest

from tests.fakes import stand_in
from vtcc.atomic import sole_writer
from vtcc.errors import VtccError
from vtcc.grouping import count, estimate, intake, learn, prepare, result, summary, survey, workdir
from vtcc.grouping import run as cluster
from vtcc.grouping.options import Options
from vtcc.grouping.training import Trained
from vtcc.scale import ray
from vtcc.verbs import export, predict, refine

H = np.repeat(np.eye(3, 8), 20, axis=0) + np.random.default_rng(0).normal(0, 0.05, (60, 8))


def test_what_is_kept_is_read_back(tmp_path, capsys):
    assert workdir.read_json(tmp_path / "no.json") is None
    workdir.write_json(tmp_path / "a.json", {"seconds": 1.5})
    assert workdir.read_json(tmp_path / "a.json") == {"seconds": 1.5}
    assert capsys.readouterr().out == ""
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"7.5", b"\xff\xfe"])
def test_what_cannot_be_read_counts_as_absent(tmp_path, capsys, content):
    (tmp_path / "a.json").write_bytes(content)
    assert workdir.read_json(tmp_path / "a.json") is None
    assert "cannot be read, so this step is done again" in capsys.readouterr().out


@pytest.mark.parametrize("content", [{}, {"seconds": None}, {"seconds": "a"}, {"seconds": []}])
def test_rates_without_their_number_are_measured_again(tmp_path, capsys, content):
    workdir.write_json(tmp_path / "rates.json", content)
    options = Options(tmp_path, minutes=1)
    found = intake.Listed(tmp_path, [], [], None, [], "digest", [])
    few = create_autospec(estimate.measured, side_effect=VtccError("measured"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "measured", few)
        with pytest.raises(VtccError, match="measured"):
            cluster._seconds_for(np.arange(0), found, {}, options, tmp_path)
    assert "cannot be read, so this step is done again" in capsys.readouterr().out


@pytest.mark.parametrize("odd", [{"mirror": None}, {"more": 1}])
def test_a_survey_that_is_odd_is_made_again(tmp_path, capsys, odd):
    seen = survey.Survey(9, 9, 8.0, 1.0, 0.5, 0.5, 0.6, 0.7, 0.8)
    look = create_autospec(survey.look, return_value=seen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "look", look)
        for kept, calls in ((seen.to_dict(), 0), (seen.to_dict() | odd, 1)):
            workdir.write_json(tmp_path / "survey.json", kept)
            found = intake.Listed(tmp_path, [], [], None, [], "digest", [])
            assert prepare._surveyed(Options(tmp_path), found, tmp_path) == seen
            assert look.call_count == calls
    assert "cannot be read, so this step is done again" in capsys.readouterr().out


def trained(key="k1"):
    heads = np.eye(3, dtype=np.float32)[np.repeat(np.arange(3), 20)][None]
    h = H.astype(np.float32)
    return Trained(None, {}, h, h, heads, 0, {}, 1, 1.0, key)


@pytest.fixture
def counts(monkeypatch):
    """The criteria without their maps, and how often they were computed."""
    calls = []

    def instead(h, *, low, high, seed, on_progress):
        calls.append((low, high))
        return count.recommend([count.Criteria(k, 0.5, 0.5, 0.5, 1 / k) for k in (2, 3)])

    stand_in(monkeypatch, count, "count", instead)
    return calls


def test_the_number_of_clusters_is_chosen_once(tmp_path, counts, capsys):
    first = learn.counted(trained(), 2, 9, 0, tmp_path)
    assert learn.counted(trained(), 2, 9, 0, tmp_path) == first
    assert counts == [(2, 9)]
    assert "how many clusters, from 2 to 9\n" in capsys.readouterr().out
    assert first.clusters == 2
    assert first.at(3).score == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (2, 40, "from 2 to 12, as many as 60 images allow"),
        (20, 40, "from 20 to 20, as many as 60 images allow"),
        (2, 12, "from 2 to 12"),
    ],
)
def test_a_range_that_the_images_cut_off_is_said(tmp_path, counts, capsys, low, high, said):
    learn.counted(trained(), low, high, 0, tmp_path)
    assert f"how many clusters, {said}\n" in capsys.readouterr().out


def test_a_range_is_cut_off_by_the_images_that_it_is_judged_on(tmp_path, counts, capsys):
    many = replace(trained(), space=np.zeros((10_000, 1), np.float32))
    learn.counted(many, 500, 1000, 0, tmp_path)
    said = capsys.readouterr().out
    assert "how many clusters, from 500 to 600, as many as 3,000 images allow\n" in said


def test_damaged_or_foreign_counts_are_computed_again(tmp_path, counts, capsys):
    learn.counted(trained(), 2, 9, 0, tmp_path)
    (tmp_path / "count.json").write_text("")
    assert learn.counted(trained(), 2, 9, 0, tmp_path).clusters == 2
    assert "cannot be read" in capsys.readouterr().out
    learn.counted(trained("k2"), 2, 9, 0, tmp_path)
    assert "of another training" in capsys.readouterr().out
    assert len(counts) == 3


@pytest.mark.parametrize(
    "damage",
    [
        {"asked": None, "count": None},
        {"count": {}},
        {"count": {"clusters": "2"}},
        {"count": {"curve": [{}]}},
        {"count": {"curve": [{"clusters": 2, "score": None}]}},
    ],
)
def test_counts_that_lack_something_are_computed_again(tmp_path, counts, capsys, damage):
    first = learn.counted(trained(), 2, 9, 0, tmp_path)
    kept = json.loads((tmp_path / "count.json").read_text())
    for key, value in damage.items():
        kept[key] = value and kept[key] | value if value != {} else {}
    (tmp_path / "count.json").write_text(json.dumps(kept))
    assert learn.counted(trained(), 2, 9, 0, tmp_path) == first
    assert "cannot be read" in capsys.readouterr().out
    assert len(counts) == 2


def test_other_options_start_afresh(tmp_path, capsys):
    work = tmp_path / "work"
    work.mkdir()
    options = Options(tmp_path, seed=1)
    workdir.resume_or_restart(work, options, "digest")
    (work / "begun").write_text("")
    workdir.resume_or_restart(work, options, "digest")
    assert (work / "begun").exists()
    workdir.resume_or_restart(work, Options(tmp_path, seed=2), "digest")
    assert not (work / "begun").exists()
    assert "starting afresh" in capsys.readouterr().out


@pytest.fixture
def other_writer(tmp_path):
    """Somebody else is writing OUT and OUT.csv, until the test has ended."""
    held, done = threading.Event(), threading.Event()

    def write():
        with sole_writer(tmp_path / "out"), sole_writer(tmp_path / "out.csv"):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=write)
    thread.start()
    assert held.wait(60)
    yield
    done.set()
    thread.join()


def test_two_at_once_are_refused_before_anything_is_looked_at(
    tmp_path, other_writer, monkeypatch, capsys
):
    photos, out, table = tmp_path / "photos", tmp_path / "out", tmp_path / "out.csv"
    photos.mkdir()
    seen = create_autospec(intake.listed)
    monkeypatch.setattr(intake, "listed", seen)
    before = sorted(tmp_path.rglob("*"))
    verbs = {
        "cluster": lambda: cluster.run(Options(photos, out=out, overwrite=True)),
        "refine": lambda: refine.run(out, tmp_path / "edits.json"),
        "predict": lambda: predict.run([photos], "none", out=table),
        "predict --ray": lambda: ray.run([photos], "none", out=table),
        "export": lambda: export.run("none", with_encoder=out),
    }
    for verb, run in verbs.items():
        with pytest.raises(VtccError, match=r"another (`vtcc|process).* wait for it"):
            run()
        assert sorted(tmp_path.rglob("*")) == before, verb
    seen.assert_not_called()


@pytest.mark.parametrize(("images", "clusters"), [(3, None), (12, 7)])
def test_what_was_unpacked_for_nothing_is_named(tmp_path, images, clusters, capsys):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for i in range(images):
            archive.writestr(f"{i}.png", b"x")
    options = Options(tmp_path / "photos.zip", clusters=clusters or (2, 5), out=tmp_path / "out")
    with pytest.raises(VtccError, match=r"grouping needs at least|-k 7: for 12 images"):
        cluster.run(options)
    assert f"{tmp_path / 'out-images'}: images unpacked or copied" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out-images", "photos.zip"]


@pytest.fixture
def results(tmp_path):
    """What stands for results, with two folders by cluster."""
    for i in range(12):
        file = tmp_path / f"results/folders/{i % 2}/{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    for name in (summary.FILE, "report.html"):
        (tmp_path / "results" / name).write_text("{}")
    return tmp_path / "results"


@pytest.mark.parametrize("given", ["folder", "link", "list", "list of links", "two"])
def test_results_are_not_written_over_the_images_they_hold(results, tmp_path, given):
    images = sorted((results / "folders/0").iterdir())
    (tmp_path / "linked").mkdir()
    for file in images:
        (tmp_path / "linked" / file.name).symlink_to(file)
    (tmp_path / "link").symlink_to(results / "folders/0")
    (tmp_path / "list.txt").write_text("\n".join(map(str, images)))
    (tmp_path / "photos").mkdir()
    for i in range(12):
        (tmp_path / "photos" / f"{i}.png").write_bytes(b"x")
    asked, message = {
        "folder": ((results / "folders/0",), f"holds {results}/folders/0, which is only read"),
        "link": ((tmp_path / "link",), f"holds {tmp_path}/link, which is only read"),
        "list": ((tmp_path / "list.txt", tmp_path / "photos"), "holds the image "),
        "list of links": ((tmp_path / "linked", tmp_path / "photos"), "holds the image "),
        "two": ((tmp_path / "photos", results / "folders"), f"holds {results}/folders, "),
    }[given]
    before = sorted(tmp_path.rglob("*"))
    options = Options(
        asked[0], others=asked[1:], clusters=2, out=results, overwrite=True, encoder="none"
    )
    with pytest.raises(VtccError, match=f"^--out: {results} {message}"):
        cluster.run(options)
    assert sorted(tmp_path.rglob("*")) == before


def test_nobody_else_begins_before_the_work_is_deleted(tmp_path, monkeypatch):
    photos, out, refused = tmp_path / "photos", tmp_path / "out", []
    photos.mkdir()
    for i in range(12):
        (photos / f"{i}.png").write_bytes(b"")

    def another():
        try:
            with sole_writer(out, "busy"):
                refused.append("")
        except VtccError as error:
            refused.append(str(error))

    def work(options, listed, given, work, started):
        """Stands for all of `_run`, whose last step is to delete its work directory."""
        thread = threading.Thread(target=another)
        thread.start()
        thread.join()
        shutil.rmtree(work)

    monkeypatch.setattr(cluster, "_run", create_autospec(cluster._run, side_effect=work))
    assert cluster.run(Options(photos, clusters=3, out=out)) == out
    another()
    assert refused == ["busy", ""]
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_a_folder_of_the_longest_name_has_places_for_its_results(tmp_path):
    folder = tmp_path / ("b" * 255)
    folder.mkdir()
    out = workdir.place(Options(folder))
    for place in (out, workdir.beside(out), workdir.images(out), workdir.beside(folder)):
        place.mkdir()
    assert out.name.startswith("bbbb") and out.name.endswith("-clusters")
    assert workdir.images(folder).name.endswith("-images")


@pytest.fixture
def closing(monkeypatch):
    """The lines that end a run which had 3 minutes."""

    def lines(out, started=0.0, scores=None):
        known = {"unreadable": 0, "images": 2, "unclustered": None, "minutes": 3.0}
        known["scores"] = scores
        headline = create_autospec(summary.headline, return_value=known)
        monkeypatch.setattr(summary, "headline", headline)
        prepared = SimpleNamespace(cache=SimpleNamespace(paths=["a", "b"]))
        judged = SimpleNamespace(trust=SimpleNamespace(verdict="clear"))
        learned = SimpleNamespace(num_clusters=2)
        return result.closing_lines(prepared, learned, judged, final=out, started=started)

    return lines


@pytest.mark.parametrize(
    ("took", "said"), [(170.0, "3 min"), (300.0, "5 min, over the limit of 3 min")]
)
def test_more_time_than_was_allowed_is_said(closing, tmp_path, monkeypatch, took, said):
    monkeypatch.setattr(result.time, "monotonic", lambda: 1000.0 + took)
    assert closing(tmp_path, 1000.0)[0] == f"2 images in 2 clusters, {said}"


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (None, []),
        ({"nmi": 0.8352, "acc": 0.5}, ["against the sub-folders as classes: NMI 0.84, ACC 0.50"]),
    ],
)
def test_scores_against_sub_folders_are_said(closing, tmp_path, scores, said):
    lines = closing(tmp_path, scores=scores)
    assert [line for line in lines if "sub-folders" in line] == said
    assert lines[1] == "clear"


def test_scores_of_a_summary_are_those_of_its_clusters():
    ours = {"title": "these clusters", "agreement": 1.0}
    other = {"title": "k-means", "agreement": 0.2, "nmi": 0.1, "acc": 0.1}
    assert summary.scores({"baselines": [ours | {"nmi": 0.5, "acc": 0.25}, other]}) == {
        "nmi": 0.5, "acc": 0.25,
    }  # fmt: skip
    assert summary.scores({"baselines": [ours]}) == summary.scores({}) == {}


@pytest.mark.parametrize("name", ["photos-clusters", "Fotos Größe 2024 #1-clusters", "it's"])
def test_the_command_for_more_images_can_be_pasted(closing, tmp_path, name):
    last = closing(tmp_path / name)[-1]
    words = shlex.split(last.removeprefix("sort more images: "), comments=True)
    assert words == [
        *("vtcc", "predict", "MORE", "--model"), f"{tmp_path / name}/model", "--out", "more.csv"
    ]  # fmt: skip
