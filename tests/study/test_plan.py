"""Study files: what they become, and what is refused before anything runs."""

from pathlib import Path

import pytest

from vtcc import config
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.study import plan, run


def read(project: Path, text: str) -> plan.Study:
    file = project / "study.yaml"
    file.write_text(text)
    return plan.read(file, project)


def test_settings_are_composed(project: Path) -> None:
    study = read(
        project,
        """\
name: trial
preset: digits
overrides: {train.epochs: 7, train.augment.rotation: 30.0}
seeds: 0-1,5
settings:
  base: {}
  calm: {augment: calm, train.augment.elastic: 0.01, note: still}
  wide: {model: wide}
  none: {preset: tiny}
""",
    )
    assert (study.title, study.seeds, study.baseline) == ("trial", [0, 1, 5], None)
    assert study.score == "acc"
    base, calm, wide, none = study.settings
    assert (base.record, base.overrides) == (
        "trial--base",
        {"train.epochs": 7, "train.augment.rotation": 30.0},
    )
    # The setting's own preset wins over what the study changes for all, its overrides over both.
    augment = calm.params["train"]["augment"]
    assert (augment["rotation"], augment["elastic"], calm.note) == (0.0, 0.01, "still")
    assert wide.params["train"]["model"]["embed_dim"] == 128
    assert none.params["dataset"]["name"] != "" and none.params["train"]["epochs"] == 7
    seeded = calm.seeded(5)
    assert (seeded["train"]["seed"], seeded["evaluate"]["seed"]) == (5, 5)
    assert (calm.params["train"]["seed"], calm.params["evaluate"]["seed"]) == (0, 0)


def test_without_settings_the_study_is_the_setting(project: Path) -> None:
    (setting,) = read(project, "{name: digits, preset: digits, seeds: 3}").settings
    assert (setting.name, setting.record, setting.overrides) == ("digits", "digits", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "study: expected keys and values, found [1]"),
        ("nam: a", "nam: unknown key; did you mean 'name'?"),
        ("name: A b", "name: expected lower-case letters"),
        ("name: a--b", "as ablation-digits, found 'a--b'"),
        ("{name: a, preset: digit}", "settings.a: preset 'digit': unknown; did you mean 'digits'?"),
        ("{name: a, settings: []}", "settings: expected names"),
        ("{name: a, settings: {b: {augmen: calm}}}", "settings.b.augmen: unknown key; did you"),
        ("{name: a, settings: {b: {augment: calmer}}}", "augmentation preset 'calmer': unknown"),
        ("{name: a, settings: {b: {model: x}}}", "model preset 'x': unknown; there are ("),
        ("{name: a, settings: {b: {dataset: digitz}}}", "did you mean 'digits'?"),
        ("{name: a, settings: {b: {train.epoch: 2}}}", "settings.b: train.epoch: unknown param"),
        ("{name: a, settings: {b: {train.epochs: 0}}}", "train.epochs: found 0; allowed"),
        ("{name: a, settings: {b: {train.seed: 2}}}", "seeds are given with `seeds`"),
        ("{name: a, overrides: {evaluate.seed: 2}}", "evaluate.seed: seeds are given with"),
        ("{name: a, baseline: c, settings: {b: {}}}", "baseline 'c': unknown"),
        ("{name: a, seeds: 3-1}", "seeds: expected numbers and ranges"),
        ("{name: a, seeds: [1, 1]}", "seeds: a seed comes twice"),
        ("{name: a, seeds: [4294967296]}", "seeds: found 4294967296; at most 1000 seeds, from 0"),
        ("{name: a, seeds: 0-99999999999}", "seeds: found '0-99999999999'; at most 1000 seeds"),
        ("", "empty; docs/studies.md says"),
        ("name: [a", "not valid YAML: line 1, column 9: "),
        ("{name: a, overrides: {train.model.encoder: 'timm:nope'}}", "timm has no model 'nope'"),
        ("{name: a, score: 3}", "score: expected text, found 3"),
        ("{name: a, score: acd}", "score 'acd': unknown; did you mean 'acc'?"),
    ],
)
def test_mistakes_are_named(project: Path, text: str, said: str) -> None:
    with pytest.raises(VtccError) as caught:
        read(project, text)
    assert str(caught.value).startswith(("study.yaml: ", str(project)))
    assert said in str(caught.value)


def test_a_missing_file_and_unknown_settings(project: Path, file: Path) -> None:
    with pytest.raises(VtccError, match="no such study file"):
        plan.read(project / "none.yaml", project)
    with pytest.raises(VtccError, match="a directory; name a study file in it"):
        plan.read(project / "vtcc", project)
    study = plan.read(file, project)
    assert [s.name for s in plan.only(study, ["patchify"])] == ["patchify"]
    with pytest.raises(VtccError, match="did you mean 'patchify'"):
        plan.only(study, ["patchif"])


def test_seed_ranges() -> None:
    assert plan.parse_seeds("0-2,7") == plan.parse_seeds([0, "1-2", 7]) == [0, 1, 2, 7]
    assert plan.parse_seeds(3) == [3]
    for wrong in ("", "a", "3-1", "1,1", "-1", "1-", [], None, True, {}):
        with pytest.raises(VtccError, match="--seeds"):
            plan.parse_seeds(wrong, "--seeds")


OWN = Path(__file__).parents[2] / "benchmarks" / "studies"


@pytest.mark.parametrize("file", sorted(OWN.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_projects_own_studies_are_right(file: Path) -> None:
    project = Path(__file__).parents[2]
    card = config.read_yaml(file).get("dataset")
    if card and card not in compose.names("dataset", project):
        pytest.skip(f"no card {card}")
    study = plan.read(file, project)
    assert study.name == file.stem
    assert study.title and study.question
    # What is recorded of it was made with the parameters that the file gives today.
    runs = [run.Run(setting, seed) for seed in study.seeds for setting in study.settings]
    run.check_records(runs, plan.root(project))
