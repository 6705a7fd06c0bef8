import errno
import json
import os
import zipfile
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.engine.test_model import SIZES
from tests.test_zip_file import member
from vtcc.engine import checkpoint
from vtcc.engine.model import build
from vtcc.engine.predict import Predictor, embed_untrained, load
from vtcc.errors import VtccError

INFO = {
    "model": vars(SIZES),
    "num_clusters": 5,
    "image_size": 16,
    "cache_size": 20,
    "channels": 1,
    "max_pixels": 1000,
    "mean": [0.4],
    "std": [0.2],
}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = build(SIZES, 5, image_size=16, channels=1).eval()
    model.selected_head.fill_(2)
    checkpoint.save_model(tmp_path / "model", model, INFO)
    return tmp_path / "model", model


def pixels(n=9):
    return np.random.default_rng(0).integers(0, 256, (n, 20, 20, 1), dtype=np.uint8)


def test_a_saved_model_predicts_what_it_predicted_before(saved):
    directory, model = saved
    predictor = load(directory)
    prediction = predictor.predict(pixels())
    x = predictor._normalized(torch.from_numpy(pixels()))
    with torch.no_grad():
        expected = model.assign(x).numpy()
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
    assert prediction.cluster.tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(prediction.confidence, expected.max(1), atol=1e-6)
    assert prediction.embedding.shape == (9, 16)


def test_a_model_saved_before_its_positions_were_keeps_the_table_it_was_trained_with(saved):
    directory = saved[0]
    file = directory / checkpoint.WEIGHTS
    weights = load_file(file)
    table = weights.pop("encoder.positions")
    save_file(weights, directory / "new")  # what was loaded is a view of the file
    (directory / "new").replace(file)
    old = load(directory).model.encoder.positions
    half = table.shape[2] // 2
    assert torch.equal(old, torch.cat([table[..., half:], table[..., :half]], dim=2))
    assert not torch.equal(old, table)


def test_others_may_read_the_weights(saved):
    mask = os.umask(0o022)
    try:
        checkpoint.save_model(saved[0], saved[1], INFO)
    finally:
        os.umask(mask)
    assert (saved[0] / checkpoint.WEIGHTS).stat().st_mode & 0o777 == 0o644


def test_prediction_is_without_tf32_and_leaves_the_settings(saved, monkeypatch):
    """A GPU's convolutions would take it by default; what they are set to shows without one."""
    predictor, seen = load(saved[0], "cpu"), []
    kinds = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)
    embed = predictor.model.embed

    def watched(x):
        seen.append([kind.fp32_precision for kind in kinds])
        return embed(x)

    monkeypatch.setattr(predictor.model, "embed", watched)
    before = [kind.fp32_precision for kind in kinds]
    predictor.predict(pixels())
    assert seen == [["ieee"] * 3]
    assert [kind.fp32_precision for kind in kinds] == before
    assert torch.backends.cudnn.allow_tf32 is True


def test_the_batch_size_does_not_change_a_prediction(saved):
    predictor = load(saved[0])
    whole, parts = predictor.predict(pixels()), predictor.predict(pixels(), batch_size=2)
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-6)
    assert predictor.predict(pixels(0)).probabilities.shape == (0, 5)


def test_images_of_another_shape_are_refused(saved):
    with pytest.raises(
        VtccError, match=r"takes images of shape \(20, 20, 1\), found \(16, 16, 1\)"
    ):
        load(saved[0]).predict(np.zeros((2, 16, 16, 1), np.uint8))


def test_untrained_features_depend_on_the_seed_alone(saved):
    a, b = (embed_untrained(INFO, pixels(), seed=1) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - embed_untrained(INFO, pixels(), seed=2)).max() > 0.1


