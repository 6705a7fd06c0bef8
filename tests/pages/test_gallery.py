import base64
import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vtcc.errors import printable
from vtcc.pages import gallery
from vtcc.pages.gallery import Gallery

HOSTILE = '"><img src=x onerror=alert(1)>\n</style></script>{{ 7*7 }}&amp; \u202eümlaut 🎉.png'


def make(n=60, clusters=4, side=8, channels=1, labelled=True, **changes):
    generator = np.random.default_rng(0)
    assigned = np.arange(n) % (clusters - 1)  # the last cluster is empty
    metrics = {
        **{"images": n, "confidence": 0.8, "entropy": 0.9, "clusters_used": clusters - 1},
        **{"smallest_cluster": 0.0, "largest_cluster": 0.4, "num_clusters": clusters},
    }
    if labelled:
        metrics |= {"labelled_images": n, "classes": 3}
        metrics |= {"acc": 0.9, "nmi": 0.8, "ari": 0.7, "fmi": 0.75}
        metrics |= {f"baseline_ward_{s}": 0.95 for s in gallery.SCORES}
        metrics |= {"baseline_ward_images": 50}
    return replace(
        Gallery(
            name="toys",
            images=generator.integers(0, 255, (n, side, side, channels), dtype=np.uint8),
            paths=[f"{i}.png" for i in range(n)],
            clusters=assigned,
            confidence=np.linspace(1, 0.25, n),
            ids=range(clusters),
            metrics=metrics,
            classes=[str(i % (clusters - 1)) for i in range(n)] if labelled else None,
            shown=6,
            point_rows=np.arange(n),
            points=generator.normal(size=(n, 2)),
        ),
        **changes,
    )


def test_groups_hold_the_surest_and_the_least_sure_images():
    full, empty = gallery.cluster_groups(make(n=7, clusters=2, shown=4))
    assert (full.number, full.size, full.share, full.majority) == (0, 7, 1.0, "0")
    assert [t.path for t in full.sure] == ["0.png", "1.png"]
    assert [t.path for t in full.unsure] == ["6.png", "5.png"]
    assert full.confidence == pytest.approx(0.625)
    assert (empty.number, empty.size, empty.sure) == (1, 0, [])


def test_clusters_that_were_merged_away_are_none_of_the_page():
    page = replace(make(n=7, clusters=2), clusters=np.array([0, 3, 3, 3, 0, 3, 3]), ids=[0, 3, 4])
    colours = gallery.palette(5)
    groups = gallery.cluster_groups(page)
    assert [(g.number, g.size, g.colour) for g in groups] == [
        *((3, 5, colours[3]), (0, 2, colours[0]), (4, 0, colours[4])),
    ]
    assert "<b>3</b> clusters" in gallery.render(page)


def test_a_small_cluster_is_shown_whole_once():
    group = gallery.cluster_groups(make(n=4, clusters=2, shown=4))[0]
    assert [t.path for t in group.sure] == ["0.png", "1.png", "2.png", "3.png"]
    assert group.unsure == []


def test_majority_and_purity_count_labelled_images_only():
    page = make(n=5, clusters=2, classes=["b", "a", "", "b", ""])
    group = gallery.cluster_groups(page)[0]
    assert (group.majority, group.purity) == ("b", pytest.approx(2 / 3))
    assert [t.odd for t in group.sure] == [False, True, False, False, False]
    unknown = gallery.cluster_groups(make(n=5, clusters=2, classes=[""] * 5))[0]
    assert unknown.majority == ""


def test_sprites_hold_the_pixels():
    page = make(n=20, clusters=2, shown=20, channels=3)
    group = gallery.cluster_groups(page)[0]
    assert (group.columns, group.rows) == (16, 2)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(group.sprite.partition(",")[2]))))
    assert sheet.shape == (16, 16 * 8, 3)
    np.testing.assert_array_equal(sheet[8:, 8:16], page.images[17])
    tile = group.sure[17]
    assert (tile.x, tile.y) == (pytest.approx(100 / 15), 100)


@pytest.mark.parametrize(("channels", "shown"), [(2, [0, 0, 0]), (5, [0, 1, 2])])
def test_of_many_bands_three_are_shown_and_of_two_one(channels, shown):
    page = make(n=20, clusters=2, shown=20, channels=channels)
    group = gallery.cluster_groups(page)[0]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(group.sprite.partition(",")[2]))))
    np.testing.assert_array_equal(sheet[8:, 8:16], page.images[17][..., shown])


def test_large_images_become_thumbnails_within_a_budget(monkeypatch):
    monkeypatch.setattr(gallery, "SPRITE_PIXELS", 2 * 20 * 40 * 40)
    page = make(n=40, clusters=2, shown=20, side=120)
    group = gallery.cluster_groups(page)[0]
    assert Image.open(io.BytesIO(base64.b64decode(group.sprite.partition(",")[2]))).size == (
        16 * 40,
        2 * 40,
    )


def test_bars_are_sorted_and_name_subsamples():
    bars = gallery.baseline_bars(make().metrics)
    assert [(b["title"], b["acc"], b["images"], b["ours"]) for b in bars] == [
        ("Ward", 0.95, 50, False),
        ("vtcc", 0.9, None, True),
    ]
    assert gallery.baseline_bars(make(labelled=False).metrics) == []


def test_page_is_self_contained_and_hostile_names_are_text():
    page = make(paths=[HOSTILE, *[f"{i}.png" for i in range(59)]], name=HOSTILE)
    text = gallery.render(replace(page, classes=[HOSTILE, *page.classes[1:]]))
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)
    assert "<img" not in text.replace(html.escape("<img"), "")
    assert "{{ 7*7 }}" in text  # shown, not computed
    assert text.count("</script>") == 3  # the page's own
    assert text.count("</style>") == 1
    assert "alert(1)" in text
    points = json.loads(re.search(r'id="points">(.*?)</script>', text, re.S)[1])
    assert HOSTILE in points["classNames"]
    shown = re.search(r'data-path="([^"]*alert[^"]*)"', text)[1]
    assert html.unescape(shown) == printable(HOSTILE)
    assert "\n" not in printable(HOSTILE)
    text.encode("utf-8")


def test_undecodable_names_can_be_written():
    assert printable("caf\udce9.png") == "caf\\udce9.png"


def test_page_without_labels():
    text = gallery.render(make(labelled=False))
    assert "No labels" in text
    assert "Empty: cluster 3." in text
    assert "least pure" not in text
    assert "None" not in text
    assert "nan" not in text.replace("nance", "")


def test_points_survive_packing():
    points = np.array([[0, 0], [4, 0], [4, 2]], float)
    page = make(n=3, clusters=4, points=points, classes=["x", "", "a"])
    data = gallery.map_data(page)
    xy = np.frombuffer(base64.b64decode(data["xy"]), "<u2").reshape(-1, 2) / 65535
    np.testing.assert_allclose(xy, [[0, 0.25], [1, 0.25], [1, 0.75]], atol=1e-4)
    assert np.frombuffer(base64.b64decode(data["class"]), "<u2").tolist() == [1, 65535, 0]
    assert data["classNames"] == ["a", "x"]
    one = make(n=1, clusters=2, points=np.zeros((1, 2)), point_rows=np.array([0]))
    assert gallery.map_data(one)["xy"]


def test_a_hundred_clusters():
    text = gallery.render(make(n=1000, clusters=101, side=16, shown=24))
    assert text.count("<article") == 100
    assert len(text) < 2_000_000
