"""Sweeps with the stages faked: the objective is a known function of the parameters."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fakes import stand_in
from vtcc import config
from vtcc.runner import dvc
from vtcc.study.sweep import objective, trial

SWEEP = """\
name: rates
title: Which rate
preset: digits
space:
  train.optimizer.learning_rate: {low: 0.00001, high: 0.1, log: true}
  train.model.stem: {choices: [conv, patchify]}
trials: 6
epochs: 30
sampler: random
pruning: none
"""
RATE, STEM = "train.optimizer.learning_rate", "train.model.stem"


def quality(train: dict[str, Any]) -> float:
    """Best at the preset's rate with the convolutional stem."""
    off = abs(math.log10(train["optimizer"]["learning_rate"] / 0.004))
    return round(0.9 - 0.2 * off - (0.05 if train["model"]["stem"] == "patchify" else 0), 6)


class World:
    """What the fakes saw, and what they do for a training.

    Attributes:
        trained: (rate, stem) of every training that was started.
        digest: of the images.
        events: names of what happened, in order.
        on_train: called with the `train` section before a training ends; may raise.
    """

    def __init__(self) -> None:
        self.trained: list[tuple[float, str]] = []
        self.events: list[str] = []
        self.epochs: list[int] = []
        self.digest = "abc"
        self.on_train: Any = lambda train: None

    def run_stage(
        self, stage: str, directory: Path, *, on_progress: Any, stopped: Any, **more: Any
    ) -> dvc.StageRun:
        self.events.append(stage)
        (directory / "data/cache").mkdir(parents=True, exist_ok=True)
        (directory / "data/cache/cache.json").write_text(json.dumps({"digest": self.digest}))
        if stage == "train":
            train = config.read_yaml(directory / "params.yaml")["train"]
            self.trained.append((train["optimizer"]["learning_rate"], train["model"]["stem"]))
            for done in range(1, train["epochs"] + 1):
                on_progress({"stage": "train", "done": done, "total": train["epochs"]})
                if stopped():
                    self.epochs.append(done)
                    raise KeyboardInterrupt
            self.epochs.append(train["epochs"])
            self.on_train(train)
            (directory / "models").mkdir(exist_ok=True)
            (directory / "models/run.json").write_text('{"run_id": "r"}')
        return dvc.StageRun(stage, "ran", 1.0)


@pytest.fixture
def world(project: Path, ran: list, monkeypatch: pytest.MonkeyPatch) -> World:
    """The fakes: no stage runs, no model is read, no store is opened."""
    made = World()
    images = np.zeros((4, 16, 16, 1), np.uint8)
    cache = SimpleNamespace(
        digest="abc", image_size=16, channels=1, mean=[0.5], std=[0.3], decoding={}
    )
    yardstick = SimpleNamespace(images=images, digest="abc")

    def train_section(directory: Path) -> dict[str, Any]:
        return config.read_yaml(directory / "params.yaml")["train"]

    def judge(directory: Path, given: Any, keep: Path) -> dict[str, float]:
        assert given is yardstick
        made.events.append("judge")
        keep.write_text("assignments")
        value = quality(train_section(directory))
        return {
            "objective": value,
            "view_information": value,
            "neighbour_information": value,
            "effective_clusters": 9.5,
        }

    def scores(directory: Path, kept: dict[int, Path]) -> dict[int, dict[str, float]]:
        made.events.append("labels")
        return {n: {"acc": 1 - n / 100, "nmi": 0.5} for n in kept}

    stand_in(monkeypatch, dvc, "run_stage", made.run_stage)
    stand_in(monkeypatch, "vtcc.data.cache", "open_cache", lambda directory: cache)
    stand_in(monkeypatch, objective, "Yardstick", lambda directory: yardstick)
    stand_in(monkeypatch, trial, "judge", judge)
    stand_in(monkeypatch, trial, "scores", scores)
    return made


@pytest.fixture
def file(project: Path) -> Path:
    written = project / "rates.yaml"
    written.write_text(SWEEP)
    return written
