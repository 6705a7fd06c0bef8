"""How well the objective did, by labels, and its interval."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from vtcc.study.sweep import results


def trial(number: int, objective: float, acc: float | None) -> dict:
    scores = {} if acc is None else {"scores": {"acc": acc}}
    return {"number": number, "state": "complete", "metrics": {"objective": objective}} | scores


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
    few = [trial(0, 0.1, 0.5), trial(1, 0.9, 0.7), trial(2, 0.8, 0.9), trial(3, 0.2, 0.6)]
    unscored = trial(4, 0.95, None)
    found = results.afterwards([*few, unscored])
    expected = {"chosen": 0.7, "best": 0.9, "median": 0.65, "worst": 0.5}
    assert found == {"acc": pytest.approx(expected)}
    many = [*few, *(trial(i, i / 100, i / 20) for i in range(5, 10))]
    found = results.afterwards([*many, unscored])
    x, y = ([t["metrics"]["objective"] for t in many], [t["scores"]["acc"] for t in many])
    assert found["spearman"]["n"] == 9
    assert found["spearman"]["rho"] == pytest.approx(spearmanr(x, y)[0], abs=1e-4)
    assert results.afterwards([unscored]) == {}


def markdown(trials: list[dict]) -> str:
    """The trials as a table and what labels say of them."""
    lines = [
        "| trial | objective | of views | of neighbours | clusters | ACC afterwards | NMI |",
        "|---|---|---|---|---|---|---|",
    ]
    for t in results.ranked(trials):
        f, s = t["metrics"], t["scores"]
        lines.append(
            f"| {t['number']} | {f['objective']:.3f} | {f['view_information']:.3f} | "
            f"{f['neighbour_information']:.3f} | {f['effective_clusters']:.1f} | "
            f"{s['acc']:.3f} | {s['nmi']:.3f} |"
        )
    return "\n".join([*lines, "", *results.sentences(trials)])


def test_the_documentation_shows_the_record() -> None:
    root = Path(__file__).parents[3]
    # One file for all trials, as sweeps had it once.
    made = json.loads((root / "benchmarks/records/sweeps/digits.json").read_text())
    trials = [t | {"metrics": t["figures"], "overrides": t["values"]} for t in made["trials"]]
    text = (root / "docs/sweeps.md").read_text(encoding="utf-8")
    assert markdown(trials) in text
    assert made["wanted"] == len(trials) == 12
    assert results.afterwards(trials) == made["afterwards"]


def test_the_documentation_shows_how_the_objective_was_found() -> None:
    from benchmarks import objective

    root = Path(__file__).parents[3]
    made = json.loads((root / objective.RECORD).read_text())
    assert objective.table(made) in (root / "docs/sweeps.md").read_text(encoding="utf-8")


def test_bounds_in_words() -> None:
    assert results.searched({"choices": [[0.3, 1.0], [0.5, 1.0]]}) == "[0.3, 1.0], [0.5, 1.0]"
    words = results.searched({"low": 1e-4, "high": 0.1, "log": True})
    assert words == "0.0001 to 0.1, by its logarithm"
    assert results.searched({"low": 1, "high": 9, "step": 2}) == "1 to 9 in steps of 2"
