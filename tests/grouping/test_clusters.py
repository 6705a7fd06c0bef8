"""Clusters of a model: names, merges, splits, limits; read back as written."""

import json
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vtcc.engine import predict
from vtcc.engine.predict import Prediction
from vtcc.errors import VtccError
from vtcc.grouping.clusters import ARRAYS, FILE, Clusters, Split, decide, load_predictor
from vtcc.grouping.means import Means

K, D = 3, 4


@pytest.fixture
def images():
    """p (90, 3), h (90, 4): three tight groups along three axes."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(K), 30)
    h = (np.eye(D)[group] * 5 + rng.normal(0, 0.1, (90, D))).astype(np.float32)
    p = np.full((90, K), 0.05, np.float32)
    p[np.arange(90), group] = 0.9
    return p, h, group


def test_says_what_the_head_says(images):
    p, h, group = images
    found = Clusters.fit(p, h).apply(p, h)
    assert found.cluster.tolist() == group.tolist()
    assert found.confidence == pytest.approx(np.full(90, 0.9), abs=1e-6)
    assert ((found.second >= 0) & (found.second != found.cluster)).all()
    assert found.distance.max() < 0.01
    assert found.novel.sum() == 0  # they lie nearer to their means than new ones do


@pytest.mark.parametrize("N", [60, 150, 1000])
def test_one_in_a_hundred_new_images_of_the_same_kinds_is_novel(N):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 32)) * 4

    def drawn(n):
        group = np.arange(n) % 5
        return (centres[group] + rng.normal(size=(n, 32))).astype(np.float32), group

    means = Means.fit(*drawn(N))
    new, far = drawn(2000)[0], (rng.normal(size=(2000, 32)) * 4).astype(np.float32)
    assert (means.distances(new).min(axis=1) > means.threshold).mean() <= 0.02
    assert (means.distances(far).min(axis=1) > means.threshold).mean() >= 0.99


def test_flags_what_is_far_from_all(images):
    p, h, _ = images
    known = Clusters.fit(p, h)
    strange = np.zeros((2, D), np.float32)
    strange[0, 3] = 5  # along an axis without a group
    strange[1] = h[0]
    found = known.apply(p[:2], strange)
    assert found.novel.tolist() == [True, False]
    assert found.novelty[0] > 1 > found.novelty[1]
    assert found.novelty[0] > 10 * found.novelty[1]
    assert found.outlier.tolist()[0] is True


@pytest.mark.parametrize(("members", "distinct"), [(1, 1), (2, 2), (10, 1)])
def test_an_image_that_the_fence_was_made_of_is_no_outlier_alone(tmp_path, members, distinct):
    """One image, two or copies: the fence is their own distance, but for rounding."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        h = rng.normal(size=(20 + distinct, 64)).astype(np.float32)
        h = np.concatenate([h[:20], h[20:].repeat(members // distinct, axis=0)])
        p = np.eye(2, dtype=np.float32)[(np.arange(len(h)) >= 20).astype(int)]
        Clusters.fit(p, h).write(tmp_path)
        known = Clusters.load(tmp_path)
        noise = rng.normal(0, 2e-7, (members, 64))  # of an embedding in batches of other sizes
        for i in range(members):
            row = slice(20 + i, 21 + i)
            alone = known.apply(p[row], (h[row] * (1 + noise[[i]])).astype(np.float32))
            assert not alone.outlier[0]
        assert known.apply(p[-1:], -h[-1:]).outlier[0]


def test_copies_of_one_image_are_not_novel_by_rounding():
    rng = np.random.default_rng(0)
    h = rng.normal(3, 1, (1, 64)).astype(np.float32).repeat(30, axis=0)
    means = Means.fit(h, np.arange(30) % 3)
    again = (h * (1 + rng.normal(0, 2e-7, h.shape))).astype(np.float32)
    other = (h * (1 + rng.normal(0, 1e-2, h.shape))).astype(np.float32)
    assert (means.distances(again).min(axis=1) <= means.threshold).all()
    assert (means.distances(other).min(axis=1) > means.threshold).all()


def test_the_image_that_the_limit_of_doubt_was_made_of_is_not_above_it_by_rounding():
    rng = np.random.default_rng(0)
    group = np.arange(400) % 4
    h = (rng.normal(size=(4, 32))[group] * 0.5 + rng.normal(size=(400, 32))).astype(np.float32)
    means = Means.fit(h, group).limited(h, group, 0.05, unclustered=True)
    doubt = means.doubt(means.distances(h), group)
    at = int(np.abs(doubt - means.limit).argmin())
    assert doubt[at] == pytest.approx(means.limit, rel=2e-6)
    again = (h[[at] * 30] * (1 + rng.normal(0, 2e-7, (30, 32)))).astype(np.float32)
    assert (means.doubt(means.distances(again), group[[at] * 30]) <= means.limit).all()
    assert (doubt > means.limit).sum() == 19  # at most a twentieth


def test_merged_split_excluded(images):
    p, h, group = images
    known = Clusters.fit(p, h)
    merged = replace(known, of_base=(0, 0, 2), names={0: "both", 2: "c"}).measured(
        h, np.array([0, 0, 2])[group]
    )
    found = merged.apply(p, h)
    assert found.cluster.tolist() == np.array([0, 0, 2])[group].tolist()
    assert found.confidence[0] == pytest.approx(0.95)
    away = replace(known, of_base=(0, 1, -1), names={0: "a", 1: "b"})
    assert away.apply(p, h).cluster.tolist() == np.array([0, 1, -1])[group].tolist()
    halves = Split((0, 7), np.stack([[1, 0.02, 0, 0], [1, -0.02, 0, 0]]).astype(np.float32))
    split = replace(known, splits={0: halves}, names=known.names | {7: "other half"})
    found = split.apply(p, h).cluster
    assert set(found[group == 0].tolist()) == {0, 7}
    assert (found[group != 0] == group[group != 0]).all()
    assert ((h[:30, 1] > 0) == (found[:30] == 0)).all()


def test_read_back_as_written(images, tmp_path):
    p, h, _ = images
    halves = Split((0, 7), np.eye(D, dtype=np.float32)[:2])
    known = replace(
        Clusters.fit(p, h, ["a", "<b>", "\N{CAMERA}"]),
        splits={0: halves},
        names={0: "a", 1: "<b>", 2: "\N{CAMERA}", 7: "d"},
        edits=[{"do": "rename", "cluster": 1, "name": "<b>"}],
    )
    known.write(tmp_path)
    again = Clusters.load(tmp_path)
    assert again is not None
    assert (again.names, again.of_base, again.edits) == (known.names, known.of_base, known.edits)
    one, other = vars(known.apply(p, h)), vars(again.apply(p, h))
    assert one.pop("names") == other.pop("names")
    for name in one:
        assert np.array_equal(one[name], other[name], equal_nan=True), name
    assert Clusters.load(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / FILE).write_text("{"), "damaged"),
        (lambda d: (d / ARRAYS).write_bytes(b"no"), "damaged|cannot be read"),
        (lambda d: (d / ARRAYS).unlink(), "damaged"),
        (lambda d: change(d, format=2), "format 2, and this vtcc reads 1"),
        (lambda d: change(d, of_base=[0, 1, 9]), "cluster 9 has no name"),
        (lambda d: change(d, names=[]), "damaged"),
        (lambda d: odd(d, "precision", (2, 2)), r"precision: found \(2, 2\), expected"),
        (lambda d: odd(d, "centre.1", (2,)), r"centre\.1: found \(2,\), expected"),
        (lambda d: odd(d, "means", (2, D)), "3 owners of 2 means"),
        (lambda d: odd(d, "means", (3, D + 1)), r"precision: found \(4, 4\), expected \(5, 5\)"),
        (lambda d: odd(d, "means", (2,)), "damaged"),
        (lambda d: odd_split(d), r"split\.0: found \(3, \d+\), expected \(2, \d+\)"),
    ],
)
def test_damage_is_said_in_a_line(images, tmp_path, damage, message):
    Clusters.fit(*images[:2]).write(tmp_path)
    damage(tmp_path)
    with pytest.raises(VtccError, match=message):
        Clusters.load(tmp_path)


