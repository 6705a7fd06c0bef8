"""The whole pipeline by DVC, as a user runs it, in a temporary clone of the working tree."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from vtcc import config
from vtcc.cli import app
from vtcc.stages import source

TOP = Path(__file__).parents[1]
UNWANTED = {"MLFLOW_TRACKING_URI", "VTCC_HOME", "VTCC_MIRROR", "DVC_ROOT"}


class Project:
    """A clone with its own DVC cache, tracking store and environment."""

    def __init__(self, directory: Path):
        self.directory = directory
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=TOP,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (TOP / name).is_file() and name not in {"dvc.lock"}:
                target = directory / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(TOP / name, target)
        for compiled in TOP.glob("vtcc/**/__pycache__"):  # with the times of what it is of
            place = directory / compiled.relative_to(TOP)
            shutil.copytree(compiled, place, ignore=shutil.ignore_patterns("*.tmp", "*.pyc.*"))
        self.env = {k: v for k, v in os.environ.items() if k not in UNWANTED} | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "DVC_SITE_CACHE_DIR": str(directory.parent / "site"),
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "user.name",
            "GIT_CONFIG_VALUE_0": "test",
            "GIT_CONFIG_KEY_1": "user.email",
            "GIT_CONFIG_VALUE_1": "test@localhost",
        }
        self("git init -q -b main && git add -A && git commit -qm start")

    def __call__(self, command: str, *, ok: bool = True) -> str:
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.directory,
            env=self.env,
            capture_output=True,
            text=True,
        )
        assert (done.returncode == 0) == ok, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def use(self, *assignments: str) -> None:
        """The tiny preset as its parameters, but for some."""
        self("vtcc use tiny " + " ".join(f"--set '{a}'" for a in assignments))

    def edit(self, *assignments: str) -> None:
        """The same without a process of its own."""
        text = config.edit(
            (config.PRESETS / "tiny.yaml").read_text(encoding="utf-8"),
            config.parse_assignments([*assignments]),
        )
        (self.directory / "params.yaml").write_text(text)

    def json(self, path: str) -> dict:
        return json.loads((self.directory / path).read_text())

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This process, which has imported everything, in place of one of its own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.directory)
            for name in UNWANTED:
                patch.delenv(name, raising=False)
            patch.setenv("DVC_SITE_CACHE_DIR", self.env["DVC_SITE_CACHE_DIR"])
            yield

    def pending(self) -> set[str]:
        """Stages that `dvc repro` would run now, but for the look at the source."""
        from dvc.repo import Repo

        with self.inside(), Repo(str(self.directory)) as repo:
            return set(repo.status()) - {"source"}

    def dvc(self, *words: str) -> str:
        """What a command of DVC that starts no stage prints."""
        from dvc.cli import main

        printed = io.StringIO()
        with self.inside(), contextlib.redirect_stdout(printed):
            assert main([*words]) == 0, printed.getvalue()
        return printed.getvalue()

    def predict_by_the_champion(self) -> None:
        """Writes a table, and deletes it."""
        folder = next((self.directory / "data/raw/images").iterdir())
        champion = "models:/vtcc-digits-tiny@champion"
        with self.inside():
            words = ["predict", str(folder), "--model", champion, "--out", "out.csv"]
            predicted = CliRunner().invoke(app, words, catch_exceptions=False)
        assert predicted.exit_code == 0, predicted.output
        (self.directory / "out.csv").unlink()

    def run_by(self, command: str) -> set[str]:
        """The stages that a command of DVC runs."""
        lines = self(command).splitlines()
        return {line.split("'")[1] for line in lines if "Running stage" in line}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("clone with a space") / "vtcc")
    project.use()
    project("git add -A && git commit -qm tiny")
    project("dvc repro")
    return project


# The fixture runs the pipeline, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)


def test_every_stage_leaves_what_it_promises(project):
    assert project.json("data/features/features.json") == {"needed": False}
    metrics = project.json("reports/metrics.json")
    assert metrics["images"] == 360
    assert metrics["holdout_images"] == 40
    assert 0 < metrics["acc"] <= 1
    assert {"baseline_kmeans_pixels_acc", "baseline_kmeans_embedding_nmi"} <= set(metrics)
    assert project.json("reports/validation.json")["success"] is True
    assert project.json("models/model/model.json")["num_clusters"] == 10
    run = project.json("models/run.json")
    assert len(run["run_id"]) == 32
    assert run["tracking_uri"] == f"sqlite:///{project.directory}/mlflow.db"
    page = (project.directory / "reports/gallery.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_repro_then_register_makes_a_champion_that_predicts(project):
    assert not (project.directory / ".vtcc/registered.json").exists()
    assert_champion(project)
    project.predict_by_the_champion()


def assert_champion(project):
    assert "vtcc-digits-tiny: version 1, promoted: there was no champion" in project(
        "vtcc register"
    )
    registered = project.json(".vtcc/registered.json")
    assert (registered["name"], registered["champion"]) == ("vtcc-digits-tiny", True)
    assert registered["run_id"] == project.json("models/run.json")["run_id"]


def test_a_second_repro_is_up_to_date_and_git_shows_results_only(project):
    assert project.run_by("dvc repro") == {"source"}
    changed = {line[3:] for line in project("git status --porcelain").splitlines()}
    assert changed <= {
        "dvc.lock",
        "reports/",
        "reports/metrics.json",
        "reports/validation.json",
    }


@pytest.fixture(scope="module")
def settled(project):
    assert project.pending() == set()
    return project


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("evaluate.plot_points=100", {"evaluate"}),
        ("train.epochs=3", {"train"}),
        ("train.optimizer.learning_rate=0.01", {"train"}),
        ("embed.views=3", {"embed"}),
        ("validate.max_duplicates=0.4", {"validate"}),
        ("dataset.holdout=0.2", {"download"}),
        ("train.collapse=off", set()),
        ("train.checkpoint_minutes=9.0", set()),
    ],
)
def test_a_changed_number_runs_just_what_depends_on_it(settled, change, stages):
    settled.edit(change)
    try:
        pending = settled.pending()
    finally:
        settled.edit()
    # What follows is run when the result differs, which is not known before.
    assert pending == stages


def test_labels_reach_evaluate_only(project):
    edges = [
        [side.strip().strip('"') for side in line.rstrip(";").split("->")]
        for line in project.dvc("dag", "--dot", "--outs").splitlines()
        if "->" in line
    ]
    produced = {
        "reports/assignments.csv",
        "reports/evaluated.json",
        "reports/gallery.html",
        "reports/metrics.json",
        "reports/confusion.csv",
        "reports/plots",
    }
    assert {after for before, after in edges if before == "data/labels"} == produced


def test_metrics_params_and_plots_are_shown(project):
    assert "acc" in project.dvc("metrics", "show")
    project.edit("train.epochs=3")
    try:
        difference = project.dvc("params", "diff")
    finally:
        project.edit()
    assert [w for line in difference.splitlines() if "train.epochs" in line for w in line.split()][
        -2:
    ] == ["2", "3"]
    project.dvc("plots", "show", "-o", "plots")
    assert (project.directory / "plots/index.html").is_file()
    shutil.rmtree(project.directory / "plots")


def pushed_and_pulled(project, store):
    """What another machine has after a clone and `dvc pull`."""
    project.dvc("remote", "add", "-f", "-d", "--local", "store", str(store))
    project.dvc("push")
    model = project.directory / "models/model/model.safetensors"
    before = model.read_bytes()
    for path in ("models", "data/raw", "data/cache", ".dvc/cache"):
        shutil.rmtree(project.directory / path)
    for file in project.directory.glob("mlflow.db*"):
        file.unlink()
    project("dvc pull")
    assert model.read_bytes() == before
    assert project.pending() == set()


def test_push_and_pull_through_a_local_remote(project, tmp_path):
    pushed_and_pulled(project, tmp_path / "store")


@pytest.mark.slow
def test_a_study_then_repro_registers_a_champion_here_and_where_it_is_pulled(tmp_path):
    """What `make repro` needs comes from DVC's cache. Repro and pull alone are tested above."""
    project = Project(tmp_path / "clone" / "vtcc")
    project.use()
    (project.directory / "one.yaml").write_text("name: one\nseeds: 0\n")
    project("git add -A && git commit -qm tiny")
    project("vtcc study one.yaml")
    assert not (project.directory / ".vtcc/registered.json").exists()
    repro = project("dvc repro")
    for stage in ("train", "evaluate"):
        assert f"Stage '{stage}' is cached - skipping run" in repro
    assert_champion(project)
    registered = project.json(".vtcc/registered.json")
    project("vtcc register")
    assert project.json(".vtcc/registered.json") == registered
    folder = next((project.directory / "data/raw/images").iterdir())
    project(f"vtcc predict '{folder}' --model models:/vtcc-digits-tiny@champion --out out.csv")
    pushed_and_pulled(project, tmp_path / "store")
    assert "version 1, promoted: there was no champion" in project("vtcc register")


@pytest.mark.slow
def test_a_folder_of_ones_own_is_watched_whatever_it_holds(tmp_path):
    """DVC itself stops at a broken link, at odd bytes, and for ever at a pipe.

    What the stage `source` notes of such folders is tested in tests/stages/test_source.py.
    """
    project = Project(tmp_path / "clone" / "vtcc")
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        Image.new("L", (8, 8), 60 * i).save(photos / f"{i}.png")
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "0.png").read_bytes())
    (photos / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "notes")
    project.edit(f"dataset.source={photos}", "dataset.limit=0", "dataset.holdout=0")
    assert project.run_by("timeout 200 dvc repro download") == {"source", "download"}
    assert project.json("data/raw/dataset.json")["images"] == 4
    with project.inside():
        source.run()
    assert "download" not in project.pending()
    Image.new("L", (8, 8), 200).save(photos / "new.png")
    assert project.run_by("dvc repro download") == {"source", "download"}
    assert project.json("data/raw/dataset.json")["images"] == 5
