"""The tree over the clusters: how it grows, what edits leave of it, and the cuts of it."""

import itertools

import numpy as np
import pytest

from vtcc.errors import VtccError
from vtcc.grouping import assignments, clusters_file, edits, levels, outputs
from vtcc.grouping.clusters import Clusters
from vtcc.grouping.edit_state import State
from vtcc.grouping.levels import Join

NESTED = {0: (0, 0), 1: (0, 10), 2: (0, 100), 3: (90, 0), 4: (90, 12), 5: (90, 40)}


def centre(turns):
    """A unit row by degrees of a tree: the farther left they differ, the farther apart."""
    a, b = np.deg2rad(turns)
    return np.array([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)], np.float32)


@pytest.fixture
def centres():
    return {k: centre(turns) for k, turns in NESTED.items()}


def by_hand(centres):
    """Average linkage, literally: the two groups whose members are nearest in the mean."""
    groups = [frozenset({k}) for k in sorted(centres)]
    joins = []

    def apart(a, b):
        return np.mean([1 - float(centres[i] @ centres[j]) for i in a for j in b])

    while len(groups) > 1:
        a, b = min(itertools.combinations(groups, 2), key=lambda pair: apart(*pair))
        joins.append(({a, b}, apart(a, b)))
        groups = [g for g in groups if g not in (a, b)] + [a | b]
    return joins


def sides(tree):
    return [{join.left, join.right} for join in tree]


def test_it_is_average_linkage_of_the_centres(centres):
    tree = levels.grown(centres)
    want = by_hand(centres)
    assert sides(tree) == [pair for pair, _ in want]
    assert [join.height for join in tree] == pytest.approx([h for _, h in want], abs=1e-5)
    assert levels.leaves(tree) == set(centres)
    assert levels.grown({7: centres[0]}) == levels.grown({}) == ()


def test_read_back_from_a_list(centres):
    tree = levels.grown(centres)
    again = levels.from_list(levels.to_list(tree))
    assert sides(again) == sides(tree)
    assert [join.height for join in again] == [join.height for join in tree]
    with pytest.raises(ValueError, match="joined twice"):
        levels.from_list([(0, 1, 0.1), (1, 0, 0.2)])


def chain(*heights):
    """A tree in which each cluster joins those before it."""
    joined = (Join(frozenset(range(k + 1)), frozenset({k + 1}), h) for k, h in enumerate(heights))
    return tuple(joined)


@pytest.mark.parametrize(
    ("heights", "want"),
    [
        ((1, 2), []),  # three clusters have none
        ((1, 2, 3), [2]),
        ((0.1, 0.2, 0.3, 0.9), [2]),
        ((0.1, 0.2, 0.8, 0.9), [3]),
        ((1, 2, 3, 20, 21, 22, 24), [2, 5]),
        (tuple(range(20)), [2, 4, 8]),  # of even steps the coarsest
        ((*range(8), *range(9, 15), *range(20, 26)), [2, 7, 13]),
    ],
)
def test_cuts_are_where_the_height_rises_most(heights, want):
    assert levels.cuts(chain(*heights)) == want


def test_levels_hold_each_other(centres):
    tree = chain(*np.random.default_rng(0).random(24).cumsum())
    coarse_to_fine = levels.of(tree)
    assert [len(set(of.values())) for of in coarse_to_fine] == levels.cuts(tree)
    assert len(coarse_to_fine) == 3
    for coarse, fine in itertools.pairwise(coarse_to_fine):
        assert all(len({coarse[k] for k in fine if fine[k] == g}) == 1 for g in fine.values())
    assert all(of[k] == min(j for j in of if of[j] == of[k]) for of in coarse_to_fine for k in of)


def test_what_is_left_takes_the_place_of_what_has_gone(centres):
    tree = levels.grown(centres)
    left = levels.only(tree, {0, 2, 3, 4})
    assert sides(left) == [{frozenset({3}), frozenset({4})}] + [
        {a - {1, 5}, b - {1, 5}} for a, b in sides(tree) if len((a | b) - {1, 5}) > 2
    ]
    assert levels.only(tree, {3}) == ()