def odd(directory, name, shape):
    arrays = load_file(directory / ARRAYS)
    save_file(arrays | {name: np.zeros(shape, np.float32)}, directory / ARRAYS)


def odd_split(directory):
    odd(directory, "split.0", (3, D))
    change(directory, splits={"0": [0, 1]})


def change(directory, **values):
    said = json.loads((directory / FILE).read_text())
    (directory / FILE).write_text(json.dumps(said | values))


def test_another_head_is_refused(images):
    p, h, _ = images
    with pytest.raises(VtccError, match="a model with 3 clusters, this one has 2"):
        Clusters.fit(p, h).apply(p[:, :2], h)


def test_another_embedding_is_refused(images):
    p, h, _ = images
    with pytest.raises(VtccError, match=rf"embeddings of {D} numbers, these have {D - 1}"):
        Clusters.fit(p, h).apply(p, h[:, 1:])


def test_the_kept_cluster_wins_over_rounded_probabilities(images):
    p, h, _ = images
    known = Clusters.fit(p, h)
    p = p[:2].copy()
    p[0] = [0.33333, 0.33334, 0.33333]
    base = p.argmax(axis=1)
    rounded = p.astype(np.float16).astype(np.float32)
    assert known.apply(rounded, h[:2]).cluster.tolist() == [0, 0]
    found = known.apply(rounded, h[:2], base)
    assert found.cluster.tolist() == base.tolist() == [1, 0]
    assert found.confidence == pytest.approx([0.3333, 0.9], abs=1e-3)
    assert rounded[0, 1] == rounded[0, 0]  # what was given is as it was


