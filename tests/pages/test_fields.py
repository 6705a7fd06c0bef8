"""Columns of the images, as the page filters by them."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.browser import Browser
from tests.pages.test_clusters import data, page
from vtcc.pages import fields, thumbnails
from vtcc.pages.clusters import write

N = 120


def columns(files):
    """A column of each kind; of the first image nothing is said."""
    some = list(enumerate(files))[1:]
    return {
        "shop": {f: ("b <i>", "a", "c")[i % 3] for i, f in some},
        "open": {f: i % 2 == 0 for i, f in some},
        "price": {f: i / 4 for i, f in some},
        "digits": {f: str(i * 10) for i, f in some},
        "code": {f: f"00{i}" for i, f in some},
        "taken_at": {f: f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}T10:00:00" for i, f in some},
        "nothing": {f: "" for _, f in some},
        "others": {"not of these": 1},
    }


def test_kinds_follow_from_values():
    files = [f"{i}.png" for i in range(N)]
    shown, left_out = fields.fields(columns(files), files)
    assert left_out == []
    kinds = {field["name"]: field["kind"] for field in shown}
    assert kinds == {
        "shop": "few", "open": "few", "price": "number", "digits": "number", "code": "text",
        "taken_at": "day",
    }  # fmt: skip
    by = {field["name"]: field for field in shown}
    assert by["shop"]["values"] == ["a", "b <i>", "c"]
    assert by["shop"]["at"][:4] == [-1, 0, 2, 1]
    assert (by["open"]["values"], by["open"]["at"][:3]) == (["false", "true"], [-1, 0, 1])
    assert by["price"]["at"][:5] == [None, 0.25, 0.5, 0.75, 1]
    assert by["digits"]["at"][:3] == [None, 10, 20]
    assert by["code"]["values"][by["code"]["at"][7]] == "007"
    assert by["taken_at"]["values"][by["taken_at"]["at"][1]] == "2024-01-02T10:00:00"


@pytest.mark.parametrize(
    ("values", "kind", "order"),
    [
        (["10", "9", "x"], "few", ["9", "10", "x"]),
        ([float(i) for i in range(30)], "few", [str(i) for i in range(30)]),
        ([1.5, float("nan"), float("inf")], "few", ["1.5", "inf"]),
        ([2**70 + i for i in range(31)], "text", [str(2**70 + i) for i in range(31)]),
        ([f"2024-01-{i:02d}" for i in range(1, 31)] + ["unknown"], "text", None),
        ([f"{i}.5e-3" for i in range(1, 40)], "number", None),
        ([*map(str, range(30)), "1e999"], "text", [*map(str, range(30)), "1e999"]),
    ],
)
def test_odd_values(values, kind, order):
    files = [str(i) for i in range(len(values))]
    (field,), _ = fields.fields({"x": dict(zip(files, values, strict=True))}, files)
    assert field["kind"] == kind
    if order is not None:
        assert field["values"] == order
    json.dumps(field, allow_nan=False)


def test_a_large_column_is_left_out_and_named():
    files = [str(i) for i in range(30_000)]
    large = {f: f"{f:>100}" for f in files}
    shown, left_out = fields.fields({"text": large, "size": {f: int(f) for f in files}}, files)
    assert ([field["name"] for field in shown], left_out) == (["size"], ["text"])
    assert len(json.dumps(shown, separators=(",", ":"))) < 8 * len(files)


def test_the_page_has_them_and_other_pages_do_not_change(tmp_path):
    given = page(N, 4)
    write(tmp_path, replace(given, columns=columns(given.files)))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = data(html)
    assert [field["name"] for field in found["fields"]][:2] == ["shop", "open"]
    assert "b <i>" not in html
    write(tmp_path / "without", given)
    without = data((tmp_path / "without" / "report.html").read_text(encoding="utf-8"))
    assert (without["fields"], without["fieldsLeftOut"]) == ([], [])


SET = """((name, ...values) => {{
  const of = [...document.querySelectorAll('[data-field]')].filter(e => e.dataset.field === name);
  of.forEach((e, i) => {{
    e.value = values[i]; e.dispatchEvent(new Event(e.tagName === 'SELECT' ? 'change' : 'input'));
  }});
  return of.length;
}})({})"""


@pytest.mark.slow
def test_images_are_filtered_by_columns_in_a_browser(tmp_path):
    given = page(N, 4)
    given = replace(given, columns=columns(given.files))
    dark = np.zeros((N, 16, 16, 1), np.uint8)
    thumbnails.write_sprites(tmp_path / "report", lambda rows: dark[rows], given.place)
    write(tmp_path, given)
    with Browser(tmp_path / "shots", 390, 900) as browser:
        browser._call(
            "Emulation.setDeviceMetricsOverride",
            width=390,
            height=844,
            deviceScaleFactor=1,
            mobile=True,
        )
        browser.look(f"file://{tmp_path}/report.html", "page", ("Columns",))

        def shown(*asked):
            if asked:
                arguments = ", ".join(map(json.dumps, asked))
                assert browser.evaluate(SET.format(arguments)) == len(asked) - 1
                time.sleep(0.3)
            return browser.evaluate("vtcc.state().shown")

        assert browser.evaluate("document.getElementById('fields').open") is False
        browser.evaluate("document.querySelector('#fields summary').focus()")
        browser.press("Enter")
        assert browser.evaluate("document.getElementById('fields').open") is True
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        names = "[...document.querySelectorAll('[data-field]')].map(e => e.dataset.field).join()"
        assert browser.evaluate(names) == (
            "shop,open,price,price,digits,digits,code,taken_at,taken_at"
        )
        options = "[...document.querySelector('select[data-field=shop]').options].map(o => o.text)"
        assert browser.evaluate(f"{options}.join('|')") == (
            "all|a (40)|b <i> (39)|c (40)|(none) (1)"
        )
        assert shown() == N
        assert shown("shop", "0") == 40
        assert shown("shop", "-1") == 1
        assert shown("shop", "") == N
        assert shown("price", "1", "2") == 5  # 4, 5, 6, 7 and 8 quarters
        assert shown("price", "1", "") == N - 4
        assert shown("open", "1") == len([i for i in range(4, N) if i % 2 == 0])
        assert browser.evaluate("document.getElementById('fields-used').textContent") == (
            "(2 in use)"
        )
        assert (
            browser.evaluate("document.getElementById('fields-clear').click(), vtcc.state().shown")
            == N
        )
        assert shown("code", "0011") == 11  # 0011 and 00110 to 00119
        assert shown("code", "") == N
        assert shown("taken_at", "2024-02-01", "2024-02-03") == 3
        # The dialog says what the table says of an image.
        browser.evaluate("document.getElementById('grid').focus()")
        browser.press("Enter")
        caption = browser.evaluate("document.querySelector('.caption span').textContent")
        assert "taken_at: 2024-02-0" in caption
        assert "nothing" not in caption


def test_large_numbers_stay_apart():
    files = [str(i) for i in range(40)]
    of = {f: 1234567800.0 + int(f) for f in files}
    (field,), _ = fields.fields({"id": of}, files)
    assert field == {"name": "id", "kind": "number", "at": [1234567800 + i for i in range(40)]}
    (few,), _ = fields.fields({"x": {"0": 0.1 + 0.2, "1": 0.3}}, files[:2])
    assert few["values"] == ["0.3", "0.30000000000000004"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_long_names_do_not_widen_the_page(tmp_path, width):
    long = "brown cardboard boxes, seen from above, " * 3
    given = page(N, 4, {0: long[:100], 1: "W" * 100, 2: "a", 3: "b"})
    of = {f: ("x" * 200, long)[i % 2] for i, f in enumerate(given.files)}
    given = replace(given, columns={"c" * 100: of, long[:100]: of})
    dark = np.zeros((N, 16, 16, 1), np.uint8)
    thumbnails.write_sprites(tmp_path / "report", lambda rows: dark[rows], given.place)
    write(tmp_path, given)
    with Browser(tmp_path / "shots", width, 900) as browser:
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        browser._call("Emulation.setDeviceMetricsOverride", **size)
        browser.look(f"file://{tmp_path}/report.html", "page", ("Columns",))
        browser.evaluate("document.getElementById('fields').open = true")
        browser.evaluate("vtcc.state().shown")
        browser.evaluate("document.getElementById('with-chosen').hidden = false")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
