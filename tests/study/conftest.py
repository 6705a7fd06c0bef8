"""A project whose stages are faked: accuracy depends on seed and parameters in a known way."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import stand_in
from tests.runner import toy
from vtcc import config
from vtcc.errors import VtccError
from vtcc.runner import dvc, workspace
from vtcc.tracking import store


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VTCC_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    directory = (tmp_path / "project").resolve()
    directory.mkdir()
    toy.make(directory, presets=True)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Stages that ran, each with stem and seed; 13 epochs fail, accuracy is made up."""
    found: list[tuple[str, str, int]] = []

    def run_stage(stage: str, directory: Path, **more: Any) -> dvc.StageRun:
        train = config.read_yaml(directory / "params.yaml")["train"]
        stem, seed = train["model"]["stem"], train["seed"]
        found.append((stage, stem, seed))
        if stage == "train" and train["epochs"] == 13:
            raise dvc.StageError("train", 1, "13 epochs bring bad luck", explained=True)
        acc = 0.9 + seed / 100 - (0.2 + seed / 50 if stem == "patchify" else 0.0)
        for file, content in (
            ("data/cache/cache.json", {"digest": "abc"}),
            ("models/run.json", {"run_id": f"{stem}-{seed}"}),
            ("reports/training.json", {"epoch": 2}),
            ("reports/metrics.json", {"acc": round(acc, 6), "confidence": 0.8}),
        ):
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).write_text(json.dumps(content))
        return dvc.StageRun(stage, "ran", 12.34)

    stand_in(monkeypatch, dvc, "run_stage", run_stage)
    # Creating a store takes seconds; tests/tracking/test_studies.py uses one.
    stand_in(monkeypatch, store, "client", no_store)
    # No DVC runs here, and asking it for its cache costs a second per worktree.
    stand_in(monkeypatch, workspace, "share_cache", lambda *_: None)
    return found


def no_store() -> None:
    raise VtccError("no store in this test")


STUDY = """\
name: stems
title: Which stem
preset: digits
overrides: {train.epochs: 2}
seeds: 0-1
baseline: conv
settings:
  conv: {}
  patchify: {train.model.stem: patchify, note: one linear map}
"""


@pytest.fixture
def file(project: Path) -> Path:
    written = project / "stems.yaml"
    written.write_text(STUDY)
    return written
