import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engine.test_loop import IMAGES, StopAt, assert_same, fit, tiny, weights
from tests.fakes import stand_in
from vtcc.engine import checkpoint, loop, probe, schedule
from vtcc.engine.kernels import Kernels, resolve
from vtcc.engine.pixels import Pixels
from vtcc.engine.schedule import view_seeds
from vtcc.engine.scratch import KERNELS, STATE
from vtcc.engine.views import PixelViews

SHAPE = (16, 16, 1)
RULE = Kernels("cpu", "bf16", False)
LONG = probe.MIN_STEPS


@pytest.fixture
def measured(monkeypatch):
    """A measurement that says what it is told to, and counts how often it is asked."""
    calls = []

    def fake(params, rule, steps, shape):
        calls.append(steps)
        chosen = replace(rule, fused_attention=not rule.fused_attention)
        return chosen, {probe.label(chosen): 0.5, probe.label(rule): 1.0}

    stand_in(monkeypatch, probe, "measure", fake)
    return calls


def test_a_resume_keeps_its_kernels_and_a_repeat_those_of_the_machine(tmp_path, measured):
    params, known = tiny(), tmp_path / "known"
    first = probe.settle(params, LONG, SHAPE, tmp_path / "a", known)
    assert first.fused_attention is not resolve(params).fused_attention
    assert probe.settle(params, LONG, SHAPE, tmp_path / "b", known) == first  # a repeat
    assert measured == [LONG]
    for file in known.iterdir():
        file.unlink()
    assert probe.settle(params, LONG, SHAPE, tmp_path / "a", known) == first  # a resume
    assert measured == [LONG]
    (tmp_path / "a" / KERNELS).write_text("{")
    assert probe.settle(params, LONG, SHAPE, tmp_path / "a", known) == first
    assert measured == [LONG, LONG]


@pytest.mark.parametrize(
    "changes",
    [
        {"train.batch_size": 8},
        {"train.model.depth": 3},
        {"train.num_clusters": 5},
        {"train.image_size": 8},
    ],
)
def test_another_shape_is_measured_anew_and_another_seed_is_not(tmp_path, measured, changes):
    known = tmp_path / "known"
    for number, params in enumerate((tiny(), tiny(**{"train.seed": 7}), tiny(**changes))):
        probe.settle(params, LONG, SHAPE, tmp_path / str(number), known)
    assert len(measured) == 2


def test_short_trainings_and_those_without_a_place_for_it_follow_the_rules(tmp_path, measured):
    params = tiny()
    assert probe.settle(params, LONG - 1, SHAPE, tmp_path / "a", tmp_path) == resolve(params)
    assert probe.settle(params, LONG, SHAPE, tmp_path / "b", None) == resolve(params)
    pinned = tiny(**{"train.precision": "fp32", "train.attention": "plain"})
    assert probe.settle(pinned, LONG, SHAPE, tmp_path / "c", tmp_path) == resolve(pinned)
    assert measured == []


def test_what_the_user_asks_for_is_never_measured_away():
    params = replace(tiny(), precision="bf16")
    assert [probe.label(k) for k in probe.candidates(params, RULE)] == ["bf16 fused"]
    params = replace(tiny(), attention="plain")
    assert [probe.label(k) for k in probe.candidates(params, RULE)] == ["fp32 plain"]
    gpu = Kernels("cuda", "bf16", True, channels_last=True)
    found = probe.candidates(tiny(), gpu)
    assert [probe.label(k) for k in found] == [
        "bf16 plain",
        "fp32 fused",
        "fp32 plain",
        "bf16 fused compiled",
    ]
    assert all(k.channels_last for k in found)
    never = replace(tiny(), compile="never", precision="bf16", attention="fused")
    assert probe.candidates(never, gpu) == []
    weak = Kernels("cpu", "fp32", False)  # no instructions for bf16: it would be emulated
    assert [probe.label(k) for k in probe.candidates(tiny(), weak)] == ["fp32 fused"]


