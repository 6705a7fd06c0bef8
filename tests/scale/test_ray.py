"""`vtcc predict --ray`: the rows of `vtcc predict`; nothing lost and nothing twice."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.fakes import stand_in
from tests.tracking import toy
from vtcc.data import inputs
from vtcc.errors import VtccError
from vtcc.extras import MissingExtra
from vtcc.scale import ray as scaled
from vtcc.tracking import fetch
from vtcc.verbs import predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy.model(tmp_path_factory.mktemp("model") / "model", 0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    (root / "sub").mkdir()
    for i, image in enumerate(toy.images(50)):
        Image.fromarray(image[..., 0]).save(root / ("sub" if i % 2 else "") / f"{i:02d}.png")
    (root / "broken.png").write_bytes(b"no image")
    return root


def rows(file):
    with Path(file).open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


@contextlib.contextmanager
def no_cluster(address):
    yield None


def answers_here(ray, waiting, settings, workers):
    """What Ray's workers answer, made in this process."""
    worker = scaled.Shards(**settings)
    for number in waiting:
        yield worker({"shard": np.array([number])})


def test_a_table_that_changed_meanwhile_is_another_run(photos, model, tmp_path):
    table, parts = tmp_path / "t.csv", tmp_path / "o.csv.parts"
    file = next(photos.rglob("*.png")).name
    (tmp_path / file).touch()
    plan = {"shard": 20, "columns": [], "unclustered": False}
    for price in (1, 25):
        table.write_text(f"path,price\n{file},{price}\n", encoding="utf-8")
        given = inputs.parts([table], None)
        if price == 1:
            assert scaled._plan(parts, given, model, plan) == 1
    with pytest.raises(
        VtccError, match=r"of another run \(other paths, model or options, or files"
    ):
        scaled._plan(parts, given, model, plan)


@pytest.fixture
def here(monkeypatch):
    """Shards are made in this process; `here.stop_after` ends the run before one shard more."""
    stand_in(monkeypatch, scaled, "_cluster", no_cluster)

    def answers(ray, waiting, settings, workers):
        for made in answers_here(ray, waiting, settings, workers):
            yield made
            if here.stop_after:
                raise KeyboardInterrupt

    stand_in(monkeypatch, scaled, "_answers", answers)
    here = SimpleNamespace(stop_after=0)
    return here


def cut_off(here, *args, **options):
    here.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        scaled.run(*args, **options)
    here.stop_after = 0


def test_files_are_found_wherever_a_worker_stands(photos, model, tmp_path, here, monkeypatch):
    monkeypatch.chdir(photos.parent)
    out = tmp_path / "o.csv"
    cut_off(here, [photos.name], str(model), out=out, shard=20)
    monkeypatch.chdir(tmp_path)
    worker = scaled.Shards(str(tmp_path / "o.csv.parts"), str(model), 7)
    assert worker({"shard": np.array([1])}) == {"shard": [1], "files": [20], "bad": [1]}
    # Names in the table are as they are given: by another path it would be another table.
    with pytest.raises(VtccError, match="is of another run"):
        scaled.run([os.path.relpath(photos)], str(model), out=out, shard=20)
    monkeypatch.chdir(photos.parent)
    assert scaled.run([photos.name], str(model), out=out, shard=20)["images"] == 50
    assert rows(out)[0]["file"] == f"{photos.name}/00.png"


def test_a_registered_model_is_the_one_that_is_asked_for(
    photos, model, tmp_path, here, monkeypatch
):
    registered = {"models:/x@champion": model, "models:/y@champion": tmp_path / "other"}
    toy.model(tmp_path / "other", 5)

    def fetched(uri, room):
        shutil.copytree(registered[uri], room / "fetched", dirs_exist_ok=True)
        return room / "fetched"

    stand_in(monkeypatch, fetch, "fetch", fetched)
    out, ours = tmp_path / "o.csv", {"out": tmp_path / "o.csv", "shard": 20}
    cut_off(here, [photos], "models:/x@champion", **ours)
    with pytest.raises(VtccError, match="is of another run"):
        scaled.run([photos], "models:/y@champion", **ours)
    shutil.rmtree(tmp_path / "o.csv.parts" / "model")  # ended before the copy was there
    (tmp_path / "o.csv.parts" / ".model.tmp").mkdir()
    scaled.run([photos], "models:/x@champion", **ours)
    predict.run([photos], str(model), out=tmp_path / "want.csv")
    assert [row["cluster"] for row in rows(out)] == [
        row["cluster"] for row in rows(tmp_path / "want.csv")
    ]


