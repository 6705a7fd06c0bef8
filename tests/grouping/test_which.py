"""Pretrained features or from scratch: by what the images are, and by a measurement for shapes."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from tests.fakes import stand_in
from vtcc import encoders
from vtcc.engine import model, timm_encoder
from vtcc.errors import VtccError
from vtcc.grouping import choices, encode, which
from vtcc.grouping.options import Options
from vtcc.grouping.survey import Survey

PHOTOGRAPHS = Survey(
    images=900,
    looked_at=600,
    short_side=256,
    colour=1.0,
    plain=0.1,
    dark_ground=0.0,
    mirror=0.5,
    upside_down=0.9,
    quarter=0.9,
)
SHAPES = Survey(**{**vars(PHOTOGRAPHS), "colour": 0.0, "plain": 0.95})


@pytest.fixture
def measured():
    """The measurement, and what it gives."""
    with mock.patch.object(which, "clearness", autospec=True) as clearness:
        yield clearness


def chosen(survey, tmp_path):
    return which.encoder(Options(tmp_path), survey, [], tmp_path)


def test_photographs_get_the_encoder_unmeasured(tmp_path, measured):
    assert chosen(PHOTOGRAPHS, tmp_path).name == "lite2"
    assert not measured.called


@pytest.mark.parametrize(("gradients", "name"), [(0.95, ""), (0.84, "lite2"), (0.2, "lite2")])
def test_shapes_are_measured(tmp_path, measured, gradients, name):
    measured.return_value = which.Clearness(0.8, 11, gradients, 9)
    choice = chosen(SHAPES, tmp_path)
    assert choice.name == name
    assert (
        f"clearness {gradients:.2f} of 1 (at K = 9), lite2's features 0.80 (at K = 11)"
        in (choice.reason["why"])
    )


def test_without_weights_nothing_is_measured(tmp_path, measured, monkeypatch, capsys):
    stand_in(monkeypatch, encoders, "available", lambda card: None)
    assert chosen(SHAPES, tmp_path).name == ""
    assert not measured.called
    assert capsys.readouterr().out.count("vtcc encoders") == 1


def test_damaged_weights_are_left_out_before_anything_is_decoded(
    tmp_path, measured, monkeypatch, capsys
):
    def refuse(name, **_):
        raise VtccError(f"{name}: damaged")

    stand_in(monkeypatch, encoders, "resolve", refuse)
    assert chosen(PHOTOGRAPHS, tmp_path).name == ""
    assert "encoder lite2: not used (lite2: damaged)" in capsys.readouterr().out


def test_bands_that_no_encoder_knows_are_trained_from_scratch(tmp_path, measured):
    asked = Options(tmp_path, overrides={"validate.bands": [1, 2, 3, 4]})
    choice = which.encoder(asked, PHOTOGRAPHS, [], tmp_path)
    assert choice.name == "" and choice.reason["why"].startswith("4 bands")
    asked = Options(tmp_path, overrides={"validate.bands": [3, 2, 1]})
    assert which.encoder(asked, PHOTOGRAPHS, [], tmp_path).name == "lite2"


@pytest.mark.parametrize("bands", [[2], [3, 2, 1]])
def test_the_encoder_sees_the_chosen_bands(tmp_path, monkeypatch, bands):
    for i in range(2):
        Image.new("RGB", (40, 40), (10, 100, 200)).save(tmp_path / f"{i}.png")
    seen = []

    def embed(directory, images, count, **_):
        seen.append(images(0))
        return SimpleNamespace(values=np.zeros((count, 1, 4), np.float16))

    stand_in(monkeypatch, encode.features, "embed", embed)
    stand_in(monkeypatch, encode.runtime, "of_encoder", lambda *_, **__: None)
    asked = Options(tmp_path, overrides={"validate.bands": bands})
    files = sorted(tmp_path.glob("*.png"))
    pixels, _ = encode.sampled(files, "lite2", tmp_path, **asked.decoding())
    expected = [(10, 100, 200)[band - 1] for band in bands]
    assert pixels.shape[-1] == 3 and (seen[0] == pixels).all()
    assert pixels[0, 0, 0].tolist() == (expected * 3)[:3]


def test_a_measurement_is_kept_for_a_resume(tmp_path):
    (tmp_path / "clearness.json").write_text(
        '{"features": 0.8, "features_clusters": 3, "gradients": 0.5, "gradients_clusters": 4}'
    )
    seen = which.clearness([], "lite2", tmp_path, Options(tmp_path))
    assert seen == which.Clearness(0.8, 3, 0.5, 4)


@pytest.mark.parametrize(
    "kept",
    [
        '{"features": 0.8, "features_clusters": 3, "gradients": 0.5}',
        '{"features": "a", "features_clusters": 3, "gradients": 0.5, "gradients_clusters": 4}',
    ],
)
def test_a_measurement_without_its_numbers_is_made_again(tmp_path, monkeypatch, capsys, kept):
    (tmp_path / "clearness.json").write_text(kept)
    few = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 4), np.float32)
    sampled = mock.create_autospec(encode.sampled, return_value=few)
    monkeypatch.setattr(encode, "sampled", sampled)
    seen = which.clearness([], "lite2", tmp_path, Options(tmp_path))
    assert seen == which.Clearness(0.0, 0, 0.0, 0)
    assert "cannot be read, so this step is done again" in capsys.readouterr().out


@pytest.mark.slow
def test_digits_go_from_scratch(tmp_path):
    for i, image in enumerate(load_digits().images[:600]):
        Image.fromarray((image * 15).astype("uint8")).save(tmp_path / f"{i:04}.png")
    files = sorted(tmp_path.glob("*.png"))
    seen = which.clearness(files, "lite2", tmp_path, Options(tmp_path))
    assert seen.gradients > 0.9
    assert seen.features < seen.gradients - which.CLEARER


@pytest.mark.parametrize(
    ("side", "mirror", "views", "crop", "flip", "augmentation", "size"),
    [
        (32, 0.5, 1, (1.0, 1.0), 1.0, "mirrored", 160),
        (32, 0.9, 1, (1.0, 1.0), 0.0, "mild light", 160),
        (256, 0.5, 2, (0.35, 1.0), 0.5, "features", 224),
    ],
)
def test_small_images_are_not_cropped(side, mirror, views, crop, flip, augmentation, size):
    survey = replace(PHOTOGRAPHS, short_side=side, mirror=mirror)
    made = choices.choose(survey, name="x", source="/x", clusters=3)
    choices.use_encoder(made, "lite2", survey, weights=None, finetune=False)
    assert made.params["embed"]["views"] == views
    augment = made.params["train"]["augment"]
    assert (tuple(augment["crop_scale"]), augment["flip"]) == (crop, flip)
    assert made.reasons["augmentation"]["value"] == augmentation
    assert made.params["train"]["image_size"] == made.params["validate"]["image_size"] == size


@pytest.mark.parametrize(
    ("name", "made", "beside"),
    [
        ("test_resnet", {"in_chans": 1}, {}),
        ("gmlp_ti16_224", {"img_size": 32}, {}),
        ("test_resnet", {"in_chans": 4}, {"validate.bands": (1, 2, 3, 4)}),
    ],
)
def test_weights_for_what_the_images_may_decide_are_not_refused(
    tmp_path, monkeypatch, name, made, beside
):
    stand_in(monkeypatch, timm_encoder, "whose", lambda tensors, besides: "")
    weights = tmp_path / "w.safetensors"
    save_file(timm.create_model(name, **made).state_dict(), weights)
    named = {"train.model.encoder": f"timm:{name}", "train.model.weights": str(weights)}
    which.refuse_unfit(Options(tmp_path, overrides=named | beside))
    decided = named | {"dataset.channels": 3, "train.image_size": 224}
    with pytest.raises(VtccError, match=r"w\.safetensors: not usable"):
        which.refuse_unfit(Options(tmp_path, overrides=decided))
    # As --encoder, it is trained on RGB at 224 pixels.
    asked = Options(tmp_path, encoder=f"timm:{name}", weights=weights)
    with pytest.raises(VtccError, match=rf"{name} at 224 pixels"):
        which.refuse_unfit(asked)


@pytest.mark.parametrize("asked", ["test_vit", "test_efficientnet", "test_resnet.no_tag"])
def test_weights_of_another_model_are_tried_once(tmp_path, monkeypatch, asked):
    stand_in(monkeypatch, timm_encoder, "whose", lambda tensors, besides: "")
    weights = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    build = mock.create_autospec(model.build_encoder, side_effect=model.build_encoder)
    monkeypatch.setattr(model, "build_encoder", build)
    named = {"train.model.encoder": f"timm:{asked}", "train.model.weights": str(weights)}
    with pytest.raises(VtccError, match=rf"{asked.split('.')[0]}"):
        which.refuse_unfit(Options(tmp_path, overrides=named))
    assert build.call_count == 1
