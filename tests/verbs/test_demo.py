import errno
import json
import time

import pytest
from PIL import Image

from tests.fakes import stand_in
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.verbs import demo


@pytest.fixture
def grouped(monkeypatch):
    """The grouping, which leaves a summary and does no work."""

    def leaves(options):
        options.out.mkdir()
        summary = {"files": ["a"], "errors": {}, "clusters": [], "seconds": 99.0}
        summary["trust"] = {"level": "clear", "verdict": "clear structure"}
        (options.out / "summary.json").write_text(json.dumps(summary))
        return options.out

    monkeypatch.setenv("DISPLAY", ":0")
    return stand_in(monkeypatch, "vtcc.grouping.run", "run", leaves)


def test_the_photographs_become_tiles_that_are_grouped_once(grouped, tmp_path, monkeypatch, capsys):
    browser = stand_in(monkeypatch, "webbrowser", "open", lambda url, *given: True)
    shown = demo.run(tmp_path / "d")
    tiles = sorted((tmp_path / "d/tiles").iterdir())
    assert len(tiles) == 140
    assert [tile.name for tile in tiles[:2]] == ["flower-0-0.png", "flower-0-1.png"]
    assert Image.open(tiles[0]).size == (64, 61)
    [options] = grouped.call_args.args
    assert (options.folder, options.out) == (tmp_path / "d/tiles", tmp_path / "d/clusters")
    assert shown["level"] == "clear"
    browser.assert_called_once_with((tmp_path / "d/clusters/report.html").as_uri())
    demo.run(tmp_path / "d", open_page=False)
    assert grouped.call_count == browser.call_count == 1
    assert f"open {tmp_path}/d/clusters/report.html in a browser" in capsys.readouterr().out


def test_its_seconds_are_those_of_the_command(grouped, tmp_path):
    def leaves(tiles):
        time.sleep(0.05)
        tiles.mkdir()

    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, demo, "_cut", leaves)
        assert 0.05 <= demo.run(tmp_path / "d", open_page=False)["seconds"] < 9
    assert demo.run(tmp_path / "d", open_page=False)["seconds"] < 9


def test_without_a_screen_no_browser_takes_the_terminal(grouped, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(demo.sys, "platform", "linux")
    browser = stand_in(monkeypatch, "webbrowser", "open")
    demo.run(tmp_path / "d")
    browser.assert_not_called()


def test_a_folder_of_something_else_is_left_alone(grouped, tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(VtccError, match="holds something else; name a new folder"):
        demo.run(tmp_path)
    with pytest.raises(VtccError, match="holds something else"):
        demo.run(tmp_path / "thesis.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_tiles_of_somebody_else_are_left_alone(grouped, tmp_path):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "bathroom.png").write_text("mine")
    with pytest.raises(VtccError, match="holds something else; name a new folder"):
        demo.run(tmp_path)
    assert (tmp_path / "tiles" / "bathroom.png").read_text() == "mine"


def test_tiles_that_are_a_file_are_left_alone(grouped, tmp_path):
    (tmp_path / "tiles").write_text("mine")
    with pytest.raises(VtccError, match="holds something else; name a new folder"):
        demo.run(tmp_path)
    assert (tmp_path / "tiles").read_text() == "mine"


def test_a_folder_that_takes_no_file_is_told_before_the_tiles_are_cut(
    grouped, tmp_path, monkeypatch
):
    def refuses(path, **named):  # the administrator may write anywhere
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    cut = stand_in(monkeypatch, demo, "_cut")
    stand_in(monkeypatch, locks, "exclusive", refuses)
    words = rf"^{tmp_path / 'd'}: cannot be written to \(Permission denied\); give --out elsewhere"
    with pytest.raises(VtccError, match=words):
        demo.run(tmp_path / "d")
    assert not cut.called and not grouped.called