@pytest.mark.parametrize("change", ["more", "gone", "changed"])
def test_files_that_changed_meanwhile_are_another_run(photos, model, tmp_path, here, change):
    mine, out = tmp_path / "photos", tmp_path / "o.csv"
    shutil.copytree(photos, mine)
    cut_off(here, [mine], str(model), out=out, shard=20)
    file = mine / "48.png"
    if change == "more":
        shutil.copy(file, mine / "new.png")
    elif change == "gone":
        file.unlink()
    else:
        file.write_bytes((mine / "46.png").read_bytes())
    with pytest.raises(VtccError, match="or files that have changed since"):
        scaled.run([mine], str(model), out=out, shard=20)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "left", "message"),
    [
        ("rows-000000.parquet", b"PAR1", r"rows-000000\.parquet: damaged \(.*\); delete it, and"),
        ("rows-000000.parquet", "rows-000001.parquet", r"damaged \(11 rows of 40 files\); delete"),
        ("files-000001.json", b"[[1]]", r"files-000001\.json: damaged \(no list of files\); del"),
    ],
)
def test_damaged_shards_are_named(photos, model, tmp_path, here, name, left, message):
    parts, out = tmp_path / "o.csv.parts", tmp_path / "o.csv"
    here.join = scaled._join

    def damaged(*args):
        content = left if isinstance(left, bytes) else (parts / left).read_bytes()
        (parts / name).write_bytes(content)
        return here.join(*args)

    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, scaled, "_join", damaged)
        with pytest.raises(VtccError, match=message):
            scaled.run([photos], str(model), out=out, shard=40)
    assert not out.exists()
    shutil.rmtree(parts) if name.startswith("files") else (parts / name).unlink()
    assert scaled.run([photos], str(model), out=out, shard=40)["images"] == 50


def test_what_is_left_out_is_said(photos, model, tmp_path, here, capsys):
    mine = tmp_path / "photos"
    mine.mkdir()
    shutil.copy(photos / "00.png", mine)
    (mine / "a.psd").touch()
    scaled.run([mine], str(model), out=tmp_path / "o.csv")
    assert "left out 1 Photoshop" in capsys.readouterr().out


@pytest.mark.parametrize("images", [0, 1])
def test_a_folder_that_is_not_ours_stays(photos, model, tmp_path, here, images):
    mine, parts = tmp_path / "photos", tmp_path / "o.csv.parts"
    mine.mkdir()
    parts.mkdir()
    (parts / "thesis.txt").write_text("years of work")
    if images:
        shutil.copy(photos / "00.png", mine)
    with pytest.raises(VtccError, match=r"o\.csv\.parts: there already.*give another --out"):
        scaled.run([mine], str(model), out=tmp_path / "o.csv")
    assert (parts / "thesis.txt").read_text() == "years of work"


def test_lists_of_a_run_that_was_cut_off_while_listing_are_made_again(
    photos, model, tmp_path, here
):
    parts = tmp_path / "o.csv.parts"
    parts.mkdir()
    (parts / "files-000000.json").write_text("[")
    told = scaled.run([photos], str(model), out=tmp_path / "o.csv", shard=20)
    assert (told["images"], parts.exists()) == (50, False)


