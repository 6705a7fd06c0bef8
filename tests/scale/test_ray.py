"""`vtcc predict --ray`: the rows of `vtcc predict`; nothing lost and nothing twice."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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
    with pytest.raises(VtccError, match=r"of another run \(other paths, model or options\)"):
        scaled._plan(parts, given, model, plan)


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
