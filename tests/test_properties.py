"""What must hold for any input: scores, losses and edits under what should not matter to them."""

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vtcc.analysis.metrics import clustering_scores
from vtcc.engine.losses import cluster_loss, instance_loss
from vtcc.errors import VtccError
from vtcc.grouping import edits, levels
from vtcc.grouping.clusters import EXCLUDED, Clusters

QUICK = settings(max_examples=25, deadline=None)
PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)
# Labels of one class give no scores (tests/analysis/test_metrics.py).
OF_CLASSES = PAIRS.filter(lambda pairs: len({label for label, _ in pairs}) > 1)


@QUICK
@given(OF_CLASSES, st.permutations(range(6)), st.permutations(range(6)), st.randoms())
def test_scores_depend_on_the_groups_alone(pairs, classes, clusters, random):
    y_true, y_pred = map(list, zip(*pairs, strict=True))
    before = clustering_scores(y_true, y_pred)
    random.shuffle(pairs)
    renamed = [f"class {classes[t]}" for t, _ in pairs], [clusters[p] for _, p in pairs]
    after = clustering_scores(*renamed)
    assert before.keys() == after.keys() == {"acc", "nmi", "ari", "fmi"}
    for name, score in before.items():
        assert abs(score - after[name]) < 1e-9, name
        assert -1e-9 <= score <= 1 + 1e-9 or name == "ari"
    if backwards := clustering_scores(y_pred, y_true):
        assert abs(before["nmi"] - backwards["nmi"]) < 1e-9
        assert abs(before["acc"] - backwards["acc"]) < 1e-9
    else:
        assert len(set(y_pred)) == 1


@QUICK
@given(OF_CLASSES)
def test_the_true_groups_score_best(pairs):
    y_true, y_pred = map(list, zip(*pairs, strict=True))
    assert clustering_scores(y_true, y_true)["acc"] == 1
    assert clustering_scores(y_true, y_pred)["acc"] <= 1


@QUICK
@given(st.integers(2, 9), st.integers(2, 6), st.integers(0, 9999))
def test_losses_do_not_care_about_order(N, K, seed):
    g = torch.Generator().manual_seed(seed)
    z_a, z_b = torch.randn(2, N, K, generator=g, dtype=torch.float64)
    rows, columns = torch.randperm(N, generator=g), torch.randperm(K, generator=g)
    instance = instance_loss(z_a, z_b, 0.5)
    for other in (instance_loss(z_a[rows], z_b[rows], 0.5), instance_loss(z_b, z_a, 0.5)):
        torch.testing.assert_close(other, instance, rtol=1e-5, atol=1e-6)
    # A turn of the space and the length of a row change no cosine.
    turn = torch.linalg.qr(torch.randn(K, K, generator=g, dtype=torch.float64)).Q
    turned = instance_loss(3 * z_a @ turn, 0.1 * z_b @ turn, 0.5)
    torch.testing.assert_close(turned, instance, rtol=1e-4, atol=1e-5)
    p_a, p_b = z_a.softmax(1), z_b.softmax(1)
    cluster = cluster_loss(p_a, p_b, 1.0)
    for p, q in ((p_a[rows], p_b[rows]), (p_b, p_a), (p_a[:, columns], p_b[:, columns])):
        torch.testing.assert_close(cluster_loss(p, q, 1.0), cluster, rtol=1e-5, atol=1e-6)


def results(seed, N=40, K=4):
    """Some images in four groups, as `refine` finds them."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, K, N)
    base[:K] = range(K)
    h = (np.eye(6)[base] * 4 + rng.normal(size=(N, 6))).astype(np.float32)
    p = np.full((N, K), 0.05, np.float32)
    p[np.arange(N), base] = 0.85
    files = {f"f{i}": i for i in range(N)}
    return edits.State(Clusters.fit(p, h), files, h, base.copy(), {}), p


def an_edit(kind, a, b, names):
    one_name = {"name": f"group {a}"}
    return {
        "rename": {"do": "rename", "cluster": a} | one_name,
        "merge": {"do": "merge", "clusters": [a, b], "into": a} | one_name,
        "split": {"do": "split", "cluster": a, "into": 2},
        "exclude": {"do": "exclude", "cluster": a},
        "exclude_files": {"do": "exclude_files", "files": names},
        "move": {"do": "move", "files": names, "to": b},
    }[kind]


NAMES = st.lists(st.integers(0, 39).map("f{}".format), min_size=1, max_size=5, unique=True)
KINDS = st.sampled_from(["rename", "merge", "split", "exclude", "exclude_files", "move"])
EDITS = st.lists(st.builds(an_edit, KINDS, st.integers(0, 6), st.integers(0, 6), NAMES), max_size=6)


# A part that is split in its turn, whose new centres are nearer to an image of the other part.
@example([an_edit("split", 1, 0, ["f0"])] * 2, 7)
@QUICK
@given(EDITS, st.integers(0, 9))
def test_any_edits_in_any_order_leave_model_and_table_of_one_mind(wishes, seed):
    state, p = results(seed)
    before = state.cluster.copy()
    possible = []
    for wish in wishes:
        try:
            after = edits.apply(state, [*possible, wish])
        except VtccError:
            continue  # refused: names a cluster that is gone, say
        possible.append(wish)
        last = after
        # The model, with the files that were moved by hand, says what the table says.
        base = before.astype(np.int32)
        told = after.clusters.apply(p, state.h, base).cluster.copy()
        for file, k in after.moved.items():
            told[state.files[file]] = k
        assert told.tolist() == after.cluster.tolist()
        assert set(after.cluster.tolist()) <= {*after.clusters.names, EXCLUDED}
        assert len(after.cluster) == len(before)
        # One tree, over all clusters that have images.
        tree, centres = after.clusters.tree, after.clusters.centres.keys()
        leaves = levels.leaves(tree)
        assert leaves <= after.clusters.names.keys()
        assert centres <= leaves or len(centres) == 1
        assert len(tree) == max(len(leaves) - 1, 0)
        assert [join.height for join in tree] == sorted(join.height for join in tree)
        assert levels.from_list(levels.to_list(tree)) == tree
    assert state.cluster.tolist() == before.tolist()
    if possible:
        assert edits.apply(state, possible).cluster.tolist() == last.cluster.tolist()
