"""Encoders with a card in the engine: features, frozen models by reference, the training key."""

import io
import json
import pickle
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.fakes import stand_in
from vtcc import config, encoders
from vtcc.data import images
from vtcc.engine import checkpoint, predict
from vtcc.engine.augment import normalize, plain
from vtcc.engine.model import build
from vtcc.engine.normalization import normalization
from vtcc.engine.predict import Predictor
from vtcc.errors import VtccError

KERNELS = {"precision": "fp32"}


def model_section(**changes):
    values = config.read_yaml(config.PRESETS / "tiny.yaml")["train"]["model"]
    return config.from_dict(config.Model, values | {"encoder": "tiny-vit", **changes})


def params(**overrides):
    values = config.read_yaml(config.PRESETS / "tiny.yaml")
    return config.override(values, {f"train.{k}": v for k, v in overrides.items()})


def saved(directory, *, size=32, frozen=True, weights="", with_encoder=False):
    """A model of tiny-vit in eval mode, saved as the train stage does, with its info."""
    section = model_section(frozen=frozen, weights=weights)
    torch.manual_seed(0)
    model = build(section, 5, image_size=size, channels=3, pretrained=True).eval()
    info = {
        "model": config.to_dict(section),
        "num_clusters": 5,
        "image_size": size,
        "cache_size": size,
        "channels": 3,
        "max_pixels": 10**6,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "encoder": encoders.encoder_record("tiny-vit", weights),
    }
    checkpoint.save_model(directory, model, info, with_encoder=with_encoder)
    return model, info


def drawn(width, height):
    """A picture of smooth shapes and noise."""
    rng = np.random.default_rng(width)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255)
    return Image.fromarray(noisy.astype(np.uint8))


@pytest.mark.parametrize("name", ["lite0", pytest.param("lite2", marks=pytest.mark.slow)])
def test_features_are_those_of_timms_own_preprocessing(name):
    card = encoders.card(name)
    resolved = encoders.resolve(card)
    reference = timm.create_model(card.timm, checkpoint_path=str(resolved.file))
    reference.reset_classifier(0)
    settings = timm.data.resolve_data_config(
        {"crop_pct": 1.0, "crop_mode": "squash"}, model=reference
    )
    transform = timm.data.create_transform(**settings)
    size = card.image_size
    assert settings["input_size"] == (3, size, size)
    pictures = [drawn(*shape) for shape in ((300, 200), (150, 420), (size, size), (90, 90))]
    x = torch.stack([transform(picture) for picture in pictures])
    decoded = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "PNG")
        decoded.append(images.load(file.getvalue(), channels=3, max_pixels=10**6, size=size))
    pixels = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)
    model = build(model_section(encoder=name), 5, image_size=size, channels=3, pretrained=True)
    own = normalize(plain(pixels, size), card.mean, card.std)
    assert float((own - x).abs().max()) < 1e-5
    with torch.no_grad():
        expected = reference.eval()(x)
        h = model.eval().embed(own)
    assert h.shape == (4, card.feature_dim)
    assert float((h - expected).abs().max()) < 1e-3
    assert float(expected.std()) > 0.1


def test_a_frozen_encoder_is_referred_to_and_filled_in(tmp_path, tiny_vit):
    model, info = saved(tmp_path / "m")
    inside = load_file(tmp_path / "m" / checkpoint.WEIGHTS)
    assert inside and not any(name.startswith("encoder.") for name in inside)
    record = json.loads((tmp_path / "m" / checkpoint.INFO).read_text())["encoder"]
    assert record == {
        "name": "tiny-vit",
        "timm": "test_vit.r160_in1k",
        "licence": "Apache-2.0",
        "digest": encoders.resolve(tiny_vit).digest,
        "source": f"VTCC_WEIGHTS: {tmp_path / 'weights' / 'tiny-vit.safetensors'}",
    }
    again, _ = checkpoint.read_model(tmp_path / "m")
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    before, after = Predictor(model, info).predict(pixels), Predictor(again, info).predict(pixels)
    assert np.array_equal(before.probabilities, after.probabilities)


