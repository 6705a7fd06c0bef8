import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes import stand_in
from vtcc import config
from vtcc.engine import checkpoint, loop, objective, schedule, views
from vtcc.engine.kernels import resolve
from vtcc.engine.model import VTCC
from vtcc.engine.optim import learning_rate, make_optimizer
from vtcc.engine.scratch import STATE
from vtcc.errors import VtccError


def tiny(**changes):
    values = config.override(
        config.read_yaml(config.PRESETS / "tiny.yaml"),
        {"train.epochs": 3, "train.batch_size": 16, **changes},
    )
    return config.from_dict(config.Params, values).train


IMAGES = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 1), dtype=np.uint8)
ROWS = np.arange(5, 70)  # 65 images: 4 steps an epoch, one image left over


def fit(scratch, params=None, callbacks=None, images=IMAGES, **more):
    return loop.fit(
        images,
        ROWS,
        params or tiny(),
        mean=(0.5,),
        std=(0.3,),
        scratch=Path(scratch),
        callbacks=callbacks,
        **more,
    )


def weights(fitted):
    return {k: v.clone() for k, v in fitted.model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


class StopAt(loop.Silent):
    """Sends a signal in the middle of a training."""

    def __init__(self, epoch, signum=signal.SIGTERM):
        self.epoch, self.signum, self.starts = epoch, signum, []

    def on_start(self, info):
        self.starts.append(info["resumed_run_id"])
        return "run-7"

    def on_epoch(self, epoch, figures):
        if epoch == self.epoch:
            signal.raise_signal(self.signum)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nothing has stopped."""
    return fit(tmp_path_factory.mktemp("whole"))


def test_same_seed_same_bits_and_another_seed_another_model(tmp_path, whole):
    first = whole
    assert_same(weights(first), weights(fit(tmp_path / "b")))
    other = fit(tmp_path / "c", tiny(**{"train.seed": 1}))
    assert not torch.equal(
        weights(first)["encoder.class_token"], weights(other)["encoder.class_token"]
    )


def test_seed_epoch_and_step_each_change_the_draws():
    """torch's CPU generator keeps 32 bits of its seed: the draws are compared, not the seeds."""

    def draws(seed, kind, number):
        generator = torch.Generator().manual_seed(schedule.stream(seed, kind, number))
        return tuple(torch.rand(4, generator=generator).tolist())

    keys = [
        (s, k, n)
        for s in (0, 1, 2**31)
        for k in (schedule.ORDER, schedule.VIEWS)
        for n in range(50)
    ]
    assert len({draws(*key) for key in keys}) == len(keys)
    assert schedule.epoch_order(65, 0, 0).tolist() != schedule.epoch_order(65, 1, 0).tolist()


def test_two_seeds_see_other_batches_and_other_views(tmp_path, monkeypatch):
    seen = {}
    real = views.view

    def recording(x, *args, **kwargs):
        out = real(x, *args, **kwargs)
        seen[seed].append((x.clone(), out.clone()))
        return out

    stand_in(monkeypatch, views, "view", recording)
    for seed in (0, 1):
        seen[seed] = []
        fit(tmp_path / str(seed), tiny(**{"train.seed": seed, "train.epochs": 1}))
    steps = len(IMAGES) // 16
    # What follows the steps is the scoring, which sees the same whatever the seed.
    trained = (seen[seed][: 2 * steps] for seed in (0, 1))
    for (x_0, view_0), (x_1, view_1) in zip(*trained, strict=True):
        assert not torch.equal(x_0, x_1)
        assert not torch.equal(view_0, view_1)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path, whole, signum):
    stopper = StopAt(epoch=2, signum=signum)
    with pytest.raises(loop.Interrupted) as stopped:
        fit(tmp_path / "cut", callbacks=stopper)
    assert stopped.value.signum == signum
    stopper.epoch = None
    resumed = fit(tmp_path / "cut", callbacks=stopper)
    assert stopper.starts == [None, "run-7"]
    assert_same(weights(whole), weights(resumed))
    assert [c["epoch"] for c in resumed.curves] == [1, 2, 3]
    timeless = [
        [{k: v for k, v in row.items() if k != "images_per_second"} for row in f.curves]
        for f in (whole, resumed)
    ]
    assert timeless[0] == timeless[1]
    assert whole.candidates == resumed.candidates