def test_a_cluster_is_attached_at_its_height():
    tree = chain(0.1, 0.3, 0.5)
    low = levels.attached(tree, 9, 2, 0.0)
    assert [join.height for join in low] == [0.0, 0.1, 0.3, 0.5]
    assert sides(low)[0] == {frozenset({2}), frozenset({9})}
    assert sides(low)[2] == {frozenset({0, 1}), frozenset({2, 9})}
    between = levels.attached(tree, 9, 0, 0.4)
    assert sides(between)[2] == {frozenset({0, 1, 2}), frozenset({9})}
    assert sides(between)[3] == {frozenset({0, 1, 2, 9}), frozenset({3})}


def test_the_nearest_gets_what_the_tree_lacks(centres):
    tree = levels.grown({k: v for k, v in centres.items() if k != 4})
    again = levels.completed(tree, centres)
    assert sides(again)[0] == {frozenset({0}), frozenset({1})}
    assert {frozenset({3}), frozenset({4})} in sides(again)
    assert levels.completed((), centres) == levels.grown(centres)


K, EACH = 6, 12


@pytest.fixture
def state(centres):
    """Six groups of images around the centres."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(K), EACH)
    h = np.stack([centres[k] for k in group]) * 5 + rng.normal(0, 0.02, (K * EACH, 3))
    p = np.full((K * EACH, K), 0.02, np.float32)
    p[np.arange(K * EACH), group] = 0.9
    h = h.astype(np.float32)
    files = {f"f{i:02d}.png": i for i in range(K * EACH)}
    made = State(Clusters.fit(p, h), files, h, group.copy(), {}, base=group)
    made.p = p
    return made


def test_edits_prune_the_tree_and_add_to_it(state):
    late = [f"f{i}.png" for i in range(66, 72)]
    state.proposed, state.known = {9: late}, np.arange(K * EACH) < 66
    after = edits.apply(
        state,
        [
            {"do": "merge", "clusters": [0, 3], "into": 3},
            {"do": "split", "cluster": 2, "into": 2},
            {"do": "exclude", "cluster": 1},
            {"do": "new", "cluster": 9, "name": "late", "files": late},
        ],
    )
    tree = after.clusters.tree
    assert levels.leaves(tree) == set(after.clusters.names) == {2, 3, 4, 5, 9, 10}
    assert sides(tree)[0] == {frozenset({2}), frozenset({10})}  # a split's parts first
    assert {frozenset({3}), frozenset({4})} in sides(tree)
    assert {frozenset({5}), frozenset({9})} in sides(tree)  # beside what it was in
    assert [join.height for join in tree] == sorted(join.height for join in tree)
    again = edits.apply(after, [{"do": "merge", "clusters": [2, 10], "into": 10}])
    assert levels.leaves(again.clusters.tree) == {3, 4, 5, 9, 10}


def test_the_tables_have_the_levels(state, tmp_path):
    known = state.clusters
    assert levels.cuts(known.tree) == [3]
    applied = known.apply(state.p, state.h)
    table = outputs.Assigned(list(state.files), state.files, applied, {})
    outputs.tables(tmp_path, table, files=len(state.files))
    groups = levels.grouped(known.tree, 3)
    for suffix in assignments.SUFFIXES:
        rows = assignments.read(tmp_path / f"assignments{suffix}")
        assert [row.levels for row in rows] == [(groups[k],) for k in state.cluster]
        assert rows[0].cluster == 0
    head = (tmp_path / "assignments.csv").read_text().splitlines()[0]
    assert head.startswith("file,cluster,name,level_1,confidence,second")
    assert assignments.columns_of(known) == assignments.named(1)
    assert assignments.columns_of(None) == assignments.COLUMNS


def test_clusters_of_before_there_was_a_tree_get_one(state, tmp_path, monkeypatch):
    state.clusters.write(tmp_path)
    assert Clusters.load(tmp_path).tree == state.clusters.tree
    parse = clusters_file.json_file.parse

    def older(text):
        return {k: v for k, v in parse(text).items() if k not in ("tree", "unclustered")}

    with monkeypatch.context() as patched:
        patched.setattr(clusters_file.json_file, "parse", older)
        before = Clusters.load(tmp_path)
    assert sides(before.tree) == sides(state.clusters.tree)
    assert before.means.owners == ()
    text = (tmp_path / "clusters.json").read_text()
    (tmp_path / "clusters.json").write_text(text.replace('"tree": [', '"tree": [[0, 77, 0.1],'))
    with pytest.raises(VtccError, match="cluster 77 has no name"):
        Clusters.load(tmp_path)
