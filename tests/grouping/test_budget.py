"""The time of the trainings: divided once, kept for a resume, and said once where it is short."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vtcc import config
from vtcc.config import compose
from vtcc.grouping import budget
from vtcc.grouping.options import Options, after_trainings
from vtcc.grouping.training import Material

PARAMS = compose.compose("folder")


@pytest.fixture
def material(monkeypatch):
    """A thousand images of which a step takes a second."""
    monkeypatch.setattr(budget.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(budget, "_timed", lambda material, section: 1.0)
    cache = SimpleNamespace(paths=["x"] * 1000, rows=lambda split: np.arange(1000))
    return Material(cache)


def divide(material, tmp_path, minutes):
    options = Options(tmp_path, minutes=minutes)
    deadline = 40.0 + 60 * minutes  # a minute of them is over
    return budget.divide(material, PARAMS, [0.7, 0.3], options, tmp_path, deadline=deadline)


def test_a_long_limit_is_divided_by_the_shares(material, tmp_path, capsys):
    divided = divide(material, tmp_path, 61)
    assert divided.seconds == 3600 - 45 - 6
    assert divided.epochs(0.7) == round(0.7 * 3549 / 7)
    assert divided.limit(0.7) == pytest.approx(0.7 * 3549, abs=4)
    assert capsys.readouterr().out == ""


def test_a_limit_too_short_is_said_once_with_what_all_of_it_needs(material, tmp_path, capsys):
    divided = divide(material, tmp_path, 3)
    assert divided.limit(0.7) == divided.limit(0.3) == 203  # 200 steps, in whole epochs of 7
    assert "--minutes 3 is too short for these 1000 images: all of it takes about 8.6 minutes" in (
        capsys.readouterr().out
    )
    assert divide(material, tmp_path, 3) == divided  # a resume goes on as it was begun
    assert capsys.readouterr().out == ""


def test_of_few_images_less_time_is_kept_for_what_comes_after(
    material, tmp_path, monkeypatch, capsys
):
    """40 of them, of which a step takes a hundredth of a second: a minute is enough."""
    assert [after_trainings(n) for n in (40, 1000, 10**6)] == [19, 51, 165]
    few = SimpleNamespace(paths=["x"] * 40, rows=lambda split: np.arange(40))
    material = replace(material, cache=few)
    params = config.override(PARAMS, {"train.batch_size": 40})
    options = Options(tmp_path, minutes=1)
    monkeypatch.setattr(budget, "_timed", lambda material, section: 0.01)
    divided = budget.divide(material, params, [0.7, 0.3], options, tmp_path, deadline=145.0)
    assert divided.seconds == 26
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", ["", "{", '{"seconds": "many"}', "{}"])
def test_a_damaged_budget_is_measured_again(material, tmp_path, content):
    (tmp_path / "budget.json").write_text(content)
    assert divide(material, tmp_path, 61).seconds == 3549
    assert divide(material, tmp_path, 61).seconds == 3549


def test_another_limit_is_divided_anew(material, tmp_path, capsys):
    divide(material, tmp_path, 3)
    assert divide(material, tmp_path, 61).seconds == 3549
