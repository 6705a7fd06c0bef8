"""What is recorded of trials, read again, is what was drawn."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes import stand_in
from tests.study.sweep.conftest import World
from vtcc.errors import VtccError
from vtcc.stages import embed
from vtcc.study import records, sweep
from vtcc.study.sweep import file as sweep_file
from vtcc.study.sweep.draws import Draws
from vtcc.tracking import registry

KEY = "train.augment.flip"


def written(project: Path, bounds: dict[str, float], sampler: str, **more: Any) -> sweep_file.Sweep:
    file = project / "a.yaml"
    values = {"name": "a", "preset": "digits", "trials": 9, "epochs": 2, "sampler": sampler}
    file.write_text(yaml.safe_dump({**values, "space": {KEY: bounds}, **more}))
    return sweep_file.read(file, project)


def run_next(trials: Draws, root: Path, **changed: Any) -> float | None:
    """Runs and records the next trial; the value that it trains with, None where none is left."""
    chosen = trials.next()
    if chosen is None:
        return None
    number, setting = chosen
    value = setting.overrides[KEY]
    record = {key: kind() for key, kind in records.NEEDED.items()} | trials.noted(number)
    record |= {"overrides": {KEY: value}, "metrics": {"objective": value}} | changed
    records.write(setting.record, record, root)
    trials.end(number, "complete", record)
    return value


@pytest.mark.parametrize(
    ("bounds", "values"),
    [
        ({"low": 0, "high": 1, "step": 0.3333333333}, [0.0, 0.333333, 0.666667, 1.0]),
        ({"low": 0, "high": 1, "step": 0.33333333335}, [0.0, 0.333333, 0.666667, 1.0]),
        (
            {"low": 0.0001234567, "high": 0.0021234567, "step": 0.001},
            [0.000123457, 0.00112346, 0.00212346],
        ),
        ({"low": 0.1, "high": 0.7, "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
    ],
)
def test_a_grid_goes_on_whatever_digits_its_values_have(
    project: Path, tmp_path: Path, bounds: dict[str, float], values: list[float]
) -> None:
    sweep = written(project, bounds, "grid")
    # Each by a call of its own, then one more, which finds that all are done.
    assert [run_next(Draws(sweep, tmp_path), tmp_path) for _ in [*values, None]] == [*values, None]
    assert Draws(sweep, tmp_path).done() == len(values)


def test_values_that_were_recorded_with_six_digits_are_known(project: Path, tmp_path: Path) -> None:
    sweep = written(project, {"low": 0, "high": 1, "step": 0.3333333333}, "grid")
    run_next(Draws(sweep, tmp_path), tmp_path)
    run_next(Draws(sweep, tmp_path), tmp_path, drawn={KEY: 0.333333})
    assert run_next(Draws(sweep, tmp_path), tmp_path) == 0.666667


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sweep_that_starts_at_the_end_of_a_range_goes_on(
    project: Path, tmp_path: Path, sampler: str
) -> None:
    bounds = {"low": 0, "high": 1, "step": 0.3333333333}
    sweep = written(project, bounds, sampler, overrides={KEY: 1.0})
    drawn = [run_next(Draws(sweep, tmp_path), tmp_path) for _ in range(9)]
    assert drawn[0] == 1.0
    assert set(drawn) <= {0.0, 0.333333, 0.666667, 1.0}
    assert Draws(sweep, tmp_path).done() == 9


@pytest.mark.parametrize("scored", [True, False])
def test_a_winner_of_other_images_or_weights_is_neither_scored_nor_registered(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch, scored: bool
) -> None:
    """All trials are done, so that none is left that would notice."""
    digest = "weights"
    stand_in(monkeypatch, embed, "weights_digest", lambda weights, directory=Path(): digest)
    registered = stand_in(monkeypatch, registry, "register_current")
    sweep.run(file, trials=2)
    for record in (project / "benchmarks/records/sweeps/rates").rglob("seed*.json"):
        kept = json.loads(record.read_text())
        assert kept["scores"]["nmi"] == 0.5
        if not scored:
            record.write_text(json.dumps({k: v for k, v in kept.items() if k != "scores"}))
    before = len(world.events)
    for images, file_digest, differs in (
        ("new", "weights", "the images changed"),
        ("abc", "other", "the file of train.model.weights was replaced"),
    ):
        world.digest, digest = images, file_digest
        with pytest.raises(VtccError, match=f"^rates.yaml: {differs} since the first trials; give"):
            sweep.run(file, trials=2, register=scored)
    assert set(world.events[before:]) == {"download", "validate"}
    assert not registered.called
