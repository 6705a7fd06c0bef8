"""The losses of a step, what computes them, and what they are given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.trial import Trial
from tests.engine.test_loop import IMAGES, StopAt, assert_same, fit, tiny, weights
from vtcc.engine import checkpoint, loop, schedule
from vtcc.engine.kernels import begun_with, resolve
from vtcc.engine.pixels import Pixels
from vtcc.engine.schedule import view_seeds
from vtcc.engine.scratch import PREVIOUS, STATE, Scratch
from vtcc.engine.views import PixelViews

X = torch.from_numpy(IMAGES[:16]).permute(0, 3, 1, 2)


def other_attention():
    """Kernels that the rules do not give here, and the parameters that ask for them."""
    fused = not resolve(tiny()).fused_attention
    params = tiny(**{"train.attention": "fused" if fused else "plain"})
    return vars(resolve(params)), params


def test_a_checkpoint_is_gone_on_with_what_it_began_with_unless_the_user_asks_otherwise():
    begun, asked = other_attention()
    assert vars(begun_with(begun, tiny())) == begun
    rule = resolve(tiny())
    against = replace(asked, attention="plain" if begun["fused_attention"] else "fused")
    assert begun_with(begun, against) == resolve(against) != begun_with(begun, tiny())
    elsewhere = begun | {"device": "tpu", "channels_last": not rule.channels_last}
    assert vars(begun_with(elsewhere, tiny())) == begun
    assert begun_with(elsewhere, against) == resolve(against)
    assert begun_with(begun | {"unknown": 1}, tiny()) == rule
    assert begun_with(None, tiny()) == rule


def test_a_training_that_came_from_elsewhere_keeps_its_kernels_at_each_resume(tmp_path):
    begun, asked = other_attention()
    whole = fit(tmp_path / "whole", asked)
    with pytest.raises(loop.Interrupted):
        fit(tmp_path / "cut", asked, StopAt(epoch=2))
    for name in (STATE, PREVIOUS):  # as made on a machine whose rules say so
        state = checkpoint.load_state(tmp_path / "cut" / name)
        state["params"]["attention"] = "auto"
        checkpoint.save_state(tmp_path / "cut" / name, state)
    assert Scratch(tmp_path / "cut").kernels() == begun
    (tmp_path / "cut" / STATE).write_bytes(b"damaged")
    resumed = fit(tmp_path / "cut", tiny())
    assert vars(resumed.kernels) == begun
    assert_same(weights(whole), weights(resumed))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_of_both_views_are_summed_in_fp32(precision):
    """Weights are cast for each view: a cast shared by both would sum in 16 bits."""
    params = replace(tiny(**{"train.loss.entropy_weight": 0.0}), precision=precision, device="cpu")
    trial = Trial(params, resolve(params), 1)
    steps, seeds = trial.objective, view_seeds(0, 0)
    weight = trial.model.cluster_projectors[0][0].weight
    outputs = [steps._outputs(steps._view(X, seeds, side)) for side in (0, 1)]
    parts = []
    for _, p, _ in outputs:
        parts.append(torch.autograd.grad(p.square().sum(), weight, retain_graph=True)[0])
    together = sum(p.square().sum() for _, p, _ in outputs)
    assert torch.equal(torch.autograd.grad(together, weight)[0], parts[0] + parts[1])


def test_the_second_view_is_drawn_differently():
    params = replace(tiny(), device="cpu")
    steps, seeds = Trial(params, resolve(params), 1).objective, view_seeds(0, 5)
    assert not torch.equal(steps._view(X, seeds, 0), steps._view(X, seeds, 1))
    assert torch.equal(steps._view(X, seeds, 1), steps._view(X, seeds, 1))


@pytest.mark.slow  # importing the compiler takes most of it
def test_compiling_goes_around_the_model_and_changes_no_loss(monkeypatch):
    """With torch's own passes but no code generation, which takes a minute on a CPU."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: real(f, backend="aot_eager"))
    params = replace(tiny(), precision="fp32", device="cpu")
    x = torch.from_numpy(IMAGES[:16]).permute(0, 3, 1, 2)
    found = {}
    for compiled in ("never", "always"):
        kernels = resolve(replace(params, compile=compiled))
        trial = Trial(params, kernels, 1)
        loss = trial.objective.backward(trial.objective.contrast(x, view_seeds(0, 0)))
        names = list(trial.model.state_dict())
        found[compiled] = loss.item(), trial.model.encoder.class_token.grad.clone(), names
    assert found["always"][0] == pytest.approx(found["never"][0], rel=1e-5)
    assert torch.allclose(found["always"][1], found["never"][1], atol=1e-5)
    assert found["always"][2] == found["never"][2]


def test_channels_last_changes_the_layout_and_no_value():
    params = replace(tiny(), precision="fp32", device="cpu")
    x = torch.from_numpy(IMAGES[:16]).permute(0, 3, 1, 2)
    losses = []
    for layout in (False, True):
        kernels = replace(resolve(params), channels_last=layout)
        trial = Trial(params, kernels, 1)
        view = trial.objective._view(x, view_seeds(0, 0), 0)
        weight = trial.model.encoder.stem[3].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) is layout
        assert view.is_contiguous(memory_format=torch.channels_last) or not layout
        losses.append(trial.objective.contrast(x, view_seeds(0, 0)).total().item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_normalised_views_have_the_bits_of_the_definition():
    from vtcc.engine.augment import normalize

    x = torch.rand(4, 1, 16, 16)
    views = PixelViews(tiny(), (0.31,), (0.17,))
    assert torch.equal(views.normalize(x), normalize(x, (0.31,), (0.17,)))


def test_batches_follow_the_epochs_orders():
    params = tiny()
    first, second = schedule.epoch_order(65, 0, 0), schedule.epoch_order(65, 0, 1)
    batches = [schedule.batch(65, params, step) for step in range(8)]
    assert torch.equal(torch.cat(batches[:4]), first[:64])
    assert torch.equal(torch.cat(batches[4:]), second[:64])


class NoDevice(Pixels):
    """As on a GPU whose memory holds nothing or everything, on the CPU."""

    def __init__(self, budget):
        super().__init__(IMAGES, np.arange(5, 70), "meta", budget)
        self._device = "cpu"


def test_pixels_read_ahead_are_the_pixels():
    plain, ahead = Pixels(IMAGES, np.arange(5, 70), "cpu"), NoDevice(budget=0)
    params = tiny()
    steps = [0, 1, 2, 7, 3]  # 7 was not announced: a resume
    for step in steps:
        index, following = (schedule.batch(65, params, s) for s in (step, step + 1))
        assert torch.equal(ahead.take(index, following), plain.take(index))
    assert torch.equal(plain.take(torch.tensor([0]))[0, 0], torch.from_numpy(IMAGES[5, :, :, 0]))


def test_pixels_that_fit_are_uploaded_in_pieces(monkeypatch):
    from vtcc.engine import pixels

    monkeypatch.setattr(pixels, "UPLOAD", 10 * 256)
    whole = Pixels(IMAGES, np.arange(5, 70), "cpu")
    held = whole._upload()
    assert torch.equal(held, torch.from_numpy(IMAGES[5:70]))
    assert NoDevice(budget=65 * 256)._whole is not None
    assert NoDevice(budget=65 * 256 - 1)._whole is None
