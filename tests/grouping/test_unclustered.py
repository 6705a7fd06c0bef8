"""Images that belong nowhere: doubt and its limit, tables, edits, what is added, predict."""

import json
import re
import shutil
from dataclasses import replace
from unittest.mock import create_autospec

import numpy as np
import pytest

from tests.grouping import toy_results
from vtcc.errors import VtccError
from vtcc.grouping import assignments, edits, outputs, reopen, result
from vtcc.grouping.clusters import EXCLUDED, UNCLUSTERED, Clusters
from vtcc.grouping.edit_state import State
from vtcc.grouping.means import AT_MOST, DOUBT, Means
from vtcc.verbs import add, cluster, predict, refine

K, EACH, D = 3, 30, 4


@pytest.fixture
def images():
    """p (93, 3), h (93, 4): three tight groups along three axes, and an image between each two."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(K), EACH)
    h = np.eye(D)[group] * 5 + rng.normal(0, 0.1, (K * EACH, D))
    between = np.stack([(np.eye(D)[a] + np.eye(D)[(a + 1) % K]) * 2.5 for a in range(K)])
    base = np.concatenate([group, np.arange(K)])
    p = np.full((len(base), K), 0.05, np.float32)
    p[np.arange(len(base)), base] = 0.9
    return p, np.concatenate([h, between]).astype(np.float32), base


def limited(images, at_most=AT_MOST):
    p, h, base = images
    known = Clusters.fit(p, h)
    means = known.means.limited(h, base, at_most, unclustered=True)
    return replace(known, means=means)


def test_doubt_is_how_much_nearer_another_cluster_is():
    means = Means(
        means=np.array([[0, 0], [4, 0], [0, 9]], np.float32),
        owners=(frozenset({5}), frozenset({6}), frozenset({7, 8})),
        precision=np.eye(2, dtype=np.float32),
        threshold=1.0,
    )
    away = means.distances(np.array([[1, 0], [2, 0], [3, 0], [0, 9], [0, 8], [1, 0]], np.float32))
    assert away[0].tolist() == pytest.approx([1, 3, np.sqrt(82)])
    doubt = means.doubt(away, np.array([5, 5, 5, 7, 8, EXCLUDED]))
    assert doubt.tolist() == pytest.approx([1 / 3, 1, 3, 0, 1 / 8, 0])
    assert means.doubt(away[:1], np.array([9])).tolist() == [np.inf]  # trained without images
    merged = replace(means, owners=(frozenset({5}), frozenset({5}), frozenset({7})))
    assert merged.doubt(away[:3], np.full(3, 5))[2] == pytest.approx(1 / np.sqrt(90))
    lone = replace(means, owners=(frozenset({5}),) * 3)
    assert lone.doubt(away, np.full(6, 5)).tolist() == [0] * 6


def test_those_in_between_are_in_no_cluster(images):
    p, h, base = images
    known = limited(images)
    assert known.means.limit == DOUBT
    found = known.apply(p, h, base)
    assert found.cluster.tolist() == [*base[:90].tolist(), *[UNCLUSTERED] * K]
    assert found.name(90) == "unclustered"
    assert found.second[90:].tolist() == found.anyway[90:].tolist() == [0, 1, 2]
    assert found.confidence[90:] == pytest.approx([0.9] * K)
    assert np.isnan(found.distance[90:]).all()
    row = assignments.Row.of("a.png", found, 90)
    assert (row.cluster, row.name, row.nowhere, row.second) == (None, "unclustered", True, 0)
    off = replace(known, means=replace(known.means, unclustered=False))
    assert off.apply(p, h, base).cluster.tolist() == base.tolist()
    away = replace(known, of_base=(0, 1, EXCLUDED), names={0: "a", 1: "b"})
    assert away.apply(p, h, base).cluster[-1] == EXCLUDED  # put aside, whatever its doubt


@pytest.mark.parametrize("at_most", [0.01, 0.02, 0.1])
def test_at_most_the_share_that_was_asked_for(images, at_most):
    p, h, base = images
    h = h + np.random.default_rng(1).normal(0, 2, h.shape).astype(np.float32)  # all are in doubt
    found = limited((p, h, base), at_most).apply(p, h, base)
    share = (found.cluster == UNCLUSTERED).mean()
    assert at_most - 0.02 < share <= at_most
    assert limited((p, h, base), 0.5).means.limit == DOUBT  # fewer than that are in doubt


def test_in_a_small_folder_the_share_holds_for_other_images_too():
    """150 images in 128 dimensions: none of them is in doubt, and a third of others were."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 128)) * 9 / 16

    def draw(count):
        kind = rng.integers(0, 5, count)
        return (centres[kind] + rng.normal(size=(count, 128))).astype(np.float32), kind

    h, kind = draw(150)
    fitted = Means.fit(h, kind)
    others = fitted.distances(draw(1000)[0])
    doubt = fitted.doubt(others, others.argmin(axis=1))
    assert fitted.doubt(fitted.distances(h), kind).max() < DOUBT
    assert (doubt > DOUBT).mean() > 0.3
    shares = []
    for at_most in (0.05, AT_MOST):
        limit = fitted.limited(h, kind, at_most, unclustered=True).limit
        shares.append(float((doubt > limit).mean()))
        assert shares[-1] <= at_most
    assert shares[0] < shares[1]
    kind[0] = 5  # alone: left out, its cluster has no mean
    assert Means.fit(h, kind).limited(h, kind, 1 / 150, unclustered=True).limit < np.inf


