"""A sweep file is refused in one line before anything starts, or means what it says."""

from pathlib import Path

import pytest
import yaml

from vtcc import config
from vtcc.errors import VtccError
from vtcc.study.sweep import file as sweep_file
from vtcc.study.sweep import read

LR = {"train.optimizer.learning_rate": {"low": 0.0001, "high": 0.01, "log": True}}
GOOD = {"name": "a", "preset": "digits", "space": LR, "trials": 3, "epochs": 2}


def written(project: Path, **changes: object) -> Path:
    file = project / "a.yaml"
    file.write_text(yaml.safe_dump({**GOOD, **changes}, sort_keys=False))
    return file


def space(key: str, bounds: object) -> dict[str, object]:
    return {"space": {key: bounds}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"spaces": {}}, "spaces: unknown key; did you mean 'space'"),
        ({"space": {}}, "space: expected parameters with their ranges"),
        ({"trials": 0}, "trials: found 0; allowed: at least 1, at most 10000"),
        ({"epochs": 2.5}, "epochs: expected a whole number, found 2.5"),
        ({"sampler": "gp"}, "sampler: found 'gp'; allowed: tpe, random, grid"),
        ({"pruning": True}, "pruning: expected text, found True"),
        ({"sampler": "grid"}, "space.train.optimizer.learning_rate: a grid needs a step"),
        ({"preset": "digit"}, "preset 'digit': unknown; did you mean 'digits'"),
        ({"overrides": {"train.seed": 1}}, "overrides.train.seed: the key `seed` gives it"),
        (space("train.loss.temperature", {}), "unknown parameter; did you mean 'train.loss."),
        (space("train.epochs", {}), "train.epochs: cannot be searched: the key `epochs` gives it"),
        (space("train.num_clusters", {}), "cannot be searched: fewer clusters are the more stable"),
        (space("dataset.limit", {}), "cannot be searched: trials compare on the same images only"),
        (space("train.threads", {}), "cannot be searched: it says how a training runs here"),
        (space("train.selection.views", {}), "cannot be searched: it says what is kept"),
        (space("train.ema", {"low": 0.5}), "space.train.ema: high is missing"),
        (space("train.ema", {"low": 0.5, "high": 0.1}), r"low \(0.5\) must be below high \(0.1\)"),
        (space("train.ema", {"low": 0.0, "high": 1.5}), "space.train.ema.high: found 1.5; allowed"),
        (space("train.ema", {"low": 0, "high": "x"}), "train.ema.high: expected a number"),
        (space("train.ema", {"low": 0.0, "high": 0.5, "log": True}), "low must be above 0 where"),
        (space("train.ema", {"low": 0.0, "high": 0.5, "lows": 1}), "train.ema.lows: unknown key"),
        (space("train.ema", {"low": 0.0, "high": 0.5, "step": 0.2}), "do not reach 0.5"),
        (space("train.ema", {"low": 0.0, "high": 0.5, "step": 0.6}), "ema.step: expected a number"),
        (space("train.batch_size", {"low": 64, "high": 128.5}), "expected a whole number, found"),
        (
            space("train.batch_size", {"low": 64, "high": 128, "step": 0.5}),
            "step: expected a whole",
        ),
        (space("train.model.stem", {"low": 1, "high": 2}), "takes text, so list `choices`"),
        (space("train.model.stem", {"choices": ["conv"]}), "expected a list of at least two"),
        (space("train.model.stem", {"choices": ["conv", "cnv"]}), "model.stem: found 'cnv'; allow"),
        (space("train.ema", {"choices": [0.5, 0.5]}), "choices: a value comes twice"),
        (
            space("train.ema", {"choices": [0.5, 0.6], "low": 0.1}),
            "either choices, or low and high",
        ),
        (space("train.model.num_heads", {"choices": [5, 7]}), "no combination is allowed, such as"),
    ],
)
def test_mistakes_are_named(project: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(VtccError, match=told) as refused:
        read(written(project, **changes), project)
    assert str(refused.value).startswith("a.yaml: ") and "\n" not in str(refused.value)


def test_a_missing_file_is_named(project: Path) -> None:
    with pytest.raises(VtccError, match="no such sweep file"):
        read(project / "none.yaml", project)


def test_a_trial_has_the_budget_and_the_winner_the_presets_epochs(project: Path) -> None:
    sweep = read(written(project, seed=7, overrides={"train.ema": 0.9}), project)
    values = {"train.optimizer.learning_rate": 0.002}
    trial, full = (config.flatten(sweep.trial(values)), config.flatten(sweep.full(values)))
    assert (trial["train.epochs"], trial["train.seed"]) == (2, 7)
    assert (full["train.epochs"], full["train.seed"]) == (75, 0)
    for params in (trial, full):
        assert (params["train.optimizer.learning_rate"], params["train.ema"]) == (0.002, 0.9)


def test_the_first_trial_is_the_presets_where_the_space_has_it(project: Path) -> None:
    assert read(written(project), project).start() == {"train.optimizer.learning_rate": 0.004}
    narrow = {"train.optimizer.learning_rate": {"low": 0.005, "high": 0.01}}
    assert read(written(project, space=narrow), project).start() is None


def test_a_grid_has_every_combination_once(project: Path) -> None:
    grid = {
        "train.model.depth": {"low": 1, "high": 3},
        "train.ema": {"low": 0.0, "high": 0.6, "step": 0.3},
        "train.augment.crop_scale": {"choices": [[0.3, 1.0], [0.5, 1.0]]},
    }
    sweep = read(written(project, space=grid, sampler="grid"), project)
    found = [tuple(map(str, c.values())) for c in sweep.grid()]
    assert len(found) == len(set(found)) == 3 * 3 * 2
    assert found[0] == ("1", "0.0", "[0.3, 1.0]") and found[-1] == ("3", "0.6", "[0.5, 1.0]")


@pytest.mark.parametrize("value", [[0.3, 1.0], [0.5, 1.0]])
def test_lists_survive_storage(project: Path, value: list[float]) -> None:
    bounds = {"choices": [[0.3, 1.0], [0.5, 1.0]]}
    made = read(written(project, **space("train.augment.crop_scale", bounds)), project).space[0]
    assert made.decoded(made.encoded(value)) == value
    assert made.distribution().choices == ("[0.3, 1.0]", "[0.5, 1.0]")


def test_the_projects_own_sweeps_are_right() -> None:
    root = Path(__file__).parents[3]
    files = sorted((root / "benchmarks" / "sweeps").glob("*.yaml"))
    assert [sweep_file.read(file, root).name for file in files] == [f.stem for f in files] != []