def test_a_model_with_its_encoder_inside_needs_nothing_else(tmp_path, tiny_vit, monkeypatch):
    model, _ = saved(tmp_path / "m", with_encoder=True)
    monkeypatch.setattr(encoders, "resolve", None)
    again, _ = checkpoint.read_model(tmp_path / "m")
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("frozen", [True, False])
def test_many_images_are_predicted_by_what_embeds_them(tmp_path, tiny_vit, monkeypatch, frozen):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(predict, "MANY", 24)
    model = saved(tmp_path / "m", frozen=frozen)[0]
    predictor = predict.load(tmp_path / "m", "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    few = predictor.predict(pixels[:20])  # by torch: a conversion would take longer
    assert predictor._by_choice is None
    again = pickle.loads(pickle.dumps(predictor))
    many = predictor.predict(pixels, batch_size=7)
    assert predictor._by_choice.__qualname__.startswith("_converted")
    with torch.inference_mode():
        x = predictor._normalized(torch.from_numpy(pixels))
        expected = model.assign(x).numpy()
    for found in (few.probabilities, many.probabilities):
        assert np.abs(found - expected[: len(found)]).max() < 1e-4
    assert (many.cluster == expected.argmax(axis=1)).all()
    assert np.abs(many.embedding[:20] - few.embedding).max() < 1e-4
    copied = pickle.loads(pickle.dumps(predictor))
    for other in (again, copied):  # what only a process can hold is made anew
        assert np.array_equal(other.predict(pixels[:20]).probabilities, few.probabilities)


def test_an_encoder_of_our_own_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(predict, "MANY", 1)
    made = stand_in(monkeypatch, predict, "runtime")
    section = model_section(encoder="vit", frozen=False)
    model = build(section, 5, image_size=16, channels=3).eval()
    info = {"num_clusters": 5, "image_size": 16, "cache_size": 16, "channels": 3, "max_pixels": 999}
    predictor = Predictor(model, info | {"mean": [0.5] * 3, "std": [0.5] * 3}, "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = model.assign(predictor._normalized(torch.from_numpy(pixels))).numpy()
    assert np.array_equal(predictor.predict(pixels).probabilities, expected)
    made.assert_not_called()


@pytest.mark.parametrize("own_file", [False, True])
def test_weights_that_are_not_everyones_stay_inside(tmp_path, tiny_vit, own_file):
    file = ""
    if own_file:
        file = str(tmp_path / "own.safetensors")
        save_file(load_file(encoders.resolve(tiny_vit).file), file)
    model, _ = saved(tmp_path / "m", frozen=own_file, weights=file)
    inside = load_file(tmp_path / "m" / checkpoint.WEIGHTS)
    assert inside.keys() == model.state_dict().keys()


def change_weights(tiny_vit):
    """Other numbers in the file of weights."""
    file = encoders.resolve(tiny_vit).file
    other = load_file(file)
    other["cls_token"] = other["cls_token"] + 1
    fresh = file.with_name("new")  # what was loaded is a view of the file
    save_file(other, fresh)
    fresh.replace(file)


def test_other_weights_than_the_model_was_made_with_are_refused(tmp_path, tiny_vit):
    _, info = saved(tmp_path / "m")
    change_weights(tiny_vit)
    with pytest.raises(VtccError) as error:
        checkpoint.read_model(tmp_path / "m")
    words = str(error.value)
    assert info["encoder"]["digest"] in words and encoders.resolve(tiny_vit).digest in words
    assert "VTCC_WEIGHTS" in words and "with_encoder=True" in words


def test_a_model_whose_encoder_is_not_here_says_what_to_do(tmp_path, tiny_vit, monkeypatch):
    saved(tmp_path / "m")
    monkeypatch.delenv("VTCC_WEIGHTS")
    with pytest.raises(VtccError, match=r"/m: refers to .*encoder tiny-vit: no weights here"):
        checkpoint.read_model(tmp_path / "m")


def test_a_training_is_known_by_the_digest_of_its_encoder(tmp_path, tiny_vit, monkeypatch):
    values = params(**{"model.encoder": "tiny-vit"})["train"]
    key = checkpoint.training_key(values, "abc", KERNELS)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "weights", elsewhere)
    monkeypatch.setenv("VTCC_WEIGHTS", str(elsewhere))
    assert key == checkpoint.training_key(values, "abc", KERNELS)  # the same numbers
    change_weights(tiny_vit)
    assert key != checkpoint.training_key(values, "abc", KERNELS)
    assert encoders.encoder_record("vit") is None
    assert encoders.encoder_record("timm:resnet18", "x.safetensors") is None


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (64, 3)])
def test_grey_images_and_other_sizes_suit_an_encoder_too(tiny_vit, size, channels):
    model = build(model_section(), 5, image_size=size, channels=channels, pretrained=True)
    vit, state = model.encoder.model, load_file(encoders.resolve(tiny_vit).file)
    assert state["pos_embed"].shape[1] == 10 * 10 + 1  # made for 160 pixels
    assert vit.pos_embed.shape[1] == (size // 16) ** 2 + 1
    assert model.encoder.embed_dim == tiny_vit.feature_dim
    assert torch.equal(vit.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])
    patches = state["patch_embed.proj.weight"]
    expected = patches.sum(1, keepdim=True) if channels == 1 else patches
    assert torch.allclose(vit.patch_embed.proj.weight, expected)


class Cache:
    channels = 3


def test_normalisation_by_the_encoder():
    assert normalization("encoder", Cache, "lite2") == ((0.5,) * 3, (0.5,) * 3)
    card = encoders.card("clip-b32")
    assert normalization("encoder", Cache, "clip-b32") == (card.mean, card.std)
    for name in ("timm:vit_base_patch32_clip_224", "timm:vit_base_patch32_clip_224.laion2b"):
        assert normalization("encoder", Cache, name) == (card.mean, card.std)
    grey = type("Grey", (), {"channels": 1})
    mean, std = normalization("encoder", grey, "clip-b32")
    assert mean == pytest.approx((sum(card.mean) / 3,)) and len(std) == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"model.encoder": "lite3"}, "found 'lite3'; allowed: vit, .*did you mean 'lite2'"),
        (
            {"model.encoder": "dinov2-small", "model.frozen": True, "model.components": 512},
            "512 of dinov2-small's features of length 384; use at most 384",
        ),
        ({"normalize": "encoder"}, "found 'encoder' with train.model.encoder: vit"),
    ],
)
def test_choices_without_a_sense_are_refused(overrides, words):
    with pytest.raises(VtccError, match=words):
        params(**overrides)


def test_a_frozen_encoder_with_a_card_needs_no_file():
    values = params(**{"model.encoder": "lite2", "model.frozen": True, "normalize": "encoder"})
    assert config.from_dict(config.Params, values).train.model.frozen
