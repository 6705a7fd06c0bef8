"""A private worktree: what it carries, what it leaves alone, and that it goes away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.runner import toy
from vtcc import config, provenance
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.runner.workspace import Workspace, environment, prune, resolve


def worktrees(project: Path) -> list[str]:
    return sorted(p.name for p in (project / ".vtcc" / "worktrees").glob("*"))


def test_nothing_to_override_runs_in_the_project(project: Path) -> None:
    before = yaml.safe_load((project / "params.yaml").read_text())
    for given in ((None, {}, None), (None, {"train.epochs": 75}, None), ("digits", {}, 0)):
        with Workspace(resolve(*given, project=project), project=project) as where:
            assert where.in_place
            assert where.directory == project
            assert where.params == before
    assert worktrees(project) == []


def test_a_second_run_of_the_project_itself_gets_a_worktree(project: Path) -> None:
    with Workspace(project=project) as first, Workspace(project=project) as second:
        assert first.in_place
        assert second.directory.parent == project / ".vtcc" / "worktrees"
    with Workspace(project=project) as third:
        assert third.in_place
    stage = locks.Mark(project / ".vtcc" / "stages" / "a.lock")  # as one of `dvc repro` has
    with Workspace(project=project) as fourth:
        assert not fourth.in_place
    stage.remove()


def test_it_says_what_it_carries(project: Path) -> None:
    with Workspace(resolve(None, {"train.epochs": 7}, project=project), project=project) as where:
        assert where.carried == []
    (project / "stage.py").write_text("# edited\n")
    (project / "vtcc" / "new.py").write_text("# new\n")
    (project / "notes.txt").write_text("mine\n")
    with Workspace(resolve(None, {"train.epochs": 7}, project=project), project=project) as where:
        assert where.carried == ["stage.py", "vtcc/new.py"]


def test_edits_are_carried_and_the_project_stays_as_it_is(project: Path) -> None:
    (project / "stage.py").write_text("# edited\n")
    (project / ".dvcignore").unlink()
    (project / "vtcc" / "new.py").write_text("# new\n")
    (project / "photos").mkdir()
    (project / "photos" / "a.png").write_bytes(b"x")
    params, status = (project / "params.yaml").read_bytes(), toy.git(project, "status", "--short")
    changed = {"train.epochs": 7, "dataset.source": "photos"}
    with Workspace(resolve(None, changed, 5, project=project), project=project) as where:
        assert not where.in_place
        assert where.directory.parent == project / ".vtcc" / "worktrees"
        assert (where.directory / "stage.py").read_text() == "# edited\n"
        assert (where.directory / "vtcc" / "new.py").read_text() == "# new\n"
        assert not (where.directory / ".dvcignore").exists()
        assert (where.directory / "photos" / "a.png").read_bytes() == b"x"
        written = yaml.safe_load((where.directory / "params.yaml").read_text())
        assert (written["train"]["epochs"], written["train"]["seed"]) == (7, 5)
        assert written == where.params
        head = toy.git(where.directory, "rev-parse", "HEAD")
        assert head == toy.git(project, "rev-parse", "HEAD")
        assert "stage.py" in toy.git(where.directory, "status", "--short")
        local = (where.directory / ".dvc" / "config.local").read_text()
        assert f"dir = {project / '.dvc' / 'cache'}" in local
        assert (project / "params.yaml").read_bytes() == params
    assert worktrees(project) == []
    assert toy.git(project, "worktree", "list").count("\n") == 0
    assert (project / "params.yaml").read_bytes() == params
    assert toy.git(project, "status", "--short") == status
    assert toy.git(project, "stash", "list") == ""


def test_names_that_editors_and_people_give_are_carried_or_left(project: Path) -> None:
    (project / "vtcc" / ".#new.py").symlink_to("somebody@desk.4711:1700000000")  # Emacs's lock
    (project / "data" / "catalog" / "käfer 1.yaml").write_text("name: käfer\n")
    (project / "vtcc" / os.fsdecode(b"caf\xe9.py")).write_text("# a name in Latin-1\n")
    (project / "elsewhere").mkdir()
    (project / "vtcc" / "tools").symlink_to("../elsewhere")
    with Workspace(project=project, private=True) as where:
        assert where.carried == ["data/catalog/käfer 1.yaml", "vtcc/caf\ufffd.py", "vtcc/tools"]
        assert (where.directory / "vtcc" / os.fsdecode(b"caf\xe9.py")).is_file()
        card = where.directory / "data" / "catalog" / "käfer 1.yaml"
        assert card.read_text() == "name: käfer\n"
        assert (where.directory / "vtcc" / "tools").resolve() == project / "elsewhere"
        assert not (where.directory / "vtcc" / ".#new.py").is_symlink()


def test_an_existing_cache_setting_is_respected(project: Path, tmp_path: Path) -> None:
    local = "[cache]\n    dir = ../../shared-cache\n    type = copy\n"
    (project / ".dvc" / "config.local").write_text(local)
    with Workspace(resolve(None, {"train.epochs": 7}, project=project), project=project) as where:
        text = (where.directory / ".dvc" / "config.local").read_text()
        assert f"dir = {tmp_path.resolve() / 'shared-cache'}" in text
        assert "type = copy" in text
    assert (project / ".dvc" / "config.local").read_text() == local


def test_a_wrong_setting_of_dvc_is_one_line_and_leaves_no_worktree(project: Path) -> None:
    (project / ".dvc" / "config.local").write_text("[cache]\n    directory = x\n")
    with pytest.raises(VtccError, match=r"project: DVC does not know its cache: .*directory"):
        Workspace(project=project, private=True).__enter__()
    assert not list((project / ".vtcc" / "worktrees").iterdir())


def test_it_goes_away_after_an_error(project: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        Workspace(resolve(None, {"train.epochs": 7}, project=project), project=project),
    ):
        raise RuntimeError
    assert worktrees(project) == []


def test_stale_ones_are_pruned_and_living_ones_are_not(project: Path) -> None:
    code = (
        "import os, sys, pathlib; from vtcc.runner.workspace import Workspace, resolve;"
        f"p = pathlib.Path({str(project)!r});"
        "w = Workspace(resolve(None, {'train.epochs': 7}, project=p), project=p);"
        "w.__enter__(); print(w.directory, flush=True); os._exit(9)"
    )
    root = Path(__file__).resolve().parents[2]
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    left = Path(dead.stdout.strip())
    assert dead.returncode == 9
    assert (left / "params.yaml").is_file()
    with Workspace(resolve(None, {"train.epochs": 8}, project=project), project=project) as where:
        assert not left.exists()
        assert prune(project) == 0
        assert (where.directory / "params.yaml").is_file()
    assert worktrees(project) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, {"train.epoch": 7}, None), "train.epoch: unknown parameter; did you mean"),
        ((None, {"train.epochs": "7"}, None), "train.epochs: expected a whole number, found '7'"),
        ((None, {"train.epochs": 0}, None), "train.epochs: found 0; allowed: at least 1"),
        ((None, {"train.image_size": 15}, None), "not a multiple of train.model.patch_size"),
        (("digit", {}, None), "preset 'digit': unknown; did you mean 'digits'"),
        ((None, {"train.seed": 1}, 2), "seed: found 2, but the overrides set train.seed to 1"),
        ((None, {}, -1), "train.seed: found -1; allowed: at least 0"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_made(
    project: Path, given: tuple, said: str
) -> None:
    with pytest.raises(VtccError, match=said.replace("(", r"\(")):
        Workspace(resolve(*given, project=project), project=project)
    assert not (project / ".vtcc").exists()


def test_seed_is_the_trainings(project: Path) -> None:
    assert resolve(None, {"train.epochs": 3}, 4, project)["train"]["seed"] == 4
    assert resolve("digits", None, None, project)["train"]["seed"] == 0


def test_without_git_only_running_in_place_works(tmp_path: Path, project: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "params.yaml").write_bytes((project / "params.yaml").read_bytes())
    with Workspace(project=bare) as where:
        assert where.directory == bare.resolve()
    with (
        pytest.raises(VtccError, match="not the top of a git checkout"),
        Workspace(resolve(None, {"train.epochs": 3}, project=bare), project=bare),
    ):
        pass


def test_environment_is_absolute(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    env = environment(project)
    assert env["MLFLOW_TRACKING_URI"] == f"sqlite:///{project}/mlflow.db"
    assert env["VTCC_HOME"] == str(project)
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert "DVC_ROOT" not in env
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert environment(project)["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        ("https://u:p@example.org/sets/", "https://u:p@example.org/sets/"),
        ("file:///mnt/sets", "file:///mnt/sets"),
        ("sets", "{here}/sets"),
        ("/mnt/sets", "/mnt/sets"),
    ],
)
def test_a_mirror_is_handed_on_as_an_address_or_absolute(
    given: str, handed_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTCC_MIRROR", given)
    assert environment(tmp_path)["VTCC_MIRROR"] == handed_on.format(here=tmp_path.resolve())


def test_a_file_of_weights_that_git_does_not_know_is_found_in_a_worktree(project: Path) -> None:
    (project / "my").mkdir()
    (project / "my" / "w.safetensors").write_bytes(b"weights")
    changed = {
        "dataset.source": "my",
        "train.model.encoder": "timm:resnet18",
        "train.model.weights": "my/w.safetensors",
    }
    with Workspace(resolve(None, changed, project=project), project=project) as where:
        # As it is given: DVC's cache and records know a run by its parameters.
        assert where.params["train"]["model"]["weights"] == "my/w.safetensors"
        assert (where.directory / "my" / "w.safetensors").read_bytes() == b"weights"
    changed["train.model.weights"] = "../outside.safetensors"
    with Workspace(resolve(None, changed, project=project), project=project) as where:
        absolute = str(project.parent / "outside.safetensors")
        assert where.params["train"]["model"]["weights"] == absolute
    assert (project / "my" / "w.safetensors").read_bytes() == b"weights"


def test_paths_outside_the_project_are_made_absolute_instead_of_linked(project: Path) -> None:
    outside = project.parent / "outside photos"
    outside.mkdir()
    changed = {"dataset.source": "../outside photos", "download.mirror": "mirror"}
    with Workspace(resolve(None, changed, project=project), project=project) as where:
        written = yaml.safe_load((where.directory / "params.yaml").read_text())
        assert written["dataset"]["source"] == str(outside)
        assert written["download"]["mirror"] == str(project / "mirror")
        assert [p.name for p in where.directory.parent.iterdir() if p.is_symlink()] == []
    assert worktrees(project) == []


def test_a_run_in_a_worktree_is_of_changed_code_where_code_was_changed_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "photos").mkdir()  # new, and linked to
    params = resolve(None, {"dataset.source": "photos", "train.epochs": 2}, project=project)

    def dirty() -> tuple[bool, bool]:
        with Workspace(params, project=project) as where:
            assert (where.directory / "photos").is_symlink()
            monkeypatch.chdir(where.directory)
            found = provenance.commit(where.directory)["dirty"], provenance.git_state()[1]
            monkeypatch.chdir(project)
            return found

    assert dirty() == (False, False)
    (project / "vtcc" / "new.py").write_text("")
    assert dirty() == (True, True)
    (project / "vtcc" / "new.py").unlink()
    (project / "stage.py").write_text("")
    assert dirty() == (True, True)


@pytest.mark.parametrize("key", ["dataset.source", "train.model.weights"])
def test_a_link_that_git_knows_leads_to_the_same_place(project: Path, key: str) -> None:
    (project.parent / "pictures").mkdir()
    (project / "photos").symlink_to("../pictures")
    toy.git(project, "add", "photos")
    toy.git(project, "commit", "-q", "-m", "a link to the photos")
    changed = {"train.model.encoder": "timm:resnet18", key: "photos"}
    params = resolve(None, changed, project=project)
    with Workspace(params, project=project) as where:
        assert config.flatten(where.params)[key] == str(project.parent / "pictures")
        (project.parent / "pictures" / "sub").mkdir()
        where.write(config.override(params, {key: "photos/sub"}))
        assert config.flatten(where.params)[key] == str(project.parent / "pictures" / "sub")
    assert (project / "photos").readlink() == Path("../pictures")


@pytest.mark.parametrize("known", ["a.png", ".gitkeep"])
def test_a_folder_of_which_git_has_a_part_is_read_whole(project: Path, known: str) -> None:
    photos = project / "photos"
    photos.mkdir()
    for name in (known, "b.png", "c.png"):
        (photos / name).write_bytes(b"x")
    toy.git(project, "add", f"photos/{known}")
    toy.git(project, "commit", "-q", "-m", "a part of the photos")
    params = resolve(None, {"dataset.source": "photos"}, project=project)
    with Workspace(params, project=project) as where:
        assert where.params["dataset"]["source"] == str(photos)
    assert len(list(photos.iterdir())) == 3
    toy.git(project, "add", "photos")
    toy.git(project, "commit", "-q", "-m", "all photos")
    with Workspace(params, project=project) as where:
        assert where.params["dataset"]["source"] == "photos"
        assert len(list((where.directory / "photos").iterdir())) == 3
    (photos / "best.png").symlink_to("b.png")
    (photos / "loop.png").symlink_to("loop.png")
    toy.git(project, "add", "photos")
    toy.git(project, "commit", "-q", "-m", "links within")
    (photos / ".DS_Store").write_bytes(b"x")
    (photos / "empty").mkdir()
    with Workspace(params, project=project) as where:
        assert where.params["dataset"]["source"] == "photos"


def test_a_link_that_git_has_is_followed_from_the_project(project: Path) -> None:
    (project.parent / "pictures").mkdir()
    (project / "photos").symlink_to("../pictures")
    toy.git(project, "add", "photos")
    toy.git(project, "commit", "-q", "-m", "a link to photos")
    params = resolve(None, {"dataset.source": "photos"}, project=project)
    with Workspace(params, project=project) as where:
        assert where.params["dataset"]["source"] == str(project.parent / "pictures")


def test_a_folder_with_a_link_that_git_has_is_read_from_the_project(project: Path) -> None:
    for folder in (project / "photos", project / "cats"):
        folder.mkdir()
        (folder / "a.png").write_bytes(b"x")
    (project / "photos" / "cats").symlink_to("../cats")
    toy.git(project, "add", "photos")
    toy.git(project, "commit", "-q", "-m", "photos, and a link to others")
    params = resolve(None, {"dataset.source": "photos"}, project=project)
    with Workspace(params, project=project) as where:
        assert where.params["dataset"]["source"] == str(project / "photos")
