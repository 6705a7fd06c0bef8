"""When two trainings agree on groups, and gradients are left out of the final map."""

import numpy as np
import pytest

from vtcc.grouping import final


def test_agreement_is_that_of_two_trainings_on_what_both_saw():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 30)
    space = np.eye(3)[group] + rng.normal(0, 0.05, (90, 3))
    assert final.agreement(space, (group + 1) % 3, 3, 0) == pytest.approx(1.0)
    other = np.where(np.arange(90) % 2, -1, group)  # half of the images were left out
    assert final.agreement(space, other, 3, 0) == pytest.approx(1.0)
    assert abs(final.agreement(space, rng.integers(0, 3, 90), 3, 0)) < 0.1
    assert final.agreement(space, rng.integers(0, 3, 90), 3, 0) < final.CLEAR_SEEDS
