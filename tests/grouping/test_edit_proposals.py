"""Edits of proposals: new clusters, in tables and model, and what stays."""

from dataclasses import replace
from unittest.mock import create_autospec

import numpy as np
import pytest

from tests.grouping.toy_state import EACH, FILES, LATE, D, K, direction, four_groups, predicted
from vtcc.errors import VtccError
from vtcc.grouping import edits, outputs, reopen


@pytest.fixture
def state():
    return four_groups()


def test_a_proposal_becomes_a_cluster_that_the_model_knows(state):
    """Half of a group lies apart, as images of a kind that came later do."""
    late = [f"f{i}.png" for i in range(70, 80)]
    before = state.clusters
    state.known = np.arange(K * EACH) < 70
    state.proposed = {9: late}
    after = edits.apply(state, [{"do": "new", "cluster": 9, "name": "late", "files": late}])
    assert after.clusters.names == before.names | {9: "late"}
    assert after.cluster.tolist() == [0] * 20 + [1] * 20 + [2] * 20 + [3] * 10 + [9] * 10
    assert predicted(state, after).tolist() == after.cluster.tolist()
    assert after.known.all()
    assert after.proposed == {}
    assert 9 in after.clusters.centres
    assert len(after.clusters.means.means) == len(before.means.means) + 1
    assert after.clusters.means.owners[-1] == {9}
    assert not after.clusters.apply(state.p, state.h).novel[70:].any()
    again = edits.apply(after, [{"do": "split", "cluster": 9, "into": 2}])
    assert set(again.cluster[70:].tolist()) == {9, 10}


def test_images_of_an_excluded_cluster_come_back_in_the_model_too(state):
    """All of one, or a part that lies apart."""
    for files, group in ((list(FILES)[60:], [4] * 20), (LATE, [-1] * 10 + [4] * 10)):
        after = edits.apply(
            state,
            [
                {"do": "exclude", "cluster": 3},
                {"do": "exclude", "cluster": 2},
                {"do": "new", "name": "back", "files": files},
            ],
        )
        assert after.cluster.tolist() == [0] * 20 + [1] * 20 + [-1] * 20 + group
        assert predicted(state, after).tolist() == after.cluster.tolist()


def test_numbers_of_proposals_are_never_taken_twice(state):
    late, other = [f"f{i}.png" for i in range(70, 75)], [f"f{i}.png" for i in range(75, 80)]
    state.proposed = {4: late, 5: other}
    after = edits.apply(
        state,
        [
            {"do": "split", "cluster": 0, "into": 2},  # 4 and 5 are not its to take
            {"do": "new", "cluster": 5, "name": "other", "files": other},
            {"do": "new", "cluster": 4, "name": "late", "files": late},
        ],
    )
    assert after.clusters.names[5] == "other"
    assert after.clusters.names[4] == "late"
    assert set(after.cluster[:20].tolist()) == {0, 6}
    assert after.cluster[70:].tolist() == [4] * 5 + [5] * 5
    # In older results a split has taken the number.
    split = edits.apply(state, [{"do": "split", "cluster": 0, "into": 2}])
    split.clusters.names[4] = split.clusters.names.pop(6)
    split.cluster[split.cluster == 6] = 4
    new = edits.apply(split, [{"do": "new", "cluster": 4, "name": "late", "files": late}])
    assert (new.clusters.names[4], new.clusters.names[6]) == ("cluster 6", "late")
    assert new.cluster[70:75].tolist() == [6] * 5


def test_a_declined_proposal_counts_as_known(state):
    state.known = np.arange(K * EACH) < 70
    state.proposed = {4: [f"f{i}.png" for i in range(70, 80)]}
    after = edits.apply(state, [{"do": "decline", "cluster": 4}])
    assert after.known.all()
    assert after.proposed == {}
    assert after.clusters.names == state.clusters.names
    with pytest.raises(VtccError, match=r"no cluster 4 is proposed; there are \[\]"):
        edits.apply(after, [{"do": "decline", "cluster": 4}])


def test_a_number_that_nobody_proposed_is_refused(state):
    late = [f"f{i}.png" for i in range(70, 80)]
    state.known = np.arange(K * EACH) < 70
    state.proposed = {4: late}
    for number in (10**9, 10**30):
        with pytest.raises(VtccError, match="neither proposed nor the next number"):
            edits.apply(state, [{"do": "new", "cluster": number, "name": "x", "files": late}])


def test_new_clusters_without_a_number_are_numbered_on(state):
    after = edits.apply(
        state,
        [
            {"do": "new", "name": "a", "files": ["f00.png"]},
            {"do": "new", "name": "b", "files": ["f20.png"]},
            {"do": "split", "cluster": 2, "into": 2},
        ],
    )
    assert after.clusters.names == state.clusters.names | {4: "a", 5: "b", 6: "cluster 6"}
    assert after.cluster[[0, 1, 20, 21]].tolist() == [4, 0, 5, 1]
    assert after.next == 7


