"""Stages end cleanly: by a signal, and when what started them is gone."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.project import make_folder, make_project
from tests.tracking import toy
from vtcc import config, paths
from vtcc.process import stopping

TOP = Path(__file__).parents[2]

# Each stops in the middle of its writing, and says so; `main` is that of the command line.
CODE = """
import sys, time
def pause(*args, **kwargs):
    print("READY", flush=True)
    time.sleep(120)
{patch}
sys.argv = ["vtcc", "{stage}"]
from vtcc.__main__ import main
main()
"""
PATCHES = {
    "download": "from vtcc.data import manifest; manifest.write_table = pause",
    "validate": "from vtcc.data.cache import CacheWriter; CacheWriter.finish = pause",
    "train": "import vtcc.engine.checkpoint as c; real = c.save_file; c.save_file = pause",
    "evaluate": "from vtcc.analysis import plots; plots.embedding = pause",
}


def environment(project):
    env = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "DVC_STAGE")}
    return env | {"PYTHONPATH": str(TOP), "VTCC_HOME": str(project), "OMP_NUM_THREADS": "1"}


def stop(stage, project, signum):
    """Runs a stage until it says READY, sends the signal; returns (status, stderr)."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE.format(stage=stage, patch=PATCHES[stage])],
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "READY" in line:
            break
    else:
        raise AssertionError("".join(said) + process.stderr.read())
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def files(project):
    names = (p.relative_to(project).as_posix() for p in project.rglob("*") if p.is_file())
    return {name for name in names if not name.startswith((".vtcc/", "mlflow.db", "mlartifacts/"))}


