"""Model and augmentation presets: keys that fit params.yaml, and the paper's facts."""

import pytest
import torch
import yaml

from vtcc import config
from vtcc.engine.model import build, parameter_count

PAPER = yaml.safe_load((config.PRESETS / "paper.yaml").read_text())


def names(kind):
    return sorted(file.stem for file in (config.PRESETS / kind).glob("*.yaml"))


def read(kind, name):
    return config.read_yaml(config.PRESETS / kind / f"{name}.yaml")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vtcc-tiny", 3_634_541), ("vtcc-small", 21_364_037), ("vtcc-base", 113_224_181)],
)
def test_a_model_preset_has_the_papers_size(name, expected):
    values = config.override(PAPER, read("models", name))
    params = config.from_dict(config.Params, values)
    with torch.device("meta"):
        model = build(params.train.model, 21, image_size=params.train.image_size, channels=3)
    assert parameter_count(model) == expected


def test_the_run_preset_paper_is_the_small_model_with_the_augmentation_paper():
    assert config.override(PAPER, read("models", "vtcc-small")) == PAPER
    assert PAPER["train"]["augment"] == read("augment", "paper")


@pytest.mark.parametrize("name", names("augment"))
def test_an_augmentation_preset_is_complete_and_says_at_which_size_it_holds(name):
    values = read("augment", name)
    assert list(values) == list(PAPER["train"]["augment"])
    config.from_dict(config.Augment, values, name)
    text = (config.PRESETS / "augment" / f"{name}.yaml").read_text(encoding="utf-8")
    assert "Pixel-valued ranges hold at " in text.splitlines()[1]


def test_there_is_a_preset_for_every_kind_of_image():
    assert names("augment") == [
        "aerial",
        "features",
        "glyphs",
        "medical",
        "natural",
        "paper",
        "texture",
    ]
    digits = yaml.safe_load((config.PRESETS / "digits.yaml").read_text())
    assert read("augment", "glyphs") == digits["train"]["augment"]


def test_the_run_preset_paper_has_the_papers_settings():
    params = config.from_dict(config.Params, PAPER)
    train, augment = params.train, params.train.augment
    assert (train.num_clusters, train.image_size, train.normalize) == (21, 224, "imagenet")
    assert (train.epochs, train.batch_size) == (1000, 128)
    assert vars(train.optimizer) == {
        "name": "adam",
        "learning_rate": 3e-4,
        "weight_decay": 0.0,
        "schedule": "constant",
        "warmup": 0.0,
    }
    loss = train.loss
    assert (loss.instance_temperature, loss.cluster_temperature, loss.entropy_weight) == (0.5, 1, 1)
    assert (augment.crop_scale, augment.flip) == ((0.08, 1.0), 0.5)
    jitter = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    assert (augment.jitter, *jitter) == (0.8, 0.4, 0.4, 0.2, 0.1)
    assert (augment.grey, augment.blur, augment.blur_sigma) == (0.2, 1.0, (0.1, 2.0))
    assert (augment.solarize, augment.noise, augment.erase) == (0.2, 0.0, 0.0)
