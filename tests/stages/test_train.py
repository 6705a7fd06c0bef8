import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.fakes import stand_in
from vtcc import config, paths
from vtcc.data.cache import CacheWriter
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.stages import resuming, train

BLOCKED = [
    "mlflow",
    "prefect",
    "dvc",
    "great_expectations",
    "pandas",
    "sklearn",
    "scipy.optimize",
    "typer",
    "rich",
    "matplotlib",
    "pyarrow",
    "umap",
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    text = config.edit((config.PRESETS / "tiny.yaml").read_text(), {"train.batch_size": 16})
    (tmp_path / "params.yaml").write_text(text)
    rng = np.random.default_rng(0)
    with CacheWriter(tmp_path / paths.CACHE, name="noise", image_size=16, channels=1) as writer:
        for i in range(50):
            pixels = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8)
            writer.add(f"{i}.png", "holdout" if i < 10 else "train", pixels)
        writer.finish()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def without_trackers(code):
    """Runs code in a process where the pipeline's tools cannot be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r})); "
    environment = os.environ | {"PYTHONPATH": str(config.PRESETS.parents[1])}
    return subprocess.run(
        [sys.executable, "-c", block + code], capture_output=True, text=True, env=environment
    )


def test_a_training_needs_neither_labels_nor_trackers(project, monkeypatch):
    """Bit-identical with a label file and without, tracked and where nothing can be tracked."""
    done = without_trackers("sys.argv = ['vtcc', 'train']; from vtcc.__main__ import main; main()")
    assert done.returncode == 0, done.stderr
    assert "MLflow is not installed: this run is not tracked" in done.stdout
    bare = (paths.MODEL / "model.safetensors").read_bytes()
    assert json.loads(paths.RUN.read_text()) == {
        "run_id": None,
        "tracking_uri": None,
        "experiment": None,
    }
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    assert [x["progress"]["done"] for x in lines] == [1, 2]
    assert lines[-1]["progress"]["total"] == 2
    assert {"instance_loss", "cluster_loss", "images_per_second", "seconds_left"} <= set(
        lines[-1]["progress"]
    )

    paths.LABELS.parent.mkdir(parents=True)
    paths.LABELS.write_text("path,label,class_name\n0.png,1,one\n")
    train.run()
    assert (paths.MODEL / "model.safetensors").read_bytes() == bare
    assert json.loads(paths.RUN.read_text())["run_id"]

    info = json.loads((paths.MODEL / "model.json").read_text())
    assert info["dataset"]["name"] == "noise"
    assert info["train"]["epochs"] == 2
    assert info["epoch"] == 2
    summary = json.loads(paths.TRAINING.read_text())
    most = max(c["clusters_used"] for c in summary["candidates"])
    eligible = [c for c in summary["candidates"] if c["clusters_used"] == most]
    assert summary["cluster_loss"] == min(c["cluster_loss"] for c in eligible)
    assert summary["head"] == info["head"]
    with paths.CURVES.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"clusters_used", "largest_cluster", "spread", "agreement"} <= set(rows[0])
    assert summary["warnings"] == []  # too few steps to judge
    left = [p.suffix for p in (project / ".vtcc/scratch").iterdir()]
    assert left == [".lock"]  # no checkpoint is left once the model is saved


def test_a_cache_smaller_than_the_views_is_refused(project):
    text = config.edit(
        paths.PARAMS.read_text(), {"validate.image_size": 20, "train.image_size": 20}
    )
    paths.PARAMS.write_text(text)
    with pytest.raises(VtccError, match=r"cached at 16 pixels, below train\.image_size"):
        train.run()


def test_a_missing_cache_says_what_to_run(project):
    (paths.CACHE / "images.npy").unlink()
    with pytest.raises(VtccError, match="vtcc validate"):
        train.run()


@pytest.fixture
def untracked(project, monkeypatch):
    from vtcc.engine import loop

    stand_in(monkeypatch, train, "_tracker", lambda *_, **__: loop.Silent())
    return project


def test_a_kill_while_dvc_notes_the_model_costs_no_training(untracked, monkeypatch):
    from vtcc.engine import loop, plan

    monkeypatch.setenv("DVC_STAGE", "train")
    assert train.standing(config.load()) is None
    train.run()
    assert train.standing(config.load()) == 2
    weights = (paths.MODEL / "model.safetensors").read_bytes()
    for path in (paths.MODEL / "model.safetensors", paths.RUN, paths.CURVES):
        path.unlink()  # as DVC does before it starts the stage again
    with monkeypatch.context() as patch:
        stand_in(patch, plan, "refuse_large_batch", lambda *args, **more: None)
        patch.delattr(loop.Training, "take_step")
        train.run()
    assert (paths.MODEL / "model.safetensors").read_bytes() == weights
    assert paths.RUN.exists() and paths.CURVES.exists()
    (kept,) = (untracked / ".vtcc/scratch").glob("*/finished")
    kept.write_text("/another/worktree")
    resuming.forget()
    assert kept.exists()
    kept.write_text(str(untracked))
    with locks.exclusive(kept.parent.with_name(f"{kept.parent.name}.lock")):
        resuming.forget()  # the same training goes on from there in another process
        assert kept.exists()
    resuming.forget()
    assert not kept.parent.exists()


def test_the_stage_resumes_from_a_file(untracked, monkeypatch, capsys):
    monkeypatch.setenv("DVC_STAGE", "train")  # keeps the checkpoints
    train.run()
    (kept,) = (untracked / ".vtcc/scratch").glob("*/last.pt")
    elsewhere = untracked / "copied"
    kept.parent.rename(elsewhere)
    train.run(resume=elsewhere / "last.pt")
    assert "resuming at step" in capsys.readouterr().out
    paths.PARAMS.write_text(config.edit(paths.PARAMS.read_text(), {"train.seed": 9}))
    with pytest.raises(VtccError, match=r"of another training: train\.seed \(0 there, 9 here\)"):
        train.run(resume=elsewhere / "last.pt")
    with pytest.raises(VtccError, match=r"--resume: .*nowhere\.pt: no such file"):
        train.run(resume=untracked / "nowhere.pt")


def test_a_collapse_that_aborts_ends_the_run_as_failed(project, monkeypatch):
    from vtcc.engine import guard, loop

    paths.PARAMS.write_text(
        config.edit(paths.PARAMS.read_text(), {"train.epochs": 5, "train.collapse": "abort"})
    )
    monkeypatch.setattr(guard, "GRACE_STEPS", 0)
    seen = guard._Seen(1, True, "all images are the same")
    monkeypatch.setattr(guard, "_CHECKS", {"embedding": lambda params, rows: seen})
    ended, heard = [], []

    class Tracker(loop.Silent):
        def on_warning(self, warned):
            heard.append((warned.kind, warned.epoch))

        def on_end(self, status, artifacts, model_dir):
            ended.append((status, artifacts, model_dir))

    stand_in(monkeypatch, train, "_tracker", lambda *_, **__: Tracker())
    with pytest.raises(VtccError, match=r"collapsed at epoch 3 of 5: all images are the same"):
        train.run()
    assert ended == [("FAILED", [], None)]
    assert heard == [("embedding", 3)]
    assert list((project / ".vtcc/scratch").glob("*/*"))  # the checkpoint is kept
    assert not paths.MODEL.exists()
