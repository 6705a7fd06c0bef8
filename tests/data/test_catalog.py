import dataclasses

import pytest
import yaml

from tests.data.project import ROOT
from vtcc.data.catalog import Card, Folder, load_card, resolve
from vtcc.errors import VtccError

CARD = {
    "name": "toy",
    "loader": "toy",
    "images": 5,
    "classes": 2,
    "class_counts": {"a": 2, "b": 3},
    "image_size": [4, 6],
    "channels": 3,
    "licence": "MIT",
    "citation": "nobody",
    "origin": "nowhere",
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "toy.yaml"
        values = {k: v for k, v in (CARD | changes).items() if v != "absent"}
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


@pytest.mark.parametrize(
    ("name", "images", "classes", "size"),
    [("digits", 1797, 10, [8, 8]), ("fashion-mnist", 70000, 10, [28, 28])],
)
def test_shipped_cards(name, images, classes, size):
    card = load_card(ROOT / f"data/catalog/{name}.yaml")
    assert (card.name, card.images, card.classes, card.image_size) == (name, images, classes, size)


def test_every_card_has_a_loader():
    from vtcc.data import sources

    cards = sorted((ROOT / "data/catalog").glob("*.yaml"))
    assert len(cards) >= 2
    assert {load_card(card).loader for card in cards} <= set(sources._sources)


def test_a_card_is_typed_and_frozen(write):
    card = load_card(write())
    assert dataclasses.asdict(card) == CARD
    assert list(card.class_counts or {}) == ["a", "b"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.images = 3


def test_what_is_not_known_may_be_null(write):
    card = load_card(write(classes=None, class_counts=None, image_size=None))
    assert (card.classes, card.class_counts, card.image_size) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imges": 5}, "unknown key 'imges'; did you mean 'images'?"),
        ({"colour": 5}, "unknown key 'colour'; known: name, loader"),
        ({"licence": "absent"}, "licence is missing; a card has name"),
        ({"images": "5"}, "images: expected a positive whole number, found '5'"),
        ({"images": True}, "images: expected a positive whole number, found True"),
        ({"channels": 2}, "channels: expected 1 or 3, found 2"),
        ({"image_size": 8}, r"image_size: expected \[width, height\] or null, found 8"),
        ({"class_counts": {1: 5}}, "class_counts: expected class names .text, quoted"),
        ({"images": 6}, "holds 2 classes and 5 images, but the card says 2 and 6"),
        ({"classes": 3}, "holds 2 classes and 5 images, but the card says 3 and 5"),
        ({"origin": " "}, "origin: expected text, found ' '"),
    ],
)
def test_a_wrong_card_is_refused(write, changes, message):
    with pytest.raises(VtccError, match=message) as caught:
        load_card(write(**changes))
    assert "toy.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "name: a\nname: b\n"])
def test_a_card_that_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(VtccError, match=r"a\.yaml"):
        load_card(tmp_path / "a.yaml")


def test_resolve(write, tmp_path):
    assert isinstance(resolve(str(write())), Card)
    assert resolve(str(tmp_path)) == Folder(tmp_path)


def test_resolve_says_what_is_missing(write, tmp_path):
    write()
    with pytest.raises(VtccError, match=r"no dataset card .*toi\.yaml; did you mean .*toy\.yaml"):
        resolve(str(tmp_path / "toi.yaml"))
    with pytest.raises(VtccError, match=r"'photos' does not exist in .*; give a dataset card"):
        resolve("photos")
    with pytest.raises(VtccError, match="'~' is not expanded"):
        resolve("~/no-such-photos")
