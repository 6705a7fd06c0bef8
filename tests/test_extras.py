"""Three sizes of one package: what the smallest can do, and what it says of the rest."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tests.fakes import stand_in, uninstall
from tests.imports import TOP, imported, others
from vtcc import extras
from vtcc.__main__ import main
from vtcc.cli import app
from vtcc.cli.verbs import Pipeline
from vtcc.errors import VtccError
from vtcc.extras import MissingExtra

PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
# Names to import, where they are not the distribution's.
MODULES = {
    "pyyaml": "yaml",
    "pillow": "PIL",
    "scikit_learn": "sklearn",
    "scikit_image": "skimage",
    "umap_learn": "umap",
    "nvidia_ml_py": "pynvml",
}
# Verbs of the extra `pipeline`; all others have to do with what the core installs.
OF_PIPELINE = {"assess", "augment_preview", "clean", "compare", "study", "sweep"}
# Imported by the core's files, in functions that only others call.
BESIDE = {
    "vtcc/data/camera_child.py": {"av", "rawpy"},  # the extra's, in a process of its own
    "vtcc/analysis/plots.py": {"matplotlib"},  # the core takes colours from it
}
# Comes with a dependency, whose part it is.
WITHIN = {"tqdm": "huggingface_hub", "markupsafe": "jinja2", "numba": "umap"}

WITHOUT = (*extras.PACKAGES["camera"], *extras.PACKAGES["pipeline"], "ray")
COMMAND = get_command(app)
# What each verb is called with; nothing of it is there, so a verb that runs ends with one line.
CALLS = {
    "cluster": ["nowhere"],
    "add": ["nowhere", "more"],
    "refine": ["nowhere", "--edits", "edits.json"],
    "predict": ["nowhere", "--out", "o.csv"],
    "check": ["nowhere"],
    "export": ["--onnx", "m.onnx"],
    "import-checkpoint": ["nowhere", "--out", "m"],
    "study": ["study.yaml"],
    "sweep": ["sweep.yaml"],
    "compare": ["a", "b"],
    "promote": ["1"],
    "clean": ["--yes"],
    "use": ["digits"],
}
WORK_EMPTY = {"demo", "doctor", "encoders", "presets", "use"}  # exit 0 without any files of theirs


def modules_of(requirements):
    names = {
        re.match(r"[A-Za-z0-9_.-]+", line)[0].lower().replace("-", "_") for line in requirements
    }
    return {MODULES.get(name, name) for name in names}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """An empty directory, and `pip install vtcc` alone."""
    uninstall(monkeypatch, *WITHOUT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def test_the_core_imports_what_it_installs():
    installed = modules_of(PROJECT["project"]["dependencies"])
    verbs = [file.relative_to(TOP) for file in (TOP / "vtcc/verbs").glob("*.py")]
    waiting = [file for file in verbs if file.stem not in OF_PIPELINE]
    waiting += [Path("vtcc/stages/train.py"), Path("vtcc/grouping/estimator.py")]
    seen, lacking = set(), {}
    while waiting:
        file = waiting.pop()
        # Training works untracked; `models:/...` is asked for by who has MLflow.
        if file in seen or file.is_relative_to("vtcc/tracking"):
            continue
        seen.add(file)
        waiting += imported(file)
        known = installed | BESIDE.get(file.as_posix(), set()) | WITHIN.keys()
        if more := others(file) - known:
            lacking[file.as_posix()] = sorted(more)
    assert lacking == {}
    assert {file.stem for file in verbs} >= OF_PIPELINE | {"cluster", "refine", "predict", "demo"}
    assert Path("vtcc/grouping/copies.py") in seen  # imports inside functions are followed
    assert set(WITHIN.values()) <= installed


def test_the_extras_are_those_of_the_package():
    optional = PROJECT["project"]["optional-dependencies"]
    assert {name: set(packages) for name, packages in extras.PACKAGES.items()} == {
        name: modules_of(optional[name]) for name in extras.PACKAGES
    }
    installed = modules_of(PROJECT["project"]["dependencies"])
    assert installed & set(extras.PACKAGES["pipeline"]) == set()
    assert "vtcc[camera,pipeline,ray]" in optional["dev"]


def test_a_wheel_holds_cards_presets_and_templates():
    setup = PROJECT["tool"]["setuptools"]
    assert setup["packages"]["find"]["include"] == ["vtcc*"]  # flows/ belongs to the clone
    package = TOP / "vtcc"
    packed = {file for glob in setup["package-data"]["vtcc"] for file in package.glob(glob)}
    files = {
        file
        for file in package.rglob("*")
        if file.is_file() and file.suffix != ".py" and "__pycache__" not in file.parts
    }
    assert files - packed == set()
    names = {file.relative_to(package).as_posix() for file in packed}
    assert {
        "py.typed", "presets/folder.yaml", "presets/encoders/frozen.yaml",
        "encoders/cards/lite2.yaml", "pages/templates/clusters.html",
    } <= names  # fmt: skip
    rooms = {file.parent for file in package.rglob("*.py")}
    assert [room for room in rooms if not (room / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    "verb", [n for n, c in COMMAND.commands.items() if isinstance(c, Pipeline)]
)
def test_a_verb_of_the_pipeline_names_the_extra(verb, small, tmp_path):
    result = CliRunner().invoke(app, [verb, *CALLS.get(verb, [])])
    assert isinstance(result.exception, MissingExtra)
    assert re.fullmatch(
        rf"`vtcc {verb}` needs \w+, which is not installed here: pip install 'vtcc\[pipeline\]', "
        r"in a clone: pip install '\.\[pipeline\]'",
        str(result.exception),
    )
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    "verb", [n for n, c in COMMAND.commands.items() if not isinstance(c, Pipeline)]
)
def test_a_verb_of_the_core_works_without_extras(verb, small, monkeypatch):
    def grouped(options):
        results = options.out
        results.mkdir()
        summary = {"files": ["a"], "errors": {}, "clusters": [], "seconds": 1.0}
        summary["trust"] = {"level": "clear", "verdict": "clear structure"}
        (results / "summary.json").write_text(json.dumps(summary))
        return results

    stand_in(monkeypatch, "vtcc.verbs.doctor", "_device", lambda: {"kind": "cpu", "name": "x"})
    if verb == "demo":
        stand_in(monkeypatch, "vtcc.grouping.run", "run", grouped)
        stand_in(monkeypatch, "webbrowser", "open")
    if verb == "use":
        Path("dvc.yaml").touch()  # as in a clone
    result = CliRunner().invoke(app, [verb, *CALLS.get(verb, [])])
    if verb in WORK_EMPTY:
        assert result.exit_code == 0, result.output
    else:
        assert isinstance(result.exception, VtccError), result.exception
        assert not isinstance(result.exception, MissingExtra)


def test_a_model_of_mlflow_and_ray_name_their_extras(small, tmp_path):
    run = CliRunner().invoke
    (tmp_path / "a.png").write_bytes(b"")
    asked = ["predict", "a.png", "--out", "o.csv"]
    result = run(app, [*asked, "--model", "models:/vtcc-digits@champion"])
    assert str(result.exception) == (
        "a model or run in MLflow needs mlflow, which is not installed here: "
        "pip install 'vtcc[pipeline]', in a clone: pip install '.[pipeline]'"
    )
    result = run(app, [*asked, "--ray"])
    assert str(result.exception).endswith(
        "is not installed here: pip install 'vtcc[ray]', in a clone: pip install '.[ray]'"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_an_import_that_fails_is_one_line_and_a_bug_is_not(monkeypatch, capsys):
    def fail(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("vtcc.cli.app", lambda: fail("mlflow.entities"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "error: this needs mlflow, which is not installed here: "
        "pip install 'vtcc[pipeline]', in a clone: pip install '.[pipeline]'\n"
    )
    monkeypatch.setattr("vtcc.cli.app", lambda: fail("vtcc.nothing"))
    with pytest.raises(ModuleNotFoundError):
        main()


def test_help_lists_the_core_first():
    lines = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).stdout.splitlines()
    core = lines.index("Commands:")
    clone = lines.index("Commands inside a clone:")
    pipeline = lines.index(
        "Commands of the pipeline (pip install 'vtcc[pipeline]', in a clone: pip install "
        "'.[pipeline]'):"
    )
    assert core < clone < pipeline
    inside = {line.split()[0] for line in lines[clone + 1 : pipeline] if line.startswith("  ")}
    assert inside == {"datasets", "embed", "params", "presets", "show", "train", "use"}
    assert lines[core + 1].split()[0] == "cluster"
    assert {line.split()[0] for line in lines[pipeline + 1 :] if line.startswith("  ")} >= {
        "validate",
        "study",
        "ui",
    }
    assert all(len(line) <= 100 for line in lines)
    assert "75 something that may pass by itself" in " ".join(" ".join(lines).split())
