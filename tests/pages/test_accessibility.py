"""Every page in a browser: nothing that axe-core calls serious, light and dark; no name is run."""

import json
from importlib import resources

import pytest

from tests.browser import Browser
from tests.pages.test_templates import HOSTILE, PAGES

AXE = (resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
BROKEN_RULES = """axe.run(document, {resultTypes: ["violations"]}).then(result => JSON.stringify(
  result.violations.filter(v => ["serious", "critical"].includes(v.impact)).map(
    v => [v.id, v.nodes.map(node => node.html.slice(0, 200))])))"""
HIT = "<img src=x onerror='window.hit = 1'><script>window.hit = 1</script>"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(name, colours, width, tmp_path):
    file = tmp_path / "page" / name
    html = PAGES[name]("boats", tmp_path / "page")
    file.parent.mkdir(exist_ok=True)
    file.write_text(html, encoding="utf-8")
    with Browser(tmp_path / "shots", width, 1000) as browser:
        scheme = {"name": "prefers-color-scheme", "value": colours}
        browser._call("Emulation.setEmulatedMedia", features=[scheme])
        browser.look(file.as_uri(), name, ("boats",))
        browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        browser.evaluate(AXE)
        answer = browser._call("Runtime.evaluate", expression=BROKEN_RULES, awaitPromise=True)
    assert json.loads(answer["result"]["value"]) == []


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [HIT, HOSTILE])
@pytest.mark.parametrize("name", PAGES)
def test_names_are_not_run_in_a_browser(name, hostile, tmp_path):
    file = tmp_path / "page" / name
    html = PAGES[name](hostile, tmp_path / "page")
    file.parent.mkdir(exist_ok=True)
    file.write_text(html, encoding="utf-8")
    with Browser(tmp_path / "shots", 1400, 1000) as browser:
        watched = "window.alert = () => { window.hit = 1 }"
        browser._call("Page.addScriptToEvaluateOnNewDocument", source=watched)
        browser.look(file.as_uri(), name, ("<main",))
        shown = browser.evaluate("document.body.innerText.includes('onerror')")
        assert shown is True
        assert browser.evaluate("window.hit === undefined") is True
