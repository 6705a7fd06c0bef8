"""The page of `vtcc cluster`: sprites, data inside, and, in a browser, 20,000 images."""

import base64
import json
import os
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser
from vtcc.pages import thumbnails
from vtcc.pages.clusters import ClustersPage, ClusterSummary, write

HOSTILE = [
    "<script>window.hit=1</script>.png",
    '"><img src=x onerror="window.hit=1">.png',
    "it's \N{CAMERA}\u2028.png",
    "n" * 200 + ".png",
    "</script><script>window.hit=1</script>",
    "a%2fb#c?d.png",
]


def page(N, K, names=None, thumb=16):
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, K, N)
    confidence = rng.uniform(0.2, 1, N).astype(np.float32)
    files = [*HOSTILE, *(f"sub/{i:06d}.png" for i in range(N - len(HOSTILE)))]
    names = names or {k: f"cluster {k}" for k in range(K)}
    clusters = [
        ClusterSummary(
            id=k,
            name=names[k],
            size=int((cluster == k).sum()),
            spread=0.1,
            confidence=0.8,
            nearest=(k + 1) % K,
            nearest_distance=0.2,
            prototypes=np.flatnonzero(cluster == k)[:6].tolist(),
            boundary=np.flatnonzero(cluster == k)[6:9].tolist(),
            about=["brighter than most"],
            mean=np.full((8, 8, 1), 99, np.uint8),
            attention=[np.eye(4)],
            labels=[("<b>cat</b>", 0.75)],
        )
        for k in range(K)
    ]
    return ClustersPage(
        title="<i>photos</i>",
        root="../photos/",
        files=files,
        cluster=cluster,
        confidence=confidence,
        distance=np.where(np.arange(N) % 9, 0.25, np.nan),
        second=(cluster + 1) % K,
        outlier=rng.random(N) < 0.05,
        map=rng.normal(size=(N, 2)),
        place=thumbnails.places(cluster, confidence),
        thumb=thumb,
        clusters=clusters,
        digest="0123456789abcdef",
        trust={"level": "weak", "verdict": "weak <structure>", "seeds": 0.5, "confused": []},
        count={
            "clusters": 4,
            "low": 3,
            "high": 5,
            "reasons": ["because"],
            "curve": [
                {"clusters": k, "silhouette": 0.5, "stability": 0.9, "maps": 0.9}
                | {"score": 0.5 + 0.1 * (k == 4)}
                for k in range(2, 8)
            ],
        },
        choices={"image size": {"value": "16 x 16", "why": "<small>"}},
        baselines=[{"title": "these clusters", "agreement": 1.0, "nmi": float("nan"), "acc": 1}],
    )


def data(html):
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])


def test_what_the_script_reads_is_what_was_given(tmp_path):
    given = page(60, 4)
    write(tmp_path, given)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = data(html)
    assert found["files"] == given.files
    assert found["cluster"] == given.cluster.tolist()
    assert found["confidence"] == np.round(given.confidence * 1000).astype(int).tolist()
    assert found["distance"][:2] == [None, 250]
    assert (min(found["x"]), max(found["x"])) == (0, 1000)
    assert found["tile"] == given.place.tolist()
    assert found["clusters"][1]["labels"] == [["<b>cat</b>", 0.75]]
    assert found["clusters"][0]["mean"].startswith("data:image/png;base64,")
    assert found["baselines"][0]["nmi"] is None
    assert html.count("<script") == 2
    assert "<i>photos" not in html
    write(tmp_path / "again", given)
    assert (tmp_path / "again" / "report.html").read_bytes() == html.encode()


def test_files_that_could_not_be_read_are_told(tmp_path):
    write(tmp_path, page(60, 4))
    assert "could not be read" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    names = ["b.jpg", "<i>a.jpg", "caf\udce9.jpg"]
    write(tmp_path, replace(page(60, 4), unreadable=names))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "3 files could not be read: &lt;i&gt;a.jpg, b.jpg, caf\\udce9.jpg; see" in html
    write(tmp_path, replace(page(60, 4), unreadable=[f"{i:04d}.png" for i in range(1234)]))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1,234 files could not be read: 0000.png, " in html
    assert ", 0009.png and 1,224 more; see" in html
    write(tmp_path, replace(page(60, 4), unreadable=["b.jpg"]))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 file could not be read: b.jpg; see" in html


