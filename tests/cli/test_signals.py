"""A verb that is asked to end clears what it has begun, and says that it was stopped."""

import errno
import io
import os
import signal
import zipfile

import pytest

from tests.fakes import stand_in
from tests.grouping import toy_results
from vtcc.__main__ import main
from vtcc.engine.signals import Interrupted
from vtcc.grouping import intake, workdir
from vtcc.grouping import run as cluster
from vtcc.grouping.options import Options
from vtcc.process.stopping import Stopped, obeyed
from vtcc.study import workers


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working directory with a folder and a zip of images; temporary files beside it."""
    place = tmp_path / "here"
    toy_results.folder_of(place / "photos", 6)
    with zipfile.ZipFile(place / "photos.zip", "w") as packed:
        for file in (place / "photos").iterdir():
            packed.write(file, file.name)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def place(photos):
    """The same, with results of the images."""
    toy_results.write(photos / "photos", photos / "results")
    return photos


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


def signalled(*_given, **_named):
    os.kill(os.getpid(), signal.SIGINT)


def trained(*_given, **_named):
    """As a training that was told to stop, once its checkpoint is written."""
    raise Interrupted(signal.SIGINT)


@pytest.mark.parametrize("how", [(), ("--json",), ("--quiet",)])
@pytest.mark.parametrize(
    ("given", "owner", "name", "stops", "kept"),
    [
        ("photos", "vtcc.grouping.intake", "listed", signalled, "nothing is kept yet"),
        ("photos.zip", "vtcc.grouping.columns", "check", signalled, "out-images"),
        ("photos", "vtcc.grouping.prepare", "chosen_for", signalled, ".out.work"),
        ("photos", "vtcc.grouping.prepare", "chosen_for", trained, ".out.work"),
    ],
)
def test_a_run_that_is_stopped_says_what_is_kept(
    given, owner, name, stops, kept, how, photos, monkeypatch, capsys
):
    stand_in(monkeypatch, owner, name, stops)
    monkeypatch.setattr("sys.argv", ["vtcc", "cluster", given, "-k", "3", "--out", "out", *how])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    told = capsys.readouterr()
    then = f"the same command goes on from here ({photos / kept})"
    if kept.startswith("nothing"):
        then = f"{kept}; run it again"
    else:
        assert (photos / kept).is_dir()
    assert told.err.splitlines()[-1] == f"stopped by SIGINT; {then}"
    assert "SIGINT" not in told.out


def test_a_run_that_is_stopped_after_all_says_that_the_results_are_whole(tmp_path, capsys):
    (tmp_path / "summary.json").touch()
    with pytest.raises(SystemExit), workdir.interruptible(tmp_path):
        trained()
    said = f"stopped by SIGINT; the results in {tmp_path} are whole\n"
    assert capsys.readouterr().err == said


def test_a_run_that_is_stopped_before_it_knows_its_images_promises_no_more(
    photos, monkeypatch, capsys
):
    work = photos / ".out.work"
    work.mkdir()
    (work / "key").write_text("of other images")
    stand_in(monkeypatch, "vtcc.grouping.intake", "listed", signalled)
    monkeypatch.setattr("sys.argv", ["vtcc", "cluster", "photos", "-k", "3", "--out", "out"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"stopped by SIGINT; run it again, which goes on from {work} if images and options are "
        "the same"
    )


def test_a_run_that_is_stopped_while_it_writes_folders_says_that_they_are_missing(
    tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    names = [f"{i}.png" for i in range(6)]
    listed = intake.Listed(tmp_path, names, [tmp_path / name for name in names], None, [], "", [])

    def written(building, *_, **__):
        (building / "summary.json").touch()

    def stopped(*_, **__):
        raise Stopped(signal.SIGINT)

    steps = {
        "sample.drawn": lambda *_: (listed, []),
        "prepare.chosen_for": None,
        "prepare.prepare": None,
        "learn.learn": None,
        "judge.judge": None,
        "result.write": written,
        "result.closing_lines": lambda *_, **__: [],
        "by_cluster.write_folders": stopped,
    }
    for step, does in steps.items():
        owner, name = step.split(".")
        stand_in(monkeypatch, f"vtcc.grouping.{owner}", name, does)
    with pytest.raises(SystemExit):
        cluster.run(Options(tmp_path / "photos", out, clusters=2, folders="links"), listed)
    said = f"stopped by SIGINT; the results in {out} are whole, but for folders by cluster\n"
    assert capsys.readouterr().err == said


class Closed(io.StringIO):
    """A terminal that was closed."""

    def write(self, text):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("verb", ["study", "train", "cluster"])
def test_a_closed_terminal_takes_no_words_and_changes_no_status(verb, tmp_path, monkeypatch):
    stop, inside = {
        "study": (KeyboardInterrupt(signal.SIGHUP), workers.interruptible("it")),
        "train": (Stopped(signal.SIGHUP), obeyed("train", marked=False)),
        "cluster": (Stopped(signal.SIGHUP), workdir.interruptible(tmp_path)),
    }[verb]
    monkeypatch.setattr("sys.stderr", Closed())
    with pytest.raises(SystemExit) as ended, inside:
        raise stop
    assert ended.value.code == 128 + signal.SIGHUP
