"""`vtcc cluster` on a small folder, `vtcc refine` on its results, `vtcc predict` after both."""

import contextlib
import csv
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score

from tests.fakes import stand_in, uninstall
from vtcc import atomic, config, encoders, extras
from vtcc.engine import checkpoint
from vtcc.errors import VtccError
from vtcc.grouping import assignments, by_cluster, copies, outputs, result, workdir
from vtcc.grouping import run as cluster
from vtcc.grouping.clusters import Applied, Clusters
from vtcc.grouping.options import Options, parse_clusters
from vtcc.verbs import predict, refine

ODD = ['<script>alert("1")<.png', "quo'te \N{CAMERA}.png", "x" * 200 + ".png"]
# In a folder of copies two of them have the name of one in sub/, the third but for the case.
ALIKE = ["sub__00.png", "sub__01.png", "SUB__02.png"]
NAMES = [
    *ODD,
    *(f"sub/{i:02d}.png" for i in range(30)),
    *ALIKE,
    os.fsdecode(b"\xff.png"),
    *(f"{i:02d}.png" for i in range(59)),
]
SHOWN = [name.replace("\udcff", "%FF") for name in NAMES]
SMALL = {
    "train.epochs": 12,
    "train.optimizer.learning_rate": 0.001,  # the preset's is for thousands of steps
    "train.model.depth": 1,
    "train.model.embed_dim": 32,
    "train.batch_size": 32,
    "train.selection.points": 1,
    "train.device": "cpu",
    "train.precision": "fp32",
    "train.attention": "plain",
}


