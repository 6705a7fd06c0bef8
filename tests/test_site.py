"""The site of the documentation: its pages are made from the repository, and nothing is amiss."""

import shutil
from pathlib import Path

import pytest
import yaml

from docs import site
from tests.imports import TOP


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    place = tmp_path_factory.mktemp("site") / "source"
    site.write_source(place)
    return place


def test_every_page_has_one_place_in_the_navigation(source):
    nav = yaml.safe_load(site.CONFIG.read_text(encoding="utf-8"))["nav"]
    assert site.unlisted(source, nav) == []
    (source / "docs/stray.md").write_text("# Stray\n")
    assert site.unlisted(source, [*nav, "gone.md"]) == [
        "mkdocs.yml: docs/stray.md has no place in nav",
        "mkdocs.yml: nav has gone.md, and there is no such page",
    ]
    (source / "docs/stray.md").unlink()


def test_the_reference_is_the_codes(source):
    commands = (source / "docs/reference/commands.md").read_text(encoding="utf-8")
    assert "## vtcc cluster\n\n```text\nUsage: vtcc cluster [OPTIONS] {INPUT...}...\n" in commands
    assert "## vtcc encoders fetch\n" in commands
    parameters = (source / "docs/reference/parameters.md").read_text(encoding="utf-8")
    assert "\n| `train.epochs` | `" in parameters
    assert "\n## Bounds\n" in parameters
    python = (source / "docs/reference/python.md").read_text(encoding="utf-8")
    assert "### predict(X)\n\n(N,) int64 clusters of images" in python
    assert '| `n_clusters` | K, a range such as (5, 30), or "auto". |' in python
    assert "_of_images" not in python
    notebook = (source / "docs/clustering.md").read_text(encoding="utf-8")
    assert "```python\nfrom sklearn.datasets import load_digits\n" in notebook


def test_links_to_files_that_the_site_lacks_become_paths():
    known = {TOP / "README.md", TOP / "docs/clustering.ipynb"}

    def shown(text):
        return site.with_links_in_site(text, TOP / "docs", known)

    assert shown("[Start](../README.md#install)") == "[Start](../README.md#install)"
    assert shown("[a notebook](clustering.ipynb)") == "[a notebook](clustering.md)"
    assert shown("[record](../benchmarks/step.py)") == "record (`benchmarks/step.py`)"
    assert shown("[`vtcc/bounds.py`](../vtcc/bounds.py)") == "`vtcc/bounds.py`"
    assert shown("[gone](gone.md)") == "[gone](gone.md)"  # the build refuses it
    assert shown("[x](https://a.org)") == "[x](https://a.org)"


def test_what_a_browser_would_fetch_is_noticed(tmp_path):
    (tmp_path / "a.html").write_text('<script src="https://x.org/a.js"></script><a href="//y.org">')
    (tmp_path / "b.html").write_text('<link rel="stylesheet" href="assets/b.css"><img src="b.png">')
    assert site.loaded_from_networks(tmp_path) == [
        'a.html: loads <script src="https://x.org/a.js">'
    ]


@pytest.mark.slow
def test_the_site_is_built_and_a_broken_link_ends_it(tmp_path, monkeypatch, capfd):
    for name in ("SOURCE", "SITE", "CONFIG"):
        monkeypatch.setattr(site, name, tmp_path / Path(getattr(site, name)).relative_to(TOP))
    monkeypatch.setattr(site, "TOP", tmp_path)
    for name in ("docs", "vtcc"):
        shutil.copytree(TOP / name, tmp_path / name)
    for name in (*(f"{page}.md" for page in site.ROOT_PAGES), "mkdocs.yml", "params.yaml"):
        shutil.copy(TOP / name, tmp_path)
    assert site.main() == 0
    assert "<title>" in (tmp_path / "build/site/docs/faq.html").read_text(encoding="utf-8")
    page = tmp_path / "docs/faq.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[more](nowhere.md)\n", encoding="utf-8")
    capfd.readouterr()
    assert site.main() == 1
    assert "docs/faq.md" in capfd.readouterr().err