def test_read_back_as_written(images, tmp_path):
    p, h, base = images
    known = limited(images, 0.02)
    assert known.means.limit > DOUBT
    known.write(tmp_path)
    again = Clusters.load(tmp_path)
    assert (again.means.limit, again.means.owners) == (known.means.limit, known.means.owners)
    assert again.apply(p, h, base).cluster.tolist() == known.apply(p, h, base).cluster.tolist()
    content = json.loads((tmp_path / "clusters.json").read_text())
    content["unclustered"]["means_of"].pop()
    (tmp_path / "clusters.json").write_text(json.dumps(content))
    with pytest.raises(VtccError, match="2 owners of 3 means"):
        Clusters.load(tmp_path)


def state_of(images):
    p, h, base = images
    known = limited(images)
    files = {f"f{i:02d}.png": i for i in range(len(h))}
    return State(known, files, h, known.apply(p, h, base).cluster, {}, base=base)


def test_a_merge_takes_in_what_was_between_its_clusters(images):
    p, h, base = images
    after = edits.apply(state_of(images), [{"do": "merge", "clusters": [0, 1], "into": 0}])
    assert after.clusters.means.owners == (frozenset({0}), frozenset({0}), frozenset({2}))
    found = after.clusters.apply(p, h, base).cluster
    assert found[90:].tolist() == [0, UNCLUSTERED, UNCLUSTERED]
    assert found[:90].tolist() == np.array([0, 0, 2])[base[:90]].tolist()


def test_an_exclusion_excludes_no_image_that_belongs_nowhere(images):
    p, h, base = images
    state = state_of(images)
    after = edits.apply(state, [{"do": "exclude", "cluster": 0}])
    found = after.clusters.apply(p, h, base)
    assert found.cluster[90:].tolist() == [UNCLUSTERED] * 3
    assert found.second[90:].tolist() == [EXCLUDED, 1, 2]
    assert found.cluster[:90].tolist() == np.array([EXCLUDED, 1, 2])[base[:90]].tolist()
    # What lies between two that are excluded goes with them, as a merge takes in what lies between.
    after = edits.apply(after, [{"do": "exclude", "cluster": 1}])
    assert after.clusters.apply(p, h, base).cluster[90:].tolist() == [EXCLUDED, *[UNCLUSTERED] * 2]


def test_parts_of_a_split_do_not_doubt_each_other(images):
    p, h, base = images
    after = edits.apply(state_of(images), [{"do": "split", "cluster": 0, "into": 2}])
    assert after.clusters.means.owners[0] == {0, 3}
    found = after.clusters.apply(p, h, base).cluster
    assert set(found[:30].tolist()) == {0, 3}
    assert (found == UNCLUSTERED).sum() == 3