@pytest.mark.parametrize("by_ray", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_rows_of_predict_in_shards_that_stay(photos, model, tmp_path, monkeypatch, by_ray):
    predict.run([photos], str(model), out=tmp_path / "one.csv")
    out = tmp_path / "many.csv"
    parts = tmp_path / "many.csv.parts"
    asked = ([photos], str(model))
    columns = ["file", "cluster", "confidence", "error"]
    plan = {"shard": 20, "columns": columns, "unclustered": False}
    scaled._plan(parts, inputs.parts([photos], None), model, plan)
    assert sorted(p.name for p in parts.iterdir()) == [
        *(f"files-{i:06d}.json" for i in range(3)),
        "plan.json",
    ]
    # The first shard is there from a run that was cut off; it is not made again.
    worker = scaled.Shards(str(parts), str(model), 7)
    assert worker({"shard": np.array([0])}) == {"shard": [0], "files": [20], "bad": [0]}
    made = (parts / "rows-000000.parquet").stat().st_mtime_ns
    with pytest.raises(VtccError, match="is of another run"):
        scaled.run(*asked, out=out, shard=10)
    seen = []
    join = scaled._join

    def joined(parts, count, out, columns, more):
        seen.append((parts / "rows-000000.parquet").stat().st_mtime_ns)
        return join(parts, count, out, columns, more)

    stand_in(monkeypatch, scaled, "_join", joined)
    if not by_ray:
        stand_in(monkeypatch, scaled, "_cluster", no_cluster)
        stand_in(monkeypatch, scaled, "_answers", answers_here)
    answer = scaled.run(*asked, out=out, shard=20, workers=1, batch_size=7)
    read = answer["images"] + answer["unreadable"]
    assert (answer["out"], read) == (str(out), len(rows(tmp_path / "one.csv")))
    assert seen == [made]
    for row, want in zip(rows(out), rows(tmp_path / "one.csv"), strict=True):
        far = abs(float(row.pop("confidence") or 0) - float(want.pop("confidence") or 0))
        assert far < 1e-5  # batches of another size round otherwise
        assert row == want
    assert not parts.exists()


def test_mistakes_are_one_line(photos, model, tmp_path, monkeypatch):
    with pytest.raises(VtccError, match="no such file or directory"):
        scaled.run([tmp_path / "none"], str(model), out=tmp_path / "o.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VtccError, match="no image in"):
        scaled.run([tmp_path / "empty"], str(model), out=tmp_path / "o.csv")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtra, match=r"--ray` needs ray, which .*: pip install 'vtcc\[ray\]'"
    ):
        scaled.run([photos], str(model), out=tmp_path / "o.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(model, tmp_path):
    """20,000 files, a worker killed in the middle; memory of the driver stays flat."""
    photos = tmp_path / "photos"
    photos.mkdir()
    tiles = toy.images(64)[..., 0]
    contents = []
    for i, tile in enumerate(tiles):
        file = photos / f"{i:05d}.png"
        Image.fromarray(tile).save(file)
        contents.append(file.read_bytes())
    for i in range(64, 20_000):
        (photos / f"{i:05d}.png").write_bytes(contents[i % 64])
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "vtcc", "predict", str(photos), "--ray", "--workers", "2"]
    command += ["--shard", "500", "--model", str(model), "--out", str(out)]
    started = time.monotonic()
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    killed, heap, said = False, [], []
    assert run.stdout is not None
    for line in run.stdout:
        said.append(line)
        if line.startswith('{"progress"'):
            heap.append(psutil.Process(run.pid).memory_info().rss)
            if not killed and json.loads(line)["progress"]["done"] >= 10:
                workers = [
                    p
                    for p in psutil.Process(run.pid).children(recursive=True)
                    if "MapWorker" in " ".join(p.cmdline())
                ]
                assert workers, "no worker found to kill"
                os.kill(workers[0].pid, signal.SIGKILL)
                killed = True
    assert run.wait() == 0, "".join(said[-5:])
    assert killed
    found = rows(out)
    assert len(found) == 20_000
    assert [Path(row["file"]).name for row in found] == [f"{i:05d}.png" for i in range(20_000)]
    by_kind = {}
    for i, row in enumerate(found):
        by_kind.setdefault(i % 64, set()).add((row["cluster"], row["error"]))
    assert all(len(answers) == 1 for answers in by_kind.values())
    assert max(heap) - heap[0] < 100 << 20
    print(f"{20_000 / (time.monotonic() - started):.0f} images/s, worker killed, start included")


def test_sigterm_ends_it_as_it_ends_every_verb(monkeypatch):
    """Ray sets a handler of its own, which ends with status 15."""
    import ray

    stand_in(monkeypatch, ray, "is_initialized", lambda: False)
    stand_in(monkeypatch, ray, "shutdown")
    stand_in(monkeypatch, ray, "init", lambda **how: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with scaled._cluster(""):
            assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)
