"""Every template, every page: names and texts of others are shown, never run."""

import re
from html.parser import HTMLParser

import jinja2
import numpy as np
import pytest
from jinja2 import nodes

from tests.data.test_expectations import BROKEN, row, table
from tests.pages import test_clusters, test_gallery
from vtcc.data.cache import CacheWriter
from vtcc.data.expectations import Outcome, figures
from vtcc.pages import clusters, gallery, svg, validation
from vtcc.pages.render import TEMPLATES, render
from vtcc.study.page import Section
from vtcc.study.tables import Cell

HOSTILE = (
    """</script></style></title>--><img src=x onerror=alert(1)>"' onload=alert(1) x="{{ 7*7 }}"""
)
PLAIN = "boats"
HTML = sorted(path.name for path in TEMPLATES.glob("*.html"))
# Not pages: what others extend or import.
PARTS = {"base.html", "plots.html", "zoom.html"}


def gallery_page(text, _):
    made = test_gallery.make()
    paths = [f"{text}{i}.png" for i in range(60)]
    classes = [text + c for c in made.classes]
    return gallery.render(test_gallery.replace(made, name=text, paths=paths, classes=classes))


def clusters_page(text, directory):
    made = test_clusters.page(60, 4, names={k: f"{text}{k}" for k in range(4)})
    known = [test_clusters.replace(c, about=[text], labels=[(text, 0.75)]) for c in made.clusters]
    files = [f"{text}{i}.png" for i in range(60)]
    shown = test_clusters.replace(
        made,
        title=text,
        files=files,
        columns={
            text: dict.fromkeys(files, text),  # a choice, a search, a range
            f"{text} each": {file: file for file in files},
            f"{text} size": {file: i for i, file in enumerate(files)},
        },
        clusters=known,
        trust=made.trust | {"verdict": text},
        choices={text: {"value": text, "why": text}},
        baselines=[{"title": text, "agreement": 1.0}],
        edits=[{"do": "rename", "cluster": 1, "name": text}],
    )
    clusters.write(directory, shown)
    return (directory / "report.html").read_text(encoding="utf-8")


def validation_page(text, directory):
    images = table(
        row(text),
        row("copy" + text, sha256=text),
        row("flat" + text, one_colour=True),
        row("bad" + text, **BROKEN | {"reason": text}),
    )
    outcomes = [
        Outcome("warn", False, text, text, [text]),
        Outcome("fail", True, text, text, []),
    ]
    verdict = {"success": False, **figures(images), "failures": [text], "warnings": [text]}
    dataset = {"name": text, "source": text, "images": 4, "digest": text}
    with CacheWriter(directory / "cache", name="t", image_size=8, channels=3) as writer:
        for i in range(3):
            writer.add(str(i), "train", np.full((8, 8, 3), 50 * i, dtype=np.uint8))
        return validation.render(dataset, verdict, outcomes, images, writer)


def study_page(text, _):
    dots = [svg.Dot(1, 2, text, best=True)]
    ticks = [svg.Tick(3, text)]
    lanes = svg.Lanes(text, [svg.Lane(text, 5, dots, 1.0, 0.5, 2.0)], ticks, 100, 10, 50)
    cells = [[Cell(text, text, bar=0.5), Cell(text, bad=(text, text), code=True)]]
    section = Section(
        title=text,
        text=[text],
        hint=text,
        lanes=lanes,
        plots=[svg.Scatter(text, dots, ticks, ticks)],
        head=[text, text],
        rows=cells,
        below=(text, cells),
    )
    return render("study.html", title=text, kind=text, text=[text], hint=text, sections=[section])


PAGES = {
    "clusters.html": clusters_page,
    "gallery.html": gallery_page,
    "study.html": study_page,
    "validation.html": validation_page,
}


class Structure(HTMLParser):
    """Tags with the names of their attributes; what scripts and styles hold apart."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.values, self.shown = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag):
        self.tags.append(f"/{tag}")

    def handle_comment(self, data):
        self.tags.append("comment")

    def handle_data(self, data):
        self.shown += data


def test_every_template_has_a_page_that_is_tried():
    assert set(HTML) == {*PAGES, *PARTS}


@pytest.mark.parametrize("name", PAGES)
def test_what_names_say_changes_no_tag_and_no_attribute(name, tmp_path):
    hostile = PAGES[name](HOSTILE, tmp_path / "hostile")
    plain, found = Structure(PAGES[name](PLAIN, tmp_path / "plain")), Structure(hostile)
    assert found.tags == plain.tags
    assert "49" not in re.findall(r'x="([^{"]*)', hostile)  # shown, not computed
    everything = found.shown + " ".join(found.values)
    assert "{{ 7*7 }}" in everything
    assert HOSTILE in everything or "\\u003cimg src=x onerror" in everything


MARK = re.compile("\x01(\\d+)\x02")


class Places(HTMLParser):
    """Where in the HTML of a template each `{{ ... }}` stands."""

    def __init__(self, source):
        super().__init__()
        self.expressions = []
        self.inside, self.attributes, self.unquoted, self.names = [], [], [], []
        self.within = None

        def marked(match):
            self.expressions.append(match[1].strip())
            return f"\x01{len(self.expressions) - 1}\x02"

        source = re.sub(r"\{%.*?%\}", "", source, flags=re.S)
        self.feed(re.sub(r"\{\{(.*?)\}\}", marked, source, flags=re.S))

    def of(self, text):
        return [self.expressions[int(number)] for number in MARK.findall(text or "")]

    def handle_starttag(self, tag, attrs):
        self.names += self.of(tag) + [e for name, _ in attrs for e in self.of(name)]
        self.attributes += [(tag, name, e, value) for name, value in attrs for e in self.of(value)]
        # Outside of quotes a value ends at a space, and an attribute begins.
        self.unquoted += self.of(re.sub(r'"[^"]*"', "", self.get_starttag_text() or ""))
        self.within = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self.within = None

    def handle_data(self, data):
        if self.within:
            self.inside += [(self.within, e) for e in self.of(data)]


NUMBERS = re.compile(
    r"g\.(number|columns|rows)|100 \* g\.(columns|rows)|g\.sprite"
)  # and our own PNG


@pytest.mark.parametrize("name", HTML)
def test_what_is_put_into_a_template_is_where_it_can_be_escaped(name):
    source = (TEMPLATES / name).read_text(encoding="utf-8")
    tree = jinja2.Environment().parse(source)
    assert not [f.name for f in tree.find_all(nodes.Filter) if f.name in ("safe", "xmlattr")]
    assert not list(tree.find_all((nodes.EvalContextModifier, nodes.ScopedEvalContextModifier)))
    places = Places(source)
    for tag, expression in places.inside:
        ours = expression.startswith("own_file(")
        data = tag == "script" and expression.endswith("| tojson")
        number = tag == "style" and NUMBERS.fullmatch(expression)
        assert ours or data or number, (tag, expression)
    assert (places.unquoted, places.names) == ([], [])
    for tag, attribute, expression, value in places.attributes:
        assert not attribute.startswith("on"), expression
        if attribute in ("href", "src"):  # which could be javascript:
            assert (tag, attribute) == ("img", "src") or value.startswith("#"), expression


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.js")))
def test_scripts_make_no_html_and_no_code_of_text(name):
    source = (TEMPLATES / name).read_text(encoding="utf-8")
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert way not in source