def test_what_is_not_named_stays_where_it_is_by_name(state):
    """Of cluster 3, whose second half becomes a cluster, f60.png is nearer to that one."""
    axes, turn = np.eye(D), np.deg2rad
    state.h[60:70] = 5 * axes[3]
    state.h[60] = 5 * (np.cos(turn(14)) * axes[3] + np.sin(turn(14)) * axes[4])
    state.h[61] = 5 * (np.cos(turn(10)) * axes[3] + np.sin(turn(10)) * axes[5])
    state.h[70:] = 5 * axes[3] + 2 * axes[4]
    state.moved, state.cluster[0] = {"f00.png": 1}, 1
    after = edits.apply(state, [{"do": "new", "name": "late", "files": LATE}])
    assert after.cluster.tolist() == [1, *[0] * 19, *[1] * 20, *[2] * 20, *[3] * 10, *[4] * 10]
    assert after.moved == {"f00.png": 1, "f60.png": 3} | dict.fromkeys(LATE, 4)
    assert after.held == {"f60.png"}
    split = after.clusters.splits[3]
    assert split.ids == (3, 4)
    assert split.centres == pytest.approx(
        np.stack([direction(state.unit[60:70]), direction(state.unit[70:])]), abs=1e-6
    )
    assert after.clusters.means.means[4] == pytest.approx(state.h[70:].mean(axis=0), abs=1e-6)
    assert split.centres.dtype == after.clusters.means.means.dtype == np.float32


def test_only_what_was_named_is_sure_and_what_stays_keeps_its_confidence(state):
    state.h[60:70] = 5 * np.eye(D)[3]
    state.h[60:62] = state.h[75:77]
    state.p[60:] = [0.1, 0.1, 0.05, 0.75]
    state.p[75] = [0.1, 0.6, 0.05, 0.25]
    after = edits.apply(state, [{"do": "new", "name": "late", "files": LATE}])
    assert (after.cluster[60:62].tolist(), after.held) == ([3, 3], {"f60.png", "f61.png"})

    def decided(after):
        base = state.p.argmax(axis=1)
        base[75] = 3
        of = create_autospec(outputs.Embedding, p=state.p, h=state.h, base=base, paths=list(FILES))
        return reopen.decided(after.clusters, of, after.moved, after.held)

    applied = decided(after)
    assert applied.cluster.tolist() == after.cluster.tolist()
    assert applied.confidence[60:].tolist() == pytest.approx([0.75] * 15 + [0.25] + [0.75] * 4)
    # Once it is named it is sure, and no other edit takes that back.
    named = [
        {"do": "move", "files": ["f60.png"], "to": 3},
        {"do": "new", "name": "last", "files": ["f78.png", "f79.png"]},
    ]
    after = edits.apply(after, named)
    assert after.held >= {"f61.png"}
    assert "f60.png" not in after.held
    assert decided(after).confidence[60:62].tolist() == pytest.approx([1, 0.75])


def test_a_cluster_without_known_images_is_told_apart_by_its_centre(state):
    state.known = np.arange(K * EACH) < 60
    after = edits.apply(state, [{"do": "new", "name": "late", "files": LATE}])
    split = after.clusters.splits[3]
    assert split.ids == (3, 4)
    want = np.stack([state.clusters.centres[3], direction(state.unit[70:])])
    assert split.centres == pytest.approx(want, abs=1e-6)


def test_what_has_neither_known_images_nor_a_centre_is_told_apart_by_the_images_it_has(state):
    """So are results that lost both to an addition; the model says what the table says."""
    state.known = np.arange(K * EACH) < 60
    centres = {k: v for k, v in state.clusters.centres.items() if k != 3}
    state.clusters = replace(state.clusters, centres=centres)
    after = edits.apply(state, [{"do": "new", "name": "late", "files": LATE}])
    assert after.clusters.splits[3].ids == (3, 4)
    assert after.clusters.splits[3].centres.dtype == np.float32
    assert after.cluster[60:].tolist() == [3] * 10 + [4] * 10
    assert predicted(state, after).tolist() == after.cluster.tolist()
    assert after.moved == dict.fromkeys(LATE, 4)


def test_a_new_cluster_of_two_parts_of_a_split_stands_in_it_once(state):
    parts = [[f"f{i}.png" for i in range(60, 70)], LATE]
    split = edits.apply(state, [{"do": "split", "cluster": 3, "files": parts}])
    mixed = ["f68.png", "f69.png", "f78.png", "f79.png"]
    after = edits.apply(split, [{"do": "new", "name": "mixed", "files": mixed}])
    assert after.cluster[60:].tolist() == [*[3] * 8, 5, 5, *[4] * 8, 5, 5]
    assert after.clusters.splits.keys() == {3}
    assert after.clusters.splits[3].ids == (3, 5, 4)
    unit = state.unit
    want = [unit[60:68], unit[[68, 69, 78, 79]], unit[70:78]]
    assert after.clusters.splits[3].centres == pytest.approx(
        np.stack([direction(rows) for rows in want]), abs=1e-5
    )


def test_models_of_before_owners_were_kept_get_none(state):
    means = replace(state.clusters.means, owners=())
    state.clusters = replace(state.clusters, means=means)
    after = edits.apply(state, [{"do": "new", "name": "late", "files": LATE}])
    assert after.clusters.means.owners == ()
    assert len(after.clusters.means.means) == K + 1
