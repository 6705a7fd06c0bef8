import threading
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.engine.test_loop import IMAGES, StopAt, assert_same, fit, tiny, weights
from tests.fakes import stand_in
from vtcc.engine import loop, probe
from vtcc.engine.kernels import resolve
from vtcc.engine.losses import cluster_loss, cluster_losses
from vtcc.engine.schedule import view_seeds
from vtcc.engine.sides import Open, Sides

X = torch.from_numpy(IMAGES[:16]).permute(0, 3, 1, 2)


def close(ours, theirs, name=""):
    """To the rounding of fp32 sums in another order."""
    torch.testing.assert_close(
        ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda difference: f"{name}: {difference}"
    )


EVERYTHING = {
    "train.model.overcluster_heads": 2,
    "train.ema": 0.9,
    "train.self_label.epochs": 1,
    "train.self_label.threshold": 0.1,
}


def trial(threads, precision="fp32", **changes):
    params = replace(tiny(**changes), precision=precision, device="cpu")
    return probe.Trial(params, resolve(params), 1, threads)


@pytest.fixture
def two_cores(monkeypatch):
    stand_in(monkeypatch, "vtcc.engine.distributed", "_cores", lambda: 2)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_threads_train_to_the_bits_of_one(tmp_path, two_cores, precision):
    found = {}
    for threads in (1, 2):
        params = tiny(**EVERYTHING, **{"train.threads": threads, "train.precision": precision})
        found[threads] = fit(tmp_path / str(threads), params)
    assert_same(weights(found[1]), weights(found[2]))
    curves = [
        [repr({k: v for k, v in row.items() if k != "images_per_second"}) for row in fitted.curves]
        for fitted in found.values()
    ]
    assert curves[0] == curves[1]


def test_a_training_goes_on_with_another_number_of_threads(tmp_path, two_cores):
    one, two = (tiny(**{"train.threads": n}) for n in (1, 2))
    whole = fit(tmp_path / "whole", one)
    with pytest.raises(loop.Interrupted):
        fit(tmp_path / "cut", two, StopAt(epoch=2))
    assert_same(weights(whole), weights(fit(tmp_path / "cut", two)))