AFRESH = {"train.restart_heads": True, "train.epochs": 4}


@pytest.fixture(scope="module")
def whole_afresh(tmp_path_factory):
    return weights(fit(tmp_path_factory.mktemp("afresh"), tiny(**AFRESH)))


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_training_whose_heads_begin_afresh_resumes_to_the_same_bits(
    tmp_path, whole_afresh, stop_at
):
    params = tiny(**AFRESH)
    with pytest.raises(loop.Interrupted):
        fit(tmp_path / "cut", params, StopAt(epoch=stop_at))
    assert_same(whole_afresh, weights(fit(tmp_path / "cut", params)))


def test_half_of_the_heads_begin_afresh_half_way_and_no_other_weight_does(tmp_path, monkeypatch):
    before, after = {}, {}
    real = VTCC.restart_heads

    def recording(model, seed):
        before.update({k: v.clone() for k, v in model.state_dict().items()})
        fresh = real(model, seed)
        after.update({k: v.clone() for k, v in model.state_dict().items()})
        assert {id(w) for w in fresh} == {id(w) for w in model.cluster_projectors[1].parameters()}
        return fresh

    stand_in(monkeypatch, VTCC, "restart_heads", recording)
    fitted = fit(tmp_path, tiny(**AFRESH))
    assert len(fitted.model.cluster_projectors) == 2
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert {k.split(".")[:2] == ["cluster_projectors", "1"] for k in changed} == {True}
    # Weights, running means and variances, counts of batches: of all three layers and two norms.
    assert len(changed) == 3 * 2 + 2 * 5
    assert not torch.equal(
        after["cluster_projectors.0.0.weight"], before["cluster_projectors.1.0.weight"]
    )


def test_a_checkpoint_in_the_middle_of_an_epoch_resumes_to_the_same_bits(
    tmp_path, whole, monkeypatch
):
    real, calls = objective.instance_loss, []

    def failing(*args):
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return real(*args)

    stand_in(monkeypatch, objective, "instance_loss", failing)
    with pytest.raises(loop.Interrupted):
        fit(tmp_path / "cut")
    state = checkpoint.load_state(tmp_path / "cut" / STATE)
    assert state["step"] == 7  # 4 steps an epoch: in the middle of the second
    monkeypatch.undo()
    resumed = fit(tmp_path / "cut")
    assert_same(weights(whole), weights(resumed))
    for a, b in zip(whole.curves, resumed.curves, strict=True):
        assert a["cluster_loss"] == b["cluster_loss"]
        assert a["smallest_cluster"] == b["smallest_cluster"]


def test_rows_outside_the_training_split_are_never_read(tmp_path, whole):
    changed = IMAGES.copy()
    changed[:5] = 255 - changed[:5]
    assert_same(weights(whole), weights(fit(tmp_path / "b", images=changed)))


def test_candidates_are_every_head_at_every_selection_point(tmp_path):
    params = tiny(**{"train.epochs": 4, "train.selection.points": 2})
    fitted = fit(tmp_path, params)
    found = [(c["epoch"], c["step"], c["head"]) for c in fitted.candidates]
    assert found == [(3, 12, 0), (3, 12, 1), (4, 16, 0), (4, 16, 1)]
    for c in fitted.candidates:
        assert 0 <= c["entropy"] <= 1 + 1e-6
        assert 0 <= c["smallest_cluster"] <= 1 / 10
        assert 1 / 10 <= c["confidence"] <= 1
    final = weights(fitted)
    earlier = fitted.choose(12, 1)
    assert int(earlier.selected_head) == 1
    assert not torch.equal(final["encoder.class_token"], earlier.encoder.class_token)
    latest = fitted.choose(16, 0).state_dict()
    assert_same(final, latest)