def test_what_belongs_nowhere_can_become_a_cluster(images):
    """Ten images of a new kind, which the head puts into cluster 0."""
    p, h, base = images
    rng = np.random.default_rng(2)
    kind = (np.array([2.5, 0, 0, 4]) + rng.normal(0, 0.05, (10, D))).astype(np.float32)
    known = limited(images)
    h, base = np.concatenate([h, kind]), np.concatenate([base, np.zeros(10, int)])
    p = np.concatenate([p, np.tile(np.float32([0.9, 0.05, 0.05]), (10, 1))])
    known = replace(known, means=replace(known.means, limit=0.3))
    before = known.apply(p, h, base).cluster
    assert set(before[93:].tolist()) == {UNCLUSTERED}
    files = {f"f{i:03d}.png": i for i in range(len(h))}
    late = [f"f{i:03d}.png" for i in range(93, 103)]
    state = State(known, files, h, before, {}, base=base, known=np.arange(len(h)) < 93)
    state.proposed = {3: late}
    after = edits.apply(state, [{"do": "new", "cluster": 3, "name": "late", "files": late}])
    found = after.clusters.apply(p, h, base).cluster  # as predict says
    assert found[93:].tolist() == [3] * 10
    assert found[:30].tolist() == before[:30].tolist()


def test_a_confirmed_cluster_throws_no_other_image_out_of_its_own(images):
    """Ten images of cluster 0 lie half-way to a kind that becomes a cluster."""
    p, h, base = images
    rng = np.random.default_rng(3)
    kind, beside = (
        (np.array([5, 0, 0, away]) + rng.normal(0, 0.02, (10, D))).astype(np.float32)
        for away in (2, 1)
    )
    known = limited(images)
    h, base = np.concatenate([h, kind, beside]), np.concatenate([base, np.zeros(20, int)])
    p = np.concatenate([p, np.tile(np.float32([0.9, 0.05, 0.05]), (20, 1))])
    before = known.apply(p, h, base).cluster
    assert set(before[93:].tolist()) == {0}
    files = {f"f{i:03d}.png": i for i in range(len(h))}
    late = [f"f{i:03d}.png" for i in range(93, 103)]
    state = State(known, files, h, before, {}, base=base, proposed={3: late})
    after = edits.apply(state, [{"do": "new", "cluster": 3, "name": "late", "files": late}])
    assert {file: after.moved[file] for file in late} == dict.fromkeys(late, 3)
    alone = after.clusters.apply(p, h, base).cluster
    assert alone[93:103].tolist() == [3] * 10
    assert UNCLUSTERED in alone[103:]  # as the model says of images that nobody has put anywhere
    embedding = create_autospec(outputs.Embedding, p=p, h=h, base=base, paths=list(files))
    decided = reopen.decided(after.clusters, embedding, after.moved).cluster
    assert decided[93:103].tolist() == [3] * 10
    others = np.r_[:93, 103:113]
    assert decided[others].tolist() == before[others].tolist()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of 60 images of three kinds, and results in which some belong nowhere."""
    root = tmp_path_factory.mktemp("nowhere") / "photos"
    toy_results.folder_of(root)
    toy_results.write(root, root.with_name("results"), unclustered=0.1)
    return root.parent


def nowhere(file):
    return {row.file for row in assignments.read(file) if row.nowhere}


def test_tables_page_and_predict_agree(made, tmp_path):
    results = made / "results"
    found = nowhere(results / "assignments.csv")
    assert 1 <= len(found) <= 6
    summary = json.loads((results / "summary.json").read_text())
    assert summary["unclustered"]["images"] == len(found)
    assert summary["unclustered"]["share"] == round(len(found) / 60, 4)
    assert sum(c["size"] for c in summary["clusters"]) == 60 - len(found)
    answer = predict.run([made / "photos"], str(results / "model"), out=tmp_path / "o.csv")
    assert {name.rpartition("/")[2] for name in nowhere(tmp_path / "o.csv")} == found
    assert answer["unclustered"] == len(found)
    html = (results / "report.html").read_text()
    shown = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    assert shown["unclustered"] == summary["unclustered"]
    assert shown["cluster"].count(UNCLUSTERED) == len(found)


def test_they_are_moved_by_hand_and_stay_so(made, tmp_path):
    results = made / "results"
    first, *others = sorted(nowhere(results / "assignments.csv"))
    digest = result.digest(results / "model")
    moves = [{"do": "move", "files": [first], "to": 1}]
    (tmp_path / "edits.json").write_text(json.dumps({"format": 1, "model": digest, "edits": moves}))
    told = refine.run(results, tmp_path / "edits.json", tmp_path / "refined")
    assert told["unclustered"]["images"] == len(others)
    rows = {row.file: row for row in assignments.read(tmp_path / "refined" / "assignments.parquet")}
    assert rows[first].cluster == 1
    assert nowhere(tmp_path / "refined" / "assignments.csv") == set(others)
    toy_results.draw(tmp_path / "more" / "new.png", 0, 999)
    add.run(tmp_path / "refined", [tmp_path / "more"], tmp_path / "added")
    after = {row.file: row for row in assignments.read(tmp_path / "added" / "assignments.parquet")}
    assert {file: after[file] for file in rows} == rows
    assert nowhere(tmp_path / "added" / "assignments.json") >= set(others)


def test_a_proposal_says_where_its_images_are_after_a_merge_has_taken_them_in(made, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(made / "results", results)
    file = results / "summary.json"
    files = sorted(nowhere(results / "assignments.csv"))
    proposal = {"id": 4, "name": "cluster 4", "files": files, "now_in": {"-2": len(files)}}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"proposals": [proposal]}))
    digest = result.digest(results / "model")
    merge = [{"do": "merge", "clusters": [0, 1, 2], "into": 0}]
    (tmp_path / "edits.json").write_text(json.dumps({"format": 1, "model": digest, "edits": merge}))
    refine.run(results, tmp_path / "edits.json")
    rows = {row.file: row for row in assignments.read(results / "assignments.parquet")}
    assert {rows[name].cluster for name in files} == {0}
    (after,) = json.loads(file.read_text())["proposals"]
    assert after["now_in"] == {"0": len(files)}


def test_predict_takes_the_limit_of_a_model_that_has_it_off(made, tmp_path, capsys):
    known = Clusters.load(made / "results" / "model")
    off = tmp_path / "model"
    shutil.copytree(made / "results" / "model", off)
    replace(known, means=replace(known.means, unclustered=False)).write(off)
    out = tmp_path / "o.csv"
    assert predict.run([made / "photos"], str(off), out=out)["unclustered"] == 0
    told = predict.run([made / "photos"], str(off), out=out, unclustered=True)
    assert told["unclustered"] == len(nowhere(made / "results" / "assignments.csv"))
    assert (
        f"{told['unclustered']} ({told['unclustered'] / 60:.1%}) belong" in capsys.readouterr().out
    )
    replace(known, means=replace(known.means, owners=())).write(off)
    with pytest.raises(VtccError, match=r"--unclustered: .* does not say what belongs nowhere"):
        predict.run([made / "photos"], str(off), out=out, unclustered=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unclustered_at_most": 0.1}, "belongs to --unclustered; add it"),
        ({"unclustered": True, "unclustered_at_most": 20}, "found 20; allowed: a share between"),
        ({"unclustered": True, "unclustered_at_most": 0}, "found 0; allowed: a share between"),
    ],
)
def test_shares_that_cannot_be_are_refused(tmp_path, given, message):
    with pytest.raises(VtccError, match=f"--unclustered-at-most: {message}"):
        cluster.options([tmp_path], "3", params=None, assignments=[], **given)
    asked = cluster.options([tmp_path], "3", params=None, assignments=[], unclustered=True)
    assert (asked.unclustered, asked.unclustered_at_most) == (True, AT_MOST)
