import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtcc.analysis import features, selection
from vtcc.analysis.selection import Candidate, choose, comparison_scores, promote
from vtcc.errors import VtccError


def candidate(loss, *, step=100, head=0, used=10, **more):
    figures = {"instance_loss": 4.0, "smallest_cluster": 0.05, "entropy": 0.97, "confidence": 0.9}
    return Candidate(
        step=step,
        epoch=step // 10,
        head=head,
        cluster_loss=loss,
        clusters_used=used,
        **{**figures, **more},
    )


def test_lowest_cluster_loss_wins():
    best = candidate(1.1, step=200, head=2)
    assert choose([candidate(1.3), best, candidate(1.2, step=300)]) is best


def test_an_empty_cluster_loses_to_a_higher_loss():
    full = candidate(2.0, used=10)
    assert choose([candidate(1.0, used=9), full]) is full


def test_when_all_have_empty_clusters_the_fullest_compete():
    best = candidate(2.0, used=7, step=20)
    assert choose([candidate(1.0, used=6), best, candidate(2.1, used=7)]) is best


def test_ties_go_to_the_later_checkpoint_then_to_the_lower_head():
    late = candidate(1.0, step=300, head=1)
    assert (
        choose([candidate(1.0, step=200, head=0), candidate(1.0, step=300, head=3), late]) is late
    )


@pytest.mark.parametrize("field", ["cluster_loss", "instance_loss", "entropy", "confidence"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_is_dropped(field, value):
    good = candidate(9.0, used=3)
    bad = Candidate(**{**candidate(0.1, used=10).__dict__, field: value})
    assert choose([bad, good]) is good


def test_nothing_finite_is_a_clear_error():
    with pytest.raises(VtccError, match=r"none of 2 is finite.*learning_rate"):
        choose([candidate(math.nan), candidate(math.nan, head=1)])
    with pytest.raises(VtccError, match="there is none"):
        choose([])


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            candidate,
            st.sampled_from([1.0, 1.5, 2.0, math.nan]),
            step=st.integers(1, 4),
            head=st.integers(0, 3),
            used=st.integers(8, 10),
        ),
        min_size=1,
        unique_by=lambda c: (c.step, c.head),
    ),
    st.randoms(use_true_random=False),
)
def test_order_is_irrelevant_and_nothing_beats_the_choice(candidates, generator: random.Random):
    finite = [c for c in candidates if math.isfinite(c.cluster_loss)]
    if not finite:
        return
    best = choose(candidates)
    shuffled = list(candidates)
    generator.shuffle(shuffled)
    assert choose(shuffled) is best
    for other in finite:
        assert other.clusters_used <= best.clusters_used
        if other.clusters_used == best.clusters_used:
            assert other.cluster_loss >= best.cluster_loss
            if other.cluster_loss == best.cluster_loss:
                assert (-other.step, other.head) >= (-best.step, best.head)


def scores(consistency, silhouette, *, effective=9.0, clusters=10):
    return {
        "view_consistency": consistency,
        "reference_silhouette": silhouette,
        "effective_clusters": effective,
        "num_clusters": clusters,
    }


def test_promotion():
    assert promote(scores(0.1, 0.0), None) == (True, "there was no champion")
    assert promote(scores(0.9, 0.1), scores(0.8, 0.15))[0]
    assert not promote(scores(0.8, 0.15), scores(0.9, 0.1))[0]
    won, reason = promote(scores(0.75, 0.25), scores(0.5, 0.5))
    assert not won
    assert reason == "the challenger scores 1.0000, not above the champion's 1.0000"


def test_a_collapsed_model_never_replaces_a_sound_one_and_is_replaced_by_one():
    collapsed, sound = scores(1.0, 0.9, effective=4.9), scores(0.2, 0.0, effective=5.0)
    won, reason = promote(collapsed, sound)
    assert not won
    assert reason == "the challenger has collapsed: it uses 4.9 of 10 clusters"
    won, reason = promote(sound, collapsed)
    assert won
    assert reason == "the champion has collapsed: it uses 4.9 of 10 clusters"
    assert promote(collapsed, scores(0.9, 0.9, effective=2.0))[0]
    alone = "there was no champion; this model has collapsed: it uses 4.9 of 10 clusters"
    assert promote(collapsed, None) == (True, alone)