def test_each_image_is_at_its_place_in_the_sprites(tmp_path):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, 300)
    images = np.broadcast_to(levels[:, None, None, None], (300, 16, 16, 1)).astype(np.uint8)
    cluster, confidence = rng.integers(0, 3, 300), rng.random(300)
    place = thumbnails.places(cluster, confidence)
    assert thumbnails.write_sprites(tmp_path, lambda rows: images[rows], place) == 16
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s0.jpg", "s1.jpg"]
    for row in range(300):
        number, at = divmod(int(place[row]), 256)
        y, x = divmod(at, 16)
        with Image.open(tmp_path / f"s{number}.jpg") as sprite:
            level = sprite.getpixel((x * 16 + 8, y * 16 + 8))[0]
        assert abs(level - int(levels[row])) < 12
    by_place = np.argsort(place)
    assert (np.diff(cluster[by_place]) >= 0).all()
    first = by_place[cluster[by_place] == 0]
    assert (np.diff(confidence[first]) <= 0).all()


def test_noise_of_any_size_fits(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 64, 64, 3), dtype=np.uint8)
    thumbnails.write_sprites(tmp_path, lambda rows: noise[rows], np.arange(600))
    assert len(list(tmp_path.iterdir())) == 3


def test_colours_of_many_bands_are_shown():
    assert thumbnails.displayable(np.zeros((2, 4, 4, 2), np.uint8)).shape == (2, 4, 4, 3)
    assert thumbnails.displayable(np.ones((2, 4, 4, 13), np.uint8)).shape == (2, 4, 4, 3)


DRIVE = """(() => {
  const q = s => document.querySelector(s), out = {};
  out.cells = document.querySelectorAll('#grid .tile').length;
  q('#search').value = 'SCRIPT'; q('#search').dispatchEvent(new Event('input'));
  const name = q('article input[type=text]'); name.value = '<b>boats</b>';
  name.dispatchEvent(new Event('change'));
  const boxes = [...document.querySelectorAll('article input[type=checkbox]')].slice(1, 3);
  boxes.forEach(b => b.click()); q('#merge').click();
  const buttons = [...document.querySelectorAll('article button')];
  buttons.find(b => b.textContent === 'Split in two').click();
  out.edits = JSON.parse(vtcc.exported()); out.list = q('#edits').textContent;
  q('#undo').click(); out.after = JSON.parse(vtcc.exported()).edits.length;
  return JSON.stringify(out);
})()"""


