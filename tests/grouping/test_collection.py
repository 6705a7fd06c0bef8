"""`vtcc cluster` on more images than it looks at as a whole, and what is done with its results."""

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
from PIL import Image

from tests.grouping.test_run import SMALL, pictures
from tests.test_zip_file import member
from vtcc.data import duplicates
from vtcc.data import images as decoder
from vtcc.errors import VtccError
from vtcc.grouping import assignments, estimate, intake, result, sample, stream
from vtcc.grouping import run as cluster
from vtcc.grouping.options import Options
from vtcc.grouping.rest import Rest, Shard
from vtcc.grouping.summary import headline
from vtcc.verbs import add, check, predict, refine

N, SAMPLE, SHARD = 200, 64, 32
FAST = SMALL | {"train.epochs": 8}
pytestmark = pytest.mark.usefixtures("no_copies")


def draw(root: Path, count: int, start: int = 0) -> None:
    root.mkdir(exist_ok=True)
    for i, picture in enumerate(pictures(start + count)):
        if i >= start:
            Image.fromarray(picture).save(root / f"{i:03d}.png")


def asked(photos: Path, out: Path, limit: int = SAMPLE, folders: str = "") -> Options:
    return Options(
        photos,
        out,
        clusters=3,
        minutes=1.0,
        encoder="none",
        sample=limit,
        folders=folders,
        overrides=FAST,
    )


@pytest.fixture(scope="module")
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            stream.assign, "__kwdefaults__", stream.assign.__kwdefaults__ | {"shard": SHARD}
        )
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("collection") / "photos"
    draw(root, N)
    for number in range(150, 156):
        shutil.copy(root / f"{number - 100:03d}.png", root / f"{number:03d}.png")
    for number in (7, 77, 177):
        (root / f"{number:03d}.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def results(photos, small_shards, no_copies):
    out = photos.with_name("results")
    return cluster.run(asked(photos, out, folders="links"))


def table(results: Path) -> dict[str, assignments.Row]:
    rows = assignments.read(results / "assignments.parquet")
    assert len({row.file for row in rows}) == len(rows)
    return {row.file: row for row in rows}


def shown(results: Path) -> list[str]:
    return json.loads((results / "summary.json").read_text())["files"]


def test_every_file_has_its_row_once_and_in_order(results):
    rows = table(results)
    assert list(rows) == [f"{i:03d}.png" for i in range(N)]
    assert {f for f, row in rows.items() if row.error} == {"007.png", "077.png", "177.png"}
    with (results / "assignments.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == list(rows)
    lines = json.loads((results / "assignments.json").read_text())
    assert [line["file"] for line in lines] == list(rows)


def test_counts_are_exact(results):
    counted = Counter(row.cluster for row in table(results).values() if row.cluster is not None)
    told = headline(results)
    assert (told["images"], told["unreadable"]) == (N - 3, 3)
    html = (results / "report.html").read_text(encoding="utf-8")
    assert "3 files could not be read: 007.png, 077.png, 177.png; see" in html
    assert {c["id"]: c["size"] for c in told["clusters"]} == {k: counted[k] for k in range(3)}
    summary = json.loads((results / "summary.json").read_text())
    assert summary["collection"]["files"] == N
    assert summary["collection"]["images"] == N - 3
    assert len(summary["files"]) == SAMPLE
    assert [len(shard.files) for shard in Rest.of(results)] == [32, 32, 32, 32, 8]


def test_the_others_are_assigned_as_predict_does(photos, results, tmp_path):
    predict.run([photos], str(results / "model"), out=tmp_path / "again.parquet")
    again = {
        row.file.rsplit("/", 1)[1]: row for row in assignments.read(tmp_path / "again.parquet")
    }
    rows = table(results)
    assert list(again) == list(rows)
    for name, row in rows.items():
        assert again[name].cluster == row.cluster
        if row.cluster is not None:
            assert again[name].confidence == pytest.approx(row.confidence, abs=1e-4)
            assert again[name].novelty == pytest.approx(row.novelty, abs=1e-3)


def test_the_page_says_how_many_it_shows(results):
    page = (results / "report.html").read_text()
    data = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.S)[1])
    told = headline(results)
    assert data["collection"]["images"] == N - 3
    assert {int(k): n for k, n in data["collection"]["sizes"].items() if int(k) >= 0} == {
        c["id"]: c["size"] for c in told["clusters"]
    }
    assert len(data["files"]) < SAMPLE + 1
    assert f"{N - 3} images in 3 clusters" in page


