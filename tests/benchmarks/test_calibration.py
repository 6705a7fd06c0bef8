"""The calibration error of `benchmarks.calibration`, by hand."""

import numpy as np
import pytest

from benchmarks import calibration


def test_error_is_the_gap_between_confidence_and_share_right():
    sure = np.full(100, 0.95)
    assert calibration.calibration_error(sure, np.arange(100) < 95) == pytest.approx(0)
    assert calibration.calibration_error(sure, np.arange(100) < 60) == pytest.approx(0.35)
    mixed = np.r_[np.full(50, 1.0), np.full(50, 0.5)]  # two bins: right always, and never
    right = np.arange(100) < 50
    assert calibration.calibration_error(mixed, right) == pytest.approx(0.25)


def test_right_is_the_best_match_of_clusters():
    truth, clusters = np.array([5, 5, 5, 7, 7]), np.array([1, 1, 0, 0, 0])
    assert calibration.matched(truth, clusters).tolist() == [True, True, False, True, True]


def test_table_has_a_row_per_folder():
    row = {"temperature": 1.5, "second_before": 0.2, "second_after": 0.1}
    row |= {"classes_before": 0.4, "classes_after": 0.3}
    last = calibration.table({"photos": [row, row]}).splitlines()[-1]
    assert last.startswith("| photos | 1.500 ± 0.000 | 0.200 ± 0.000 | 0.100 ± 0.000 | 0.400")
