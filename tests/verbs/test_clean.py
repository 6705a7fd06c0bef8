"""`vtcc clean` frees what nobody uses, and shows what other commands free."""

import contextlib
import io
import signal
import subprocess
import sys

import pytest
import typer
from filelock import FileLock
from typer.testing import CliRunner

from tests.fakes import stand_in
from vtcc import cli, config
from vtcc.process import stopping


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    (tmp_path / "params.yaml").write_text((config.PRESETS / "tiny.yaml").read_text())

    def put(path, content=b"x" * 2**20):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    for path in (
        ".vtcc/scratch/live/last.pt",
        ".vtcc/scratch/dead/last.pt",
        ".vtcc/scratch/dead/previous.pt",
        ".vtcc/worktrees/dead/file",
        ".vtcc/downloads/ucmerced/x.part",
        "data/.raw.building/images/1.png",
        "data/.download/1.png",
        "models/.model.old/model.safetensors",
        "reports/.curves.csv.building",
        "reports/curves.csv",
        "models/model/model.safetensors",
        "data/raw/images/.hidden.building/1.png",
        ".dvc/cache/files/md5/00/1",
        "mlartifacts/1/file",
        "photos/1.png",
    ):
        put(path)
    (tmp_path / ".vtcc/worktrees/link").symlink_to(tmp_path / "photos")
    return tmp_path


def clean(*arguments, answer=None):
    result = CliRunner().invoke(cli.app, ["clean", *arguments], input=answer)
    return result.exit_code, result.output


def files(home):
    return {
        p.relative_to(home).as_posix()
        for p in home.rglob("*")
        if p.is_file() and p.suffix != ".lock"
    }


def test_it_shows_what_each_is_and_takes_no_for_an_answer(home):
    before = files(home)
    with FileLock(home / ".vtcc/scratch/live.lock"):
        status, said = clean(answer="n\n")
    assert status == 1
    assert files(home) == before
    lines = {line.split("MiB")[1].split()[0]: line for line in said.splitlines() if "MiB  " in line}
    assert "in use, kept" in lines[str(home / ".vtcc/scratch/live")]
    dead = lines[str(home / ".vtcc/scratch/dead")]
    assert dead.split()[0] == "2.0"
    assert "a training or an embedding that is not finished" in dead
    assert "dvc gc --workspace" in lines[".dvc/cache"]
    assert "mlflow gc" in lines[str(home / "mlartifacts")]
    assert "Delete 7, 8.0 MiB?" in said


def test_it_deletes_what_nobody_uses_and_nothing_else(home):
    before = files(home)
    with FileLock(home / ".vtcc/scratch/live.lock"):
        status, said = clean("--yes")
    assert status == 0, said
    assert before - files(home) == {
        ".vtcc/scratch/dead/last.pt",
        ".vtcc/scratch/dead/previous.pt",
        ".vtcc/worktrees/dead/file",
        ".vtcc/downloads/ucmerced/x.part",
        "data/.raw.building/images/1.png",
        "data/.download/1.png",
        "models/.model.old/model.safetensors",
        "reports/.curves.csv.building",
    }
    assert (home / ".vtcc/worktrees/link").is_symlink()
    assert (home / "photos/1.png").is_file()


def test_what_a_running_stage_may_be_writing_stays(home):
    with stopping.obeyed("train"):
        status, said = clean("--yes")
    assert status == 0, said
    assert (home / "models/.model.old/model.safetensors").exists()
    assert (home / "data/.download/1.png").exists()
    assert not (home / ".vtcc/scratch/dead").exists()
    assert said.count("in use, kept") == 4


def test_the_only_copy_of_a_model_comes_back(home):
    """Killed between two renamings, a writer leaves the old model under a hidden name alone."""
    (home / "models/model/model.safetensors").unlink()
    (home / "models/model").rmdir()
    status, said = clean("--yes")
    assert status == 0, said
    assert (home / "models/model/model.safetensors").is_file()


def test_locks_of_a_killed_dvc_are_released(home):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (home / ".dvc/tmp").mkdir()
    lock = f'{{"write": {{"/x": {{"pid": {dead.pid}, "cmd": "dvc repro"}}}}, "read": {{}}}}'
    (home / ".dvc/tmp/rwlock").write_text(lock)
    assert "released 1 locks of a DVC that was killed" in clean("--yes")[1]


def test_what_a_stage_uses_since_it_was_listed_is_kept(home, monkeypatch):
    """Between the list and the answer a download begins."""
    before = files(home)
    begun = contextlib.ExitStack()

    def confirm(text, abort):
        begun.enter_context(stopping.obeyed("download"))

    stand_in(monkeypatch, typer, "confirm", confirm)
    with begun:
        status, said = clean()
    assert status == 0, said
    left = files(home)
    assert before - left == {
        f".vtcc/{path}"
        for path in (
            "scratch/live/last.pt",
            "scratch/dead/last.pt",
            "scratch/dead/previous.pt",
            "worktrees/dead/file",
            "downloads/ucmerced/x.part",
        )
    }
    assert ".download: in use, kept" in said.splitlines()
    assert "deleted dead" in said


def test_without_git_it_cleans_all_the_same(home, monkeypatch):
    monkeypatch.setenv("PATH", str(home))
    status, said = clean("--yes")
    assert status == 0, said
    assert not (home / ".vtcc/worktrees/dead").exists()


def test_a_signal_at_the_question_deletes_nothing(home, monkeypatch):
    class Terminal(io.StringIO):
        def readline(self, size=-1):
            signal.raise_signal(signal.SIGINT)
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(SystemExit, match="130"):
        cli.app(["clean"])
    assert (home / ".vtcc/scratch/dead/last.pt").is_file()