def test_views_side_by_side_are_two_passes_of_one_model():
    """Losses, gradients and running statistics are those of a pass after the other."""
    apart, plain = (trial(2, **{"train.model.overcluster_heads": 2}) for _ in range(2))
    plain.objective._sides = None
    assert apart.objective._sides is not None
    for step in range(3):
        totals = []
        for one in (apart, plain):
            losses = one.objective.contrast(X, view_seeds(0, step))
            one.optimizer.zero_grad(set_to_none=True)
            totals.append(one.objective.backward(losses).item())
        assert totals[0] == pytest.approx(totals[1], rel=1e-6)
        gradients = [dict(t.model.named_parameters()) for t in (apart, plain)]
        for name, weight in gradients[0].items():
            close(weight.grad, gradients[1][name].grad, name)
    names = [name for name, _ in plain.model.named_buffers() if "running" in name]
    assert len(names) >= 4
    for name in names:
        ours, theirs = (t.model.get_buffer(name) for t in (apart, plain))
        close(ours, theirs, name)
        assert not torch.equal(ours, torch.zeros_like(ours))
    counts = [b for name, b in apart.model.named_buffers() if name.endswith("batches_tracked")]
    assert {int(count) for count in counts} == {6}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_self_labelling_beside_each_other_is_one_pass_after_the_other(precision):
    apart, plain = (trial(2, precision, **EVERYTHING) for _ in range(2))
    plain.objective._sides = None
    seeds = view_seeds(0, 0)
    for one in (apart, plain):  # statistics that labels are seen to be made with
        one.objective.backward(one.objective.contrast(X, seeds))
        one.optimizer.zero_grad(set_to_none=True)
    losses = [one.objective.self_label(X, seeds) for one in (apart, plain)]
    close(losses[0].cluster, losses[1].cluster)
    assert float(losses[0].cluster.sum()) > 0
    for one, loss in zip((apart, plain), losses, strict=True):
        one.objective.backward(loss)
    for name, weight in apart.model.named_parameters():
        theirs = plain.model.get_parameter(name).grad
        if theirs is None:
            assert weight.grad is None, name
        else:
            close(weight.grad, theirs, name)
    for name, value in apart.model.named_buffers():
        close(value, plain.model.get_buffer(name), name)
    # And views are contrasted again after it.
    totals = [float(one.objective.contrast(X, seeds).total()) for one in (apart, plain)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


def test_the_second_view_is_drawn_differently():
    one = trial(1).objective
    seeds = view_seeds(0, 5)
    assert not torch.equal(one._view(X, seeds, 0), one._view(X, seeds, 1))
    assert torch.equal(one._view(X, seeds, 1), one._view(X, seeds, 1))


def test_sides_share_weights_and_nothing_else():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).train()
    before = deepcopy(model.state_dict())
    sides = Sides(model, 2)
    first, second = sides.models
    assert first is model
    assert list(map(id, second.parameters())) == list(map(id, model.parameters()))
    with torch.no_grad():
        second(torch.randn(8, 3))
    assert_same(model.state_dict(), before)
    x = torch.randn(8, 3)
    with torch.no_grad():
        second(x)
    sides.join_statistics()
    expected = deepcopy(model)
    expected.load_state_dict(before)
    with torch.no_grad():
        expected(x)
    for name, value in expected.state_dict().items():
        close(model.state_dict()[name], value, name)


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_in_one_side_is_told_when_no_side_works_any_more(broken):
    sides, finished = Sides(nn.Linear(1, 1), 2), []
    started = threading.Barrier(2, timeout=5)

    def work(side):
        started.wait()
        if side == broken:
            raise ValueError(f"side {side}")
        finished.append(side)

    with pytest.raises(ValueError, match=f"side {broken}"):
        sides.run(work)
    assert finished == [1 - broken]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_happens_meanwhile_is_done_once_and_its_error_told(threads):
    sides, done = Sides(nn.Linear(1, 1), threads), []
    assert sides.run(lambda side: side * 10, lambda: done.append("meanwhile")) == (0, 10)
    assert done == ["meanwhile"]

    def fails():
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        sides.run(done.append, fails)
    assert sorted(done[1:]) == [0, 1]


def test_sides_can_take_turns_in_the_calling_thread():
    sides = Sides(nn.Linear(1, 1), 2)
    here = threading.get_ident()
    assert here not in sides.run(lambda side: threading.get_ident())
    with sides.in_one_thread():
        assert sides.run(lambda side: threading.get_ident()) == (here, here)
    assert here not in sides.run(lambda side: threading.get_ident())


def test_a_cut_graph_goes_on_from_the_gradients_of_its_leaves():
    w = torch.tensor(3.0, requires_grad=True)
    side = Open((w * 2, w * w, w * 100, torch.tensor(5.0)))
    a, b, unused, constant = side.leaves
    assert not constant.requires_grad
    (a * 7 + b * 11).backward()
    assert w.grad is None and unused.grad is None
    side.close()
    assert w.grad == 7 * 2 + 11 * 6


def test_heads_at_once_are_each_alone():
    g = torch.Generator().manual_seed(0)
    p_a, p_b = torch.randn(2, 3, 20, 6, generator=g).softmax(dim=-1)
    prior = torch.rand(3, 6, generator=g).softmax(dim=-1)
    for priors in (None, prior):
        together = cluster_losses(p_a, p_b, 0.7, 1.5, priors)
        for head in range(3):
            of_head = None if priors is None else priors[head]
            alone = cluster_loss(p_a[head], p_b[head], 0.7, 1.5, of_head)
            close(together[head], alone)
    assert cluster_losses(p_a[:0], p_b[:0]).shape == (0,)
