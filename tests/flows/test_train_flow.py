"""The flow with its stages faked, against a real (temporary) Prefect server."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import train as flow_module
from flows.parameters import overrides_schema
from flows.progress import describe
from vtcc import config
from vtcc.errors import TemporaryError, VtccError
from vtcc.runner import dvc, workspace

# The server takes long to start: one worker starts it, once.
pytestmark = pytest.mark.xdist_group("prefect")
METRICS = {"acc": 0.9, "nmi": 0.8, "baseline_ward_acc": 0.7, "holdout_acc": 0.85, "images": 3}


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def stages(
    server: None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    """Fakes of the stages; `ran` collects their names, `errors` what they end with."""
    fake = SimpleNamespace(ran=[], errors={}, where=None, epochs=None)

    def run_stage(stage: str, directory: Path, **more: Any) -> dvc.StageRun:
        fake.ran.append(stage)
        fake.where = directory
        fake.processes = more["env"].get("VTCC_PROCESSES")
        if fake.errors.get(stage):
            raise fake.errors[stage].pop(0)
        more["on_line"](f"{stage} speaks")
        more["on_progress"]({"stage": stage, "done": 1, "total": 2, "seconds_left": 1.0})
        (directory / "reports").mkdir(exist_ok=True)
        (directory / "reports" / "metrics.json").write_text(json.dumps(METRICS))
        return dvc.StageRun(stage, "ran", 1.0)

    def register_current(directory: Path) -> SimpleNamespace:
        fake.ran.append("register")
        return SimpleNamespace(
            name="vtcc-digits", version="3", run_id="abc", champion=False, reason="not better"
        )

    monkeypatch.chdir(project)
    monkeypatch.setattr(dvc, "run_stage", run_stage)
    monkeypatch.setattr("vtcc.tracking.registry.register_current", register_current)
    quick = flow_module.download.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(flow_module, "STAGES", (quick, *flow_module.STAGES[1:]))
    yield fake


ALL = ["download", "validate", "train", "evaluate", "register"]


def artifacts(kind: str) -> dict[str, Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/latest/filter", json={}).json()
    return {a["key"]: a for a in found if a["type"] == kind}


def test_in_place(stages: SimpleNamespace, project: Path) -> None:
    state = flow_module.train(return_state=True)
    assert state.is_completed()
    assert state.result() == METRICS
    assert stages.ran == ALL
    assert stages.where == project
    assert json.loads(artifacts("table")["vtcc-scores"]["data"]) == [
        {"method": "vtcc", "acc": 0.9, "nmi": 0.8, "ari": None, "fmi": None},
        {"method": "vtcc, held-out", "acc": 0.85, "nmi": None, "ari": None, "fmi": None},
        {"method": "ward", "acc": 0.7, "nmi": None, "ari": None, "fmi": None},
    ]
    description = artifacts("table")["vtcc-scores"]["description"]
    assert "- model: `vtcc-digits version 3`" in description
    assert "- run: `abc`" in description
    assert artifacts("progress")["vtcc-train"]["description"] == "train 1/2 · 1 s left"
    assert run_name(state) == "digits params.yaml seed 0"


def run_name(state: Any) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id).name


def test_with_parameters_in_a_worktree(stages: SimpleNamespace, project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    state = flow_module.train("digits", {"train.epochs": 2}, 7, return_state=True)
    assert state.is_completed()
    assert stages.where.parent == project / ".vtcc" / "worktrees"
    assert not stages.where.exists()
    assert (project / "params.yaml").read_bytes() == before
    assert run_name(state) == "digits digits seed 7"


def test_the_number_of_processes_reaches_the_stages(
    stages: SimpleNamespace, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VTCC_PROCESSES", raising=False)
    assert flow_module.train(processes=2, return_state=True).is_completed()
    assert stages.processes == "2"
    assert stages.where == project  # it is no parameter of the training: no worktree is needed
    assert flow_module.train(return_state=True).is_completed()
    assert stages.processes is None


def test_a_failing_stage_fails_the_run_in_its_words(stages: SimpleNamespace) -> None:
    stages.errors = {"train": [dvc.StageError("train", 1, "too dark", explained=True)]}
    state = flow_module.train(None, {"train.epochs": 2}, return_state=True)
    assert state.is_failed()
    assert state.message == "stage 'train' failed: too dark"
    assert stages.ran == ["download", "validate", "train"]
    assert not stages.where.exists()
    stages.errors = {"train": [dvc.StageError("train", 1, "too dark", explained=True)]}
    with pytest.raises(VtccError, match="too dark"):
        flow_module.train()


def test_download_is_tried_again_unless_it_is_the_users_mistake(stages: SimpleNamespace) -> None:
    crash = dvc.StageError("download", 1, "ConnectionError", explained=False)
    busy = dvc.StageError("download", TemporaryError.status, "no network", explained=True)
    stages.errors = {"download": [crash, busy]}
    assert flow_module.train(return_state=True).is_completed()
    assert stages.ran == ["download", "download", *ALL]
    stages.ran = []
    mistake = dvc.StageError("download", 1, "no such card", explained=True)
    stages.errors = {"download": [mistake]}
    assert flow_module.train(return_state=True).is_failed()
    assert stages.ran == ["download"]


def test_wrong_parameters_run_nothing(stages: SimpleNamespace) -> None:
    from prefect.exceptions import ParameterTypeError

    with pytest.raises(ParameterTypeError, match=r"train\.epoch: unknown parameter"):
        flow_module.train(overrides={"train.epoch": 2})
    with pytest.raises(ParameterTypeError, match="preset 'digit': not found"):
        flow_module.train(preset="digit")
    state = flow_module.train(overrides={"train.epochs": 0}, return_state=True)
    assert state.message == "train.epochs: found 0; allowed: at least 1"
    assert stages.ran == []


def test_the_deployment_refuses_wrong_parameters_at_submission(server: None) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    deployment = flow_module.train.to_deployment("train")
    identifier = deployment.apply()
    with get_client(sync_client=True) as client:

        def submit(**parameters: Any) -> str:
            try:
                run = client.create_flow_run_from_deployment(identifier, parameters=parameters)
            except PrefectHTTPStatusError as error:
                return error.response.json()["detail"]
            client.delete_flow_run(run.id)
            return "accepted"

        assert client.read_deployment(identifier).enforce_parameter_schema is True
        assert client.read_deployment_by_name("vtcc/train").id == identifier
        assert submit(preset="digits", overrides={"train.epochs": 2}, seed=3) == "accepted"
        assert submit() == "accepted"
        assert "'train.epoch' was unexpected" in submit(overrides={"train.epoch": 2})
        assert "overrides['train.epochs']" in submit(overrides={"train.epochs": "two"})
        assert "less than the minimum of 1" in submit(overrides={"train.epochs": 0})
        assert "'sgd' is not one of" in submit(overrides={"train.optimizer.name": "sgd"})
        assert "too short" in submit(overrides={"train.augment.crop_scale": [0.5]})
        assert "'digit' is not one of" in submit(preset="digit")
        assert "'seed'" in submit(seed="three")
        assert submit(processes=2) == "accepted"
        assert "less than the minimum of 1" in submit(processes=0)
        # A name that is no parameter at all is refused by `prefect deployment run` itself.


def test_schema_names_every_parameter() -> None:
    properties = overrides_schema()["properties"]
    assert set(properties) == set(config.flatten(workspace.resolve("digits")))
    epochs = properties["train.epochs"]
    assert (epochs["type"], epochs["minimum"]) == ("integer", 1)
    assert properties["train.optimizer.learning_rate"]["exclusiveMinimum"] == 0
    scale = properties["train.augment.crop_scale"]
    assert (scale["minItems"], scale["maxItems"]) == (2, 2)
    assert "ward" in properties["evaluate.baselines"]["items"]["enum"]


def test_progress_in_words() -> None:
    given = {
        "stage": "train",
        "done": 3,
        "total": 100,
        "cluster_loss": 2.34567,
        "images_per_second": 1830.4,
        "seconds_left": 130.2,
    }
    said = "train 3/100 · cluster_loss 2.346 · 1830 images/s · 2 min 10 s left"
    assert describe("train", given) == said


def test_assignments() -> None:
    given = ["train.epochs=2", "evaluate.baselines=[ward]", "dataset.source=a=b"]
    assert config.parse_assignments(given) == {
        "train.epochs": 2,
        "evaluate.baselines": ["ward"],
        "dataset.source": "a=b",
    }
    for wrong in (["train.epochs"], ["=2"], ["a=1", "a=2"], ["a=["]):
        with pytest.raises(VtccError, match="--set"):
            config.parse_assignments(wrong)
