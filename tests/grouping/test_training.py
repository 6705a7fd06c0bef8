"""A finished training is used again if it is this very one, and whole."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.fakes import stand_in
from tests.grouping.test_run import SMALL, pictures
from tests.test_zip_file import member
from vtcc import config
from vtcc.config.compose import compose
from vtcc.data.cache import CacheWriter
from vtcc.engine import checkpoint, plan
from vtcc.grouping import budget, estimate, learn, training
from vtcc.grouping.options import Options

K = 3


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    directory = tmp_path_factory.mktemp("training") / "cache"
    with CacheWriter(directory, name="toys", image_size=16, channels=1) as writer:
        for i, picture in enumerate(pictures(32)):
            writer.add(f"{i}.png", "train", picture[..., None])
        return writer.finish()


@pytest.fixture(scope="module")
def params():
    values = {"train.epochs": 2, "train.batch_size": 16, "train.num_clusters": K}
    values |= {"train.image_size": 16, "validate.image_size": 16, "dataset.channels": 1}
    values |= {"train.model.patch_size": 4, "train.model.num_cluster_heads": 2}
    grey = {f"train.augment.{name}": 0.0 for name in ("saturation", "hue", "grey")}
    return config.override(compose("folder"), SMALL | values | grey)


@pytest.fixture
def room(cache, params, tmp_path):
    room = tmp_path / "training"
    training.train(training.Material(cache), params, room, limit=None, title="training")
    return room


def again(cache, params, room, capsys):
    """The training once more, and whether it really trained."""
    capsys.readouterr()
    trained = training.train(training.Material(cache), params, room, limit=None, title="training")
    return trained, "training: 2 epochs, K = 3" in capsys.readouterr().out


def test_a_finished_training_is_read_back(cache, params, room, capsys):
    trained, anew = again(cache, params, room, capsys)
    assert not anew
    assert trained.h.shape == (32, 32)
    assert trained.heads.shape == (2, 32, K)
    assert trained.steps == 2 * (32 // 16)
    np.testing.assert_allclose(trained.p.sum(axis=1), np.ones(32), rtol=1e-5)
    p = trained.predictor().predict(cache.images).probabilities
    np.testing.assert_allclose(trained.p, p, atol=1e-6)


def test_a_training_leaves_torch_the_threads_that_it_had(cache, params, tmp_path, monkeypatch):
    """What follows is the same in a run that goes on, which trains no more."""
    taken, before = [], torch.get_num_threads()

    def steps(rehearsal, seconds):
        taken.append(torch.get_num_threads())
        return plan.Timing(16, 1, mean=1.0, low=1.0, high=1.0, processor=1.0)

    stand_in(monkeypatch, plan.Rehearsal, "steps", steps)
    asked = config.override(params, {"train.epochs": 1, "train.threads": 1})
    material = training.Material(cache)
    torch.set_num_threads(3)
    try:
        budget._timed(material, config.from_dict(config.Params, asked).train)
        assert (taken, torch.get_num_threads()) == ([1], 3)
        training.train(material, asked, tmp_path, limit=None, title="training")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_what_a_training_keeps_on_the_disk_is_foreseen(params, room):
    kept = {file: file.stat().st_size for file in room.rglob("*") if file.is_file()}
    (last,) = (size for file, size in kept.items() if file.name == "last.pt")
    rates = estimate.Rates(whole=1.0, embedded=1.0, width=32)
    foreseen = estimate.training_bytes(32, rates, params) + estimate.model_bytes(params)
    assert foreseen == pytest.approx(sum(kept.values()) + last, rel=0.1)  # and the next state


def foreign_version(room):
    finished = json.loads((room / "finished.json").read_text())
    (room / "finished.json").write_text(json.dumps({"key": "0.0.9" + finished["key"][5:]}))


def odd_steps(room):
    finished = json.loads((room / "finished.json").read_text())
    (room / "finished.json").write_text(json.dumps(finished | {"steps": None}))


def other_shape(room):
    with np.load(room / "heads.npz") as saved:
        values = dict(saved)
    values["h"] = values["h"][:-1]
    np.savez(room / "heads.npz", **values)


def other_kind(room):
    with np.load(room / "heads.npz") as saved:
        values = dict(saved)
    np.savez(room / "heads.npz", **values | {"heads": values["heads"].astype(int)})


def without_head(room):
    file = room / "model" / checkpoint.INFO
    info = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in info.items() if name != "head"}))


def odd_byte(file):
    """Python's zipfile raises NotImplementedError of it."""
    file.write_bytes(member(file.read_bytes(), 10, 9))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (foreign_version, "another version"),
        (other_shape, "damaged (h: found float32 (31, 32), expected float (32, 32))"),
        (other_kind, "damaged (heads: found int64 (2, 32, 3), expected float (2, 32, 3))"),
        (without_head, "damaged ('head')"),
        (lambda room: (room / "heads.npz").write_bytes(b""), "damaged"),
        (lambda room: (room / "heads.npz").write_bytes(b"PK\x03\x04"), "damaged"),
        (lambda room: odd_byte(room / "heads.npz"), "damaged"),
        (lambda room: (room / "model" / checkpoint.WEIGHTS).write_bytes(b""), "damaged"),
        (lambda room: (room / "finished.json").write_text(""), "cannot be read"),
        (odd_steps, "damaged"),
    ],
)
def test_what_is_foreign_or_damaged_is_trained_again(cache, params, room, damage, message, capsys):
    before = training.train(training.Material(cache), params, room, limit=None, title="training")
    damage(room)
    capsys.readouterr()
    after = training.train(training.Material(cache), params, room, limit=None, title="training")
    assert message in capsys.readouterr().out
    assert after.key == before.key
    np.testing.assert_array_equal(after.h, before.h)
    assert not again(cache, params, room, capsys)[1]


def test_other_parameters_are_another_training(cache, params, room, capsys):
    other = config.override(params, {"train.seed": 5})
    trained, _ = again(cache, params, room, capsys)
    material = training.Material(cache)
    assert training.train(material, other, room, limit=None, title="t").key != trained.key


@pytest.mark.parametrize(
    ("overrides", "remedies"),
    [({}, False), ({"validate.max_pixels": 10**6}, False), ({"train.batch_size": 16}, True)],
)
def test_remedies_are_told_to_who_chose_parameters_of_the_training(
    overrides, remedies, tmp_path, monkeypatch
):
    asked = stand_in(monkeypatch, learn.training, "train", lambda *_, **__: None)
    stand_in(monkeypatch, learn, "counted", lambda *_: None)
    time = budget.Budget(60, 0.01, 1, frozen=False)
    stand_in(monkeypatch, learn.budget, "divide", lambda *_, **__: time)
    prepared = SimpleNamespace(cache=None, features=None, params=compose("folder"))
    options = Options(tmp_path, clusters=3, overrides=overrides)
    learn.learn(prepared, options, tmp_path, deadline=0.0)
    assert [call.kwargs["remedies"] for call in asked.call_args_list] == [remedies] * 2