def test_folders_by_cluster_hold_all(results):
    rows = table(results)
    linked = {p.resolve().name: p.parent.name for p in (results / "folders").rglob("*.png")}
    assert linked == {f: row.name for f, row in rows.items() if row.cluster is not None}


def test_look_alikes_are_found_among_all_images(photos, results):
    names = [*Counter(shown(results)), *(f for shard in Rest.of(results) for f in shard.files)]
    drawn = {
        n: decoder.load(photos / n, size=16, channels=1, max_pixels=10**6)
        for n in names
        if readable(n)
    }
    sketches = np.stack([duplicates.sketch(pixels) for pixels in drawn.values()])
    first = duplicates.groups(duplicates.nearest_earlier(sketches, 2))
    expected = {n: list(drawn)[first[i]] for i, n in enumerate(drawn) if first[i] != i}
    with (results / "duplicates.csv").open(newline="") as file:
        written = {row["file"]: row["looks_like"] for row in csv.DictReader(file)}
    assert written == expected
    assert len(written) >= 6
    summary = json.loads((results / "summary.json").read_text())
    assert summary["collection"]["alike"] == len(written)


def readable(name: str) -> bool:
    return name not in ("007.png", "077.png", "177.png")


def test_the_draw_is_seeded_and_uniform(photos):
    listed = intake.listed(photos)
    chosen, others = sample.drawn(listed, SAMPLE, 0)
    again, _ = sample.drawn(listed, SAMPLE, 0)
    other, _ = sample.drawn(listed, SAMPLE, 1)
    assert chosen.names == again.names != other.names
    assert len(chosen.names) == SAMPLE
    assert sorted(chosen.names + [listed.names[i] for i in others]) == listed.names
    assert [file.name for file in chosen.files] == chosen.names
    times = Counter(n for seed in range(200) for n in sample.drawn(listed, SAMPLE, seed)[0].names)
    assert min(times.values()) > 35  # 64 expected
    assert max(times.values()) < 95
    for most in (0, N, N + 1):
        whole, rest = sample.drawn(listed, most, 0)
        assert whole is listed
        assert not len(rest)


def stopped_after(shards: int):
    """`Shard.write` that ends the process, as a signal would, before one shard more."""
    written = []

    def write(self, file):
        if len(written) == shards:
            raise KeyboardInterrupt
        written.append(file.name)
        return whole_write(self, file)

    whole_write = Shard.write
    return create_autospec(Shard.write, side_effect=write), written


