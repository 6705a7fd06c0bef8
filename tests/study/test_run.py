"""Running a study, with the stages faked: resume, failures, records, two at a time."""

import errno
import hashlib
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import stand_in
from tests.runner import toy
from vtcc.engine import cpus
from vtcc.errors import VtccError
from vtcc.progress import duration
from vtcc.runner import dvc
from vtcc.runner.workspace import Workspace, resolve
from vtcc.stages import embed
from vtcc.study import plan, records, run, summary, workers
from vtcc.verbs import study as stage

Ran = list[tuple[str, str, int]]


def play(file: Path, project: Path, **more: Any) -> run.Outcome:
    study = plan.read(file, project)
    given = {"project": project, "root": plan.root(project)} | more
    return run.run(study, study.settings, study.seeds, **given)


def test_settings_times_seeds_are_recorded_once(file: Path, project: Path, ran: Ran) -> None:
    outcome = play(file, project, threads=1)
    assert [str(r) for r in outcome.ran] == [
        "conv seed 0", "patchify seed 0", "conv seed 1", "patchify seed 1",
    ]  # fmt: skip
    one = records.load("stems--patchify", plan.root(project))[1]
    assert (one["study"], one["setting"], one["run_id"]) == ("stems", "patchify", "patchify-1")
    assert one["metrics"]["acc"] == pytest.approx(0.69)
    assert (one["params"]["train.seed"], one["params"]["train.epochs"]) == (1, 2)
    assert one["overrides"] == {"train.epochs": 2, "train.model.stem": "patchify"}
    assert one["seconds"] == dict.fromkeys(workers.MODEL, 12.3)
    first = records.load("stems--conv", plan.root(project))[0]  # which fetched the images for all
    assert first["seconds"] == dict.fromkeys((*workers.DATA, *workers.MODEL), 12.3)
    assert (one["data_digest"], one["threads"], one["dirty"]) == ("abc", 1, False)
    assert one["command"].endswith("stems.yaml --threads 1")
    assert toy.git(project, "rev-parse", "HEAD").startswith(one["commit"])
    assert list((project / ".vtcc" / "worktrees").iterdir()) == []
    # Again: the images are looked at once, nothing is trained.
    ran.clear()
    outcome = play(file, project)
    assert (outcome.ran, len(outcome.kept)) == ([], 4)
    assert ran == [("download", "conv", 0), ("validate", "conv", 0)]


@pytest.mark.parametrize(
    ("wanted", "given", "trained_with"), [(2, 0, 2), (2, 1, 1), (2, 4, 2), (0, 4, 4), (0, 0, 16)]
)
def test_a_record_has_the_threads_that_trained(
    file: Path, project: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch, wanted: int, given: int,
    trained_with: int,
) -> None:  # fmt: skip
    stand_in(monkeypatch, cpus, "usable", lambda: 16)
    text = file.read_text().replace("train.epochs: 2", f"train.epochs: 2, train.threads: {wanted}")
    file.write_text(text.replace("seeds: 0-1", "seeds: 0"))
    play(file, project, threads=given)
    assert records.load("stems--conv", plan.root(project))[0]["threads"] == trained_with


def test_records_of_the_presets_evaluation_seed_stay_valid(
    file: Path, project: Path, ran: Ran
) -> None:
    play(file, project)
    root = plan.root(project)
    new = records.load("stems--conv", root)[1]
    assert new["params"]["evaluate.seed"] == 1
    old = new | {"params": new["params"] | {"evaluate.seed": 0}}
    records.write("stems--conv", old, root)
    outcome = play(file, project)
    assert (outcome.ran, len(outcome.kept)) == ([], 4)
    assert [row.outdated for row in summary.rows(plan.read(file, project), root)] == [{}, {}]


def test_weights_outside_the_project_are_known_by_their_content(project: Path) -> None:
    changed = {
        "train.model.encoder": "timm:resnet18",
        "train.model.weights": "../w.safetensors",
    }
    digests = []
    for content in (b"first", b"second"):
        (project.parent / "w.safetensors").write_bytes(content)
        with Workspace(resolve(None, changed, project=project), project=project) as where:
            digests.append(run.weights_in(where))
    assert digests == [hashlib.sha256(content).hexdigest() for content in (b"first", b"second")]


