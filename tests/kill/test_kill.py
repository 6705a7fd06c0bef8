"""`kill -9` at any moment: a training goes on to the bits of one that was never killed."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runner.test_dvc import processes_in
from tests.test_pipeline import TOP, Project
from vtcc.engine import checkpoint


def kill_and_go_on(directory: Path, kills: int, writes: int, seed: int) -> dict:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.kill.victim",
            str(directory),
            *map(str, (kills, writes, seed)),
        ],
        cwd=TOP,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_nothing_lost(told: dict, kills: int, writes: int) -> None:
    assert told["status"] == 0
    assert all(told["same"])
    assert len(told["kills"]) == kills
    assert sum(k["in_write"] for k in told["kills"]) == writes
    assert (told["hidden"], told["scratch"]) == ([], [])


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    directory = tmp_path_factory.mktemp("three") / "x"
    told = kill_and_go_on(directory, kills=3, writes=1, seed=4)
    assert processes_in(directory) == []
    return told


def test_three_kills_one_of_them_in_a_write(three):
    assert_nothing_lost(three, kills=3, writes=1)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_obeyed_after_a_checkpoint(three, signum):
    told = three["faults"][signum.name]
    assert told["status"] == 128 + signum
    assert told["step"] > 0
    assert told["said"][-1].startswith(f"stopped by {signum.name}; run the stage again")
    assert (told["hidden"], told["model"]) == ([], False)
    assert told.get("same", True)


def test_a_full_disk_is_one_line_and_the_checkpoint_before_it_stands(three):
    told = three["faults"]["full"]
    assert (told["status"], told["step"]) == (1, 0)
    assert "File too large" in told["said"][-1]
    assert told["said"][-1].startswith("error: could not write: ")
    assert not any("Traceback" in line for line in told["said"])
    assert (told["hidden"], told["model"], told["same"]) == ([], False, True)


def test_a_loss_that_is_not_finite_is_one_line_and_the_checkpoint_before_it_stands(three):
    told = three["faults"]["nan"]
    assert told["status"] == 1
    assert 15 < told["step"] <= 20
    # Seen at the next save by the clock, at the latest at the end of the epoch.
    assert re.match(
        r"error: the loss is not finite at step 2[1-4] of 36; lower", told["said"][-1]
    ), told["said"][-1]
    assert not any("Traceback" in line for line in told["said"])
    assert (told["hidden"], told["model"]) == ([], False)


def test_an_output_that_cannot_be_written_is_told_before_the_training(three):
    told = three["faults"]["unwritable"]
    assert told["status"] == 1
    assert told["said"][-1].startswith("error: models: cannot be written to (")
    assert (told["hidden"], told["step"]) == ([], None)


@pytest.mark.slow
def test_twenty_kills_six_of_them_in_a_write(tmp_path, capsys):
    told = kill_and_go_on(tmp_path / "x", kills=20, writes=6, seed=1)
    with capsys.disabled():
        print(f"\n{json.dumps(told)}")
    assert_nothing_lost(told, kills=20, writes=6)
    assert processes_in(tmp_path) == []


# Inside `dvc repro`

EPOCHS = 200
FIXED = "train.precision=bf16", "train.attention=plain"  # else a measurement chooses, in each home


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("killed") / "vtcc")
    project.env |= {"OMP_NUM_THREADS": "1", "SHELL": "/bin/bash"}
    project.edit(f"train.epochs={EPOCHS}", "train.checkpoint_minutes=0.005", *FIXED)
    project("git commit -qam killed; dvc repro validate")
    return project


def start(project: Project, command: list[str]) -> subprocess.Popen:
    """Starts it in a session of its own, and returns when it has trained an epoch."""
    process = subprocess.Popen(
        command,
        cwd=project.directory,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if '"stage": "train"' in line:
            return process
    raise AssertionError("".join(said))


def kill_by_name(directory: Path, word: str) -> None:
    for pid in processes_in(directory):
        if word in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
            os.kill(pid, signal.SIGKILL)


def all_gone(directory: Path, seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while processes_in(directory):
        if time.monotonic() > until:
            return False
    return True


RUNNER = (
    "from pathlib import Path; from vtcc.runner import dvc; from vtcc.runner.workspace import "
    "environment; here = Path.cwd(); dvc.run_stage('train', here, env=environment(here), "
    'on_progress=lambda p: print(\'"stage": "train"\', flush=True))'
)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_inside_dvc_repro(pipeline, tmp_path):
    here, draw = pipeline.directory, random.Random(0)
    repro = [sys.executable, "-m", "dvc", "repro", "train"]
    for what in ("dvc", "training", "both", "dvc", "runner"):
        command = [sys.executable, "-c", RUNNER] if what == "runner" else repro
        process = start(pipeline, command)
        time.sleep(draw.uniform(0, 1.0))
        if what == "both":
            os.killpg(process.pid, signal.SIGKILL)
        elif what == "training":
            kill_by_name(here, "-m vtcc train")
        else:
            process.kill()
        process.stdout.close()
        process.wait(60)
        assert all_gone(here), f"orphans after a kill of {what}"
        assert not (here / "models/model").exists()
        (state,) = here.glob(".vtcc/scratch/*/last.pt")
        assert checkpoint.load_state(state)["step"] > 0
    said = pipeline("dvc repro train")
    assert "resuming at step" in said
    assert pipeline("dvc status train").strip() == "Data and pipelines are up to date."
    # One run in MLflow, closed, with every epoch once.
    code = (
        "import json; from vtcc.tracking import store; c = store.client(); "
        "e = [x.experiment_id for x in c.search_experiments()]; runs = c.search_runs(e); "
        "h = [m.step for m in c.get_metric_history(runs[0].info.run_id, 'cluster_loss') "
        "if m.model_id is None]; print(json.dumps([[r.info.status for r in runs], h]))"
    )
    told = json.loads(pipeline(f'python -c "{code}"').splitlines()[-1])
    assert told == [["FINISHED"], list(range(1, EPOCHS + 1))]
    # The same, never stopped.
    for name in ("params.yaml", "data/cache"):
        copy = shutil.copytree if (here / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(here / name, tmp_path / name)
    env = pipeline.env | {"VTCC_HOME": str(tmp_path), "PYTHONPATH": str(here)}
    command = [sys.executable, "-m", "vtcc", "train"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    same = "models/model/model.safetensors"
    assert (tmp_path / same).read_bytes() == (here / same).read_bytes()
    assert not [p for p in here.rglob(".*") if p.suffix in {".building", ".old"}]