@pytest.mark.slow
def test_twenty_thousand_images_in_a_browser(tmp_path):
    """Screenshots are kept in $VTCC_SCREENSHOTS when it is set."""
    N, K = 20_000, 25
    given = page(N, K, thumb=64)
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    smooth = np.stack(
        [np.asarray(Image.fromarray(b).resize((6, 6)).resize((64, 64))) for b in base]
    )
    thumbnails.write_sprites(tmp_path / "report", lambda rows: smooth[rows % 40], given.place)
    write(tmp_path, given)
    assert sum(p.stat().st_size for p in (tmp_path / "report").iterdir()) < 60 << 20
    shots = Path(os.environ.get("VTCC_SCREENSHOTS", tmp_path / "shots"))
    url = f"file://{tmp_path}/report.html"
    with Browser(shots, 1400, 1000) as browser:
        browser._call("Page.enable")
        browser._call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="window.failed=[];addEventListener('error',e=>failed.push(e.message));"
            "window.shift=0;new PerformanceObserver(l=>l.getEntries().forEach(e=>shift+=e.value))"
            ".observe({type:'layout-shift',buffered:true});",
        )
        browser.look(url, "report", ("weak &lt;structure&gt;", "Least certain images, figures"))
        paint = browser.evaluate(
            "performance.getEntriesByType('paint').find(p=>p.name=='first-contentful-paint').startTime"
        )
        assert paint < 2000
        assert browser.evaluate("shift") < 0.1  # nothing moves while the page fills
        assert browser.evaluate("failed.join()") == ""
        found = json.loads(browser.evaluate(DRIVE))
        assert 10 < found["cells"] < 1000  # only those in sight exist
        kinds = [e["do"] for e in found["edits"]["edits"]]
        assert kinds == ["rename", "merge", "split"]
        assert found["edits"]["model"] == given.digest
        assert found["edits"]["edits"][0]["name"] == "<b>boats</b>"
        assert "<b>boats</b>" in found["list"]
        assert found["after"] == 2
        time.sleep(0.3)
        assert browser.evaluate("vtcc.state().shown") == 2  # names with "script" in them
        assert browser.evaluate("window.hit === undefined")
        began = time.monotonic()
        for top in range(0, 40_000, 1000):
            browser.evaluate(f"document.getElementById('grid').scrollTop={top}")
        assert time.monotonic() - began < 4
        browser.evaluate(
            "document.getElementById('search').value='';"
            "document.getElementById('search').dispatchEvent(new Event('input'))"
        )
        time.sleep(0.5)
        browser.evaluate("document.getElementById('grid').focus()")
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            browser.press(key)
        # The key press that opens an image does not reach a button of the dialog.
        assert browser.evaluate("document.getElementById('zoom').open") is True
        opened = browser.evaluate("document.querySelector('.caption b').textContent")
        assert opened == browser.evaluate("document.querySelector('.tile.here').title")
        browser.evaluate("document.getElementById('zoom').close()")
        assert browser.evaluate("failed.join()") == ""
    with Browser(shots, 400, 900) as browser:
        browser._call(
            "Emulation.setDeviceMetricsOverride",
            width=390,
            height=844,
            deviceScaleFactor=2,
            mobile=True,
        )
        browser.look(url, "report-phone", ("Least certain images, figures",))
        wide = browser.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        browser._call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark"}],
        )
        browser.look(url, "report-dark", ("Least certain images, figures",))
        assert (
            browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 18, 24)"
        )


EDITED = """(() => {
  const article = id => document.querySelector(`article[data-id="${id}"]`);
  const button = (id, text) =>
    [...article(id).querySelectorAll('button')].find(b => b.textContent === text);
  const shown = id => ({
    size: +article(id).querySelector('.head b').textContent,
    prototypes: vtcc.state().clusters.find(c => c.id === id).prototypes,
    outliers: vtcc.state().clusters.find(c => c.id === id).outliers,
    exclude: !button(id, 'Exclude').disabled, split: !button(id, 'Split in two').disabled,
    choose: !article(id).querySelector('input[type=checkbox]').disabled,
  });
  const out = {before: shown(0)}, get = id => document.getElementById(id);
  const press = () => {
    get('choose').click();
    return [get('choose').textContent, get('chosen').textContent, get('with-chosen').hidden];
  };
  document.querySelector('#clusters .tile').click();
  out.chosen = [press(), press()];
  get('close').click();
  for (const id of [0, 1]) article(id).querySelector('input[type=checkbox]').click();
  document.getElementById('merge').click();
  out.into = JSON.parse(vtcc.exported()).edits[0].into;
  out.merged = shown(out.into);
  button(2, 'Split in two').click();
  out.halved = shown(2);
  out.left = [...document.querySelectorAll('article')].map(a => +a.dataset.id).sort();
  out.targets = [...document.querySelectorAll('#move-to option')].map(o => +o.value);
  out.confused = document.getElementById('confused').textContent;
  out.move = [!get('move').disabled];
  for (const id of [out.into, 3]) button(id, 'Split in two').click();
  out.move.push(!get('move').disabled);
  return JSON.stringify(out);
})()"""

BROKEN_FIGURES = """JSON.stringify([...document.querySelectorAll('td.n, .head b, .figures dd')]
  .filter(e => {
    const range = document.createRange();
    range.selectNodeContents(e);
    return range.getClientRects().length > 1;
  }).map(e => e.textContent))"""