def test_a_score_that_is_not_finite_never_wins_and_always_loses():
    assert not promote(scores(math.nan, 0.1), scores(0.1, 0.1))[0]
    assert promote(scores(0.1, 0.1), scores(math.nan, 0.1))[0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_adjusted_rand_index_equals_scikit_learn(pairs):
    from sklearn.metrics import adjusted_rand_score

    a, b = map(np.array, zip(*pairs, strict=True))
    if len(set(a)) == len(set(b)) == 1:
        assert selection.adjusted_rand_index(a, b) == 0
    else:
        assert selection.adjusted_rand_index(a, b) == pytest.approx(adjusted_rand_score(a, b))


def test_one_cluster_or_one_for_each_image_has_no_silhouette():
    points = np.random.default_rng(0).normal(size=(6, 3))
    assert features.silhouette(points, np.zeros(6, int)) == 0
    assert features.silhouette(points, np.arange(6)) == 0
    assert features.silhouette(points, np.array([0, 0, 0, 1, 1, 1])) != 0


# Tall, wide, and wider than the slice of pixels that is taken at a time.
@pytest.mark.parametrize("shape", [(40, 4, 4, 1), (12, 5, 5, 3), (8, 57, 57, 3)])
def test_principal_components_keep_the_geometry(shape):
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    ours = selection.principal_components(x, 6)
    theirs = PCA(6, svd_solver="full").fit_transform(x.reshape(len(x), -1).astype(float))
    assert ours.shape == (len(x), 6)
    np.testing.assert_allclose(abs(ours), abs(theirs), atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 2, 2, 3), (12, 5, 5, 3)])
def test_all_principal_components_keep_every_distance(shape):
    """Of few different images too, where components without variance are zeros, not NaN."""
    x = np.random.default_rng(0).integers(0, 255, shape)[np.arange(shape[0]) % 4]
    points, flat = selection.principal_components(x, 50), x.reshape(len(x), -1).astype(float)
    assert points.shape == (shape[0], 12)

    def apart(rows):
        return np.linalg.norm(rows[:, None] - rows[None], axis=2)

    np.testing.assert_allclose(apart(points), apart(flat), atol=1e-3)
    assert abs(points[:, 3:]).max() < 1e-3  # four points span three dimensions


def test_comparison_scores_of_two_separate_groups():
    pixels = np.zeros((20, 2, 2, 1), np.uint8)
    pixels[10:] = 200
    right = np.repeat([3, 7], 10)
    found = comparison_scores(right, right, pixels, 4)
    assert found == pytest.approx(
        {
            "view_consistency": 1.0,
            "reference_silhouette": 1.0,
            "effective_clusters": 2.0,
            "num_clusters": 4.0,
        }
    )
    assert not selection.is_collapsed(found)
    one = comparison_scores(np.zeros(20, int), np.zeros(20, int), pixels, 4)
    assert (one["view_consistency"], one["reference_silhouette"]) == (0, 0)
    assert one["effective_clusters"] == 1
    assert selection.is_collapsed(one)


def test_comparison_scores_of_many_large_images_use_a_fixed_subset():
    pixels = np.random.default_rng(0).integers(0, 255, (2100, 2, 2, 1), dtype=np.uint8)
    assign = np.arange(2100) % 3
    first, again = (comparison_scores(assign, assign, pixels, 3) for _ in range(2))
    assert first == again
    assert abs(first["reference_silhouette"]) < 0.05


def test_comparison_scores_refuse_unequal_lengths():
    with pytest.raises(ValueError, match="3, 2 and 3"):
        comparison_scores(np.zeros(3), np.zeros(2), np.zeros((3, 4)), 2)
