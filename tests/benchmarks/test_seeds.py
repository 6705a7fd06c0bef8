"""Recording seeds, with the stages faked."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import records, seeds
from flows import dvc
from tests.flows import toy
from vtcc.errors import VtccError


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Stages that ran, with the seed their worktree held."""
    found: list[tuple[str, int]] = []

    def run_stage(stage: str, directory: Path, **more: Any) -> dvc.StageRun:
        assert more["env"]["OMP_NUM_THREADS"] == "1"
        seed = yaml.safe_load((directory / "params.yaml").read_text())["train"]["seed"]
        found.append((stage, seed))
        for file, content in (
            ("data/cache/cache.json", {"digest": "abc"}),
            ("reports/training.json", {"epoch": 2}),
            ("reports/metrics.json", {"acc": 0.9 + seed / 100}),
        ):
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).write_text(json.dumps(content))
        return dvc.StageRun(stage, "ran", 12.34)

    monkeypatch.setattr(dvc, "run_stage", run_stage)
    for name in ("VTCC_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return found


def test_seeds_are_recorded_once(tmp_path: Path, ran: list[tuple[str, int]]) -> None:
    project, root = tmp_path / "project", tmp_path / "records"
    project.mkdir()
    toy.make(project)

    def run(wanted: list[int], **more: Any) -> None:
        given = {"threads": 1, "project": project, "root": root} | more
        seeds.run("digits", {"train.epochs": 2}, wanted, "trial", **given)

    run([0, 1])
    assert ran == [(stage, seed) for seed in (0, 1) for stage in seeds.STAGES]
    recorded = records.load("trial", root)
    assert list(recorded) == [0, 1]
    one = recorded[1]
    assert one["metrics"] == {"acc": 0.91}
    assert one["training"] == {"epoch": 2}
    assert (one["params"]["train.seed"], one["params"]["train.epochs"]) == (1, 2)
    assert one["overrides"] == {"train.epochs": 2}
    assert one["seconds"] == dict.fromkeys(seeds.STAGES, 12.3)
    assert one["how"] == dict.fromkeys(seeds.STAGES, "ran")
    assert (one["data_digest"], one["threads"], one["dirty"]) == ("abc", 1, False)
    assert toy.git(project, "rev-parse", "HEAD").startswith(one["commit"])
    assert math.isclose(records.scores(recorded.values(), "acc").mean, 0.905)  # type: ignore[union-attr]
    # What is recorded is not run again; what is not, is; nothing is left behind.
    ran.clear()
    run([1, 2])
    assert ran == [(s, 1) for s in seeds.STAGES[:2]] + [(s, 2) for s in seeds.STAGES]
    ran.clear()
    (project / "stage.py").write_text("# edited\n")
    run([1], again=True)
    assert ran == [(s, 1) for s in seeds.STAGES]
    assert records.load("trial", root)[1]["dirty"] is True
    assert list((project / ".vtcc" / "worktrees").iterdir()) == []


def test_wrong_calls_are_refused(ran: list[tuple[str, int]]) -> None:
    with pytest.raises(VtccError, match="seeds are given with --seeds"):
        seeds.run("digits", {"train.seed": 2}, [0], "trial")
    with pytest.raises(VtccError, match=r"train\.epoch: unknown parameter"):
        seeds.run("digits", {"train.epoch": 2}, [0], "trial")
    with pytest.raises(VtccError, match="--threads: expected 0 or more"):
        seeds.run("digits", {}, [0], "trial", threads=-1)
    assert ran == []