@pytest.mark.slow
def test_what_an_edit_changes_is_seen_at_once(tmp_path):
    given = page(120, 4, thumb=16)
    confused = [(0, 1, 0.6), (2, 3, 0.55)]
    trust = given.trust | {"confused": confused, "predicted": 0.25, "balance": 1.0}
    given = replace(given, trust=trust)
    pixels = np.zeros((120, 16, 16, 1), np.uint8)
    thumbnails.write_sprites(tmp_path / "report", lambda rows: pixels[rows], given.place)
    write(tmp_path, given)
    sizes = np.bincount(given.cluster)
    both = np.flatnonzero(given.cluster < 2)
    away = np.nan_to_num(np.round(given.distance[both] * 1000), nan=2000)
    sure = np.round(given.confidence[both] * 1000)
    typical = both[np.lexsort((both, -sure, away))][:6]
    with Browser(tmp_path / "shots", 390, 900) as browser:
        browser._call(
            "Emulation.setDeviceMetricsOverride",
            width=390,
            height=844,
            deviceScaleFactor=1,
            mobile=True,
        )
        browser.look(f"file://{tmp_path}/report.html", "page", ("Least certain images, figures",))
        assert json.loads(browser.evaluate(BROKEN_FIGURES)) == []
        shown = json.loads(browser.evaluate(EDITED))
        # A merged cluster has the images of both, and pictures of both.
        assert shown["before"]["size"] == sizes[0]
        assert shown["merged"]["size"] == sizes[0] + sizes[1]
        assert shown["merged"]["prototypes"] == typical.tolist()
        assert shown["merged"]["outliers"] == given.outlier[both].sum()
        # A split is shown whole, and nothing can be done to parts that nobody has seen.
        assert shown["left"] == sorted([shown["into"], 2, 3])
        assert shown["halved"]["size"] == sizes[2]
        assert not any(shown["halved"][what] for what in ("exclude", "split", "choose"))
        assert shown["targets"] == sorted([shown["into"], 3])
        assert shown["confused"] == "Confused: cluster 2 and cluster 3 (55 % alike)"
        assert shown["chosen"] == [
            ["Do not choose", "1 chosen:", False],
            ["Choose", "0 chosen:", True],
        ]
        assert shown["move"] == [True, False]  # at last there is no cluster to move to


def with_addition(given):
    """A page after `vtcc add`: the last twelve images may be a cluster."""
    lines = [
        {"cluster": k, "name": name, "images_before": 50, "images_now": 5}
        | {
            f"{what}_{when}": 0.5
            for what in ("share", "confidence", "novel")
            for when in ("before", "now")
        }
        for k, name in ((0, "cluster 0"), (None, "all"))
    ]
    addition = {
        "at": "2026-11-26T12:00:00Z",
        "new": 12,
        "changed": 0,
        "gone": 1,
        "unreadable": 0,
        "images": 120,
        "proposed": [6, 9],
        "drift": {"level": "look here", "verdict": "look here: <b>twelve</b>", "lines": lines},
        "searched": ["/home/me/more"],
        "files": {"new": given.files[-12:]},
    }
    proposal = {"id": 6, "name": "cluster 6", "files": given.files[-12:], "now_in": {"1": 12}}
    return replace(given, additions=[addition], proposals=[proposal], tiles=130)


