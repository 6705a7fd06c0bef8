"""What a person chooses and types in the page stays through all that is made anew, in a browser."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.browser import Browser
from tests.pages.test_clusters import page
from vtcc.pages import thumbnails
from vtcc.pages.clusters import write

N = 120
FUNCTIONS = """
  const article = id => document.querySelector(`article[data-id="${id}"]:not(.proposal)`);
  const box = id => article(id).querySelector('input[type=checkbox]');
  const set = (id, value) => {
    const e = document.getElementById(id);
    e.value = value; e.dispatchEvent(new Event(e.type === "range" ? "input" : "change"));
  };
  const checked = () => [0, 1, 2, 3].filter(id => article(id) && box(id).checked);
  const edits = () => JSON.parse(vtcc.exported()).edits;
"""


@pytest.fixture
def browser(tmp_path):
    """A page of four clusters, of a tree and of two proposals."""
    given = page(N, 4, {0: "cats", 1: "cats", 2: "cluster 2", 3: "boats"})
    files = list(given.files)
    proposed = [{"id": 4 + i, "name": f"cluster {4 + i}", "files": files[:8]} for i in (0, 1)]
    drift = {"level": "look here", "verdict": "look here: 8 new images", "lines": []}
    made = {"at": "2026-01-01T00:00:00Z", "new": 16, "changed": 0, "gone": 0, "unreadable": 0}
    made |= {"images": N, "drift": drift, "proposed": [4, 5]}
    tree = [(0, 3, 0.1), (1, 2, 0.2), (0, 1, 0.5)]
    given = replace(given, tree=tree, levels=[2], proposals=proposed, additions=[made])
    dark = np.zeros((N, 16, 16, 1), np.uint8)
    thumbnails.write_sprites(tmp_path / "report", lambda rows: dark[rows], given.place)
    write(tmp_path, given)
    with Browser(tmp_path / "shots", 1200, 900) as opened:
        opened.look(f"file://{tmp_path}/report.html", "page", ("Least certain images, figures",))
        opened.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
        yield opened


def shown(browser, script):
    """What a script says, as JSON."""
    return json.loads(browser.evaluate(f"(() => {{ {FUNCTIONS} {script} }})()"))


def place_of(browser, element):
    """Where in the window an element is, scrolled to."""
    return shown(
        browser,
        f"const e = {element}; e.scrollIntoView({{ block: 'center' }});"
        "const r = e.getBoundingClientRect(); return JSON.stringify([r.x + 5, r.y + 5])",
    )


def click(browser, element):
    """Presses and releases the mouse on an element, as a person does."""
    at = place_of(browser, element)
    for kind in ("mousePressed", "mouseReleased"):
        given = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
        browser._call("Input.dispatchMouseEvent", type=kind, **given)


def type_name(browser, cluster, text):
    element = f"article({cluster}).querySelector('input[type=text]')"
    shown(browser, f"{element}.scrollIntoView(); {element}.focus(); {element}.select(); return '1'")
    browser._call("Input.insertText", text=text)


WAIT = "new Promise(done => setTimeout(done, 200))"


@pytest.mark.slow
def test_boxes_show_what_is_chosen_in_whatever_order(browser):
    seen = shown(
        browser,
        """
        box(0).click(); box(1).click(); set("cluster-sort", "name"); const sorted = checked();
        set("cut", 2); const grouped = checked();
        set("cut", 4); box(0).click(); box(1).click(); const none = checked();
        box(2).click(); box(3).click(); document.getElementById("merge").click();
        return JSON.stringify({ sorted, grouped, none, after: checked(), edits: edits() });
        """,
    )
    assert (seen["sorted"], seen["grouped"], seen["none"]) == ([0, 1], [0, 1], [])
    (merge,) = seen["edits"]
    assert (merge["do"], merge["clusters"]) == ("merge", [2, 3])
    assert seen["after"] == []


@pytest.mark.slow
def test_handfuls_go_where_the_first_one_went(browser):
    seen = shown(
        browser,
        """
        const choose = n => document.querySelectorAll("#grid .tile")[n].dispatchEvent(
          new MouseEvent("contextmenu", { bubbles: true, cancelable: true }));
        const move = () => document.getElementById("move").click();
        choose(1); document.getElementById("move-to").value = "3"; move(); choose(2); move();
        return JSON.stringify(edits());
        """,
    )
    assert [e["to"] for e in seen] == [3, 3]


@pytest.mark.slow
def test_names_that_are_typed_outlive_what_else_is_done(browser):
    seen = shown(
        browser,
        """
        const proposal = id => document.querySelector(`article.proposal[data-id="${id}"]`);
        const name = proposal(5).querySelector("input");
        name.value = "my boats"; name.dispatchEvent(new Event("input"));
        proposal(4).querySelector(".confirm").click();
        const value = proposal(5).querySelector("input").value;
        document.getElementById("undo").click();
        return JSON.stringify(value);
        """,
    )
    assert seen == "my boats"
    type_name(browser, 2, "dogs")
    click(browser, "[...article(2).querySelectorAll('button')].find(b => b.textContent[1] === 'p')")
    browser._call("Runtime.evaluate", expression=WAIT, awaitPromise=True)
    assert [e["do"] for e in shown(browser, "return JSON.stringify(edits())")] == [
        "rename",
        "split",
    ]
    assert shown(browser, "return JSON.stringify([...vtcc.state().names][2])") == [2, "dogs"]
    type_name(browser, 3, "ships")
    click(browser, "box(0)")
    browser._call("Runtime.evaluate", expression=WAIT, awaitPromise=True)
    assert shown(browser, "return JSON.stringify(checked())") == [0]
    assert shown(browser, "return JSON.stringify([...vtcc.state().names][3])") == [3, "ships"]


@pytest.mark.slow
def test_the_first_name_is_exported_by_the_click_that_ends_it(browser):
    browser.evaluate("window.saved = 0; HTMLAnchorElement.prototype.click = () => { saved++; }")
    type_name(browser, 2, "dogs")
    click(browser, "document.getElementById('export')")
    browser._call("Runtime.evaluate", expression=WAIT, awaitPromise=True)
    assert browser.evaluate("saved") == 1
    assert shown(browser, "return JSON.stringify([...vtcc.state().names][2])") == [2, "dogs"]


@pytest.mark.slow
def test_a_tap_after_a_name_is_not_lost(browser):
    browser._call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=1)
    type_name(browser, 3, "ships")
    x, y = place_of(browser, "box(0)")
    browser._call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser._call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser._call("Runtime.evaluate", expression=WAIT.replace("200", "700"), awaitPromise=True)
    assert shown(browser, "return JSON.stringify(checked())") == [0]
    assert shown(browser, "return JSON.stringify([...vtcc.state().names][3])") == [3, "ships"]


@pytest.mark.slow
def test_the_focus_stays_where_a_name_was_typed(browser):
    type_name(browser, 1, "dogs")
    browser.press("Enter")
    at = "document.activeElement.closest('article').dataset.id + document.activeElement.value"
    assert browser.evaluate(at) == "1dogs"
    assert len(shown(browser, "return JSON.stringify(edits())")) == 1


@pytest.mark.slow
def test_numbers_tell_clusters_of_one_name_apart(browser):
    seen = shown(
        browser,
        """
        const options = [...document.getElementById("move-to").options].map(o => o.text);
        const quiet = id => article(id).querySelector("h3 .quiet")?.textContent ?? "";
        return JSON.stringify([options.map(o => o.split(" (")[0]), [0, 1, 2].map(quiet)]);
        """,
    )
    assert seen == [["cats · 0", "cats · 1", "cluster 2", "boats · 3"], ["0", "1", ""]]