def pictures(n):
    """n grey images of 16 pixels: a lying bar, a standing one, a block; the kind is i % 3."""
    rng = np.random.default_rng(0)
    for i in range(n):
        picture = rng.integers(0, 12, (16, 16))
        height, width = [(3, 12), (12, 3), (8, 8)][i % 3]
        y, x = 8 - height // 2 + rng.integers(-1, 2), 8 - width // 2 + rng.integers(-1, 2)
        picture[y : y + height, x : x + width] += 180
        yield picture.astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """96 images, some with odd names, one that cannot be read."""
    root = tmp_path_factory.mktemp("all") / "photos"
    (root / "sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0110] = "Secretcam"
    for name, picture in zip(NAMES, pictures(96), strict=True):
        Image.fromarray(picture).save(root / name, "PNG", exif=exif)
    (root / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def made(photos):
    """The results of one run, and what was in them; `pip install vtcc` is enough for it."""
    with pytest.MonkeyPatch.context() as patch:
        uninstall(patch, *extras.PACKAGES["pipeline"])
        return cluster.run(
            Options(
                photos, clusters=3, minutes=0.1, encoder="none", overrides=SMALL, folders="copies"
            )
        )


def rows(directory):
    with (directory / "assignments.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_has_its_row(photos, made):
    assert made == photos.with_name("photos-clusters")
    found = {row["file"]: row for row in rows(made)}
    assert len(found) == 97
    assert set(found) == {*SHOWN, "broken.png"}
    assert found["broken.png"]["cluster"] == ""
    assert found["broken.png"]["error"]
    for name, row in found.items():
        if name != "broken.png":
            assert 0 <= int(row["cluster"]) < 3
            assert row["name"] == f"cluster {row['cluster']}"
            assert 0 < float(row["confidence"]) <= 1
            assert 0 <= float(row["distance"]) <= 2
            assert row["second"] != row["cluster"]
            assert row["outlier"] in ("true", "false")
    table = pd.read_parquet(made / "assignments.parquet")
    assert table["file"].tolist() == list(found)
    assert table["cluster"].dropna().astype(int).tolist() == [
        int(r["cluster"]) for r in found.values() if r["cluster"]
    ]
    lines = json.loads((made / "assignments.json").read_text())
    assert [line["file"] for line in lines] == list(found)


def test_three_obvious_kinds_are_found(photos, made):
    kind = {row["file"]: int(row["cluster"]) for row in rows(made) if row["cluster"]}
    right = normalized_mutual_info_score([i % 3 for i in range(96)], [kind[name] for name in SHOWN])
    assert right > 0.6  # twelve epochs of a tiny model


def test_nothing_of_exif_is_kept_that_was_not_asked_for(photos, made):
    assert b"Secretcam" in (photos / ODD[0]).read_bytes()
    files = {f.relative_to(made): f for f in made.rglob("*") if f.is_file()}
    kept = [name for name, file in files.items() if b"Secretcam" in file.read_bytes()]
    assert {name.parts[0] for name in kept} == {"folders"}  # copies, which were asked for
    assert len(files) - len(kept) > 9
    assert list(rows(made)[0]) == list(assignments.NAMED)


def test_the_summary_says_how_and_how_good(made):
    said = json.loads((made / "summary.json").read_text())
    assert said["trust"]["level"] in ("clear", "weak", "chance", "one kind")
    assert said["trust"]["verdict"]
    assert {"image size", "augmentation", "flips", "clusters by"} <= set(said["choices"])
    titles = [line["title"] for line in said["baselines"]]
    assert titles[0] == "these clusters"
    assert "HOG + UMAP + k-means" in titles
    assert sum(c["size"] for c in said["clusters"]) == 96
    assert said["count"] == {}  # K was given
    assert said["choices"]["encoder"] == {"value": "from scratch", "why": "as you asked"}
    assert "encoder" not in checkpoint.read_info(made / "model")


def test_the_params_reproduce_the_training(photos, made):
    params = config.load(made / "params.yaml")
    assert params.dataset.source == str(photos.resolve())
    assert params.train.num_clusters == 3
    assert params.train.epochs == 12


def test_predict_gives_the_same_clusters(photos, made, tmp_path):
    predict.run([photos], str(made / "model"), out=tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        found = {row["file"].split("photos/", 1)[1]: row for row in csv.DictReader(file)}
    for row in rows(made):
        for column in ("cluster", "name", "second", "outlier"):
            assert found[row["file"]][column] == row[column]
        if row["cluster"]:
            assert float(found[row["file"]]["confidence"]) == pytest.approx(
                float(row["confidence"]), abs=1e-4
            )
            assert found[row["file"]]["novel"] in ("true", "false")


def test_the_page_shows_hostile_names_as_text(made):
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "\\u003cscript\\u003ealert" in page
    assert page.count("<script") == 2
    page = page.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not any(word in page for word in ("http:", "https:", "src=//"))
    assert (made / "report" / "s0.jpg").stat().st_size > 1000


def test_edits_reach_tables_page_and_model(photos, made, tmp_path):
    model = made / "model"
    (tmp_path / "edits.json").write_text(
        json.dumps(
            {
                "format": 1,
                "model": result.digest(model),
                "edits": [
                    {"do": "rename", "cluster": 0, "name": "<b>left</b>"},
                    {"do": "merge", "clusters": [1, 2], "into": 1, "name": "others"},
                    {"do": "split", "cluster": 0, "into": 2},
                    {"do": "exclude_files", "files": [ODD[0]]},
                ],
            }
        )
    )
    out = tmp_path / "refined"
    refine.run(made, tmp_path / "edits.json", out)
    named = {row["file"]: row for row in rows(out)}
    before = {row["file"]: row["cluster"] for row in rows(made)}
    assert named[ODD[0]]["cluster"] == ""
    for file, row in named.items():
        if file in (ODD[0], "broken.png"):
            continue
        if before[file] == "0":
            assert row["name"] in ("<b>left</b>", "cluster 3")
        else:
            assert row["name"] == "others"
    known = Clusters.load(out / "model")
    assert known is not None
    assert known.names == {0: "<b>left</b>", 1: "others", 3: "cluster 3"}
    predict.run([photos], str(out / "model"), out=tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        found = {row["file"].split("photos/", 1)[1]: row["name"] for row in csv.DictReader(file)}
    for file, row in named.items():
        if file not in (ODD[0], "broken.png"):
            assert found[file] == row["name"]
    said = json.loads((out / "summary.json").read_text())
    assert sorted(c["name"] for c in said["clusters"]) == ["<b>left</b>", "cluster 3", "others"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "\\u003cb\\u003eleft" in page
    # The same edits again are for a state that is no more.
    with pytest.raises(VtccError, match="made for another model or before other edits"):
        refine.run(out, tmp_path / "edits.json")
    assert rows(out) == list(named.values())


def test_a_finished_run_is_not_overwritten_by_chance(photos, made):
    with pytest.raises(VtccError, match="there are results already"):
        workdir.refuse_taken(made, Options(photos))
    workdir.refuse_taken(made, Options(photos, overwrite=True))
    assert workdir.place(Options(photos)) == made


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """48 images: a lying bar, a standing one, a frame; the kind is i % 3."""
    root = tmp_path_factory.mktemp("open") / "kinds"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(48):
        picture = rng.integers(0, 60, (16, 16))
        if i % 3 == 0:
            picture[6:9, 1:15] += 190
        elif i % 3 == 1:
            picture[1:15, 6:9] += 190
        else:
            picture += 190
            picture[3:13, 3:13] -= 190
        Image.fromarray(picture.astype(np.uint8)).save(root / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def without_weights(kinds):
    """The results of a run that chose K itself, without a pretrained encoder; what it printed."""
    asked = Options(
        kinds,
        clusters=parse_clusters("auto"),
        folders="links",
        overrides=SMALL,
    )
    # It takes longest of a small run, and is in the other.
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        stand_in(patch, copies, "share", lambda files, **how: 0.0)
        stand_in(patch, encoders, "available", lambda card: None)
        return cluster.run(asked), printed.getvalue()


@pytest.fixture(scope="module")
def open_k(without_weights):
    return without_weights[0]


def test_without_any_weights_it_says_so_once_and_trains_from_scratch(without_weights):
    results, printed = without_weights
    assert printed.count("no weights of a pretrained encoder are on this machine") == 2  # and why
    assert "from scratch" in printed
    summary = json.loads((results / "summary.json").read_text())
    assert summary["choices"]["encoder"]["value"] == "from scratch"


def test_an_open_k_is_found(kinds, open_k):
    summary = json.loads((open_k / "summary.json").read_text())
    table = rows(open_k)
    assert [row["file"] for row in table] == [f"{i:02d}.png" for i in range(48)]
    K = summary["count"]["clusters"]
    assert K in (3, 4, 5)
    assert list(table[0]) == list(assignments.named(1 if K > 3 else 0))
    tried = [criteria["clusters"] for criteria in summary["count"]["curve"]]
    assert tried == list(range(2, 10))  # of 48 images, five a cluster
    assert summary["count"]["low"] <= K <= summary["count"]["high"]
    assert summary["count"]["reasons"]
    for criteria in summary["count"]["curve"]:
        assert 0 <= criteria["score"] <= 1
    assert [c["id"] for c in summary["clusters"]] == list(range(K))
    assert sum(c["size"] for c in summary["clusters"]) == 48
    assert [training["seed"] for training in summary["trainings"]] == [0, 1]
    assert config.load(open_k / "params.yaml").train.num_clusters == K
    assigned = [int(row["cluster"]) for row in table]
    assert normalized_mutual_info_score([i % 3 for i in range(48)], assigned) > 0.7


def test_the_model_of_an_open_k_predicts_the_same(kinds, open_k, tmp_path):
    predict.run([kinds], str(open_k / "model"), out=tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        predicted = {Path(row["file"]).name: row["cluster"] for row in csv.DictReader(file)}
    assert predicted == {row["file"]: row["cluster"] for row in rows(open_k)}


def test_a_folder_of_links_by_cluster(kinds, open_k):
    links = [file for file in (open_k / "folders").rglob("*.png") if file.is_symlink()]
    assert {file.name: file.parent.name for file in links} == {
        row["file"]: row["name"] for row in rows(open_k)
    }
    assert all(file.resolve() == kinds / file.name for file in links)


def full_disk(source, target):
    raise OSError(28, "No space left on device")


def test_results_outlive_folders_that_cannot_be_written(photos, made, tmp_path, monkeypatch):
    from unittest.mock import create_autospec

    from vtcc.grouping import judge, learn, prepare

    for module, step in ((prepare, "prepare"), (learn, "learn"), (judge, "judge")):
        monkeypatch.setattr(module, step, create_autospec(getattr(module, step)))
    table = [row for row in rows(made) if row["cluster"]]
    N = len(table)
    K3 = outputs.Assigned(
        files=[row["file"] for row in table],
        row={row["file"]: i for i, row in enumerate(table)},
        applied=Applied(
            cluster=np.array([int(row["cluster"]) for row in table]),
            confidence=np.zeros(N),
            second=np.zeros(N, int),
            distance=np.zeros(N),
            outlier=np.zeros(N, bool),
            novel=np.zeros(N, bool),
            novelty=np.zeros(N),
            names={0: "a", 1: "b", 2: "c"},
            shares=np.full((N, 3), 1 / 3),
        ),
        errors={},
    )

    def write(directory, *steps, **named):
        copied(made, directory)
        shutil.rmtree(directory / "folders")
        return K3

    monkeypatch.setattr(result, "write", create_autospec(result.write, side_effect=write))
    closing = create_autospec(result.closing_lines, return_value=("the end",))
    stand_in(monkeypatch, result, "closing_lines", closing)
    monkeypatch.setattr(by_cluster.shutil, "copy2", full_disk)
    out = tmp_path / "out"
    with pytest.raises(VtccError, match=r"No space left.* are complete without it"):
        cluster.run(Options(photos, out=out, clusters=3, folders="copies"))
    assert rows(out) == rows(made)
    assert not (out / "folders").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def copied(source, target):
    for file in source.rglob("*"):
        place = target / file.relative_to(source)
        if file.is_dir():
            place.mkdir()
        else:
            place.write_bytes(file.read_bytes())


@pytest.fixture
def renamed(made, tmp_path):
    """A copy of the results, and an edit that renames a cluster."""
    results = tmp_path / "results"
    shutil.copytree(made, results)
    edits = tmp_path / "edits.json"
    edit = {"do": "rename", "cluster": 1, "name": "boats"}
    edits.write_text(
        json.dumps({"format": 1, "model": result.digest(results / "model"), "edits": [edit]})
    )
    return results, edits


def renamed_rows(table):
    return [row | {"name": "boats"} if row["cluster"] == "1" else row for row in table]


def test_a_new_name_moves_no_image(made, renamed):
    results, edits = renamed
    embedding = outputs.Embedding.load(results)
    refine.run(results, edits)
    for before, after in zip(renamed_rows(rows(made)), rows(results), strict=True):
        rounded = {"distance": "", "novelty": ""}  # by the embedding's rows, kept as unit rows
        assert before | rounded == after | rounded
        if before["distance"]:
            for column in rounded:
                assert float(before[column]) == pytest.approx(float(after[column]), abs=2e-6)
    assert (outputs.Embedding.load(results).base == embedding.base).all()


def test_refine_on_a_full_disk_is_one_line_and_the_old_results_stay(renamed, monkeypatch, capsys):
    from vtcc.__main__ import main

    results, edits = renamed
    before = {f: f.read_bytes() for f in results.rglob("*") if f.is_file()}
    monkeypatch.setattr(shutil, "copyfile", lambda source, target, **how: full_disk(source, target))
    monkeypatch.setattr("sys.argv", ["vtcc", "refine", str(results), "--edits", str(edits)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "error: [Errno 28] No space left on device; free space or permissions, then re-run\n"
    )
    assert {f: f.read_bytes() for f in results.rglob("*") if f.is_file()} == before
    assert sorted(f.name for f in results.parent.iterdir()) == ["edits.json", "results"]


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_refine_that_was_killed_between_two_renames_loses_nothing(
    photos, renamed, monkeypatch, tmp_path
):
    results, edits = renamed
    before, real = rows(results), os.replace

    def replaced(source, target):
        if Path(target) == results:
            raise Killed  # the old results have stepped aside, the new ones are not there yet
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", create_autospec(os.replace, side_effect=replaced))
        for cleaning in ("remove", "_bring_back"):
            patch.setattr(atomic, cleaning, create_autospec(getattr(atomic, cleaning)))
        with pytest.raises(Killed):
            refine.run(results, edits)
    assert not results.exists()
    # Who reads has them again, and so has who writes.
    predict.run([photos / "00.png"], str(results / "model"), out=tmp_path / "p.csv")
    assert rows(results) == before
    results.rename(results.with_name(".results.old"))
    with pytest.raises(VtccError, match="there are results already"):
        cluster.run(Options(photos, out=results))
    (results / ".folders.0123abcd.building").mkdir()  # of a run that was killed copying images
    results.rename(results.with_name(".results.old"))
    refine.run(results, edits)
    assert rows(results) == renamed_rows(before)
    assert [*results.rglob(".*")] == [results / "folders" / by_cluster.PLACES]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["edits.json", "p.csv", "results"]


def test_results_without_the_kept_assignment_can_be_refined(made, renamed):
    results, edits = renamed
    with np.load(results / outputs.EMBEDDING) as saved:
        older = {name: saved[name] for name in saved.files if name != "base"}
    older |= {name: older[name].astype(np.float16) for name in ("p", "h")}
    np.savez_compressed(results / outputs.EMBEDDING, **older)
    rounded = outputs.Embedding.load(results).p.argmax(axis=1)
    refine.run(results, edits)
    of = {row["file"]: row["cluster"] for row in rows(results)}
    assert [of[name] for name in outputs.Embedding.load(results).paths] == [*map(str, rounded)]


def test_refine_with_copies_works_where_the_images_are_gone(photos, made, renamed, capsys):
    results, edits = renamed
    summary = json.loads((results / "summary.json").read_text())
    summary |= {"folders": "copies", "root": str(results.parent / "gone")}
    (results / "summary.json").write_text(json.dumps(summary))
    refine.run(results, edits)
    said = capsys.readouterr().out
    assert "with the copies that were here of 96 images no longer in place" in said
    assert [row["name"] for row in rows(results)] == [r["name"] for r in renamed_rows(rows(made))]
    assert copies_by_cluster(results) == contents_by_cluster(photos, results)


def contents_by_cluster(photos, results):
    """What the images of each cluster hold, by the tables."""
    file = dict(zip(SHOWN, NAMES, strict=True))
    found = {}
    for row in rows(results):
        if row["cluster"]:
            content = (photos / file[row["file"]]).read_bytes()
            found.setdefault(row["name"], set()).add(content)
    return found


def copies_by_cluster(results):
    folders = {*(results / "folders").iterdir()} - {results / "folders" / by_cluster.PLACES}
    return {d.name: {f.read_bytes() for f in d.iterdir()} for d in folders}


def test_every_image_is_copied_to_its_cluster(photos, made):
    assert copies_by_cluster(made) == contents_by_cluster(photos, made)
    copies = [file for file in (made / "folders").rglob("*/*") if file.is_file()]
    assert len(copies) == 96  # none took the place of another
    assert all(not file.is_symlink() for file in copies)
    assert "%FF.png" in {file.name for file in copies}


def test_refine_copies_what_is_there(photos, renamed):
    results, edits = renamed
    refine.run(results, edits)
    assert copies_by_cluster(results) == contents_by_cluster(photos, results)
    assert "boats" in copies_by_cluster(results)
    assert sum(1 for file in (results / "folders").rglob("*/*") if file.is_file()) == 96


def test_a_borderline_image_stays_where_it_was(renamed):
    results, edits = renamed
    embedding = outputs.Embedding.load(results)
    best = embedding.base == 2
    p = embedding.p.copy()
    p[best] = [0.33330, 0.33331, 0.33334]  # half precision cannot tell these apart
    assert best.any()
    assert (p[best].astype(np.float16).argmax(axis=1) == 0).all()
    replace(embedding, p=p).save(results)
    refine.run(results, edits)
    of = {row["file"]: row["cluster"] for row in rows(results)}
    assert [int(of[path]) for path in embedding.paths] == embedding.base.tolist()


def test_excluded_images_are_called_so_by_tables_and_by_predict(photos, made, renamed, tmp_path):
    results, edits = renamed
    content = json.loads(edits.read_text())
    content["edits"] = [
        {"do": "merge", "clusters": [0, 1], "into": 0},
        {"do": "exclude", "cluster": 2},
    ]
    edits.write_text(json.dumps(content))
    refine.run(results, edits)
    predict.run([photos], str(results / "model"), out=tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        predicted = {row["file"].split("photos/", 1)[1]: row for row in csv.DictReader(file)}
    before = {row["file"]: row["cluster"] for row in rows(made)}
    for row in rows(results):
        assert list(row) == list(predicted[row["file"]])  # one order of columns
        assert row["name"] == predicted[row["file"]]["name"]
        if before[row["file"]] == "2":
            assert (row["cluster"], row["name"]) == ("", "excluded")
    trust = json.loads((results / "summary.json").read_text())["trust"]
    assert trust["verdict"].endswith("(measured on the 3 clusters before they were edited)")
    assert not any(1 in pair[:2] or 2 in pair[:2] for pair in trust["confused"])


@pytest.mark.parametrize(
    ("text", "clusters"), [("7", 7), ("5-30", (5, 30)), ("auto", (2, 40)), ("AUTO", (2, 40))]
)
def test_numbers_of_clusters(text, clusters):
    assert parse_clusters(text) == clusters


@pytest.mark.parametrize("text", ["1", "0", "x", "5-", "30-5", "-3", "5-5", "2.5"])
def test_numbers_that_are_none(text):
    with pytest.raises(VtccError, match="allowed: a number from 2, a range"):
        parse_clusters(text)


def test_mistakes_are_said_before_any_work(photos, tmp_path):
    run = cluster.run
    with pytest.raises(VtccError, match="no such file or directory"):
        run(Options(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    with pytest.raises(VtccError, match="not an input by its name; give a folder, an image"):
        run(Options(tmp_path / "file"))
    few = tmp_path / "few"
    few.mkdir()
    with pytest.raises(VtccError, match="no image in"):
        run(Options(few))
    for i in range(3):
        Image.new("L", (8, 8)).save(few / f"{i}.png")
    with pytest.raises(VtccError, match=r"3 images in .*, and grouping needs at least 10"):
        run(Options(few))
    with pytest.raises(VtccError, match="lies inside the images' folder"):
        run(Options(photos, out=photos / "out"))
    with pytest.raises(VtccError, match="allowed: at most 48"):
        run(Options(photos, out=tmp_path / "out", clusters=60))
    with pytest.raises(VtccError, match="does not exist; create it first"):
        run(Options(photos, out=tmp_path / "no" / "out"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("")
    with pytest.raises(VtccError, match="holds other files"):
        run(Options(photos, out=other, overwrite=True))
    with pytest.raises(VtccError, match=r"train\.epoch: unknown parameter; did you mean"):
        run(Options(photos, out=tmp_path / "out", overrides={"train.epoch": 2}))
    with pytest.raises(VtccError, match=r"projectors: found 'instance'.* allowed here: both"):
        run(Options(photos, out=tmp_path / "out", overrides={"train.model.projectors": "instance"}))
    with pytest.raises(VtccError, match="no results of `vtcc cluster`"):
        refine.run(few, tmp_path / "edits.json")
    assert not [*tmp_path.glob("out*"), *tmp_path.glob(".out*")]


@pytest.mark.slow
def test_stopped_in_training_it_goes_on(photos, tmp_path):
    import os
    import signal
    import subprocess
    import sys

    out = tmp_path / "out"
    sets = [f"{k}={v}" for k, v in (SMALL | {"train.epochs": 400}).items()]
    command = [sys.executable, "-m", "vtcc", "cluster", str(photos), "-k", "3", "--out", str(out)]
    command += [word for one in sets for word in ("--set", one)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    room = tmp_path / "elsewhere"
    room.mkdir()

    def start():
        return subprocess.Popen(
            command,
            cwd=room,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    run = start()
    assert run.stdout is not None
    for line in run.stdout:
        if '"stage": "train"' in line and json.loads(line)["progress"]["done"] > 1:
            run.send_signal(signal.SIGTERM)
            break
    said = run.stdout.read()
    assert run.wait() == 128 + signal.SIGTERM
    assert "the same command goes on from here" in said
    assert not out.exists()
    assert (tmp_path / ".out.work").is_dir()
    run = start()
    said, _ = run.communicate()
    assert run.returncode == 0, said[-2000:]
    assert "going on with an interrupted run" in said
    assert "resuming at step" in said
    assert len(rows(out)) == 97
    assert not (tmp_path / ".out.work").exists()
    assert list(room.iterdir()) == []  # nothing is left where it was called
