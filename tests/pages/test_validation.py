import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.data.test_expectations import BROKEN, row, table
from vtcc.data.cache import CacheWriter
from vtcc.data.expectations import Outcome, figures
from vtcc.pages import validation

EVIL = "<script>alert('x')</script>\"onload=\n😀.png"


class Page(HTMLParser):
    """Collects tags, attributes and the text a reader sees."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(tmp_path):
    images = table(
        row(EVIL),
        row("copy", sha256=EVIL),
        row("flat", one_colour=True),
        row("bad" + EVIL, **BROKEN),
    )
    outcomes = [
        Outcome("warn", False, "no copies", f"1: {EVIL!r}", ["copy"]),
        Outcome("fail", False, "the moon", "cheese", []),
        Outcome("fail", True, "at least 2 images", "4", []),
    ]
    verdict = {"success": False, **figures(images), "failures": ["x"], "warnings": []}
    dataset = {"name": "<b>me</b>", "source": "in", "images": 4, "digest": "d" * 64}
    with CacheWriter(tmp_path / "cache", name="t", image_size=8, channels=3) as writer:
        for i in range(3):
            writer.add(str(i), "train", np.full((8, 8, 3), 50 * i, dtype=np.uint8))
        return validation.render(dataset, verdict, outcomes, images, writer)


def test_names_are_shown_but_never_run(page):
    parsed = Page(page)
    assert "script" not in parsed.tags and "b" not in parsed.tags
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert "bad" + EVIL in parsed.text and "<b>me</b>" in parsed.text
    assert ("title", EVIL) in parsed.attributes


def test_it_needs_no_network(page):
    parsed = Page(page)
    assert not {"link", "iframe", "object"} & set(parsed.tags)
    links = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert links and all(value.startswith("data:image/png;base64,") for value in links)
    assert "@import" not in page and "url(" not in page
    assert "prefers-color-scheme: dark" in page


def test_it_says_what_matters_first(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    assert "Validation of <b>me</b>: failed" in text
    assert text.index("the moon") < text.index("no copies") < text.index("at least 2 images")
    assert "Set aside: 1 unreadable" in text and "truncated" in text
    assert "Exact copies of an earlier file: 1" in text and "All one colour: 1" in text
    assert text.index("expectations are met") < text.index("the moon")


def test_thumbnails_are_the_images(page):
    sources = [v for n, v in Page(page).attributes if n == "src"]
    colours = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(s.split(",")[1])))).mean()
        for s in sources
    ]
    assert colours == [50, 0, 0, 50, 100, 100]  # the copy and its twin, all three, the flat one


def test_thumbnails_stay_small():
    for channels, mode in ((1, "L"), (3, "RGB")):
        uri = validation.thumbnail(np.zeros((500, 500, channels), dtype=np.uint8))
        image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        assert (image.size, image.mode) == ((96, 96), mode)


def test_the_verdict_is_one_sentence():
    outcomes = [
        Outcome(severity, passed, "", "", [])
        for severity, passed in (("fail", False), ("warn", False), ("warn", True), ("fail", True))
    ]
    assert validation.headline(outcomes[2:]) == "2 of 2 expectations are met"
    assert validation.headline(outcomes) == (
        "2 of 4 expectations are met; 1 not, which stops the pipeline; 1 to look at"
    )


def test_sizes_and_pairs_are_shown(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    assert "8 x 83100 %" in text and "RGB3100 %" in text
    assert "copyand <script>" in text
    assert validation.counted(pd.Series({f"{i} x 1": 1 for i in range(20)}))[-1] == (
        "8 others",
        8,
        40.0,
    )


def test_pictures_of_many_bands_show_three_and_of_two_one():
    bands = np.arange(5, dtype=np.uint8) * 50 + np.zeros((4, 4, 1), dtype=np.uint8)
    for channels, shown in ((5, (0, 50, 100)), (2, 0)):
        uri = validation.thumbnail(bands[..., :channels])
        image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        assert image.getpixel((0, 0)) == shown


def test_bars():
    assert validation.bars(pd.Series([], dtype=float)) == []
    assert validation.bars(pd.Series([3.0, 3.0, None])) == [("3", 2, 100.0)]
    drawn = validation.bars(pd.Series([0.0] * 4 + [24.0] * 2))
    assert len(drawn) == 24
    assert drawn[0] == ("0 to 1", 4, 100.0) and drawn[-1] == ("23 to 24", 2, 50.0)
