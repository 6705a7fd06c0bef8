"""A training that has to end by a time drops epochs, and a resume keeps to what was dropped."""

import time

import numpy as np
import pytest

from tests.engine.test_loop import IMAGES as MANY
from tests.engine.test_loop import tiny
from tests.fakes import stand_in
from vtcc.engine import loop

IMAGES = MANY[:48]


def fit(scratch, epochs=40, **options):
    params = tiny(**{"train.epochs": epochs, "train.batch_size": 16})
    rows = np.arange(48)
    return loop.fit(IMAGES, rows, params, mean=(0.5,), std=(0.3,), scratch=scratch, **options)


def test_a_deadline_that_has_passed_ends_after_one_epoch(tmp_path):
    fitted = fit(tmp_path, deadline=time.monotonic())
    assert [row["epoch"] for row in fitted.curves] == [1]
    # The last epoch is scored, whichever it turns out to be.
    assert {candidate["epoch"] for candidate in fitted.candidates} == {1}


def test_a_slow_machine_drops_epochs_and_the_rate_still_falls_to_zero(tmp_path, monkeypatch):
    take_step = loop.Training.take_step

    def slow(run):
        time.sleep(0.02)
        take_step(run)

    stand_in(monkeypatch, loop.Training, "take_step", slow)
    began = time.monotonic()
    fitted = fit(tmp_path, deadline=began + 1.2)
    assert 1 < len(fitted.curves) < 40
    assert time.monotonic() - began < 2 * 1.2
    rates = [row["learning_rate"] for row in fitted.curves]
    assert rates[-1] < 0.3 * max(rates)
    assert fitted.candidates[-1]["epoch"] == len(fitted.curves)


def test_enough_time_changes_nothing(tmp_path):
    free = fit(tmp_path / "free", epochs=4)
    bound = fit(tmp_path / "bound", epochs=4, deadline=time.monotonic() + 3600)
    assert len(bound.curves) == 4
    for a, b in zip(free.curves, bound.curves, strict=True):
        assert a["cluster_loss"] == pytest.approx(b["cluster_loss"], abs=0)