def test_a_kill_between_shards_loses_none_of_them(
    photos, results, small_shards, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        write, written = stopped_after(2)
        patch.setattr(Shard, "write", write)
        with pytest.raises(KeyboardInterrupt):
            cluster.run(asked(photos, out))
    assert written == ["000000.npz", "000001.npz"]
    assert not out.exists()
    first = tmp_path / ".out.work" / "rest" / "000000.npz"
    before = first.stat().st_mtime_ns
    odd = first.with_name("000001.npz")
    odd.write_bytes(member(odd.read_bytes(), 10, 9))
    with monkeypatch.context() as patch:
        write, written = stopped_after(9)
        patch.setattr(Shard, "write", write)
        cluster.run(asked(photos, out))
    assert written == [f"00000{i}.npz" for i in range(1, 5)]
    assert (out / "rest" / "000000.npz").stat().st_mtime_ns == before
    assert not first.exists()
    assert (out / "assignments.csv").read_bytes() == (results / "assignments.csv").read_bytes()


def test_shards_of_another_model_are_not_used(tmp_path, capsys):
    rest = Rest(tmp_path / "rest")
    stream.resumable(rest, {"model": "a"})
    (rest.directory / "000000.npz").write_bytes(b"")
    stream.resumable(rest, {"model": "a"})
    assert len(rest.places) == 1
    stream.resumable(rest, {"model": "b"})
    assert not rest.places
    assert "of another model" in capsys.readouterr().out


@pytest.mark.slow  # what is drawn of so few is tested above
def test_up_to_the_limit_nothing_changes(photos, small_shards, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted(photos.iterdir())[:60]:
        (few / file.name).symlink_to(file)
    (tmp_path / "limited-images").mkdir()
    first = cluster.run(asked(few, tmp_path / "limited"))
    second = cluster.run(asked(few, tmp_path / "whole", limit=0))
    assert (first / "assignments.csv").read_bytes() == (second / "assignments.csv").read_bytes()
    assert not (first / "rest").exists()
    summary = json.loads((first / "summary.json").read_text())
    assert "collection" not in summary
    assert summary["unpacked"] == str(tmp_path / "limited-images")
    assert "unpacked" not in json.loads((second / "summary.json").read_text())


def test_too_few_minutes_are_refused_before_any_work(photos, tmp_path, monkeypatch):
    slow = create_autospec(estimate.measured, return_value=estimate.Rates(1.0, 1.0, 32))
    monkeypatch.setattr(estimate, "measured", slow)
    with pytest.raises(VtccError, match=r"--minutes 1: these 200 images take about 4 min.*give"):
        cluster.run(asked(photos, tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_sample_that_cannot_be_grouped_is_refused(photos, tmp_path):
    with pytest.raises(VtccError, match="--sample: found 5; allowed: at least 10, or 0 for all"):
        cluster.run(Options(photos, tmp_path / "out", sample=5))


def copied(results: Path, out: Path) -> Path:
    shutil.copytree(results, out, symlinks=True)
    return out


def edits_file(results: Path, place: Path, *edits) -> Path:
    content = {"format": 1, "model": result.digest(results / "model"), "edits": list(edits)}
    place.write_text(json.dumps(content))
    return place


def test_edits_apply_to_all_images(results, tmp_path):
    edits = edits_file(
        results,
        tmp_path / "edits.json",
        {"do": "merge", "clusters": [0, 1], "into": 1, "name": "both"},
        {"do": "split", "cluster": 2, "into": 2},
    )
    told = refine.run(results, edits, tmp_path / "out")
    before, after = table(results), table(tmp_path / "out")
    assert list(after) == list(before)
    for name, row in before.items():
        now = after[name].cluster
        assert now in {0: {1}, 1: {1}, 2: {2, 3}, None: {None}}[row.cluster]
    assert {row.name for row in after.values() if row.cluster == 1} == {"both"}
    counted = Counter(row.cluster for row in after.values() if row.cluster is not None)
    assert {c["id"]: c["size"] for c in told["clusters"]} == counted
    assert told["images"] == N - 3
    predict.run(
        [Path(json.loads((results / "summary.json").read_text())["root"])],
        str(tmp_path / "out" / "model"),
        out=tmp_path / "again.csv",
    )
    again = {row.file.rsplit("/", 1)[1]: row for row in assignments.read(tmp_path / "again.csv")}
    beside = [name for name in before if name not in shown(results)]
    assert {f: again[f].cluster for f in beside} == {f: after[f].cluster for f in beside}
    assert check.run(tmp_path / "out", "weak")["images"] == N - 3


@pytest.fixture
def folder(photos, results, tmp_path):
    """A copy of the images and of the results, which name the images by relative paths."""
    shutil.copytree(photos, tmp_path / "photos")
    mine = copied(results, tmp_path / "results")
    summary = json.loads((mine / "summary.json").read_text())
    (mine / "summary.json").write_text(json.dumps(summary | {"root": str(tmp_path / "photos")}))
    add.run(mine, [tmp_path / "photos"])  # a copy has times of its own
    return tmp_path / "photos", mine


def test_what_is_added_gets_its_row(folder, small_shards):
    photos, mine = folder
    before, page = table(mine), shown(mine)
    assert add.run(mine, [photos])["addition"] is None
    draw(photos, 80, start=N)
    ours = next(f for f in page if not before[f].error)
    beside = [f for f in before if f not in page and not before[f].error][:3]
    (photos / ours).unlink()
    (photos / beside[0]).unlink()
    (photos / beside[1]).write_bytes((photos / beside[2]).read_bytes())
    (photos / beside[2]).write_bytes(b"no longer one")
    told = add.run(mine, [photos])
    after, addition = table(mine), told["addition"]
    there = {f"{i:03d}.png" for i in range(N + 80)} - {ours, beside[0]}
    assert set(after) == there
    assert told["images"] == addition["images"] == len(there) - 4
    assert told["unreadable"] == 4
    assert (addition["new"], addition["changed"], addition["gone"]) == (80, 2, 2)
    assert addition["unreadable"] == 1
    assert after[beside[1]].cluster == before[beside[2]].cluster
    assert after[beside[2]].error
    for name in there & set(before) - set(beside):
        assert after[name] == before[name]
    counted = Counter(row.cluster for row in after.values() if row.cluster is not None)
    assert {c["id"]: c["size"] for c in told["clusters"]} == counted
    assert len(shown(mine)) == len(page) - 1 + SAMPLE
    # Both sides of the drift go by the measure of the tables, shown or not.
    proposed = {
        f for p in json.loads((mine / "summary.json").read_text())["proposals"] for f in p["files"]
    }
    came = [f for f in after if (f not in before or f == beside[1]) and not after[f].error]
    sample = [f for f in page if f != ours and not before[f].error]
    line = addition["drift"]["lines"][-1]
    assert (
        (line["images_before"], line["images_now"]) == (len(sample), len(came)) == (len(sample), 81)
    )
    for when, names in (("before", sample), ("now", came)):
        novel = np.mean([after[f].novel or f in proposed for f in names])
        assert line[f"novel_{when}"] == pytest.approx(novel, abs=1e-4)
    # What is said of the clusters counts what they were made of, and not what came later.
    made_of = sum(not before[f].error for f in page) - 1
    card = (mine / "model" / "DATA.md").read_text(encoding="utf-8")
    assert re.search(rf"made of a sample of \| {made_of} \|", card)
    assert re.search(r"added after the clusters were made \| 80 \|", card)
    html = (mine / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', html, re.S)[1])
    assert data["collection"]["made_of"] == made_of < len(data["files"])
    assert add.run(mine, [photos])["addition"] is None


def test_half_of_a_collection_that_is_gone_is_no_addition(folder):
    photos, mine = folder
    before = table(mine)
    for name in list(before)[: N // 2 + 1]:
        (photos / name).unlink()
    with pytest.raises(VtccError, match="101 of 200 images are gone"):
        add.run(mine, [photos])
    assert table(mine) == before


def test_the_drift_counts_what_is_assigned_and_not_shown(folder, monkeypatch):
    photos, mine = folder
    monkeypatch.setattr("vtcc.grouping.add.beside.MOST_SHOWN", 0)
    draw(photos, 30, start=N)
    drift = add.run(mine, [photos])["addition"]["drift"]
    assert drift["lines"][-1]["images_now"] == 30
    assert sum(line["images_now"] for line in drift["lines"][:-1]) == 30
    assert "none was added" not in drift["verdict"]
