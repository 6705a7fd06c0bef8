"""How well the objective did, by labels, and its interval."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from vtcc.study.sweep import results


def trial(number: int, objective: float, acc: float | None) -> dict:
    scores = {} if acc is None else {"acc": acc}
    return {"number": number, "state": "complete", "objective": objective, "scores": scores}


def test_spearman_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    rho, low, high = results.spearman(x, y)
    assert rho == pytest.approx(spearmanr(x, y)[0], abs=1e-4)
    assert low < rho < high
    # Fisher's approximation of the interval, a way apart from the bootstrap's.
    width = 1.96 * np.sqrt((1 + rho**2 / 2) / (40 - 3))
    assert low == pytest.approx(np.tanh(np.arctanh(rho) - width), abs=0.06)
    assert high == pytest.approx(np.tanh(np.arctanh(rho) + width), abs=0.06)
    assert results.spearman(x, y) == (rho, low, high)
    assert np.isnan(results.spearman(x, np.ones(40))[0])


def test_afterwards() -> None:
    found = results.afterwards(
        [trial(0, 0.1, 0.5), trial(1, 0.9, 0.7), trial(2, 0.8, 0.9), trial(3, 0.2, 0.6),
         trial(4, 0.95, None)]
    )  # fmt: skip
    assert found["acc"] == pytest.approx({"chosen": 0.7, "best": 0.9, "median": 0.65, "worst": 0.5})
    assert found["spearman"]["n"] == 4 and found["spearman"]["rho"] == pytest.approx(0.8)
    assert results.afterwards([trial(0, 0.1, None)]) == {}