def test_a_merge_moves_no_image_of_a_third_cluster(images):
    p, h, _ = images
    p = p.copy()
    third = np.flatnonzero(p.argmax(axis=1) == 2)[0]
    p[third] = [0.28, 0.27, 0.45]
    known = Clusters.fit(p, h)
    merged = replace(known, of_base=(0, 0, 2), names={0: "both", 2: "c"}).measured(
        h, np.array([0, 0, 2])[p.argmax(axis=1)]
    )
    found = merged.apply(p, h)
    assert (found.cluster[third], found.second[third]) == (2, 0)
    assert found.confidence[third] == pytest.approx(0.45)


def test_a_model_that_knows_no_clusters_is_decided_by_its_head(images):
    p, h, group = images
    head = decide(SimpleNamespace(clusters=None), Prediction(p, h))
    known = decide(SimpleNamespace(clusters=Clusters.fit(p, h)), Prediction(p, h))
    for name in ("cluster", "confidence", "second", "names", "shares"):
        one, other = getattr(head, name), getattr(known, name)
        assert np.array_equal(one, other) if name != "names" else one == other
    assert head.cluster.tolist() == group.tolist()
    assert np.isnan(head.distance).all() and not head.novel.any()
    assert head.name(0) == f"cluster {group[0]}"


TYPES = {
    "cluster": np.int64,
    "confidence": np.float32,
    "second": np.int64,
    "distance": np.float32,
    "outlier": np.bool_,
    "novel": np.bool_,
    "novelty": np.float32,
    "shares": np.float32,
}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("knows", [False, True])
def test_what_is_decided_has_its_types_and_one_cluster_has_no_second(images, knows, count):
    p, h, group = images
    p, h = p[:, :count], h[group < count]
    p = (p / p.sum(axis=1, keepdims=True))[group < count]
    known = Clusters.fit(p, h) if knows else None
    found = decide(SimpleNamespace(clusters=known), Prediction(p, h))
    assert {name: getattr(found, name).dtype for name in TYPES} == TYPES
    shapes = {name: getattr(found, name).shape for name in TYPES}
    assert shapes == dict.fromkeys(TYPES, (len(h),)) | {"shares": (len(h), count)}
    assert found.cluster.tolist() == group[group < count].tolist()
    if count < 3:
        others = {1: np.full(30, -1), 2: 1 - found.cluster}[count]
        assert found.second.tolist() == others.tolist()


@pytest.mark.parametrize("knows", [False, True])
def test_of_equal_probabilities_the_lowest_clusters_come_first(images, knows):
    p = np.random.default_rng(0).choice(np.float32([1 / 64, 1 / 32]), (30, 40))
    known = Clusters.fit(p, images[1][:30]) if knows else None
    found = decide(SimpleNamespace(clusters=known), Prediction(p, images[1][:30]))
    highest = [np.flatnonzero(row == row.max())[:2].tolist() for row in p]
    assert np.stack([found.cluster, found.second], axis=1).tolist() == highest


