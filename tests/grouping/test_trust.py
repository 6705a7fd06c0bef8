"""The verdict after edits: nothing is measured again, and it names no cluster that is gone."""

from dataclasses import replace

import numpy as np
import pytest

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
