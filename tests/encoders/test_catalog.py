from dataclasses import FrozenInstanceError

import pytest
import timm
import torch
import yaml

from vtcc import encoders
from vtcc.encoders import catalog
from vtcc.errors import VtccError

ALL = (
    *("clip-b16", "clip-b32", "dinov2-base", "dinov2-small", "dinov3-small", "eva02-clip-b"),
    *("lite0", "lite2", "siglip2-b"),
)


def test_these_encoders_have_cards():
    assert tuple(encoders.names()) == ALL


@pytest.mark.parametrize("name", ALL)
def test_a_card_agrees_with_timm(name):
    card = encoders.card(name)
    config = timm.get_pretrained_cfg(card.timm)
    assert card.timm in timm.list_pretrained()
    assert (card.mean, card.std) == (config.mean, config.std)
    assert card.hub.repo == config.hf_hub_id
    assert card.licence.lower().replace(" ", "-") == config.license
    assert card.restricted == (config.license == "dinov3-license")
    with torch.device("meta"):
        try:
            encoder = timm.create_model(card.timm, num_classes=0, img_size=card.image_size)
        except TypeError:  # convolutional: takes any size
            encoder = timm.create_model(card.timm, num_classes=0)
        whole = timm.create_model(card.timm)
        features = encoder.eval()(torch.zeros(2, 3, card.image_size, card.image_size))
    parameters = sum(p.numel() for p in encoder.parameters())
    assert card.parameters == pytest.approx(parameters, rel=0.01)
    assert features.shape == (2, card.feature_dim)
    assert card.feature_dim == encoder.num_features
    pooling = encoder.global_pool if isinstance(encoder.global_pool, str) else "avg"
    assert card.pooling == pooling
    size = sum(v.numel() * v.element_size() for v in whole.state_dict().values())
    assert card.megabytes == pytest.approx(size / 1e6, abs=1)


def test_what_is_pinned_and_what_is_not():
    pinned = {name for name in ALL if encoders.card(name).hub.sha256}
    assert pinned == {"dinov2-small", "dinov2-base", "dinov3-small"}
    for name in ALL:
        source = encoders.card(name).hub
        assert (source.revision == "main") == (source.sha256 is None)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(VtccError, match="encoder 'dinov2-smal': unknown; did you mean 'dinov2-sm"):
        encoders.card("dinov2-smal")
    with pytest.raises(VtccError, match=r"encoder '\.\./x': unknown; there are clip-b16, "):
        encoders.card("../x")


def test_a_card_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        encoders.card("lite2").licence = "none"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "mine.yaml: colour: unknown key; known: name, purpose, timm"),
        ({"timm": None}, "mine.yaml: timm: expected text, found None"),
        ({"image_size": 224.5}, "image_size: expected a whole number, found 224.5"),
        ({"restricted": "no"}, "restricted: expected true or false, found 'no'"),
        ({"mean": [0.5]}, r"mean: expected 3 numbers, found \[0.5\]"),
        ({"package": {"module": "x"}}, r"package\.distribution: missing \(text\)"),
        ({"name": "other"}, "name: found 'other'; a card has the name of its file"),
        ({"crop": "centre"}, "crop: found 'centre'; allowed: squash"),
    ],
)
def test_a_wrong_card_is_refused_with_file_and_key(tmp_path, change, message):
    values = yaml.safe_load((catalog.CARDS / "lite2.yaml").read_text()) | {"name": "mine"}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(values))
    assert catalog.read_card(file).name == "mine"
    catalog.read_card.cache_clear()
    file.write_text(yaml.safe_dump(values | change))
    with pytest.raises(VtccError, match=message):
        catalog.read_card(file)


def test_a_digest_that_is_none_is_refused(tmp_path):
    values = yaml.safe_load((catalog.CARDS / "lite2.yaml").read_text()) | {"name": "mine"}
    values["hub"]["sha256"] = "abc"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(VtccError, match="sha256: found 'abc'; expected 64 hex digits"):
        catalog.read_card(tmp_path / "mine.yaml")