@pytest.mark.parametrize(
    ("epochs", "points", "expected"),
    [(100, 4, {62, 75, 88, 100}), (2, 1, {2}), (1, 4, {1}), (3, 2, {2, 3})],
)
def test_selection_epochs_end_with_the_last(epochs, points, expected):
    selection = replace(tiny().selection, points=points)
    assert (
        schedule.selection_epochs(replace(tiny(), epochs=epochs, selection=selection)) == expected
    )


def test_each_epoch_shows_every_image_at_most_once_in_a_new_order():
    first, second = schedule.epoch_order(65, 0, 0), schedule.epoch_order(65, 0, 1)
    assert sorted(first.tolist()) == list(range(65))
    assert first.tolist() != second.tolist()
    assert first.tolist() == schedule.epoch_order(65, 0, 0).tolist()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.batch_size", 66, "train.batch_size: 66 is more than the 65 training images"),
        ("train.num_clusters", 66, "train.num_clusters: 66 clusters for 65 training images"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(tmp_path, key, value, message):
    with pytest.raises(VtccError, match=message):
        fit(tmp_path, tiny(**{key: value}))


@pytest.mark.parametrize("minutes", [1.0, 1e-9])
def test_a_diverging_training_never_replaces_a_good_checkpoint(tmp_path, monkeypatch, minutes):
    real, calls = objective.instance_loss, []

    def exploding(*args):
        calls.append(1)
        return real(*args) * (float("nan") if len(calls) > 9 else 1)

    stand_in(monkeypatch, objective, "instance_loss", exploding)
    params = tiny(
        **{
            "train.selection.points": 2,
            "train.epochs": 4,
            "train.checkpoint_minutes": minutes,
        }
    )
    with pytest.raises(VtccError, match=r"the loss is not finite at step 1[02] of 16"):
        fit(tmp_path, params)
    state = checkpoint.load_state(tmp_path / STATE)
    assert state["step"] == (9 if minutes < 1 else 8)  # of epoch 2
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_epoch_figures_are_the_definitions():
    params = tiny()
    totals = loop.Totals.zero(params)
    heads, K = params.model.num_cluster_heads, params.num_clusters
    p = torch.full((heads, 4, K), 0.5 / (K - 1))
    for row, cluster in enumerate([0, 0, 1, 2]):
        p[:, row, cluster] = 0.5
    totals.add(torch.tensor(3.0), torch.tensor([2.0, 1.0]), p)
    totals.add(torch.tensor(5.0), torch.tensor([4.0, 2.0]), p)
    figures = totals.figures()
    assert figures["instance_loss"] == 4.0
    assert figures["cluster_loss"] == 1.5  # of head 1, the lower one
    assert figures["confidence"] == pytest.approx(0.5)
    assert figures["smallest_cluster"] == 0
    assert figures["clusters_used"] == 3
    assert figures["largest_cluster"] == 0.5
    assert np.isnan(figures["spread"])  # not given with these steps
    mean = p[1].mean(0)
    expected = float(-(mean * mean.log()).sum() / np.log(K))
    assert figures["entropy"] == pytest.approx(expected)


def test_cosine_schedule_warms_up_and_ends_at_zero():
    optimizer = replace(tiny().optimizer, learning_rate=1.0, warmup=0.1, schedule="cosine")
    rates = [learning_rate(optimizer, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    constant = replace(optimizer, schedule="constant", warmup=0.0)
    assert {learning_rate(constant, step, 100) for step in range(100)} == {1.0}


def test_weight_decay_spares_norms_biases_and_the_class_token():
    from vtcc.engine.model import build

    params = tiny()
    model = build(params.model, 10, image_size=16, channels=1)
    decayed, exempt = make_optimizer(model, params.optimizer).param_groups
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (0.05, 0.0)
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert any(p is model.encoder.class_token for p in exempt["params"])
    count = sum(len(g["params"]) for g in (decayed, exempt))
    assert count == len(list(model.parameters()))


def test_rules_resolve_auto_without_timing():
    params = tiny(**{"train.device": "cpu"})
    assert resolve(params) == resolve(params)
    assert resolve(params).fused_attention is False  # 17 tokens on a CPU
    assert resolve(replace(params, attention="fused")).fused_attention is True
    assert resolve(replace(params, precision="fp32")).precision == "fp32"