@pytest.mark.parametrize("components", [0, 8])
@pytest.mark.parametrize("assign", ["heads", "instance"])
def test_untrained_features_of_a_frozen_encoder_are_its_backbones(components, assign):
    section = replace(
        SIZES, encoder="timm:test_vit", frozen=True, components=components, assign=assign
    )
    constants = {"mean": [0.5] * 3, "std": [0.2] * 3}
    info = INFO | {"model": vars(section), "image_size": 32, "channels": 3} | constants
    embedding = embed_untrained(info, np.repeat(pixels(3), 3, axis=-1))
    assert embedding.shape == (3, 64)
    assert embedding.std(axis=0).mean() > 1e-3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "model.json").unlink(), "no vtcc model here"),
        (lambda d: (d / "model.json").write_text("{"), "not readable as JSON"),
        (lambda d: (d / "model.json").write_text("{}"), "incomplete, without cache_size"),
        (lambda d: (d / "model.safetensors").unlink(), "model.safetensors: missing"),
        (lambda d: (d / "model.safetensors").write_bytes(b"junk"), "not the weights"),
        (
            lambda d: (d / "model.json").write_text(json.dumps(INFO | {"num_clusters": 6})),
            "not the weights of this model",
        ),
    ],
)
def test_a_damaged_model_is_refused_in_words(saved, damage, message):
    damage(saved[0])
    with pytest.raises(VtccError, match=message):
        load(saved[0])


def test_state_loads_without_running_code(tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    assert checkpoint.load_state(tmp_path / "evil.pt") is None
    said = capsys.readouterr().out
    assert "damaged, not used" in said
    assert "ran" not in said.split()
    assert checkpoint.load_state(tmp_path / "absent.pt") is None


def test_state_with_odd_bytes_is_damaged(tmp_path, capsys):
    place = tmp_path / "a.pt"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("a", b"\0\0\5\0" + b"\xff" * 9)
    place.write_bytes(member(place.read_bytes(), 10, zipfile.ZIP_LZMA))
    assert checkpoint.load_state(place) is None
    assert "a.pt: damaged, not used" in capsys.readouterr().out


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "state.pt"
    checkpoint.save_state(target, {"step": 1})
    with pytest.raises(RuntimeError), checkpoint.atomic_file(target) as fresh:
        fresh.write_bytes(b"half")
        raise RuntimeError
    assert checkpoint.load_state(target) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_a_disk_that_is_full_while_weights_are_written_is_told_by_its_number(saved, tmp_path):
    model, info = checkpoint.read_model(saved[0])
    with mock.patch.object(checkpoint, "save_file", autospec=True) as save_file:
        save_file.side_effect = checkpoint.SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )
        with pytest.raises(OSError) as met:
            checkpoint.save_model(tmp_path / "full", model, info)
    assert (met.value.errno, met.value.strerror) == (errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_training_is_known_by_what_it_computes():
    params = {"seed": 0, "epochs": 2, "checkpoint_minutes": 1.0, "collapse": "warn"}
    kernels = {"precision": "bf16"}
    key = checkpoint.training_key(params, "abc", kernels)
    assert key == checkpoint.training_key(dict(reversed(params.items())), "abc", kernels)
    assert key == checkpoint.training_key(params | {"checkpoint_minutes": 5.0}, "abc", kernels)
    assert key == checkpoint.training_key(params | {"collapse": "abort"}, "abc", kernels)
    others = [
        checkpoint.training_key(params | {"seed": 1}, "abc", kernels),
        checkpoint.training_key(params, "abd", kernels),
        checkpoint.training_key(params, "abc", {"precision": "fp32"}),
    ]
    assert key not in others


def test_other_code_anywhere_in_the_engine_is_another_training(tmp_path, monkeypatch):
    for name in ("checkpoint.py", "augment/colour.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# one")
    monkeypatch.setattr(checkpoint, "__file__", str(tmp_path / "checkpoint.py"))
    before = checkpoint.training_key({}, "", {})
    assert checkpoint.training_key({}, "", {}) == before
    (tmp_path / "augment" / "colour.py").write_text("# another")
    assert checkpoint.training_key({}, "", {}) != before


def test_a_predictor_elsewhere_leaves_the_model_of_its_caller_where_it_is(saved):
    model, info = checkpoint.read_model(saved[0])
    elsewhere = Predictor(model, info, device="meta")
    assert {p.device.type for p in elsewhere.model.parameters()} == {"meta"}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert Predictor(model, info, device="cpu").model is model  # no second copy without need


def test_weights_count_by_what_they_hold_not_by_where_they_lie(tmp_path):
    def key(file):
        model = {"encoder": "timm:resnet18", "weights": str(file)}
        return checkpoint.training_key({"model": model}, "abc", {})

    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    assert key(tmp_path / "a") == key(tmp_path / "b") != key(tmp_path / "c")