@pytest.mark.parametrize(("other", "wins"), [(0.96, False), (0.94, True), (math.inf, False)])
def test_the_rule_stands_unless_another_is_clearly_faster(other, wins):
    rival = replace(RULE, fused_attention=True)
    assert probe._fastest({RULE: 1.0, rival: other}, RULE) == (rival if wins else RULE)


def test_measuring_times_every_candidate_and_draws_nothing_from_the_training(monkeypatch):
    monkeypatch.setattr(probe, "ROUNDS", 2)
    params = replace(tiny(), device="cpu")
    rule = resolve(params)
    state = torch.get_rng_state()
    chosen, seconds = probe.measure(params, rule, 1000, SHAPE)
    assert torch.equal(torch.get_rng_state(), state)
    expected = [rule, *probe.candidates(params, rule)]
    assert list(seconds) == [probe.label(k) for k in expected]
    assert chosen in expected
    assert all(s > 0 for s in seconds.values())


def test_a_candidate_that_fails_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(probe, "ROUNDS", 2)
    real = probe._stopwatch

    def failing(params, kernels, batch, shape):
        if kernels.fused_attention:
            raise RuntimeError("out of memory")
        return real(params, kernels, batch, shape)

    stand_in(monkeypatch, probe, "_stopwatch", failing)
    params = replace(tiny(), device="cpu", precision="fp32")
    chosen, seconds = probe.measure(params, resolve(params), 1000, SHAPE)
    assert chosen.fused_attention is False
    assert seconds["fp32 fused"] is None
    assert "fp32 fused not possible (out of memory)" in capsys.readouterr().out


def test_a_training_starts_with_what_was_measured_and_resumes_with_it(
    tmp_path, measured, monkeypatch
):
    monkeypatch.setattr(probe, "MIN_STEPS", 1)
    other = not resolve(tiny()).fused_attention
    pinned = fit(tmp_path / "pinned", tiny(**{"train.attention": "fused" if other else "plain"}))

    def probing(scratch, callbacks=None):
        return loop.fit(
            IMAGES,
            np.arange(5, 70),
            tiny(),
            mean=(0.5,),
            std=(0.3,),
            scratch=scratch,
            callbacks=callbacks,
            known_kernels=tmp_path / "known",
        )

    whole = probing(tmp_path / "whole")
    assert whole.kernels.fused_attention is other
    assert_same(weights(whole), weights(pinned))
    with pytest.raises(loop.Interrupted):
        probing(tmp_path / "cut", StopAt(epoch=2))
    state = checkpoint.load_state(tmp_path / "cut" / STATE)
    assert state["kernels"] == vars(whole.kernels)
    monkeypatch.setattr(probe, "measure", None)
    assert_same(weights(whole), weights(probing(tmp_path / "cut")))
    kept = json.loads((tmp_path / "cut" / KERNELS).read_text())
    assert kept["kernels"] == vars(whole.kernels)


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
        trial = probe.Trial(params, kernels, 1)
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
        trial = probe.Trial(params, kernels, 1)
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


def test_a_checkpoint_is_gone_on_with_what_it_began_with_unless_the_user_asks_otherwise(
    tmp_path, measured
):
    params = tiny()
    begun = vars(resolve(params)) | {"fused_attention": not resolve(params).fused_attention}
    found = probe.settle(params, LONG, SHAPE, tmp_path / "a", tmp_path / "known", begun)
    assert vars(found) == begun
    assert measured == []
    asked = tiny(**{"train.attention": "fused" if not begun["fused_attention"] else "plain"})
    other = probe.settle(asked, LONG, SHAPE, tmp_path / "b", None, begun)
    assert other == resolve(asked)


def test_a_measurement_that_fails_leaves_the_rules(tmp_path, monkeypatch):
    def fails(*args):
        raise RuntimeError("out of memory")

    stand_in(monkeypatch, probe, "measure", fails)
    params = tiny()
    assert probe.settle(params, LONG, SHAPE, tmp_path / "a", tmp_path / "k") == resolve(params)
