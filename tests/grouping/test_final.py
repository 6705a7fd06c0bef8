"""When two trainings agree on groups, and gradients are left out of the final map."""

from types import SimpleNamespace

import numpy as np
import pytest

from vtcc.grouping import final
from vtcc.grouping.count import Count
from vtcc.grouping.state import Learned
from vtcc.grouping.training import Trained


def test_agreement_is_that_of_two_trainings_on_what_both_saw():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 30)
    space = np.eye(3)[group] + rng.normal(0, 0.05, (90, 3))
    assert final.agreement(space, (group + 1) % 3, 3, 0) == pytest.approx(1.0)
    other = np.where(np.arange(90) % 2, -1, group)  # half of the images were left out
    assert final.agreement(space, other, 3, 0) == pytest.approx(1.0)
    assert abs(final.agreement(space, rng.integers(0, 3, 90), 3, 0)) < 0.1
    assert final.agreement(space, rng.integers(0, 3, 90), 3, 0) < final.CLEAR_SEEDS


@pytest.mark.parametrize(("N", "K", "needed"), [(14, 3, 15), (9, 2, 10)])
def test_too_few_images_keep_the_trained_head_and_it_is_said_that_no_confidence_is_softened(
    N, K, needed
):
    rng = np.random.default_rng(0)
    p, other = rng.dirichlet(np.full(K, 0.05), (2, N)).astype(np.float32)
    h = rng.normal(size=(N, 4)).astype(np.float32)
    main, second = (Trained(None, {}, h, h, heads[None], 0, {}, 0, 0.0, "") for heads in (p, other))
    learned = Learned(K, main, second, Count(K, K, K, [], []), SimpleNamespace(features=None))
    found = final.choose(learned, np.zeros((N, 1)), seed=0)
    assert (found.model.p == p).all()
    assert found.temperature == 1.0
    assert found.independent.tolist() == other.argmax(axis=1).tolist()
    assert found.how == {
        "value": "the trained head",
        "why": f"{N} images are too few for k-means, which needs {needed} for {K} "
        "clusters; confidence is as trained, so too high",
    }
