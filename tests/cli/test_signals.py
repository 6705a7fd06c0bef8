"""A verb that is asked to end clears what it has begun, and says that it was stopped."""

import os
import signal
import zipfile

import pytest

from tests.fakes import stand_in
from tests.grouping import toy_results
from vtcc.__main__ import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a zip of images and results of them; temporary files beside it."""
    place = tmp_path / "here"
    toy_results.folder_of(place / "photos", 6)
    toy_results.write(place / "photos", place / "results")
    with zipfile.ZipFile(place / "photos.zip", "w") as packed:
        for file in (place / "photos").iterdir():
            packed.write(file, file.name)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(place)
    return place


def files(place):
    """Every file and directory there."""
    return sorted(place.rglob("*"))


EXPORT = ("export", "--model", "results/model")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("line", "owner", "name"),
    [
        (
            ("predict", "photos.zip", "--model", "results/model", "--out", "out.csv"),
            "vtcc.verbs.predict",
            "answers",
        ),
        ((*EXPORT, "--with-encoder", "whole"), "vtcc.engine.model_card", "write"),
        ((*EXPORT, "--onnx", "m.onnx"), "vtcc.export.onnx", "write"),
        (
            ("export", "results", "--to", "coco", "--out", "out.json"),
            "vtcc.export.formats",
            "write",
        ),
        (("plan", "photos.zip"), "vtcc.verbs.plan_collection", "chosen_for"),
        (("import-checkpoint", "w.pth", "--out", "out"), "vtcc.engine.upstream", "read_upstream"),
        (("encoders", "fetch", "lite0"), "vtcc.verbs.encoders", "fetch"),
    ],
)
def test_a_signal_leaves_nothing(line, owner, name, signum, place, monkeypatch, capsys):
    (place / "w.pth").touch()
    before = files(place.parent)
    stand_in(monkeypatch, owner, name, lambda *given, **named: os.kill(os.getpid(), signum))
    monkeypatch.setattr("sys.argv", ["vtcc", *line])
    handled = signal.signal(signum, lambda *_: pytest.fail("nobody cleared"))
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signum, handled)
    assert ended.value.code == 128 + signum
    verb = " ".join(line[:2]) if line[0] == "encoders" else line[0]
    said = f"{verb}: stopped by {signal.Signals(signum).name}; run it again"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert files(place.parent) == before
