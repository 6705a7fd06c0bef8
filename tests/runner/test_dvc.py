"""A DVC stage as a subprocess: what it says, how it ends, and that nothing outlives it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from tests.runner import toy
from vtcc.errors import VtccError
from vtcc.process import commands
from vtcc.runner import dvc
from vtcc.runner.workspace import Workspace, environment


def set_epochs(project: Path, epochs: int) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["train"]["epochs"] = epochs
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def run(project: Path, stage: str, **more: object) -> tuple[dvc.StageRun, list[str], list[dict]]:
    lines: list[str] = []
    progress: list[dict] = []
    done = dvc.run_stage(
        stage,
        project,
        env=environment(project),
        on_line=lines.append,
        on_progress=progress.append,
        **more,  # type: ignore[arg-type]
    )
    return done, lines, progress


def test_runs_streams_and_restores(project: Path) -> None:
    done, _, _ = run(project, "download")
    assert (done.stage, done.how) == ("download", "ran")
    done, lines, progress = run(project, "train")
    assert done.how == "ran"
    assert done.seconds > 0
    assert [p["done"] for p in progress] == [1, 2, 3]
    assert "a plain line" in lines
    assert not any("progress" in line or "dvc push" in line for line in lines)
    assert run(project, "train")[0].how == "unchanged"
    # Another directory, with nothing but the cache in common.
    with Workspace(project=project, private=True) as where:
        assert run(where.directory, "download")[0].how == "restored"
        assert run(where.directory, "train")[0].how == "restored"
        assert (where.directory / "models" / "model").read_text() == "75"
        assert (where.directory / "reports" / "metrics.json").read_text() == '{"acc": 0.75}'


@pytest.fixture(scope="module")
def after_download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose first stage has run; asking DVC for it takes a second."""
    directory = toy.make(tmp_path_factory.mktemp("downloaded").resolve())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("VTCC_HOME", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        run(directory, "download")
    return directory


@pytest.fixture
def downloaded(project: Path, after_download: Path) -> Path:
    others = shutil.ignore_patterns(".git")  # which is the same, and read-only
    shutil.copytree(after_download, project, dirs_exist_ok=True, ignore=others)
    return project


def test_failures_tell_the_stages_reason(downloaded: Path) -> None:
    project = downloaded
    set_epochs(project, 13)
    with pytest.raises(dvc.StageError) as caught:
        run(project, "train")
    said = "stage 'train' failed: 13 epochs bring bad luck; take another number"
    assert str(caught.value) == said
    assert (caught.value.status, caught.value.explained, caught.value.temporary) == (1, True, False)
    set_epochs(project, 14)
    with pytest.raises(dvc.StageError) as caught:
        run(project, "train")
    assert str(caught.value) == "stage 'train' failed: RuntimeError: crash"
    assert (caught.value.explained, caught.value.temporary) == (False, True)
    with pytest.raises(dvc.StageError, match="'nothing'"):
        run(project, "nothing")


def test_interrupting_reaches_the_stage_and_leaves_nothing(downloaded: Path) -> None:
    # Started with `&` by a script, pytest inherits SIGINT ignored, and nothing would be raised.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _interrupt_a_training(downloaded)
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt_a_training(project: Path) -> None:
    set_epochs(project, 99)

    def stop(progress: dict) -> None:
        if progress["done"] == 3:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        dvc.run_stage("train", project, env=environment(project), on_progress=stop)
    assert time.monotonic() - start < 25
    assert (project / "checkpoint").read_text() == "saved"
    assert processes_in(project) == []
    # DVC released its locks.
    set_epochs(project, 2)
    assert run(project, "train", wait_busy=0)[0].how == "ran"


def test_a_callback_that_fails_stops_the_stage_too(downloaded: Path) -> None:
    project = downloaded
    set_epochs(project, 99)

    def fail(progress: dict) -> None:
        raise ConnectionError("no server")

    with pytest.raises(ConnectionError):
        dvc.run_stage("train", project, env=environment(project), on_progress=fail)
    assert (project / "checkpoint").exists()
    assert processes_in(project) == []


def test_deaf_processes_are_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('ready', flush=True); time.sleep(60)"
    )

    def fail(line: str) -> None:
        raise ValueError

    start = time.monotonic()
    with pytest.raises(ValueError):
        commands.run([sys.executable, "-c", deaf], tmp_path, None, fail, 1.0)
    assert time.monotonic() - start < 10
    assert processes_in(tmp_path) == []


def test_a_grandchild_that_holds_the_pipe_does_not_hold_us(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; print('done');"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)']).pid)"
    )
    lines: list[str] = []
    start = time.monotonic()
    assert commands.run([sys.executable, "-c", code], tmp_path, None, lines.append, 1.0) == 0
    assert time.monotonic() - start < 10
    assert lines[0] == "done"
    os.kill(int(lines[1]), signal.SIGKILL)


@pytest.mark.slow
def test_waits_for_a_busy_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(project, "download")
    set_epochs(project, 99)
    env = environment(project)
    first = subprocess.Popen(
        dvc._command("train", project),
        cwd=project,
        env=env,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert first.stdout is not None
    while b"progress" not in first.stdout.readline():
        pass
    waiting: list[str] = []

    def on_line(line: str) -> None:
        if "waiting up to" in line:
            waiting.append(line)
            os.killpg(first.pid, signal.SIGINT)
            first.wait(timeout=20)

    try:
        # It gives up when the directory stays busy, and goes on when it does not.
        with pytest.raises(VtccError, match="another DVC command has been running for 0 s"):
            run(project, "train", wait_busy=0)
        set_epochs(project, 2)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        done = dvc.run_stage("train", project, env=env, on_line=on_line, wait_busy=60)
    finally:
        first.stdout.close()
        first.wait(timeout=20)
    assert done.how == "ran"
    assert len(waiting) == 1


def processes_in(directory: Path) -> list[int]:
    """Processes that stay with their working directory at or below `directory`.

    One that was just killed takes a moment to go.
    """
    deadline = time.monotonic() + 3.0
    while (found := _processes_in(directory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _processes_in(directory: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            where = (entry / "cwd").resolve(strict=True)
        except OSError:
            continue
        if where == directory or directory in where.parents:
            found.append(int(entry.name))
    return found