def test_what_was_added_is_in_the_page(tmp_path):
    given = with_addition(page(120, 4))
    write(tmp_path, given)
    found = data((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert found["tiles"] == 130
    assert found["next"] == 10  # above 6, which is proposed, and 9, which was
    assert found["proposals"] == [dict(given.proposals[0])]
    (addition,) = found["additions"]
    assert addition["drift"]["verdict"] == "look here: <b>twelve</b>"
    assert not {"files", "searched"} & addition.keys()  # many; where they are on this machine
    assert data_of(tmp_path / "plain", page(60, 4))["tiles"] == 60


def data_of(out, given):
    write(out, given)
    return data((out / "report.html").read_text(encoding="utf-8"))


def test_tiles_are_added_behind_those_there_are(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, 300)
    images = np.broadcast_to(levels[:, None, None, None], (300, 16, 16, 1)).astype(np.uint8)
    thumbnails.write_sprites(tmp_path, lambda rows: images[rows], np.arange(260))
    full = (tmp_path / "s0.jpg").read_bytes()
    thumbnails.append_sprites(tmp_path, images[260:], 260, 16)
    assert (tmp_path / "s0.jpg").read_bytes() == full
    read = thumbnails.sprite_reader(tmp_path, np.arange(300), 16)
    shown = read(np.arange(300))[:, 8, 8, 0]
    assert np.abs(shown.astype(int) - levels).max() < 12


CONFIRMED = """(() => {
  const out = {shown: document.querySelectorAll('.proposal').length};
  out.drift = document.getElementById('drift').textContent;
  const now = () => document.querySelector('.proposal .note').textContent.split(', now ')[1];
  out.now = [now()];
  const box = id => document.querySelector(`article[data-id="${id}"] input[type=checkbox]`);
  for (const id of [0, 1]) box(id).click();
  document.getElementById('merge').click();
  out.into = JSON.parse(vtcc.exported()).edits[0].into;
  out.now.push(now());
  document.getElementById('undo').click();
  out.now.push(now());
  const p = document.querySelector('.proposal');
  const said = []; window.alert = text => said.push(text);
  for (const odd of ['se\\u202evens', '\\u200d']) {
    p.querySelector('input').value = odd; p.querySelector('.confirm').click();
  }
  out.refused = JSON.parse(vtcc.exported()).edits.length; out.said = said;
  p.querySelector('input').value = ' seven\\u3000\\u{1f468}\\u200d\\u{1f467}\\u00a0';
  p.querySelector('.confirm').click();
  out.left = document.querySelectorAll('.proposal').length;
  out.edits = JSON.parse(vtcc.exported()).edits; out.next = JSON.parse(vtcc.exported()).next;
  out.kept = Object.keys(sessionStorage).map(k => k.split('/')[0]);
  out.list = document.getElementById('edits').textContent;
  out.size = vtcc.state().clusters.find(c => c.name.startsWith('seven ')).size;
  document.getElementById('undo').click();
  document.querySelector('.proposal .decline').click();
  out.declined = JSON.parse(vtcc.exported()).edits;
  return JSON.stringify(out);
})()"""


@pytest.mark.slow
def test_a_proposal_is_confirmed_in_the_page(tmp_path):
    given = with_addition(page(120, 4))
    pixels = np.zeros((120, 16, 16, 1), np.uint8)
    thumbnails.write_sprites(tmp_path / "report", lambda rows: pixels[rows], given.place)
    write(tmp_path, given)
    with Browser(tmp_path / "shots", 1200, 900) as browser:
        browser.look(f"file://{tmp_path}/report.html", "page", ("Added since", "Make it a cluster"))
        shown = json.loads(browser.evaluate(CONFIRMED))
    files = list(given.files[-12:])
    # Names are checked as `vtcc refine` does.
    assert (shown["refused"], len(shown["said"])) == (0, 1)
    assert "U+202E" in shown["said"][0]
    name = "seven \U0001f468\u200d\U0001f467"
    assert shown["edits"] == [{"do": "new", "cluster": 6, "name": name, "files": files}]
    assert (shown["shown"], shown["left"], shown["size"]) == (1, 0, 12)
    # A page that numbers new clusters otherwise takes up no edits of this one.
    assert (shown["next"], shown["kept"]) == (10, [f"vtcc-{given.digest}-10"])
    # Where its images are follows the edits.
    held = Counter(f"cluster {k}" for k in given.cluster[-12:])
    into, merged = f"cluster {shown['into']}", Counter(held)
    both = merged.pop("cluster 0", 0) + merged.pop("cluster 1", 0)
    merged[into] = both
    found = [
        {name: int(n) for n, name in (part.split(" in ") for part in text.split(", "))}
        for text in shown["now"]
    ]
    assert found == [held, merged, held] and both
    assert shown["drift"] == "look here: <b>twelve</b>"
    assert shown["list"] == 'make 12 added images the cluster "seven \U0001f468\u200d\U0001f467"'
    assert shown["declined"] == [{"do": "decline", "cluster": 6}]


GROUPED = """(() => {
  const q = s => document.querySelector(s), all = s => [...document.querySelectorAll(s)];
  const slide = n => { q('#cut').value = n; q('#cut').dispatchEvent(new Event('input')); };
  const groups = () => all('.group').map(g => g.dataset.of);
  const out = {none: groups(), shown: q('#cut-shown').textContent, max: +q('#cut').max};
  slide(2); out.two = groups(); out.heads = all('.group > summary').map(e => e.textContent);
  q('.group .divide').click(); out.divided = groups(); out.value = +q('#cut').value;
  out.focus = document.activeElement.tagName;
  q('.group .join').click(); out.joined = groups();
  q('.group .merge').click(); out.edits = JSON.parse(vtcc.exported()).edits;
  out.merged = groups(); out.articles = all('.group article').length;
  out.nowhere = q('#nowhere .head p').textContent; q('#nowhere button.push').click();
  out.listed = vtcc.state().shown;
  q('#undo').click(); slide(99); out.flat = groups(); out.cards = all('#clusters > article').length;
  return JSON.stringify(out);
})()"""


def with_tree(given):
    """A page with a tree over its four clusters, whose last five images belong nowhere."""
    cluster = given.cluster.copy()
    cluster[-5:] = -2
    tree = [(0, 3, 0.1), (1, 2, 0.2), (0, 1, 0.5)]
    nowhere = {"images": 5, "share": 5 / 120, "limit": 0.9}
    return replace(given, cluster=cluster, tree=tree, levels=[2], unclustered=nowhere)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_groups_open_and_close_in_the_page(tmp_path, width):
    given = with_tree(page(120, 4))
    pixels = np.zeros((120, 16, 16, 1), np.uint8)
    thumbnails.write_sprites(tmp_path / "report", lambda rows: pixels[rows], given.place)
    write(tmp_path, given)
    sizes = np.bincount(given.cluster[given.cluster >= 0])
    order = sorted(range(4), key=lambda k: (-sizes[k], k))

    def of(*ids):
        return " ".join(str(k) for k in order if k in ids)

    shots = Path(os.environ.get("VTCC_SCREENSHOTS", tmp_path / "shots"))
    with Browser(shots, width, 900) as browser:
        phone = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        browser._call("Emulation.setDeviceMetricsOverride", **phone)
        browser.look(f"file://{tmp_path}/report.html", "page", ("Least certain images, figures",))
        shown = json.loads(browser.evaluate(GROUPED))
        browser.evaluate("document.querySelector('#cut').value = 2")
        browser.evaluate("document.querySelector('#cut').dispatchEvent(new Event('input'))")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
        browser.evaluate("document.getElementById('clusters-section').scrollIntoView()")
        picture = browser._call("Page.captureScreenshot")["data"]
        (shots / f"groups-{width}.png").write_bytes(base64.b64decode(picture))
    assert (shown["none"], shown["shown"], shown["max"]) == ([], "none", 4)
    assert shown["two"] == [of(0, 3), of(1, 2)]
    n = int(sizes[0] + sizes[3])
    assert shown["heads"][0].endswith(f" · 2 clusters · {n} images, {int(n / 1.2 + 0.5)} %")
    assert shown["divided"] == ["0", "3", of(1, 2)]
    assert (shown["value"], shown["focus"]) == (3, "SUMMARY")
    assert shown["joined"] == shown["two"]
    into = 0 if sizes[0] >= sizes[3] else 3
    assert shown["edits"] == [{"do": "merge", "clusters": [0, 3], "into": into}]
    assert (shown["merged"], shown["articles"]) == ([str(into), of(1, 2)], 3)
    assert (shown["nowhere"], shown["listed"]) == ("5 images, 4.2 %", 5)
    assert (shown["flat"], shown["cards"]) == ([], 4)


def test_the_tree_and_what_belongs_nowhere_are_in_the_page(tmp_path):
    given = with_tree(page(120, 4))
    found = data_of(tmp_path, given)
    assert found["tree"] == [list(join) for join in given.tree]
    assert (found["levels"], found["cluster"][-1]) == ([2], -2)
    assert found["unclustered"]["limit"] == 0.9
    assert data_of(tmp_path / "plain", page(60, 4))["unclustered"] is None
