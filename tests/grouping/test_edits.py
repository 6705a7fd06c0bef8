"""Edits of the page: what each does, that all are checked first, and that predict follows."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.grouping.toy_state import EACH, LATE, D, K, direction, four_groups, predicted
from vtcc.errors import VtccError
from vtcc.grouping import edits, edits_file, levels


@pytest.fixture
def state():
    return four_groups()


def test_rename_merge_split_in_one_go(state):
    after = edits.apply(
        state,
        [
            {"do": "rename", "cluster": 0, "name": "boats"},
            {"do": "merge", "clusters": [1, 2], "into": 2, "name": "cars"},
            {"do": "split", "cluster": 3, "into": 2},
        ],
    )
    assert after.clusters.names == {0: "boats", 2: "cars", 3: "cluster 3", 4: "cluster 4"}
    want = np.repeat([0, 2, 2], EACH).tolist()
    assert after.cluster[:60].tolist() == want
    assert {frozenset(after.cluster[60:70]), frozenset(after.cluster[70:])} == {
        frozenset({3}),
        frozenset({4}),
    }
    assert predicted(state, after).tolist() == after.cluster.tolist()
    assert len(after.clusters.edits) == 3
    assert state.clusters.names[0] == "cluster 0"  # what was given is as it was


def test_split_by_files_teaches_the_model(state):
    apart = [f"f{i}.png" for i in range(70, 80)]
    after = edits.apply(state, [{"do": "split", "cluster": 3, "files": [["f60.png"], apart]}])
    assert after.cluster[70:].tolist() == [4] * 10
    assert after.cluster[60:70].tolist() == [3] * 10  # those not named stay with the first part
    assert predicted(state, after)[60:].tolist() == [3] * 10 + [4] * 10


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("\u732b\u3000\u72ac", "\u732b \u72ac"),  # the space bar of a Japanese keyboard
        ("10\u00a0km\u202f", "10 km"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", None),  # one emoji of three
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),  # Persian
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", None),  # a flag, written in tags
        ("\U0001fadf", None),  # newer than this Python, perhaps
    ],
)
def test_names_as_people_type_them_are_taken(state, typed, taken):
    wanted = [
        {"do": "rename", "cluster": 0, "name": typed},
        {"do": "merge", "clusters": [1, 2], "into": 1, "name": typed},
        {"do": "new", "name": typed, "files": ["f79.png"]},
    ]
    after = edits.apply(state, wanted)
    assert [after.clusters.names[k] for k in (0, 1, 4)] == [taken or typed] * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\tb", "U.0009"),
        ("a\u2028b", "U.2028"),
        ("a\u202eb", "U.202E"),
        ("a\u2067b", "U.2067"),
        ("a\ud800", "U.D800"),
        ("\u3000\u200d", "characters that show"),
    ],
)
def test_names_that_break_lines_turn_text_or_show_nothing_are_refused(state, name, message):
    with pytest.raises(VtccError, match=message):
        edits.apply(state, [{"do": "rename", "cluster": 0, "name": name}])


def test_two_clusters_may_have_one_name_and_that_is_said(state, capsys):
    boats = [{"do": "rename", "cluster": k, "name": "boats"} for k in (0, 2)]
    assert edits.apply(state, boats).clusters.names[2] == "boats"
    assert capsys.readouterr().out == (
        'clusters 0, 2 are all called "boats"; merge them if they are one kind\n'
    )
    # In between they may: names that change places.
    other = {"do": "rename", "cluster": 0, "name": "cars"}
    assert edits.apply(state, [*boats, other]).clusters.names[0] == "cars"
    assert capsys.readouterr().out == ""


def test_a_part_can_be_split_and_merged_again(state):
    after = edits.apply(
        state,
        [
            {"do": "split", "cluster": 3, "into": 2},
            {"do": "merge", "clusters": [0, 4], "into": 0},
            {"do": "exclude", "cluster": 1},
        ],
    )
    assert sorted(after.clusters.names) == [0, 2, 3]
    found = predicted(state, after)
    assert found[:20].tolist() == [0] * 20
    assert found[20:40].tolist() == [-1] * 20
    assert set(found[60:].tolist()) == {0, 3}


@pytest.mark.parametrize("between", [[], [{"do": "merge", "clusters": [0, 4], "into": 0}]])
def test_what_nobody_has_seen_is_not_excluded(state, between):
    split = {"do": "split", "cluster": 3, "into": 2}
    unseen = 0 if between else 4
    exclude = {"do": "exclude", "cluster": unseen}
    with pytest.raises(VtccError, match=f"cluster {unseen} is split by .*refine first"):
        edits.apply(state, [split, *between, exclude])
    after = edits.apply(edits.apply(state, [split, *between]), [exclude])
    assert (after.cluster == -1).sum() == (30 if between else 10)


def test_files_are_moved_and_excluded_by_name(state):
    after = edits.apply(
        state,
        [
            {"do": "move", "files": ["f00.png"], "to": 2},
            {"do": "exclude_files", "files": ["f01.png"]},
            {"do": "merge", "clusters": [2, 3], "into": 3},
        ],
    )
    assert after.cluster[:2].tolist() == [3, -1]
    assert after.moved == {"f00.png": 3, "f01.png": -1}
    again = edits.apply(after, [{"do": "move", "files": ["f02.png"], "to": 3}])
    assert again.moved == {"f00.png": 3, "f01.png": -1, "f02.png": 3}
    assert (state.moved, after.moved) == ({}, {"f00.png": 3, "f01.png": -1})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"do": "paint"}, "unknown; known are rename"),
        ("text", "unknown"),
        ({"do": "rename", "cluster": 9, "name": "x"}, "no cluster 9; there are"),
        ({"do": "rename", "cluster": True, "name": "x"}, "no cluster true; there are"),
        ({"do": "rename", "cluster": 0, "name": " "}, "allowed: 1 to 100"),
        ({"do": "rename", "cluster": 0, "name": "a\nb"}, "do not print"),
        ({"do": "rename", "cluster": 0}, "lacks 'name'"),
        ({"do": "rename", "clusters": 0, "name": "x"}, "'clusters'; did you mean 'cluster'"),
        ({"do": "move", "file": ["f00.png"], "to": 1}, "field 'file'; did you mean 'files'"),
        ({"do": "exclude", "cluster": 0, "why": "x"}, "unknown field 'why'; known: cluster$"),
        ({"do": "merge", "clusters": [1, 2], "into": 1, "nmae": "x"}, "did you mean 'name'"),
        ({"do": "split", "cluster": 0, "into": 2, "files": [[], []]}, "either `into` or `files`"),
        ({"do": "merge", "clusters": [1], "into": 1}, "at least two"),
        ({"do": "merge", "clusters": [1, 2], "into": 3}, "`into` among them"),
        ({"do": "split", "cluster": 0, "into": 1}, "allowed: 2 to 50"),
        ({"do": "split", "cluster": 0, "into": 30}, "too few for 30"),
        ({"do": "split", "cluster": 0, "files": [["f00.png"], ["f20.png"]]}, '"f20.png" is not in'),
        ({"do": "split", "cluster": 0, "files": [["f00.png"]]}, "at least two groups of files"),
        ({"do": "split", "cluster": 0, "files": [["f00.png"], ["f00.png"]]}, "in two groups"),
        ({"do": "move", "files": ["no.png"], "to": 1}, 'no file "no.png"'),
        ({"do": "move", "files": [], "to": 1}, "names no files"),
        ({"do": "move", "files": "f00.png", "to": 1}, 'found files "f00.png"; allowed: a list'),
        ({"do": "move", "files": None, "to": 1}, "found files null; allowed: a list"),
        ({"do": "move", "files": [["f00.png"]], "to": 1}, "found the file .*; allowed: a text"),
        ({"do": "exclude_files", "files": [["f00.png"]]}, "found the file .*; allowed: a text"),
        ({"do": "exclude_files", "files": [{}]}, "found the file {}; allowed: a text"),
        ({"do": "new", "name": "x", "files": [3]}, "found the file 3; allowed: a text"),
        ({"do": "split", "cluster": 0, "files": 3}, "found files 3; allowed: a list of lists"),
        ({"do": "split", "cluster": 0, "files": ["f00.png", []]}, 'found files "f00.png"; allowed'),
        ({"do": "split", "cluster": 0, "into": "2"}, 'found into "2"; allowed: 2 to 50'),
        ({"do": "split", "cluster": [0], "into": 2}, r"no cluster \[0\]; there are"),
        ({"do": "merge", "clusters": 3, "into": 0}, "found clusters 3; allowed: a list"),
        ({"do": "merge", "clusters": "12", "into": 0}, 'found clusters "12"; allowed: a list'),
        ({"do": "merge", "clusters": [[1], 2], "into": 2}, r"no cluster \[1\]; there are"),
        ({"do": "merge", "clusters": [1, 2], "into": [2]}, r"no cluster \[2\]; there are"),
        ({"do": "merge", "clusters": [1, 2], "into": 2, "name": []}, "found the name"),
        ({"do": "rename", "cluster": 0, "name": None}, "found the name null; allowed: 1 to 100"),
        ({"do": "exclude", "cluster": {}}, "no cluster {}; there are"),
        ({"do": "decline", "cluster": [4]}, r"no cluster \[4\] is proposed"),
        ({"do": ["merge"]}, "unknown; known are rename"),
        ({"do": "new", "cluster": "4", "name": "x", "files": ["f00.png"]}, "allowed: a number"),
        ({"do": "new", "cluster": True, "name": "x", "files": ["f00.png"]}, "allowed: a number"),
    ],
)
def test_the_edit_that_cannot_be_is_named_and_nothing_changes(state, edit, message):
    before = state.cluster.copy(), dict(state.clusters.names)
    with pytest.raises(VtccError, match=message) as error:
        edits.apply(state, [{"do": "rename", "cluster": 0, "name": "boats"}, edit])
    assert str(error.value).startswith(f"edit 2 of 2 ({json.dumps(edit)}): ")
    assert ("lacks" in str(error.value)) == message.startswith("lacks")
    assert (state.cluster == before[0]).all()
    assert state.clusters.names == before[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not an edits.json"),
        (json.dumps({"format": 2, "model": "m", "edits": [1]}), "format 2; this vtcc reads 1"),
        (
            json.dumps({"format": 1, "model": "n", "edits": [1]}),
            r'made for another model .*its model is "n", here it is "m".*make the edits again',
        ),
        (json.dumps({"format": 1, "model": "m", "edits": []}), "holds no edits"),
        (
            json.dumps({"format": 1, "model": "m", "edits": [1], "nxt": 7}),
            r"e\.json: unknown field 'nxt'; did you mean 'next'",
        ),
        ("[" * 100_000, "nested more than 50 deep"),
        ('{"edits": ' + "[" * 500 + "]" * 500 + "}", "nested more than 50 deep"),
        ('{"format": ' + "9" * 5000 + "}", "not readable as JSON .Exceeds the limit"),
    ],
)
def test_files_that_are_no_edits(tmp_path, text, message):
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(VtccError, match=message):
        edits_file.read(tmp_path / "e.json", "m")
    with pytest.raises(VtccError, match="no such file"):
        edits_file.read(tmp_path / "none.json", "m")


@pytest.mark.parametrize(
    "fields",
    [
        {"do": "rename", "cluster": 0, "name": "boats"},
        {"do": "merge", "clusters": [0, 1], "into": 1},
        {"do": "merge", "clusters": [0, 1], "into": 1, "name": "both"},
        {"do": "split", "cluster": 0, "into": 2},
        {"do": "split", "cluster": 0, "files": [["f00.png"], ["f01.png"]]},
        {"do": "exclude", "cluster": 0},
        {"do": "exclude_files", "files": ["f00.png"]},
        {"do": "move", "files": ["f00.png"], "to": 1},
        {"do": "new", "cluster": 9, "name": "late", "files": ["f70.png"]},
        {"do": "new", "name": "late", "files": ["f70.png"]},
        {"do": "decline", "cluster": 9},
    ],
)
def test_every_edit_that_the_page_or_the_documentation_has_is_taken(state, fields):
    state.proposed = {9: ["f70.png"]}
    assert edits.apply(state, [fields]).clusters.edits == [fields]


def test_the_last_cluster_is_not_excluded(state):
    after = edits.apply(state, [{"do": "exclude", "cluster": k} for k in (0, 1, 2)])
    assert after.clusters.names == {3: "cluster 3"}
    assert after.cluster.tolist() == [-1] * 60 + [3] * 20
    with pytest.raises(VtccError, match="the last cluster cannot be excluded"):
        edits.apply(after, [{"do": "exclude", "cluster": 3}])


def test_a_split_has_as_many_parts_as_are_allowed_and_as_there_are_images(state, monkeypatch):
    monkeypatch.setattr(edits, "MOST_PARTS", EACH)
    after = edits.apply(state, [{"do": "split", "cluster": 0, "into": EACH}])
    assert sorted(after.cluster[:EACH]) == [0, *range(K, K + EACH - 1)]


@pytest.mark.parametrize(
    "edit",
    [
        {"do": "split", "cluster": 0, "into": 8},
        {"do": "new", "name": "late", "files": [f"f{i:02d}.png" for i in range(40)]},
    ],
)
def test_the_same_seed_gives_the_same_parts_of_images_without_any_structure(state, edit):
    state.h = np.random.default_rng(1).normal(size=state.h.shape).astype(np.float32)
    state.cluster[:] = 0
    for first, second in (({"seed": 7}, {"seed": 7}), ({"seed": 0}, {})):
        one, other = (edits.apply(state, [edit], **seed) for seed in (first, second))
        assert one.cluster.tolist() == other.cluster.tolist()
        split, again = (after.clusters.splits[0] for after in (one, other))
        assert split.ids == again.ids
        assert len(split.ids) == 8
        assert split.centres.tolist() == again.centres.tolist()


def test_clusters_without_known_images_keep_centre_fence_and_tree(state):
    before = state.clusters
    state.known = np.zeros(K * EACH, bool)
    after = edits.apply(state, [{"do": "rename", "cluster": 0, "name": "boats"}]).clusters
    assert after.fences == before.fences
    assert after.centres.keys() == before.centres.keys()
    assert after.tree == before.tree
    # Results that have lost their centres keep their tree, and what is new joins at its top.
    state.clusters = replace(before, centres={}, fences={})
    after = edits.apply(state, [{"do": "new", "name": "late", "files": LATE}]).clusters
    assert after.tree[:-1] == before.tree
    assert (after.tree[-1].left, after.tree[-1].right) == ({0, 1, 2, 3}, {4})
    assert levels.from_list(levels.to_list(after.tree)) == after.tree


def test_what_everybody_has_seen_is_merged_and_then_excluded(state):
    merge = {"do": "merge", "clusters": [0, 1], "into": 0}
    after = edits.apply(state, [merge, {"do": "exclude", "cluster": 0}])
    assert after.cluster.tolist() == [-1] * 40 + [2] * 20 + [3] * 20


def test_of_two_splits_nobody_has_seen_either(state):
    splits = [{"do": "split", "cluster": k, "into": 2} for k in (0, 1)]
    for k in (0, 1):
        with pytest.raises(VtccError, match=f"cluster {k} is split by these same edits"):
            edits.apply(state, [*splits, {"do": "exclude", "cluster": k}])


def test_the_largest_part_keeps_its_id_and_the_others_are_numbered_on(state):
    axes = np.eye(D)
    state.h[60:75], state.h[75:] = 5 * axes[3], 5 * axes[4]
    state.h[:20] = 5 * axes[np.repeat([0, 4, 5], [4, 6, 10])]
    after = edits.apply(
        state,
        [
            {"do": "split", "cluster": 3, "into": 2},
            {"do": "split", "cluster": 0, "into": 3},
            {"do": "new", "name": "last", "files": ["f20.png"]},
        ],
    )
    assert after.cluster[60:].tolist() == [3] * 15 + [4] * 5
    assert after.cluster[:20].tolist() == [6] * 4 + [5] * 6 + [0] * 10
    assert after.cluster[20] == 7


def test_images_that_are_all_alike_are_not_split_and_other_edits_stand(state, capsys):
    state.h[:20] = 5 * np.eye(D)[0]
    new = {"do": "new", "name": "last", "files": ["f20.png"], "cluster": 5}
    after = edits.apply(state, [{"do": "split", "cluster": 0, "into": 2}, new])
    assert "cluster 0 is not split: its images are all alike" in capsys.readouterr().out
    assert after.clusters.names.keys() == {0, 1, 2, 3, 5}  # numbered as in the page
    assert after.cluster[:21].tolist() == [0] * 20 + [5]


def test_a_part_is_split_in_its_turn_and_stays_by_name(state):
    state.h[70:] += np.random.default_rng(1).normal(size=(10, D)).astype(np.float32)
    state.moved = {"f00.png": 0}
    halves = [[f"f{i}.png" for i in range(60, 70)], LATE]
    quarters = [LATE[:5], LATE[5:]]
    after = edits.apply(
        state,
        [
            {"do": "split", "cluster": 3, "files": halves},
            {"do": "split", "cluster": 4, "files": quarters},
        ],
    )
    assert after.cluster[60:].tolist() == [3] * 10 + [4] * 5 + [5] * 5
    names = {f"f{i}.png": int(after.cluster[i]) for i in range(60, 80)}
    assert after.moved == {"f00.png": 0} | names
    split = after.clusters.splits[3]
    assert split.ids == (3, 4, 5)
    want = [direction(state.unit[rows]) for rows in (np.r_[60:70], np.r_[70:75], np.r_[75:80])]
    assert split.centres == pytest.approx(np.stack(want), abs=1e-6)
    assert split.centres.dtype == np.float32
    whole = edits.apply(state, [{"do": "split", "cluster": 3, "files": [halves[0], LATE]}])
    assert whole.clusters.splits[3].centres.dtype == np.float32


def test_what_was_moved_into_a_cluster_goes_with_its_part(state):
    state.moved = {"f00.png": 3, "f01.png": 3, "f02.png": 3, "f20.png": 2}
    state.cluster[[0, 1, 2, 20]] = 3, 3, 3, 2
    state.h[:3] = state.h[[60, 61, 75]]
    after = edits.apply(state, [{"do": "split", "cluster": 3, "into": 2}])
    assert after.cluster[60:].tolist() == [3] * 10 + [4] * 10
    assert after.moved == {"f00.png": 3, "f01.png": 3, "f02.png": 4, "f20.png": 2}


@pytest.mark.parametrize("by_hand", [False, True])
def test_images_of_another_part_stay_when_a_part_is_split(state, by_hand):
    """The new parts lie on both sides of the other one, and one of them nearer to its edge."""

    def at(degrees):
        turns = np.deg2rad(degrees)[:, None]
        return 5 * (np.cos(turns) * np.eye(D)[3] + np.sin(turns) * np.eye(D)[4])

    names = [f"f{i}.png" for i in range(60, 80)]
    state.h[60:70] = at(np.r_[[0] * 5, [60] * 5])
    state.h[70:] = at(np.r_[[20] * 9, 42])
    edge = "f79.png"  # 22 degrees from its part, 18 from the new one
    halves = {"do": "split", "cluster": 3, "files": [names[:10], names[10:]]}
    first = edits.apply(state, [halves])
    first.moved = {}
    quarters = {"files": [names[:5], names[5:10]]} if by_hand else {"into": 2}
    after = edits.apply(first, [{"do": "split", "cluster": 3} | quarters])
    assert after.cluster[70:].tolist() == [4] * 10
    assert set(after.cluster[60:70].tolist()) == {3, 5}
    pinned = {name: int(after.cluster[state.files[name]]) for name in names[:10] if by_hand}
    assert after.moved == pinned | {edge: 4}
    assert after.held == {edge}
    assert predicted(state, after)[60:79].tolist() == after.cluster[60:79].tolist()


def test_numbers_of_the_page_mean_the_same_clusters_after_others_were_proposed(state, capsys):
    """The page knew four clusters; an addition has proposed 4 since, and another one 5."""
    wanted = [
        {"do": "split", "cluster": 0, "into": 2},  # 4 in the page
        {"do": "split", "cluster": 3, "files": [[f"f{i}.png" for i in range(60, 70)], LATE]},  # 5
        {"do": "rename", "cluster": 5, "name": "dogs"},
        {"do": "move", "files": ["f20.png"], "to": 5},
        {"do": "merge", "clusters": [1, 5], "into": 5},
    ]
    state.proposed, state.once = {4: ["f40.png"]}, frozenset({4, 5})
    after = edits.apply(state, wanted, following=4)
    assert after.clusters.names[7] == "dogs"
    assert after.clusters.names.keys() == {0, 2, 3, 6, 7}
    assert set(after.cluster[:20].tolist()) == {0, 6}
    assert after.cluster[20:40].tolist() == [7] * 20
    assert after.cluster[60:].tolist() == [3] * 10 + [7] * 10
    assert after.clusters.edits[-1] == {"do": "merge", "clusters": [1, 7], "into": 7}
    assert "numbered from 6 on, not from 4" in capsys.readouterr().out
    state.proposed = {4: ["f40.png"]}
    older = edits.apply(state, [wanted[0], {"do": "rename", "cluster": 5, "name": "cats"}])
    assert older.clusters.names[6] == "cats"  # of before files had `next`: 5 came after 4
    with pytest.raises(VtccError, match="number new clusters from 3 on, and there is a cluster 3"):
        edits.apply(state, wanted, following=3)


def test_files_that_have_gone_are_left_out_of_edits(state, capsys):
    state.altered = frozenset({"gone.png", "also.png", "f20.png"})
    state.once = frozenset({4})
    rest = [f"f{i}.png" for i in range(60, 70)]
    after = edits.apply(
        state,
        [
            # f20.png has changed and is in another cluster now.
            {"do": "split", "cluster": 3, "files": [[*rest, "gone.png", "f20.png"], LATE]},
            {"do": "split", "cluster": 0, "files": [["f00.png"], ["gone.png"]]},  # would be 6
            {"do": "split", "cluster": 1, "files": [["f20.png"], ["f21.png"]]},
            {"do": "move", "files": ["gone.png", "f01.png"], "to": 7},
            {"do": "exclude_files", "files": ["also.png", "f02.png"]},
            {"do": "new", "cluster": 4, "name": "none", "files": ["gone.png"]},
            {"do": "decline", "cluster": 4},
        ],
        following=5,
    )
    assert after.clusters.names.keys() == {0, 1, 2, 3, 5, 7}
    assert after.cluster[60:].tolist() == [3] * 10 + [5] * 10
    assert after.cluster[[0, 1, 2, 20, 21]].tolist() == [0, 7, -1, 1, 7]
    assert after.moved.keys().isdisjoint({"gone.png", "also.png"})
    assert (
        'left out 2 files that the edits name, gone since: "also.png", ' in capsys.readouterr().out
    )
    with pytest.raises(VtccError, match=r'no file "never\.png" here'):
        edits.apply(state, [{"do": "move", "files": ["never.png"], "to": 1}])


REST = [f"f{i}.png" for i in range(60, 80)]
ALL_GONE = {"do": "split", "cluster": 3, "files": [REST, ["gone.png"]]}


@pytest.mark.parametrize(
    "edit",
    [
        {"do": "rename", "cluster": 4, "name": "cats"},
        {"do": "exclude", "cluster": 4},
        {"do": "move", "files": ["f00.png"], "to": 4},
        {"do": "merge", "clusters": [4], "into": 4},
        {"do": "split", "cluster": 4, "into": 2},
        {"do": "split", "cluster": 4, "files": [["f00.png"], ["gone.png"]]},
    ],
)
def test_what_speaks_of_a_cluster_whose_images_have_gone_is_left_out(state, capsys, edit):
    state.altered = frozenset({"gone.png"})
    boats = {"do": "rename", "cluster": 0, "name": "boats"}
    after = edits.apply(state, [ALL_GONE, edit, boats], following=4)
    assert after.clusters.names == state.clusters.names | {0: "boats"}
    assert after.cluster.tolist() == state.cluster.tolist()
    assert after.moved == {}
    assert after.clusters.edits == [boats]
    assert after.next == 5 + (edit["do"] == "split")
    made = "cluster 4, cluster 5" if edit["do"] == "split" else "cluster 4"
    out = capsys.readouterr().out
    assert "cluster 3 is not split: no image of one of its parts is left in it\n" in out
    assert f"not made: {made}; left out: edit 1, edit 2\n" in out
    # Without that note there is no such cluster.
    with pytest.raises(VtccError, match=r"^edit 1 of 1 .*no cluster 4; there are"):
        edits.apply(state, [edit], following=4)


@pytest.mark.parametrize(
    "edit",
    [
        {"do": "rename", "cluster": 4, "name": ""},
        {"do": "move", "files": ["never.png"], "to": 4},
        {"do": "split", "cluster": 4, "into": 1},
        {"do": "rename", "cluster": 6, "name": "cats"},
    ],
)
def test_what_is_wrong_with_an_edit_of_such_a_cluster_is_said(state, edit):
    state.altered = frozenset({"gone.png"})
    with pytest.raises(VtccError, match=r"^edit 2 of 2 "):
        edits.apply(state, [ALL_GONE, edit], following=4)


def test_a_merge_is_made_without_the_cluster_whose_images_have_gone(state, capsys):
    state.altered = frozenset({"gone.png"})
    both = {"do": "merge", "clusters": [0, 1, 4], "into": 0}
    after = edits.apply(state, [ALL_GONE, both], following=4)
    assert after.clusters.names.keys() == {0, 2, 3}
    assert after.cluster[:40].tolist() == [0] * 40
    assert "not made: cluster 4; left out: edit 1\n" in capsys.readouterr().out
    alone = {"do": "merge", "clusters": [1, 4], "into": 1, "name": "cats"}
    after = edits.apply(state, [ALL_GONE, alone], following=4)
    assert after.clusters.names == state.clusters.names | {1: "cats"}


@pytest.mark.parametrize("others", [[2, 1], [1]])
def test_a_merge_into_such_a_cluster_is_made_into_the_lowest_of_the_others(state, capsys, others):
    state.altered = frozenset({"gone.png"})
    wanted = [
        ALL_GONE,
        {"do": "merge", "clusters": [4, *others], "into": 4},
        {"do": "rename", "cluster": 4, "name": "cats"},
        {"do": "move", "files": ["f00.png"], "to": 4},
        {"do": "split", "cluster": 4, "files": [["f00.png", "f20.png"], ["f21.png"]]},  # 5
        {"do": "merge", "clusters": [4, 5], "into": 5},
        {"do": "exclude", "cluster": 5},
    ]
    after = edits.apply(state, wanted[:4], following=4)
    names = state.clusters.names | {1: "cats"}
    assert after.clusters.names == {k: name for k, name in names.items() if k not in others[:-1]}
    assert after.cluster[:41].tolist() == [1] + [0] * 19 + [1] * 20 + [1 if 2 in others else 2]
    assert after.clusters.edits == wanted[1:4]
    out = capsys.readouterr().out
    assert "cluster 4 is not made: what would be merged into it is in cluster 1\n" in out
    assert "not made: cluster 4; left out: edit 1\n" in out
    after = edits.apply(state, wanted, following=4)
    assert after.cluster[[0, 20, 21, 39]].tolist() == [-1] * 4
    assert after.clusters.names.keys() == {0, 2, 3} - {*others}


def test_a_merge_of_such_clusters_alone_is_left_out(state, capsys):
    state.altered = frozenset({"gone.png"})
    more = {"do": "split", "cluster": 2, "files": [["f40.png"], ["gone.png"]]}
    wanted = [
        ALL_GONE,
        more,
        {"do": "merge", "clusters": [4, 5], "into": 4},
        {"do": "rename", "cluster": 4, "name": "cats"},
        {"do": "merge", "clusters": [4, 0], "into": 4},
        {"do": "rename", "cluster": 4, "name": "dogs"},
    ]
    after = edits.apply(state, wanted, following=4)
    assert after.clusters.names == state.clusters.names | {0: "dogs"}
    assert "not made: cluster 4, cluster 5; left out: edit 1, edit 2, edit 3, edit 4\n" in (
        capsys.readouterr().out
    )


def test_edits_after_those_that_are_left_out_stand(state, capsys):
    """In the page f00.png went to 4, and with that to 3; and f20.png to 2, with a part of 1."""
    state.altered, state.once = frozenset({"gone.png"}), frozenset({4})
    wanted = [
        {"do": "new", "cluster": 4, "name": "cats", "files": ["gone.png"]},
        {"do": "rename", "cluster": 4, "name": "dogs"},
        {"do": "move", "files": ["f00.png"], "to": 4},
        {"do": "merge", "clusters": [3, 4], "into": 3},
        {"do": "split", "cluster": 3, "files": [[*REST[:10], "f00.png"], REST[10:]]},  # 5
        {"do": "rename", "cluster": 5, "name": "late"},
        {"do": "split", "cluster": 1, "files": [["f21.png"], ["f20.png"], ["gone.png"]]},  # 6, 7
        {"do": "merge", "clusters": [2, 6], "into": 2},
        {"do": "split", "cluster": 2, "files": [["f40.png", "f20.png"], ["f41.png"]]},  # 8
    ]
    after = edits.apply(state, wanted, following=5)
    assert after.clusters.names == state.clusters.names | {5: "late", 8: "cluster 8"}
    assert after.cluster[60:].tolist() == [3] * 10 + [5] * 10
    assert after.cluster[[0, 20, 40, 41]].tolist() == [0, 1, 2, 8]
    assert (
        "not made: cluster 4, cluster 6, cluster 7; left out: edit 1, edit 2, edit 3, edit 7\n"
    ) in capsys.readouterr().out


def test_the_last_cluster_stays_where_one_that_is_not_made_would_have(state, capsys):
    state.altered = frozenset({"gone.png"})
    wanted = [ALL_GONE, *({"do": "exclude", "cluster": k} for k in range(4))]
    after = edits.apply(state, wanted, following=4)
    assert after.clusters.names == {3: "cluster 3"}
    assert after.cluster.tolist() == [-1] * 60 + [3] * 20
    out = capsys.readouterr().out
    assert "cluster 3 is not excluded: it is the last one\n" in out
    assert "not made: cluster 4; left out: edit 1, edit 5\n" in out


def test_a_split_that_the_images_no_longer_suffice_for_is_left_out(state, capsys):
    split = {"do": "split", "cluster": 0, "into": EACH + 1}
    named = {"do": "rename", "cluster": 23, "name": "cats"}
    state.altered = frozenset({"gone.png"})
    assert edits.apply(state, [split, named], following=4).next == K + EACH
    out = capsys.readouterr().out
    assert "cluster 0 is not split: it shows 20 images, too few for 21 parts\n" in out
    assert "cluster 13, ...; left out: edit 1, edit 2\n" in out
    state.altered, state.h[:20] = frozenset(), 5 * np.eye(D)[0]  # and where all are alike
    alike = [{**split, "into": 2}, {**named, "cluster": 4}]
    assert edits.apply(state, alike).clusters.names == state.clusters.names
    assert "not made: cluster 4; left out: edit 1, edit 2\n" in capsys.readouterr().out


def test_what_a_file_says_of_the_next_number_is_checked(tmp_path):
    file = tmp_path / "e.json"
    content = {"format": 1, "model": "m", "edits": [{"do": "x"}]}
    file.write_text(json.dumps(content | {"next": 7}))
    assert edits_file.read(file, "m") == edits_file.Wanted(content["edits"], 7)
    file.write_text(json.dumps(content))
    assert edits_file.read(file, "m").following is None
    file.write_text(json.dumps(content | {"next": "7"}))
    with pytest.raises(VtccError, match='found next "7"; allowed: a number'):
        edits_file.read(file, "m")
