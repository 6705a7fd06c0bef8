import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtcc.analysis.metrics import (
    clustering_accuracy,
    clustering_scores,
    contingency,
    label_free,
    mapping,
)


def brute_force(y_true, y_pred):
    """Tries every one-to-one match of clusters to classes."""
    classes, clusters = sorted(set(y_true)), sorted(set(y_pred))
    blank = [None] * max(0, len(clusters) - len(classes))
    return max(
        sum(dict(zip(clusters, match, strict=True))[p] == t for t, p in pairs)
        for pairs in [list(zip(y_true, y_pred, strict=True))]
        for match in itertools.permutations([*classes, *blank], len(clusters))
    ) / len(y_true)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30))
def test_accuracy_equals_brute_force(pairs):
    y_true, y_pred = map(list, zip(*pairs, strict=True))
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(brute_force(y_true, y_pred))


@pytest.mark.parametrize(
    ("y_true", "y_pred", "expected"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),
        ([0, 0, 1, 2], [0, 0, 2, 2], 0.75),  # cluster 1 of three is empty
        ([0, 0, 1, 1], [0, 1, 2, 3], 0.5),  # more clusters than classes
        ([0, 1, 2, 3], [5, 5, 5, 5], 0.25),  # one cluster
        (["cat", "cat", "dog"], [7, 7, 3], 1.0),
        # greedy would match the largest count first (3, then 0 = .43); the best is 2 + 2
        ([0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0, 0], 4 / 7),
    ],
)
def test_accuracy_by_hand(y_true, y_pred, expected):
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(expected)


def test_mapping_follows_the_match_and_leaves_out_what_has_none():
    found = mapping(["a", "a", "b", "b", "b", "a"], [4, 4, 2, 2, 9, 4])
    assert found == {4: "a", 2: "b"}


def test_scores_by_hand():
    found = clustering_scores(["a", "a", "b", "b"], [0, 0, 1, 2])
    # H(true) = 1 bit, H(pred) = 1.5 bits, mutual information 1 bit
    assert found["acc"] == pytest.approx(0.75)
    assert found["nmi"] == pytest.approx(1 / 1.25)
    # pairs together: 2 in the classes, 1 in the clusters, 1 in both, of 6
    assert found["ari"] == pytest.approx((1 - 2 / 6) / (1.5 - 2 / 6))
    assert found["fmi"] == pytest.approx(1 / np.sqrt(2 * 1))
    assert all(type(v) is float for v in found.values())


def test_perfect_scores_for_numpy_strings():
    labels = np.array(["x", "y", "y", "z"])
    assert clustering_scores(labels, np.array([3, 1, 1, 0])) == pytest.approx(
        {"acc": 1.0, "nmi": 1.0, "ari": 1.0, "fmi": 1.0}
    )


def test_one_class_gives_no_scores():
    """Also of one image; NMI and ARI of a collapsed model would be 1."""
    assert clustering_scores(["a"], [3]) == {}
    assert clustering_scores(["a"] * 4, [0, 0, 0, 0]) == {}
    assert clustering_scores(["a"] * 4, [0, 1, 2, 3]) == {}
    assert set(clustering_scores(["a", "b"], [0, 0])) == {"acc", "nmi", "ari", "fmi"}


def test_contingency():
    table, classes, clusters = contingency(["b", "a", "b"], np.array([5, 5, 1]))
    assert (classes, clusters) == (["a", "b"], [1, 5])
    np.testing.assert_array_equal(table, [[0, 1], [1, 1]])
    assert table.dtype == np.int64


@pytest.mark.parametrize("score", [clustering_accuracy, clustering_scores, mapping])
def test_errors(score):
    with pytest.raises(ValueError, match="found 2 labels for 3"):
        score([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="no labels"):
        score([], [])


def figures_of(p):
    """`label_free` where every image is in its most probable cluster."""
    return label_free(p, p.argmax(1), p.max(1))


def test_label_free_figures():
    p = np.array([[0.9, 0.1, 0.0], [0.7, 0.3, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0]], np.float32)
    found = figures_of(p)
    assert found == pytest.approx(
        {
            "entropy": -(0.6 * np.log(0.6) + 0.4 * np.log(0.4)) / np.log(3),
            "smallest_cluster": 0.0,
            "largest_cluster": 0.75,
            "clusters_used": 2,
            "confidence": 0.75,
        },
        abs=1e-6,
    )
    assert figures_of(np.eye(4))["entropy"] == pytest.approx(1)
    one = figures_of(np.eye(2)[[0, 0, 0]])
    assert str(one["entropy"]) == "0.0"  # and not -0.0
    assert figures_of(np.eye(2)[[0, 0, 1, 0]])["smallest_cluster"] == 0.25
    with pytest.raises(ValueError, match="no image"):
        label_free(np.zeros((0, 3)), np.zeros(0, int), np.zeros(0))


def test_sizes_and_confidence_are_of_the_clusters_that_images_are_in():
    """After a merge the most probable cluster may be another one."""
    p = np.array([[0.4, 0.6], [0.4, 0.6], [0.1, 0.9], [0.1, 0.9]], np.float32)
    found = label_free(p, np.array([0, 0, 1, 1]), p[range(4), [0, 0, 1, 1]])
    assert (found["clusters_used"], found["largest_cluster"]) == (2, 0.5)
    assert found["confidence"] == pytest.approx(0.65)


def test_one_cluster_has_no_entropy():
    found = figures_of(np.ones((3, 1), np.float32))
    assert str(found["entropy"]) == "0.0"
    assert (found["clusters_used"], found["smallest_cluster"]) == (1, 1)


def test_label_free_figures_of_half_precision_are_computed_in_double():
    """As embeddings are kept: rows of float16 sum to one nearly."""
    even = figures_of(np.full((5, 3), 1 / 3, np.float16))
    assert even["entropy"] == pytest.approx(1, abs=1e-9)
    p = np.random.default_rng(0).dirichlet(np.ones(3), 500).astype(np.float16)
    found, exact = figures_of(p), figures_of(p.astype(np.float64))
    assert found == pytest.approx(exact, abs=1e-9)
