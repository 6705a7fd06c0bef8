"""What a training goes on from, whatever became of its files."""

import errno
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.test_loop import StopAt, assert_same, fit, tiny, weights
from tests.fakes import stand_in
from vtcc.engine import checkpoint, loop, record
from vtcc.engine.kernels import resolve
from vtcc.engine.scratch import PREVIOUS, STATE, Scratch
from vtcc.errors import VtccError

FOUR = {"train.selection.points": 4, "train.epochs": 4}  # candidates after epochs 2, 3 and 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return weights(fit(tmp_path_factory.mktemp("whole"), tiny(**FOUR)))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stopped")
    with pytest.raises(loop.Interrupted):
        fit(directory, tiny(**FOUR), callbacks=StopAt(epoch=3))
    return directory


@pytest.fixture
def cut(stopped, tmp_path):
    """The scratch directory of a training that was stopped after epoch 3 of 4."""
    return Path(shutil.copytree(stopped, tmp_path / "cut"))


def steps(directory):
    return [checkpoint.load_state(directory / name)["step"] for name in (STATE, PREVIOUS)]


def flip_a_bit(file):
    """In the middle of the longest tensor, where only a checksum can tell."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "empty": lambda d: (d / STATE).write_bytes(b""),
    "junk": lambda d: (d / STATE).write_bytes(b"PK junk" * 50),
    "half": lambda d: os.truncate(d / STATE, (d / STATE).stat().st_size // 2),
    "one bit": lambda d: flip_a_bit(d / STATE),
    "gone": lambda d: (d / STATE).unlink(),
    "a candidate is gone": lambda d: (d / "candidate-12.pt").unlink(),
    "a candidate is damaged": lambda d: flip_a_bit(d / "candidate-12.pt"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_the_last_state_the_one_before_is_used(cut, whole, capsys, damage):
    assert steps(cut) == [12, 8]
    DAMAGES[damage](cut)
    assert_same(whole, weights(fit(cut, tiny(**FOUR))))
    said = capsys.readouterr().out
    assert f"resuming at step 8 of 16 from {cut / PREVIOUS}" in said
    assert damage == "gone" or "not used" in said
    assert steps(cut) == [16, 12]


def test_without_a_whole_state_a_training_starts_afresh_and_says_so(cut, whole, capsys):
    for name in (STATE, PREVIOUS):
        (cut / name).write_bytes(b"junk")
    assert_same(whole, weights(fit(cut, tiny(**FOUR))))
    assert "no state there is whole; starting afresh" in capsys.readouterr().out


def test_a_damaged_last_state_never_replaces_the_good_one_before(tmp_path):
    room = Scratch(tmp_path)
    for step in (1, 2):
        room.save({"step": step})
    assert steps(tmp_path) == [2, 1]
    (tmp_path / STATE).write_bytes(b"junk")
    again = Scratch(tmp_path)
    assert again.resume() == {"step": 1}
    again.save({"step": 2})
    assert steps(tmp_path) == [2, 1]
    again.save({"step": 2})  # the same again, as by a signal right after a checkpoint
    assert steps(tmp_path) == [2, 1]


def test_a_full_disk_leaves_the_states_as_they_were(tmp_path, monkeypatch):
    room = Scratch(tmp_path)
    for step in (1, 2):
        room.save({"step": step})

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 500

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

        def flush(self):
            self.file.flush()

    real = checkpoint._Target
    monkeypatch.setattr(checkpoint, "_Target", lambda file: real(Full(file)))
    with pytest.raises(OSError, match="No space left on device"):
        room.save({"step": 3, "model": torch.zeros(1000)})
    assert sorted(p.name for p in tmp_path.iterdir()) == [STATE, PREVIOUS]
    assert steps(tmp_path) == [2, 1]
    monkeypatch.undo()
    room.save({"step": 3})
    assert steps(tmp_path) == [3, 2]


def test_what_a_killed_writer_left_is_cleared(cut):
    (cut / ".next.pt.building").write_bytes(b"half")
    fit(cut, tiny(**FOUR))
    assert not [p.name for p in cut.iterdir() if p.name.startswith(".")]


def test_a_training_can_be_killed_from_its_first_step_on(tmp_path):
    """Its run is known from the start, so that no run is left open by a kill."""

    class Killed(BaseException):
        pass

    class Dies(StopAt):
        def on_epoch(self, epoch, figures):
            raise Killed

    dies = Dies(epoch=None)
    with pytest.raises(Killed):
        fit(tmp_path, tiny(**FOUR), callbacks=dies)
    state = checkpoint.load_state(tmp_path / STATE)
    assert (state["step"], state["run_id"]) == (0, "run-7")
    fit(tmp_path, tiny(**FOUR), callbacks=(again := StopAt(epoch=None)))
    assert again.starts == ["run-7"]


def test_the_state_says_what_made_it(cut):
    state = checkpoint.load_state(cut / STATE)
    assert state["params"]["num_clusters"] == 10
    assert state["params"]["augment"]["crop_scale"] == list(tiny().augment.crop_scale)
    assert state["kernels"]["device"] == "cpu"
    assert state["versions"]["torch"] == torch.__version__
    assert [row["epoch"] for row in state["curves"]] == [1, 2, 3]


def test_states_are_saved_after_every_tenth_of_the_epochs():
    from vtcc.engine.schedule import saved_epochs

    params = tiny(**{"train.epochs": 100, "train.selection.points": 4})
    assert saved_epochs(params) == {*range(10, 101, 10), 62, 75, 88}
    assert saved_epochs(tiny(**{"train.epochs": 3})) == {1, 2, 3}


# Resuming from a file


def test_a_checkpoint_of_another_machine_goes_on_to_the_same_bits(cut, whole, tmp_path, capsys):
    copied = tmp_path / "usb stick"
    shutil.copytree(cut, copied)
    there = tmp_path / "there"
    resumed = fit(there, tiny(**FOUR), resume_from=copied / STATE)
    assert_same(whole, weights(resumed))
    assert f"resuming at step 12 of 16 from {there / STATE}" in capsys.readouterr().out
    assert (copied / STATE).read_bytes() == (cut / STATE).read_bytes()
    assert_same(whole, weights(fit(tmp_path / "x", tiny(**FOUR), resume_from=copied)))


def test_a_checkpoint_of_a_gpu_goes_on_with_what_it_computes_in(cut, tmp_path, capsys):
    """Whatever the rules are here, unless another is asked for."""
    rule = resolve(tiny(**FOUR))
    copied = shutil.copytree(cut, tmp_path / "copied")
    other = "fp32" if rule.precision == "bf16" else "bf16"
    fused = not rule.fused_attention
    state = checkpoint.load_state(copied / STATE)
    state["kernels"] |= {"device": "cuda", "channels_last": True}
    state["kernels"] |= {"precision": other, "fused_attention": fused}
    checkpoint.save_state(copied / STATE, state)
    asked = tiny(**FOUR, **{"train.precision": rule.precision})
    with pytest.raises(VtccError, match=f"kernels.precision, by train.precision .{other} there"):
        fit(tmp_path / "refused", asked, resume_from=copied)
    resumed = fit(tmp_path / "there", tiny(**FOUR), resume_from=copied)
    expected = replace(rule, precision=other, fused_attention=fused)
    assert (resumed.kernels, len(resumed.curves)) == (expected, 4)
    assert "another kind of device: not to the same bits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train.seed": 7}, r"train\.seed \(0 there, 7 here\)"),
        (
            {"train.batch_size": 17, "train.ema": 0.5},
            r"train\.batch_size \(16 there, 17 here\); train\.ema \(0\.0 there, 0\.5 here\)",
        ),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_name(cut, tmp_path, changes, named):
    with pytest.raises(VtccError, match=named):
        fit(tmp_path / "new", tiny(**FOUR, **changes), resume_from=cut / STATE)


def test_a_checkpoint_of_other_images_or_kernels_is_refused(tmp_path):
    ours = record.describe(tiny(), "b" * 64, resolve(tiny()))
    room = Scratch(tmp_path / "new")
    theirs = ours | {"digest": "a" * 64, "kernels": ours["kernels"] | {"precision": "fp8"}}
    checkpoint.save_state(tmp_path / "x.pt", {"step": 1, "candidates": [], **theirs})
    with pytest.raises(VtccError, match=r"digest of data/cache \(a{12}... there, b{12}"):
        room.adopt(tmp_path / "x.pt", ours)
    with pytest.raises(VtccError, match=r"kernels\.precision, by train\.precision \(fp8 there"):
        room.adopt(tmp_path / "x.pt", ours)


def test_how_a_checkpoint_was_saved_and_resolved_is_no_difference(tmp_path, capsys):
    ours = record.describe(tiny(), "b", resolve(tiny()))
    params = ours["params"] | {"checkpoint_minutes": 9.0, "precision": "bf16"}
    theirs = ours | {"params": params, "versions": ours["versions"] | {"torch": "1.0"}}
    checkpoint.save_state(tmp_path / "x.pt", {"step": 1, "candidates": [], **theirs})
    room = Scratch(tmp_path / "new")
    room.adopt(tmp_path / "x.pt", ours)
    assert room.resume()["step"] == 1
    assert "made with torch 1.0, here" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["absent", "junk", "model", "alone"])
def test_a_file_that_cannot_be_gone_on_from_says_why(cut, tmp_path, what):
    file = tmp_path / "some.pt"
    if what == "junk":
        file.write_bytes(b"junk")
    elif what == "model":
        checkpoint.save_state(file, {"weights": torch.zeros(1)})
    elif what == "alone":
        shutil.copy(cut / STATE, file)
    expected = {
        "absent": "no such file",
        "junk": "damaged, or not the checkpoint",
        "model": "damaged, or not the checkpoint",
        "alone": r"needs candidate-8\.pt beside it",
    }
    with pytest.raises(VtccError, match=expected[what]):
        fit(tmp_path / "new", tiny(**FOUR), resume_from=file)


# Generators


def test_the_global_generator_is_where_it_was(tmp_path, monkeypatch):
    """Dropout in timm's encoders draws from it: here a step does."""
    drawn = []
    real = loop.Training.take_step

    def drawing(run):
        drawn.append(float(torch.rand(())))
        return real(run)

    stand_in(monkeypatch, loop.Training, "take_step", drawing)
    fit(tmp_path / "whole", tiny())
    straight, drawn[:] = list(drawn), []
    with pytest.raises(loop.Interrupted):
        fit(tmp_path / "cut", tiny(), callbacks=StopAt(epoch=2, signum=signal.SIGTERM))
    torch.manual_seed(99)
    fit(tmp_path / "cut", tiny())
    assert drawn == straight
    assert len(set(drawn)) == 12


def test_generators_of_python_and_numpy_are_not_used(tmp_path):
    before = random.getstate(), np.random.get_state()[1].tolist()
    fit(tmp_path, tiny())
    assert before == (random.getstate(), np.random.get_state()[1].tolist())