def test_a_file_of_weights_that_was_replaced_runs_again(
    file: Path, project: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name in the parameters stays what it was."""
    digest = "first"
    stand_in(monkeypatch, embed, "weights_digest", lambda weights, directory=Path(): digest)
    play(file, project)
    root = plan.root(project)
    one = records.load("stems--conv", root)[0]
    assert one["weights"] == "first"
    records.write("stems--conv", {k: v for k, v in one.items() if k != "weights"}, root)
    assert play(file, project).ran == []  # a record from before, without it
    digest = "second"
    outcome = play(file, project)
    assert [str(r) for r in outcome.ran] == [
        "patchify seed 0", "conv seed 1", "patchify seed 1",
    ]  # fmt: skip
    new = records.load("stems--conv", root)[1]
    assert records.unlike(one, new | {"weights": "first"}) == ""
    assert records.unlike(one, new) == "other weights"


def test_changed_code_runs_again_unless_it_does_not_matter(
    file: Path, project: Path, ran: Ran, capsys: pytest.CaptureFixture
) -> None:
    play(file, project)
    (project / "README.md").write_text("new\n")
    toy.git(project, "add", "-A")
    toy.git(project, "commit", "-qm", "words")
    assert play(file, project).ran == []
    (project / "vtcc" / "engine" / "loop.py").write_text("# another loop\n")
    capsys.readouterr()
    stage.start(file, only=[], seeds=None, dry_run=True)
    said = capsys.readouterr().out
    assert said.count(" none ") == 2  # of what is recorded
    assert "\npatchify: recorded before, seeds 0, 1: other code than now\n" in said
    outcome = play(file, project)
    assert len(outcome.ran) == 4
    assert records.load("stems--conv", plan.root(project))[0]["dirty"] is True


def test_what_another_study_recorded_is_not_replaced(file: Path, project: Path, ran: Ran) -> None:
    play(file, project)
    kept = (plan.root(project) / "stems--conv" / "seed0.json").read_text()
    file.write_text(file.read_text().replace("train.epochs: 2", "train.epochs: 3"))
    for dry in (True, False):
        with pytest.raises(VtccError, match=r"seed0.json: recorded with train.epochs 2 \(now 3\)"):
            stage.start(file, only=[], seeds=None, dry_run=dry)
    assert (plan.root(project) / "stems--conv" / "seed0.json").read_text() == kept
    assert len(play(file, project, again=True).ran) == 4


def test_a_damaged_failure_is_named(file: Path, project: Path) -> None:
    broken = plan.root(project) / "stems--conv" / "failed0.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    with pytest.raises(VtccError, match=r"failed0\.json: damaged"):
        records.load("stems--conv", plan.root(project), "failed")


def test_a_failed_run_is_recorded_and_the_others_go_on(
    file: Path, project: Path, ran: Ran, capsys: pytest.CaptureFixture
) -> None:
    text = file.read_text()
    file.write_text(text.replace("conv: {}", "conv: {train.epochs: 13}"))
    with pytest.raises(VtccError, match=r"2 of 4 runs failed, such as conv seed 0: .*bad luck"):
        stage.start(file, only=[], seeds=None)
    root = plan.root(project)
    assert list(records.load("stems--patchify", root)) == [0, 1]
    assert records.load("stems--conv", root) == {}
    failed = records.load("stems--conv", root, "failed")
    assert list(failed) == [0, 1]
    assert failed[0]["reason"] == "stage 'train' failed: 13 epochs bring bad luck"
    assert failed[0]["params"]["train.epochs"] == 13
    assert "0 (2 failed)" in capsys.readouterr().out
    # Mended: the failure is forgotten.
    file.write_text(text)
    stage.start(file, only=["conv"], seeds="0")
    assert list(records.load("stems--conv", root, "failed")) == [1]


def test_two_at_a_time(file: Path, project: Path, ran: Ran, monkeypatch: Any) -> None:
    fake, inside, most, places = dvc.run_stage, set(), [0], set()
    both, counting = threading.Barrier(2), threading.Lock()

    def run_stage(name: str, directory: Path, **more: Any) -> dvc.StageRun:
        places.add(directory)
        assert more["env"]["OMP_NUM_THREADS"] == "1"
        if name == "train":
            both.wait(20)  # fails unless two are here at once
        elif name in workers.DATA:
            with counting:
                inside.add(directory)
                most[0] = max(most[0], len(inside))
            time.sleep(0.2)  # time for another to come in, were it let
            if name == workers.DATA[-1]:
                with counting:
                    inside.discard(directory)
        return fake(name, directory, **more)

    stand_in(monkeypatch, dvc, "run_stage", run_stage)
    outcome = play(file, project, jobs=2)
    assert (len(outcome.ran), len(places), most[0]) == (4, 2, 1)


def test_a_bug_is_not_taken_for_a_failed_run(
    file: Path, project: Path, ran: Ran, monkeypatch: Any
) -> None:
    def run_stage(name: str, directory: Path, **more: Any) -> dvc.StageRun:
        raise ZeroDivisionError

    stand_in(monkeypatch, dvc, "run_stage", run_stage)
    with pytest.raises(ZeroDivisionError):
        play(file, project)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_stage_and_keeps_what_is_recorded(
    file: Path, project: Path, ran: Ran, monkeypatch: Any, capsys: Any, signum: int
) -> None:
    fake = dvc.run_stage

    def run_stage(name: str, directory: Path, **more: Any) -> dvc.StageRun:
        if name == "train" and ran[-1][1:] == ("patchify", 0):
            os.kill(os.getpid(), signum)
            while not more["stopped"]():
                threading.Event().wait(0.05)
            raise KeyboardInterrupt
        return fake(name, directory, **more)

    stand_in(monkeypatch, dvc, "run_stage", run_stage)
    with pytest.raises(SystemExit) as ended:
        stage.start(file, only=[], seeds=None)
    assert ended.value.code == 128 + signum
    said = "interrupted; what is recorded is kept, the same command goes on\n"
    assert capsys.readouterr().err.endswith(said)
    assert list(records.load("stems--conv", plan.root(project))) == [0]
    assert records.load("stems--patchify", plan.root(project), "failed") == {}
    assert list((project / ".vtcc" / "worktrees").iterdir()) == []


class Full(io.TextIOWrapper):
    """A log on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("kind", [io.TextIOWrapper, Full])
def test_a_study_outlives_its_log(
    file: Path, project: Path, ran: Ran, monkeypatch: Any, kind: type[io.TextIOWrapper]
) -> None:
    file.write_text(file.read_text().replace("Which stem", "Which stem, größer"), encoding="utf-8")
    stdout = kind(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    stage.start(file, only=[], seeds="0")
    assert list(records.load("stems--patchify", plan.root(project))) == [0]
    assert (project / "reports/study.html").is_file()
    assert (b"Which stem, gr\\xf6\\xdfer\n" in stdout.buffer.getvalue()) == (kind is not Full)


def test_time_left_is_said_in_words() -> None:
    assert [duration(s) for s in (80, 300, 7500)] == ["80 s", "5 min", "2 h 05 min"]
