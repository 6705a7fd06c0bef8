"""The gap between clusters; the verdict, after edits too.

After edits nothing is measured again, and it names no cluster that is gone.
"""

from dataclasses import replace

import numpy as np
import pytest

from vtcc.analysis.features import kmeans
from vtcc.grouping import trust
from vtcc.grouping.clusters import Clusters

MEASURED = trust.Trust(
    seeds=0.5,
    map_silhouette=0.6,
    halves=0.9,
    reference_silhouette=0.1,
    reference_kmeans=0.2,
    predicted=0.5,
    looks=0.1,
    confidence=0.8,
    balance=1.0,
    alike=0.1,
    confused=[(0, 1, 0.6), (2, 3, 0.55)],
    level="",
    verdict="",
)


@pytest.fixture
def clusters() -> Clusters:
    p = np.eye(4, dtype=np.float32).repeat(5, axis=0)
    return Clusters.fit(p, p + np.random.default_rng(0).normal(0, 0.1, p.shape).astype(np.float32))


def test_a_cluster_that_was_merged_away_is_not_named(clusters):
    level, verdict = trust.judge(MEASURED, 4, 200)
    assert verdict.endswith("clusters 0 and 1, 2 and 3 are confused")
    measured = replace(MEASURED, level=level, verdict=verdict).to_dict()
    edit = {"do": "merge", "clusters": [1, 2], "into": 2}
    names = {k: v for k, v in clusters.names.items() if k != 1}
    after = trust.after_edits(measured, replace(clusters, names=names, edits=[edit]), 200)
    assert after.confused == [(2, 3, 0.55)]
    assert after.level == level == "weak"
    assert after.verdict == (
        "weak structure with 4 clusters: a second training agrees by 0.50 of 1 (clear from 0.7); "
        "clusters 2 and 3 are confused (measured on the 4 clusters before they were edited)"
    )
    again = trust.after_edits(after.to_dict(), replace(clusters, names=names, edits=[edit]), 200)
    assert again == after


def test_a_new_name_changes_no_verdict(clusters):
    level, verdict = trust.judge(MEASURED, 4, 200)
    measured = replace(MEASURED, level=level, verdict=verdict)
    edits = [{"do": "rename", "cluster": 0, "name": "boats"}]
    assert trust.after_edits(measured.to_dict(), replace(clusters, edits=edits), 200) == measured


def test_a_figure_below_the_threshold_does_not_read_as_if_it_met_it():
    measured = replace(MEASURED, seeds=0.69717, map_silhouette=0.3999)
    level, verdict = trust.judge(measured, 4, 200)
    assert level == "weak"
    assert "agrees by 0.69 of 1 (clear from 0.7)" in verdict
    assert "the groups are 0.39 apart" in verdict
    level, verdict = trust.judge(replace(MEASURED, seeds=0.7, confused=[]), 4, 200)
    assert verdict == "clear structure: 4 clusters, a second training agrees by 0.70 of 1"


def cloud(images: int, seed: int = 0) -> np.ndarray:
    """One Gaussian whose spectrum decays: k-means cuts it along its longest axis."""
    return np.random.default_rng(seed).normal(size=(images, 40)) * np.arange(1, 41) ** -1.0


@pytest.mark.parametrize("K", [2, 3, 10])
def test_one_cloud_has_no_gap_however_it_is_cut(K):
    points = cloud(400)
    assert trust.gap(points, kmeans(points, K, 0, 3).labels_, 0) < 0.1


@pytest.mark.parametrize("share", [0.5, 1 / 21])
def test_there_is_a_gap_between_two_kinds_where_one_is_rare_as_well(share):
    points, kind = cloud(420), np.arange(420) < 420 * share
    assert trust.gap(points, kind, 0) < 0.1
    points[:, 5] += 8 / 6 * kind  # eight deviations, in a direction of little variance
    assert trust.gap(points, kind, 0) > 0.6


def test_no_gap_between_copies_and_none_for_one_cluster():
    assert trust.gap(np.ones((40, 5)), np.arange(40) % 2, 0) == 0
    assert trust.gap(cloud(40), np.zeros(40, int), 0) == 0
    assert trust.gap(cloud(40), np.arange(40) == 0, 0) == 0


@pytest.mark.parametrize(("apart", "level"), [(0.0, "weak"), (8.0, "clear")])
def test_a_cloud_that_is_cut_the_same_way_twice_is_not_clear(apart, level):
    points = cloud(300)
    points[:150, 0] += apart
    clusters = kmeans(points, 2, 0, 3).labels_
    found = trust.measure(
        clusters,
        np.full(300, 0.9),
        other=clusters,
        reference=points,
        looks=np.random.default_rng(1).normal(size=(300, 6)),
        map_silhouette=0.62,
        halves=0.95,
        alike=0.0,
        seed=0,
    )
    assert found.level == level
    assert ("as where one kind is cut into parts" in found.verdict) == (level == "weak")


def test_results_from_before_the_gap_was_measured_keep_their_level():
    measured = replace(MEASURED, seeds=0.9)
    assert measured.gap is None
    assert trust.judge(measured, 4, 200)[0] == "clear"
    assert trust.judge(replace(measured, gap=0.2499), 4, 200)[0] == "weak"
    assert "(gap 0.24, clear from 0.25)" in trust.judge(replace(measured, gap=0.2499), 4, 200)[1]
    assert trust.judge(replace(measured, gap=0.25), 4, 200)[0] == "clear"
