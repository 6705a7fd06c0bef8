"""How many clusters, and the verdict, on embeddings with known answers."""

import numpy as np
import pytest

from vtcc.grouping import count, trust
from vtcc.grouping.count import Criteria


def embedding(K, each=40, spread=0.15, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(K, 16))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    group = np.repeat(np.arange(K), each)
    return centres[group] + rng.normal(0, spread, (K * each, 16)), group


def heads(group, over, seed):
    """Two heads that divide each group at random into parts."""
    rng = np.random.default_rng(seed)
    parts = over // (group.max() + 1)
    return np.stack(
        [np.eye(over)[group * parts + rng.integers(0, parts, len(group))] for _ in range(2)]
    )


def test_finds_the_number_of_groups():
    h, group = embedding(5)
    found = count.count(h, heads(group, 10, 0), low=2, high=10, seed=0)
    assert found.clusters == 5
    assert found.low <= 5 <= found.high
    best = next(c for c in found.curve if c.clusters == 5)
    assert best.silhouette > 0.7
    assert best.stability > 0.95
    assert best.heads == pytest.approx(1.0)
    assert "5" in found.reasons[0]


def curve(*scores, start=2):
    return [Criteria(start + i, 0.5, 0.5, 0.5, None, s) for i, s in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "chosen", "low", "high"),
    [
        ((0.1, 0.2, 0.9, 0.3), 4, 4, 4),
        ((0.1, 0.88, 0.9, 0.88, 0.3), 4, 3, 5),
        ((0.1, 0.9, 0.5, 0.88, 0.88, 0.3), 3, 3, 6),  # a dip of one is crossed
        ((0.935, 0.953, 0.888, 0.94, 0.949, 0.926), 4, 2, 7),  # nearly level: the middle
        ((0.9, 0.2, 0.2, 0.2, 0.89), 2, 2, 2),  # a far one is another structure
    ],
)
def test_recommends_the_middle_of_the_best_range(scores, chosen, low, high):
    found = count.recommend(curve(*scores))
    assert (found.clusters, found.low, found.high) == (chosen, low, high)


def test_names_a_finer_structure_that_does_as_well():
    assert "6 would do as well" in count.recommend(curve(0.9, 0.2, 0.2, 0.2, 0.89)).reasons[-1]


def test_tried_numbers_leave_five_images_a_cluster():
    assert count.tried(1000, 2, 40)[-1] <= 40
    assert count.tried(40, 2, 40) == [2, 3, 4, 5, 6, 7, 8]
    assert count.tried(1000, 2, 40)[:14] == list(range(2, 16))
    assert count.tried(10, 3, 3) == [3]


def test_merging_gives_back_the_groups():
    h, group = embedding(4)
    merged = count.merge(heads(group, 12, 1)[0].argmax(1), h, 4)
    assert merged is not None
    assert len({(a, b) for a, b in zip(merged, group, strict=True)}) == 4
    assert count.merge(group, h, 4) is None


def judged(**values):
    made = {
        "seeds": 0.9,
        "map_silhouette": 0.7,
        "halves": 0.9,
        "reference_silhouette": 0.1,
        "reference_kmeans": 0.2,
        "predicted": 0.8,
        "confidence": 0.9,
        "balance": 0.9,
        "alike": 0.1,
        "confused": [],
        "level": "",
        "verdict": "",
    }
    return trust.judge(trust.Trust(**(made | values)), 5)


def test_verdicts_in_words():
    assert judged()[0] == "clear"
    level, text = judged(seeds=0.5, confused=[(3, 7, 0.6)])
    assert level == "weak"
    assert "clusters 3 and 7 are confused" in text
    level, text = judged(seeds=0.03)
    assert level == "chance"
    assert "no better than chance" in text
    assert judged(alike=0.95)[0] == "one kind"


def test_measures_of_a_known_grouping():
    h, group = embedding(3)
    found = trust.measure(
        group,
        np.full(len(group), 0.9),
        other=np.roll(np.arange(3), 1)[group],
        reference=h,
        map_silhouette=0.8,
        halves=1.0,
        alike=0.0,
        seed=0,
    )
    assert found.seeds == pytest.approx(1.0)
    assert found.predicted > 0.95
    assert found.reference_silhouette == pytest.approx(found.reference_kmeans, abs=0.01)
    assert found.balance == pytest.approx(1.0)
    assert found.level == "clear"
    rng = np.random.default_rng(0)
    noise = trust.measure(
        rng.integers(0, 3, 300),
        np.full(300, 0.5),
        other=rng.integers(0, 3, 300),
        reference=rng.normal(size=(300, 8)),
        map_silhouette=0.3,
        halves=0.2,
        alike=0.0,
        seed=0,
    )
    assert abs(noise.seeds) < 0.05
    assert abs(noise.predicted) < 0.15
    assert noise.level == "chance"


def test_confused_pairs_are_those_the_second_training_mixes():
    clusters = np.repeat([0, 1, 2], 10)
    other = np.r_[np.zeros(10), np.tile([1, 2], 10)].astype(int)
    assert trust.confused(clusters, other) == [(1, 2, 1.0)]


def test_alike_images_are_told():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(8, 9)) * 40 + 100
    copies = (one + rng.normal(0, 3, (50, 8, 9))).astype(np.float32)
    assert trust.alike(copies) == 1.0
    assert trust.alike(np.full((9, 8, 9), 90, np.float32)) == 1.0
    assert trust.alike((rng.normal(size=(50, 8, 9)) * 40).astype(np.float32)) < 0.2
