"""A throw-away project with stages that cost nothing, for flows to run."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import vtcc

DVC = """\
stages:
  download:
    cmd: python stage.py download
    params: [dataset]
    deps: ["${dataset.source}", stage.py]
    outs: [data/raw]
  train:
    cmd: python stage.py train
    params: [train]
    deps: [data/raw, stage.py]
    outs: [models]
    metrics:
      - reports/metrics.json: {cache: false}
"""
# train.epochs decides what happens; 13 is a user's mistake, 14 a crash, 99 takes long.
STAGE = """\
import json, pathlib, sys, time
import yaml

params = yaml.safe_load(open("params.yaml"))
epochs = params["train"]["epochs"]
if sys.argv[1] == "download":
    pathlib.Path("data/raw").mkdir(parents=True)
    pathlib.Path("data/raw/a").write_text("image")
    sys.exit()
if epochs == 13:
    sys.exit("error: 13 epochs bring bad luck; take another number")
if epochs == 14:
    raise RuntimeError("crash")
try:
    for done in range(1, min(epochs, 3) + 1):
        print(json.dumps({"progress": {"stage": "train", "done": done, "total": 3}}), flush=True)
    print("a plain line", flush=True)
    if epochs == 99:
        time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("checkpoint").write_text("saved")
    sys.exit("error: interrupted; run again to resume")
pathlib.Path("models").mkdir(exist_ok=True)
pathlib.Path("models/model").write_text(str(epochs))
pathlib.Path("reports").mkdir(exist_ok=True)
pathlib.Path("reports/metrics.json").write_text(json.dumps({"acc": epochs / 100}))
"""
IGNORED = "/data/raw\n/models\n/.vtcc/\n/reports/*\n!/reports/metrics.json\n__pycache__/\n"


def git(directory: Path, *arguments: str) -> str:
    """Runs git as somebody, without the machine's settings."""
    who = {
        f"GIT_{a}_{b}": "toy@example.org"
        for a in ("AUTHOR", "COMMITTER")
        for b in ("NAME", "EMAIL")
    }
    env = os.environ | who | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    command = ["git", "-c", "init.defaultBranch=main", *arguments]
    done = subprocess.run(
        command, cwd=directory, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def make(directory: Path, *, presets: bool = False) -> Path:
    """Writes and commits the project, with presets of its own if asked; returns its directory."""
    shutil.copytree(_template(presets), directory, dirs_exist_ok=True)
    git(directory, "update-index", "-q", "--refresh")
    return directory


@functools.cache
def _template(with_presets: bool) -> Path:
    """What `make` copies: git takes longer to make it than to go on from a copy."""
    directory = Path(tempfile.mkdtemp(prefix="vtcc-toy-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    (directory / "data" / "catalog").mkdir(parents=True)
    (directory / "data" / "catalog" / "digits.yaml").write_text("name: digits\n")
    presets = Path(vtcc.__file__).parent / "presets"
    shutil.copy(presets / "digits.yaml", directory / "params.yaml")
    shutil.copytree(presets, directory / "vtcc" / "presets")
    (directory / "dvc.yaml").write_text(DVC)
    (directory / "stage.py").write_text(STAGE)
    (directory / ".gitignore").write_text(IGNORED)
    (directory / ".dvcignore").write_text(".vtcc\n")
    (directory / ".dvc").mkdir()
    (directory / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (directory / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    git(directory, "init", "-q", "--template=")  # no hooks to copy
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "toy")
    if with_presets:
        ours = directory / "vtcc" / "presets"
        (ours / "augment").mkdir(exist_ok=True)
        (ours / "augment" / "calm.yaml").write_text("rotation: 0.0\nelastic: 0.0\n")
        (ours / "models").mkdir(exist_ok=True)
        (ours / "models" / "wide.yaml").write_text("train.model.embed_dim: 128\n")
        (directory / "vtcc" / "engine").mkdir()
        (directory / "vtcc" / "engine" / "loop.py").write_text("# the loop\n")
        git(directory, "add", "-A")
        git(directory, "commit", "-qm", "presets")
    return directory
