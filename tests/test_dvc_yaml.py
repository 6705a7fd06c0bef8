"""dvc.yaml: a stage depends on all code that it may run, and on the parameters it reads."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.imports import imported
from vtcc import config, schema
from vtcc.runner import dvc

TOP = Path(__file__).parents[1]
DVC = yaml.safe_load((TOP / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
STAGES = ("download", "validate", "embed", "train", "evaluate")

# Code that is run and changes nothing of a stage's results, and why.
NO_RESULT = {
    "vtcc/__init__.py": "offers the estimator to those who ask for it",
    "vtcc/engine/cpus.py": "how many threads share the work",
    "vtcc/errors.py": "words",
    "vtcc/paths.py": "where files are: dvc.yaml says it too",
    "vtcc/process": "starts, watches and locks out processes",
    "vtcc/progress.py": "words",
    "vtcc/quiet.py": "switches of libraries",
    "vtcc/regular.py": "refuses what is no file",
    "vtcc/tracking": "copies results to MLflow",
    "vtcc/version.py": "a note in model.json",
}
# Imports for a name alone.
NAMES_ONLY = {("vtcc/config/together.py", "vtcc/encoders"): "which encoders there are"}
# Changes no weight (`engine.checkpoint.training_key` leaves them out too).
NO_WEIGHT = {"train.checkpoint_minutes", "train.collapse"}


def is_below(file: Path, places) -> bool:
    return any(file.as_posix() == p or file.is_relative_to(p) for p in places)


@cache
def holds_code(file: Path) -> bool:
    """Whether there is more in it than words about a package."""
    return len(ast.parse((TOP / file).read_text(encoding="utf-8")).body) > 1


@cache
def needed(stage: str) -> set[Path]:
    """All files that a stage may run, however it comes to import them."""
    seen: set[Path] = set()
    waiting = [Path(f"vtcc/stages/{stage}.py")]
    while waiting:
        file = waiting.pop()
        if file in seen or is_below(file, NO_RESULT):
            continue
        seen.add(file)
        skipped = [place for source, place in NAMES_ONLY if source == file.as_posix()]
        waiting += [f for f in imported(file) if not is_below(f, skipped)]
    return {file for file in seen if holds_code(file)}


def templates(stage: str) -> set[Path]:
    """The page templates that a stage's code names, and those that these name."""
    there = {file.name: file for file in (TOP / "vtcc/pages/templates").iterdir()}
    waiting = [TOP / file for file in needed(stage)]
    found: set[Path] = set()
    while waiting:
        text = waiting.pop().read_text(encoding="utf-8")
        new = {f for name, f in there.items() if f'"{name}"' in text} - found
        found |= new
        waiting += new
    return {file.relative_to(TOP) for file in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_it_may_run(stage):
    every = needed(stage) | templates(stage)
    listed = [d for d in DVC[stage]["deps"] if d.startswith("vtcc/")]
    lacking = sorted(f.as_posix() for f in every if not is_below(f, listed))
    assert lacking == [], f"dvc.yaml: add to the deps of {stage}: {lacking}"
    idle = [d for d in listed if not any(is_below(f, [d]) for f in every)]
    assert idle == [], f"dvc.yaml: {stage} does not run {idle}"


def test_the_reasons_are_of_code_that_is_there():
    assert [p for p in NO_RESULT if not (TOP / p).exists()] == []


def test_a_missing_dependency_is_noticed():
    """The walk sees imports inside functions: `train` imports `clusters` in one."""
    assert Path("vtcc/grouping/clusters.py") in needed("train")
    assert Path("vtcc/config/params.py") in needed("validate")
    assert Path("vtcc/tracking/runs.py") not in needed("train")


def follows(key: str, stage: str) -> bool:
    return any(key == p or key.startswith(f"{p}.") for p in DVC[stage]["params"])


def test_every_parameter_runs_a_stage_but_those_that_change_no_result():
    keys = [row.key for row in schema.explain(config.Params)]
    assert {k for k in keys if not any(follows(k, s) for s in STAGES)} == NO_WEIGHT
    assert {k for k in keys if k.startswith("train.") and not follows(k, "train")} == NO_WEIGHT


def test_every_listed_parameter_is_one():
    known = {row.key for row in schema.explain(config.Params)}
    sections = {k.rpartition(".")[0] for k in known} | {k.partition(".")[0] for k in known}
    for stage in STAGES:
        assert set(DVC[stage]["params"]) <= known | sections


def test_dvc_hashes_no_folder_of_the_users():
    for name, stage in DVC.items():
        assert not any("${" in str(d) for d in stage.get("deps", [])), name
    assert DVC["source"]["always_changed"] is True
    assert DVC["source"]["outs"] == ["data/source.json", "data/weights.json"]
    assert "data/source.json" in DVC["download"]["deps"]


def test_a_file_of_weights_that_was_replaced_is_seen_by_what_reads_it():
    """`embed` makes features by it, or notes that the training begins with it."""
    assert DVC["source"]["params"] == ["dataset.source", "train.model.weights"]
    assert "data/weights.json" in DVC["embed"]["deps"]
    assert "data/features" in DVC["train"]["deps"]
    assert dvc._command("embed", TOP)[-2:] == ["source", "embed"]
    assert dvc._command("train", TOP)[-2:] == ["--single-item", "train"]