def test_clusters_of_the_head_are_placed_where_predictions_go(images):
    p, h, group = images
    halves = Split((0, 7), np.stack([[1, 0.02, 0, 0], [1, -0.02, 0, 0]]).astype(np.float32))
    known = replace(
        Clusters.fit(p, h),
        of_base=(0, 1, -1),
        splits={0: halves},
        names={0: "a", 1: "b", 7: "other half"},
    )
    placed = known.placed(group, h)
    assert set(placed.tolist()) == {0, 7, 1, -1}
    assert placed.tolist() == known.apply(p, h).cluster.tolist()


def test_a_predictor_is_loaded_for_the_device_with_the_clusters_beside_it(
    images, tmp_path, monkeypatch
):
    load = create_autospec(predict.load)
    monkeypatch.setattr(predict, "load", load)
    assert load_predictor(tmp_path, "cpu").clusters is None
    load.assert_called_once_with(tmp_path, "cpu")
    Clusters.fit(*images[:2], ["a", "b", "c"]).write(tmp_path)
    assert load_predictor(tmp_path).clusters.names == {0: "a", 1: "b", 2: "c"}
    assert load.call_args.args == (tmp_path, "auto")


@pytest.mark.parametrize("knows", [False, True])
def test_the_second_is_the_next_most_probable(images, knows):
    p = np.random.default_rng(0).dirichlet(np.ones(5), 30).astype(np.float32)
    h = images[1][:30]
    known = Clusters.fit(p, h, list("abcde")) if knows else None
    found = decide(SimpleNamespace(clusters=known), Prediction(p, h))
    order = np.argsort(-p, axis=1)
    assert found.cluster.tolist() == order[:, 0].tolist()
    assert found.second.tolist() == order[:, 1].tolist()
    assert found.shares.tolist() == p.tolist()
    if knows:
        assert found.names == dict(enumerate("abcde"))


def test_an_excluded_cluster_is_no_second_and_no_confidence_is_above_one(images):
    p, h, _ = images
    known = replace(Clusters.fit(p, h), of_base=(0, 1, -1), names={0: "a", 1: "b"})
    found = known.apply(np.float32([[0.5, 0.2, 0.3], [0.1, 0.2, 0.7]]), h[[0, 60]])
    assert found.cluster.tolist() == [0, -1]
    assert found.second.tolist() == [1, 1]
    assert found.confidence == pytest.approx([0.5, 0.7])
    whole = replace(known, of_base=(0, 0, 0), names={0: "all"})
    rounded = np.float32([[0.5, 0.3, 0.201]])  # as half precision leaves them
    assert whole.apply(rounded, h[:1]).confidence.tolist() == [1.0]


def test_fences_are_tukeys_of_the_clusters_that_have_images(images):
    p, h, group = images
    h = h + np.random.default_rng(1).normal(0, 1, h.shape).astype(np.float32)
    known = Clusters.fit(p, h).measured(h, np.where(group == 0, -1, group))
    assert known.centres.keys() == known.fences.keys() == {1, 2}
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    found = known.apply(p, h)
    assert np.isnan(found.distance[:30]).all()
    for k in (1, 2):
        centre = unit[group == k].mean(axis=0)
        assert known.centres[k] == pytest.approx(centre / np.linalg.norm(centre), abs=1e-6)
        away = 1 - unit[group == k] @ known.centres[k]
        low, high = np.quantile(away, [0.25, 0.75])
        assert known.fences[k] == pytest.approx(high + 1.5 * (high - low), abs=1e-6)
        assert found.distance[group == k] == pytest.approx(away, abs=1e-6)
        assert found.outlier[group == k].tolist() == (away > known.fences[k]).tolist()
    assert 0 < found.outlier.sum() < 20
    away = known.apply(p, h * np.linspace(1, 2, 90, dtype=np.float32)[:, None])
    assert ((away.novelty > 1) & (away.novelty < 2)).any()
    assert away.novel.tolist() == (away.novelty > 1).tolist()


def test_of_images_that_are_all_alike_none_is_an_outlier(images):
    p, _, group = images
    h = 5 * np.eye(D, dtype=np.float32)[group]
    found = Clusters.fit(p, h).apply(p, h)
    assert found.distance.tolist() == [0] * 90
    assert not found.outlier.any()
    assert not found.novel.any()
