import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from tests.data.project import ROOT
from vtcc.data.catalog import CHECKS, Card, Folder, load_card, plain, resolve
from vtcc.errors import VtccError

SEVERITY = dict.fromkeys(CHECKS, "fail")
SOURCE = {
    "part": "all",
    "url": "https://example.org/toy.zip",
    "file": "toy.zip",
    "bytes": 12,
    "sha256": "0" * 64,
    "md5": None,
    "fact_from": "nowhere",
}
CARD = {
    "name": "toy",
    "title": "Toy",
    "loader": "toy",
    "images": 5,
    "classes": 2,
    "class_counts": {"a": 2, "b": 3},
    "image_size": [4, 6],
    "size_exceptions": 1,
    "channels": 3,
    "modes": ["RGB"],
    "licence": "MIT",
    "citation": "nobody",
    "origin": "nowhere",
    "sources": [SOURCE],
    "manual": None,
    "layout": "toy/<class>/",
    "augment": "natural",
    "expectations": {"severity": SEVERITY, "known": {"exact_duplicates": None}},
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "toy.yaml"
        values = {k: v for k, v in (CARD | changes).items() if v != "absent"}
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


PAPER = {
    "rsod": (976, 4, None),
    "ucmerced": (2100, 21, [256, 256]),
    "siri-whu": (2400, 12, [200, 200]),
    "aid": (10000, 30, [600, 600]),
    "d0": (4508, 40, [200, 200]),
    "dtd": (5640, 47, None),
    "chaoyang": (6160, 4, [512, 512]),
    "cifar100": (60000, 20, [32, 32]),
}
CARDS = sorted((ROOT / "data/catalog").glob("*.yaml"))


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_datasets(name):
    card = load_card(ROOT / f"data/catalog/{name}.yaml")
    assert (card.images, card.classes, card.image_size) == PAPER[name]


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_every_shipped_card(path):
    from vtcc.data import sources

    card = load_card(path)
    assert card.name == path.stem
    assert card.loader in sources.loaders
    assert card.images >= 2 and card.classes and card.classes >= 2
    assert len(card.licence) > 2 and len(card.citation) > 40
    # A checksum for everything that is downloaded, and words for what is not.
    assert all(source.sha256 or source.md5 for source in card.sources)
    assert (card.obtained == "by hand") == (card.manual is not None)
    assert card.obtained != "ships" or card.name == "digits"
    if card.manual:
        assert "http" in card.manual and "VTCC_MIRROR" in card.manual and card.name in card.manual


def test_there_are_twenty_cards():
    assert len(CARDS) >= 20


def test_torchvisions_facts_are_torchvisions():
    # Read, not imported: that takes fifteen seconds.
    home = Path(next(iter(importlib.util.find_spec("torchvision").submodule_search_locations)))
    facts = [s for path in CARDS for s in load_card(path).sources if "torchvision" in s.fact_from]
    assert len(facts) >= 20
    for source in facts:
        file = re.search(r"datasets/\w+\.py", source.fact_from)
        assert source.md5 in (home / file[0]).read_text(encoding="utf-8")


def test_a_card_is_typed_and_frozen(write):
    card = load_card(write())
    assert dataclasses.asdict(card) == CARD and card.obtained == "download"
    assert list(card.class_counts or {}) == ["a", "b"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.images = 3


def test_what_is_not_known_may_be_null(write):
    nothing = dict.fromkeys(["classes", "class_counts", "image_size", "size_exceptions", "modes"])
    card = load_card(write(**nothing, sources=[SOURCE | {"bytes": None, "sha256": None}]))
    assert all(getattr(card, key) is None for key in nothing)
    assert load_card(write(class_counts={"a": 2, "b": None})).class_counts == {"a": 2, "b": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imges": 5}, "imges: unknown key; did you mean 'images'?"),
        ({"colour": 5}, "colour: unknown key; known: name, title, loader"),
        ({"licence": "absent"}, r"licence: missing \(text\)"),
        ({"images": "5"}, "images: expected a positive whole number, found '5'"),
        ({"images": True}, "images: expected a positive whole number, found True"),
        ({"channels": 2}, "channels: expected 1 or 3, found 2"),
        ({"image_size": 8}, r"image_size: expected \[width, height\] or null, found 8"),
        ({"class_counts": {1: 5}}, "class_counts: expected class names .text, quoted"),
        ({"images": 6}, "holds 2 classes and 5 images, but the card says 2 and 6"),
        ({"classes": 3}, "holds 2 classes and 5 images, but the card says 3 and 5"),
        ({"origin": " "}, "origin: expected text, found ' '"),
        ({"class_counts": {"a": 5, "b": None}}, "holds 2 classes and 5 images, but the card says"),
        ({"class_counts": {"a b": 2, "A_B": 3}}, "two class names differ in case or signs only"),
        ({"size_exceptions": -1}, "size_exceptions: expected a whole number or null, found -1"),
        ({"modes": "RGB"}, "modes: expected a list of Pillow modes .*, found 'RGB'"),
        ({"augment": "strong"}, "augment: expected paper . natural .*, found 'strong'"),
        ({"sources": None}, "sources: expected a list of files"),
        ({"sources": ["a"]}, r"sources\[0\]: expected keys and values, found 'a'"),
        ({"sources": [SOURCE | {"md": 1}]}, r"sources\[0\]\.md: unknown key; did you mean 'md5'"),
        ({"sources": [{"part": "a"}]}, r"sources\[0\]\.url: missing \(an http\(s\) URL\)"),
        ({"sources": [SOURCE | {"url": "file:///etc"}]}, r"\.url: expected an http.s. URL"),
        ({"sources": [SOURCE | {"file": "../a"}]}, r"\.file: expected a file name without"),
        ({"sources": [SOURCE | {"sha256": "ab"}]}, r"\.sha256: expected 64 lower-case hex digits"),
        ({"sources": [SOURCE | {"md5": "x" * 32}]}, r"\.md5: expected 32 lower-case hex digits"),
        (
            {"expectations": {"severity": SEVERITY}},
            r"expectations\.known: missing \(facts, exact_duplicates",
        ),
        (
            {"expectations": {"severity": {"count": "fail"}, "known": {}}},
            "expectations.severity: expected fail or warn for each of count, classes",
        ),
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


def test_names_are_compared_without_what_people_write_differently():
    assert plain("UC-Merced_ LandUse") == "ucmercedlanduse"
    assert plain("T-shirt/top") == plain("t_shirt top")
    assert plain("vehicles_1") != plain("vehicles_2")