def assert_stopped(ended, stage, signum):
    status, errors = ended
    assert status == 128 + signum
    lines = [line for line in errors.splitlines() if "Warning" not in line]
    assert lines[-1] == f"{stage}: stopped by {signum.name}; run it again"
    assert "Traceback" not in errors


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_download_that_is_stopped_leaves_nothing(tmp_path, signum):
    folder = make_folder(tmp_path / "in", ["a/1.png", "a/2.png"])
    project = make_project(tmp_path / "project", dataset__source=str(folder))
    before = files(project)
    assert_stopped(stop("download", project, signum), "download", signum)
    assert files(project) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_validation_that_is_stopped_leaves_the_older_cache(tmp_path, signum):
    folder = make_folder(tmp_path / "in", [f"a/{i}.png" for i in range(12)])
    project = make_project(
        tmp_path / "project",
        dataset__source=str(folder),
        validate__max_duplicates=1.0,
    )
    for stage in ("download", "validate"):
        subprocess.run(
            [sys.executable, "-m", "vtcc", stage],
            cwd=project,
            env=environment(project),
            check=True,
        )
    before = files(project)
    pixels = (project / paths.CACHE / "images.npy").read_bytes()
    assert_stopped(stop("validate", project, signum), "validate", signum)
    assert files(project) == before
    assert (project / paths.CACHE / "images.npy").read_bytes() == pixels


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_stopped_while_it_saves_closes_its_run(tmp_path, signum):
    """In mid-training it is tested with the other faults; here the loop has ended."""
    toy.project(tmp_path)
    text = config.edit((tmp_path / "params.yaml").read_text(), {"train.batch_size": 16})
    (tmp_path / "params.yaml").write_text(text)
    before = files(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    ended = stop("train", tmp_path, signum)
    assert_stopped(ended, "train", signum)
    assert files(tmp_path) == before
    assert statuses(uri) == ["KILLED"]
    # And on a loss that is not finite.
    code = CODE.format(stage="train", patch=NAN)
    failed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    assert "error: the loss is not finite at step" in failed.stderr
    assert sorted(statuses(uri)) == ["FAILED", "KILLED"]


NAN = (
    "from vtcc.engine import objective; real = objective.instance_loss; "
    "objective.instance_loss = lambda *a: real(*a) * float('nan'); "
    "from vtcc import config; config.MAX_SEED; import pathlib; p = pathlib.Path('params.yaml'); "
    "p.write_text(config.edit(p.read_text(), {'train.seed': 3}))"
)


def statuses(uri):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return [run.info.status for run in client.search_runs(experiments)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_evaluation_that_is_stopped_leaves_whole_files(tmp_path, signum):
    toy.project(tmp_path)
    text = config.edit((tmp_path / "params.yaml").read_text(), {"evaluate.projection": "pca"})
    (tmp_path / "params.yaml").write_text(text)
    toy.model(tmp_path / paths.MODEL)
    assert_stopped(stop("evaluate", tmp_path, signum), "evaluate", signum)
    json.loads((tmp_path / paths.METRICS).read_text())
    assert not (tmp_path / paths.PLOTS).exists()
    assert not [p for p in tmp_path.rglob(".*") if p.suffix in {".building", ".old"}]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_raises_and_what_was_there_before_comes_back(signum):
    before = signal.getsignal(signum)
    with pytest.raises(SystemExit) as ended, stopping.obeyed("train"):
        signal.raise_signal(signum)
    assert ended.value.code == 128 + signum
    assert signal.getsignal(signum) is before


def test_a_signal_where_python_lets_no_exception_out_is_not_lost(capsys):
    class Unlucky:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    def work():
        unlucky = Unlucky()
        del unlucky
        time.sleep(5)

    with pytest.raises(SystemExit) as caught, stopping.obeyed("work", marked=False):
        work()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "work: stopped by SIGINT; run it again\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_of_which_c_code_makes_another_exception_is_not_lost(capsys):
    def work():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except BaseException:
            raise ValueError("could not determine the shape of object type") from None

    with pytest.raises(SystemExit) as caught, stopping.obeyed("work", marked=False):
        work()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "work: stopped by SIGINT; run it again\n"


@pytest.mark.parametrize("more", [5, 0])  # seconds of work after it
def test_a_signal_that_is_taken_for_a_damaged_file_is_not_lost(capsys, more):
    def read():  # C code calls it, and makes an error of its own of whatever it raises
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    database = sqlite3.connect(":memory:")
    database.create_function("read", 0, read)
    taken, cleared = [], []
    with pytest.raises(SystemExit) as caught, stopping.obeyed("work", marked=False):
        try:
            database.execute("SELECT read()")
        except Exception as error:
            taken.append(str(error))
        try:
            time.sleep(more)
        finally:
            cleared.append(True)
    assert taken == ["user-defined function raised exception"]
    assert caught.value.code == 130
    assert cleared
    assert capsys.readouterr().err == "work: stopped by SIGINT; run it again\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_without_a_signal_stays_what_it_is():
    with pytest.raises(ValueError, match=r"^a mistake$"), stopping.obeyed("work", marked=False):
        raise ValueError("a mistake")


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.obeyed("train"):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def watching(directory, code):
    """A process that runs `code` as the stage `train` and ends with another, and that other."""
    parent = subprocess.Popen(["sleep", "60"])
    text = (
        "import os, signal, sys, time\n"
        "from vtcc.process import stopping; from vtcc.engine import signals\n"
        "starter = int(sys.argv[1])\n"
        f"with stopping.obeyed('train'):\n    stopping.end_with([starter])\n{code}"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", text, str(parent.pid)],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child, parent
    finally:
        for process in (child, parent):
            process.kill()
            process.wait()


def test_a_process_ends_with_the_one_it_watches(tmp_path):
    code = "    print('READY', flush=True); time.sleep(60)"
    with watching(tmp_path, code) as (child, parent):
        child.stdout.readline()
        time.sleep(0.2)
        assert child.poll() is None
        parent.kill()
        parent.wait()
        _, errors = child.communicate(timeout=20)
        assert child.returncode == 143
        assert f"process {parent.pid}, which started this one, is gone" in errors


def test_a_training_that_stops_already_is_not_told_twice(tmp_path):
    """DVC and its stage get one signal: the stage must not take DVC's end for a second one."""
    code = (
        "    with signals.stop_signals() as stop:\n"
        "        os.kill(os.getpid(), signal.SIGTERM); os.kill(starter, signal.SIGKILL)\n"
        "        time.sleep(2); print('checkpointed', stop.signum)"
    )
    with watching(tmp_path, code) as (child, parent):
        parent.wait()
        said, errors = child.communicate(timeout=60)
        assert (child.returncode, said) == (0, f"checkpointed {int(signal.SIGTERM)}\n")
        assert errors == ""


def test_the_first_that_ends_is_named(monkeypatch):
    process = subprocess.Popen(["sleep", "0.3"])
    monkeypatch.setattr(stopping, "_LOOK_EVERY", 0.05)
    waiting = time.monotonic()
    import threading

    threading.Thread(target=process.wait).start()
    assert stopping._wait_for_any([os.getpid(), process.pid]) == process.pid
    assert time.monotonic() - waiting < 5


def test_a_stage_finds_dvc_above_a_shell(tmp_path):
    """DVC -> shell -> stage, as with a shell that does not replace itself."""
    code = "from vtcc.process import stopping; print(stopping._starters())"
    (tmp_path / "dvc").write_text(
        "import os, subprocess, sys\n"
        "print(os.getpid(), flush=True)\n"
        f"subprocess.run(['sh', '-c', '{sys.executable} -c \"{code}\"; true'])\n"
    )
    env = {k: v for k, v in os.environ.items() if k != stopping.RUNNER}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "dvc"), "repro"],
        env=env | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=True,
    )
    dvc, found = done.stdout.splitlines()
    assert json.loads(found)[-1] == int(dvc)
    assert len(json.loads(found)) == 2


def test_output_that_nobody_reads_does_not_break_a_training():
    code = (
        "import sys; from vtcc import progress; sys.stdin.read(); "
        "[progress.note('x') for _ in range(3)]; progress.report('train', 1, 2); "
        "print('alive', file=sys.stderr)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(TOP)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdout.close()
    child.stdin.close()
    assert child.stderr.read().strip() == "alive"
    assert child.wait(20) == 0


def test_a_mark_tells_that_a_stage_runs_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not stopping.stage_runs()
    with stopping.obeyed("train"):
        assert stopping.stage_runs()
    assert not stopping.stage_runs()
