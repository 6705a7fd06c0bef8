"""The flow with its stages faked, against a real (temporary) Prefect server."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest

from flows import add, assign, deployments, evaluate, limits, records, recover, study, sweep
from flows import stages as tasks
from flows import train as flow_module
from tests.fakes import stand_in
from vtcc import config, paths, schema
from vtcc.data.inputs import kept
from vtcc.errors import TemporaryError, VtccError
from vtcc.progress import describe
from vtcc.runner import dvc, workspace
from vtcc.study import plan
from vtcc.study import records as study_records

# The server takes long to start: one worker starts it, once.
METRICS = {"acc": 0.9, "nmi": 0.8, "baseline_ward_acc": 0.7, "holdout_acc": 0.85, "images": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server on a database whose tables are there: Prefect's migrations take ten seconds."""
    import sqlalchemy
    from prefect import settings
    from prefect.server.database.orm_models import Base
    from prefect.testing import utilities

    room = tmp_path_factory.mktemp("prefect")
    engine = sqlalchemy.create_engine(f"sqlite:///{room}/prefect-test.db")
    for table in Base.metadata.tables.values():  # some have one index twice
        table.indexes.intersection_update({index.name: index for index in table.indexes}.values())
    Base.metadata.create_all(engine)
    engine.dispose()
    no_migration = {settings.PREFECT_SERVER_DATABASE_MIGRATE_ON_START: False}
    with pytest.MonkeyPatch.context() as patch, settings.temporary_settings(no_migration):
        patch.setattr(utilities, "mkdtemp", lambda: str(room))
        with utilities.prefect_test_harness(server_startup_timeout=240):
            yield


@pytest.fixture
def stages(
    server: None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    """Fakes of the stages; `ran` collects their names, `errors` what they end with."""
    fake = SimpleNamespace(ran=[], errors={}, how={}, tags=[], where=None, saved=None)

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
        return dvc.StageRun(stage, fake.how.get(stage, "ran"), 1.0)

    def register_current(directory: Path) -> SimpleNamespace:
        fake.ran.append("register")
        return SimpleNamespace(
            name="vtcc-digits", version="3", run_id="abc", champion=False, reason="not better"
        )

    def save(where: workspace.Workspace, label: str | None) -> str:
        fake.saved = label
        return "digits-params-seed0-1234567"

    class Client:
        def set_tag(self, *given: str) -> None:
            fake.tags.append(given)

        def set_model_version_tag(self, *given: str) -> None:
            fake.tags.append(given)

        def get_run(self, run_id: str) -> Any:
            return SimpleNamespace(info=SimpleNamespace(experiment_id="7"))

    monkeypatch.chdir(project)
    stand_in(monkeypatch, dvc, "run_stage", run_stage)
    stand_in(monkeypatch, "vtcc.tracking.registry", "register_current", register_current)
    stand_in(monkeypatch, "vtcc.tracking.store", "client", Client)
    stand_in(monkeypatch, "vtcc.runner.experiments", "save", save)
    stand_in(monkeypatch, tasks, "import_mlflow_meanwhile", lambda: None)
    monkeypatch.setitem(tasks.RETRIED["download"], "retry_delay_seconds", 0)
    yield fake


ALL = ["download", "validate", "embed", "train", "evaluate", "register"]


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
    assert "dvc experiment" not in description  # in place there is none
    link = "http://127.0.0.1:5000/#/experiments/7/runs/abc"
    assert link in artifacts("markdown")["vtcc-mlflow"]["data"]
    table = artifacts("markdown")["vtcc-stages"]["data"].splitlines()
    assert table[-2] == f"| train | ran | 1.0 | [abc]({link}) |"
    assert table[2] == "| download | ran | 1.0 |  |"
    assert "- run: `abc`" in description
    assert artifacts("progress")["vtcc-train"]["description"] == "train 1/2 · 1 s left"
    assert run_name(state) == "digits params.yaml seed 0"


def flow_run(state: Any) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def run_name(state: Any) -> str:
    return flow_run(state).name


def test_with_parameters_in_a_worktree(stages: SimpleNamespace, project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    state = flow_module.train("digits", {"train.epochs": 2}, 7, return_state=True)
    assert state.is_completed()
    assert stages.where.parent == project / ".vtcc" / "worktrees"
    assert not stages.where.exists()
    assert (project / "params.yaml").read_bytes() == before
    assert run_name(state) == "digits digits seed 7"


def test_cached_stages_say_so_and_name_their_run(stages: SimpleNamespace, project: Path) -> None:
    stages.how = {"download": "unchanged", "train": "restored"}
    (project / "models").mkdir()
    (project / "models" / "run.json").write_text('{"run_id": "abc"}')
    state = flow_module.train(return_state=True)
    assert state.is_completed()
    found = {run.name.rpartition("-")[0]: run.state for run in task_runs(state)}
    assert (found["download"].name, found["download"].message) == ("Cached", "unchanged")
    told = "restored; computed before, in MLflow run abc"
    assert (found["train"].name, found["train"].message) == ("Cached", told)
    assert found["validate"].name == "Completed"
    assert (
        "| train | cached (restored) | 1.0 | [abc]("
        in (artifacts("markdown")["vtcc-stages"]["data"])
    )


def task_runs(state: Any) -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        one = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        for _ in range(50):  # states of tasks arrive as events
            found = client.read_task_runs(flow_run_filter=one)
            if len(found) == len(ALL) and all(run.state and run.state.is_final() for run in found):
                return found
            time.sleep(0.2)
    raise AssertionError(found)


def test_a_worktree_is_saved_tagged_and_says_what_it_carries(
    stages: SimpleNamespace, project: Path
) -> None:
    (project / "stage.py").write_text("# edited\n")
    state = flow_module.train("digits", {"train.epochs": 2}, tags={"why": "x"}, return_state=True)
    assert state.is_completed()
    assert stages.saved == "digits"
    name = "digits-params-seed0-1234567"
    assert ("abc", "why", "x") in stages.tags
    assert ("abc", "dvc_experiment", name) in stages.tags
    assert ("vtcc-digits", "3", "dvc_experiment", name) in stages.tags
    description = artifacts("table")["vtcc-scores"]["description"]
    assert f"- dvc experiment: `{name}`" in description
    assert "- uncommitted, carried along: `stage.py`" in description
    assert flow_run(state).tags == ["why: x"]


def test_parallel_runs_of_the_project_itself_do_not_meet(
    stages: SimpleNamespace, project: Path
) -> None:
    with workspace.Workspace(project=project) as other:
        assert other.in_place
        assert flow_module.train(return_state=True).is_completed()
        assert stages.where.parent == project / ".vtcc" / "worktrees"
    assert flow_module.train(return_state=True).is_completed()
    assert stages.where == project


def test_one_training_at_a_time_by_a_limit_that_is_made_when_it_is_missing(
    stages: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    def active() -> int:
        with get_client(sync_client=True) as client:
            return client.read_global_concurrency_limit_by_name(limits.LIMIT).active_slots

    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(limits.LIMIT)
    seen: list[Any] = []
    real = dvc.run_stage

    def looking(stage: str, directory: Path, **more: Any) -> dvc.StageRun:
        held = next((paths.home() / records.DIRECTORY).glob("*.json"))
        seen.append((active(), json.loads(held.read_text())["lease"]))
        return real(stage, directory, **more)

    stand_in(monkeypatch, dvc, "run_stage", looking)
    assert flow_module.train(return_state=True).is_completed()
    assert [places for places, _ in seen] == [1, 1, 1, 1, 1]
    assert all(lease for _, lease in seen)
    assert active() == 0
    assert list((paths.home() / records.DIRECTORY).glob("*.json")) == []
    assert limits.ensure() == 1
    assert limits.ensure(3) == 3
    assert limits.ensure() == 3


def test_a_killed_runs_states_and_place_are_settled(stages: SimpleNamespace, project: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    limits.ensure(1)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow_module.train, name="killed")
        client.set_flow_run_state(run.id, Running(), force=True)
        lease = client.increment_concurrency_slots_with_lease(
            [limits.LIMIT], 1, "concurrency", 120.0, None
        ).json()["lease_id"]
    record = {"flow_run": str(run.id), "server": None, "lease": lease}
    file = project / records.DIRECTORY / f"{run.id}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(record))
    assert recover.settle(project) == ["killed"]
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run.id)
        assert found.state is not None
        assert found.state.name == "Crashed"
        assert f"prefect flow-run retry {run.id}" in (found.state.message or "")
        assert client.read_global_concurrency_limit_by_name(limits.LIMIT).active_slots == 0
    assert not file.exists()
    assert recover.settle(project) == []


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
    assert stages.ran == ["download", "validate", "embed", "train"]
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
        assert "'nowhere' is not one of" in submit(dataset="nowhere")
        assert submit(dataset="digits", model="vtcc-tiny", augment="aerial") == "accepted"
        assert submit(tags={"why": "x"}) == "accepted"
        assert "mlflow.note" in submit(tags={"mlflow.note": "x"})
        assert submit(processes=2) == "accepted"
        assert "less than the minimum of 1" in submit(processes=0)
        # A name that is no parameter at all is refused by `prefect deployment run` itself.
        secret = "https://ann:secret@host/x"
        for wrong in (
            {"overrides": {"download.mirror": secret}},
            {"overrides": {"download.mirror": "https://host/x?key=secret"}},
            {"overrides": {"dataset.source": secret}},
        ):
            assert "should not be valid under" in submit(**wrong)
        assert submit(overrides={"download.mirror": "https://host/x"}) == "accepted"


def test_the_other_deployments_refuse_wrong_parameters_too(server: None) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    wrong: dict[str, list[tuple[dict[str, Any], str]]] = {
        "evaluate": [
            ({"version": 0}, "less than the minimum of 1"),
            ({"alias": "a b"}, "does not match"),
            ({"dataset": "nowhere"}, "is not one of"),
            ({"baselines": "perhaps"}, "baselines"),
            ({"model": "https://ann:secret@host/x"}, "should not be valid under"),
            ({"folder": "https://ann:secret@host/x"}, "should not be valid under"),
        ],
        "study": [
            ({}, "'file' is a required property"),
            ({"file": "a.txt"}, "does not match"),
            ({"file": "a.yaml", "seeds": "one"}, "does not match"),
            ({"file": "a.yaml", "jobs": 0}, "less than the minimum of 1"),
        ],
        "sweep": [
            ({}, "'file' is a required property"),
            ({"file": "a.yaml", "trials": 0}, "less than the minimum of 1"),
        ],
        "assign": [
            ({}, "'folder' is a required property"),
            ({"folder": "a", "out": "a.txt"}, "does not match"),
            ({"folder": "a", "batch_size": 0}, "less than the minimum of 1"),
        ],
        "add": [({}, "'results' is a required property")],
    }
    profile = "models://profile@databricks/x/1"
    right = {
        "evaluate": {"dataset": "digits", "model": profile},
        "study": {"file": "a.yaml", "seeds": "0-2, 7"},
    }
    with get_client(sync_client=True) as client:
        for one in deployments.known():
            identifier = one.flow.to_deployment(one.name).apply()
            assert client.read_deployment_by_name(f"vtcc/{one.name}").id == identifier
            properties = client.read_deployment(identifier).parameter_openapi_schema["properties"]
            for name, schema in properties.items():
                assert schema["description"], name
            for parameters, told in wrong.get(one.name, []):
                with pytest.raises(PrefectHTTPStatusError) as caught:
                    client.create_flow_run_from_deployment(identifier, parameters=parameters)
                assert told in caught.value.response.json()["detail"]
            if one.name in right:
                run = client.create_flow_run_from_deployment(identifier, parameters=right[one.name])
                client.delete_flow_run(run.id)


def test_a_folder_is_assigned(server: None, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def verb(arguments: list[str], directory: Path, **more: Any) -> None:
        given.append((arguments, directory))
        more["on_progress"]({"done": 3, "total": 3})
        table = Path(arguments[arguments.index("--out") + 1])
        table.write_text(
            "file,cluster,confidence,error\na.png,1,0.9,\nb.png,1,0.7,\nc.png,,,bad\nd.png,0,1,\n"
        )

    monkeypatch.chdir(project)
    stand_in(monkeypatch, "flows.verbs", "run", verb)
    (project / "photos").mkdir()
    state = assign.assign("photos", out="t.csv", return_state=True)
    assert state.result()["clusters"] == {"1": 2, "0": 1}
    words = ["predict", str(project / "photos"), "--model", "models:/vtcc-digits@champion"]
    assert given[0][0][:4] == words
    assert run_name(state) == "assign photos by champion"
    assert json.loads(artifacts("table")["vtcc-clusters"]["data"])[0] == {
        "cluster": 1,
        "images": 2,
        "mean confidence": 0.8,
    }
    state = assign.assign("nowhere", return_state=True)
    assert "folder nowhere: no such directory" in state.message
    state = assign.assign("photos", version=3, alias="champion", return_state=True)
    assert state.message == "version 3 and alias 'champion': give one of them"


def test_results_follow_their_folder(
    server: None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, given = project / "photos-clusters", []
    line = {"cluster": None, "name": "all", "images_now": 3, "share_now": 1.0}
    drift = {"level": "fine", "verdict": "fine: 3 images as those before", "lines": [line]}
    record = {"new": 3, "drift": drift, "proposed": [], "files": {"new": ["a", "b", "c"]}}

    def verb(arguments: list[str], directory: Path, **more: Any) -> None:
        given.append(arguments)
        if len(given) == 1:
            (results / "summary.json").write_text(json.dumps(summary | {"additions": [record]}))

    monkeypatch.chdir(project)
    stand_in(monkeypatch, "flows.verbs", "run", verb)
    logged = stand_in(
        monkeypatch, "vtcc.tracking.evaluations", "log_addition", lambda *given: "run 1"
    )
    results.mkdir()
    summary = {"title": "photos", "root": "/photos", "clusters": [], "files": [], "errors": {}}
    summary |= {"trust": {"level": "clear", "verdict": "clear"}, "seconds": 1.5}
    (results / "summary.json").write_text(json.dumps(summary))
    state = add.add("photos-clusters", return_state=True)
    assert state.result() == {"new": 3, "drift": drift, "proposed": []}
    assert given == [["add", str(results), "/photos", "--batch-size", "512"]]
    logged.assert_called_once_with("photos", record, results)
    assert run_name(state) == "add to photos-clusters"
    assert json.loads(artifacts("table")["vtcc-drift"]["data"]) == [line]
    state = add.add("photos-clusters", folder="more", allow_gone=True, return_state=True)
    assert state.result() is None  # nothing had changed
    assert given[1][2:] == [str(project / "more"), "--batch-size", "512", "--allow-gone"]
    state = add.add("nowhere", return_state=True)
    assert "nowhere: no such folder; give one of `vtcc cluster`" in state.message
    (project / "more").mkdir()
    (project / os.fsdecode(b"fotos-\xe9")).mkdir()
    there = ["s3://bucket/x", str(project / "more"), kept(project / os.fsdecode(b"fotos-\xe9"))]
    for inputs, sources in ((["/old", *there], there), (["/old"], ["/photos"])):
        (results / "summary.json").write_text(json.dumps(summary | {"inputs": inputs}))
        assert add.add("photos-clusters", return_state=True).result() is None
        assert given[-1][2:-2] == sources


def test_a_registered_model_is_evaluated_elsewhere(
    stages: SimpleNamespace, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"channels": 1, "cache_size": 20, "max_pixels": 9_000, "bands": []}
    seen: dict[str, Any] = {}

    def fetch(address: str, room: Path) -> Path:
        seen["address"] = address
        (room / "model.json").write_text(json.dumps(info))
        return room

    def verb(arguments: list[str], directory: Path, **more: Any) -> None:
        seen["verb"] = arguments
        seen["params"] = config.read_yaml(directory / "params.yaml")
        made = directory / "reports" / "assess"
        made.mkdir(parents=True)
        (made / "metrics.json").write_text(json.dumps(METRICS | {"acc": 0.1}))

    stand_in(monkeypatch, "vtcc.tracking.fetch", "fetch", fetch)
    stand_in(monkeypatch, "flows.verbs", "run", verb)
    (project / "photos").mkdir()
    state = evaluate.evaluate("vtcc-digits", version=3, folder="photos", return_state=True)
    assert state.result() == METRICS | {"acc": 0.1}
    assert seen["verb"] == ["assess", "models:/vtcc-digits/3"]
    assert stages.ran == ["download", "validate"]
    params = seen["params"]
    assert (params["dataset"]["name"], params["dataset"]["source"]) == ("photos", "photos")
    assert (params["dataset"]["channels"], params["validate"]["image_size"]) == (1, 20)
    assert params["validate"]["max_pixels"] == 9_000
    assert params["evaluate"]["baselines"] == []
    assert run_name(state) == "evaluate vtcc-digits 3 on photos"
    both = evaluate.evaluate(dataset="digits", folder="photos", return_state=True)
    assert "give one of them" in both.message


def test_a_study_file_that_is_wrong_is_one_line(
    server: None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    state = study.study("nothing.yaml", return_state=True)
    assert state.message.startswith("nothing.yaml: no such study file")
    assert run_name(state) == "study nothing"


STUDY = "name: two\npreset: digits\nseeds: 0-1\nsettings: {plain: {}, long: {train.epochs: 9}}\n"


def test_a_study_runs_as_a_verb_and_its_table_is_shown(
    server: None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def verb(arguments: list[str], directory: Path, **more: Any) -> None:
        given.append((arguments, directory))
        more["on_line"]("1/2 plain seed 1, about 10 min left")
        root = plan.root(directory)
        for seed, acc in ((1, 0.8), (2, 0.9)):
            record = study_record(seed=seed, metrics={"acc": acc, "nmi": 0.5})
            study_records.write("two--plain", record, root)
        if arguments[-1] == "--again":
            raise VtccError("1 of 2 runs failed")

    monkeypatch.chdir(project)
    stand_in(monkeypatch, "flows.verbs", "run", verb)
    (project / "two.yaml").write_text(STUDY)
    limits.ensure(2)
    state = study.study("two.yaml", only=["plain"], seeds="1-2", jobs=9, return_state=True)
    row = {"setting": "plain", "seeds": 2, "acc": 0.85, "nmi": 0.5}
    assert state.result() == [row, {"setting": "long", "seeds": 0}]
    words = ["study", "two.yaml", "--jobs", "2", "--only", "plain", "--seeds", "1-2"]
    assert given == [(words, project)]
    assert json.loads(artifacts("table")["vtcc-study"]["data"])[0] == row
    assert artifacts("progress")["vtcc-runs"]["description"].startswith("runs 0/2 · now plain")
    assert run_name(state) == "study two seeds 1-2"
    # A run that failed fails the flow, and the table is shown all the same.
    state = study.study("two.yaml", again=True, return_state=True)
    assert (state.is_failed(), state.message) == (True, "1 of 2 runs failed")
    assert study.study("two.yaml", only=["none"], return_state=True).is_failed()
    assert len(given) == 2


def study_record(**given: Any) -> dict[str, Any]:
    kinds = {str: "x", int: 1, bool: False}
    plain = {key: kinds.get(kind, {}) for key, kind in study_records.NEEDED.items()}
    return {**plain, **given}


def test_a_sweep_runs_as_a_verb_and_its_best_trial_is_the_result(
    server: None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def write(root: Path, number: int, objective: float | None, **scores: float) -> None:
        searched = {"number": number, "drawn": {}, "intermediate": {}, "rungs": {}, "search": {}}
        values = {"train.optimizer.learning_rate": 0.1 * number}
        record = study_record(seed=0, overrides=values, scores=scores, **searched)
        if objective is None:
            study_records.write(f"trial{number:04d}", record, root, "failed")
        else:
            record |= {"metrics": {"objective": objective}}
            study_records.write(f"trial{number:04d}", record, root)

    def verb(arguments: list[str], directory: Path, **more: Any) -> None:
        given.append((arguments, directory))
        more["on_line"]("2/3 trial 1: learning_rate 0.1")
        root = directory / "benchmarks" / "records" / "sweeps" / "rates"
        write(root, 0, 0.4)
        write(root, 1, 0.7, acc=0.6)
        write(root, 2, None)

    monkeypatch.chdir(project)
    stand_in(monkeypatch, "flows.verbs", "run", verb)
    space = "space: {train.optimizer.learning_rate: {low: 0.0001, high: 0.1}}"
    text = f"name: rates\npreset: digits\ntrials: 3\nepochs: 2\n{space}\n"
    (project / "rates.yaml").write_text(text)
    state = sweep.sweep("rates.yaml", trials=5, register_winner=True, return_state=True)
    best = {"trial": 1, "state": "complete", "objective": 0.7, "acc (afterwards)": 0.6}
    assert state.result() == best | {"train.optimizer.learning_rate": 0.1}
    words = ["sweep", "rates.yaml", "--jobs", "1", "--trials", "5", "--register"]
    assert given == [(words, project)]
    shown = json.loads(artifacts("table")["vtcc-sweep"]["data"])
    assert [row["trial"] for row in shown] == [1, 0, 2]
    assert run_name(state) == "sweep rates to 5 trials"
    wrong = sweep.sweep("none.yaml", return_state=True)
    assert wrong.message.startswith("none.yaml: no such sweep file")


def test_a_webhook_hears_of_it_and_cannot_fail_a_run(
    stages: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    posted: list[dict[str, Any]] = []

    def post(address: str, *, json: dict[str, Any], timeout: float) -> Any:
        posted.append({"address": address, **json})
        raise httpx.ConnectError("nobody there")

    monkeypatch.setattr(httpx, "post", post)
    assert flow_module.train(return_state=True).is_completed()
    assert posted == []
    monkeypatch.setenv("VTCC_WEBHOOK", "http://127.0.0.1:9/hook")
    assert flow_module.train(seed=4, return_state=True).is_completed()
    assert [p["state"] for p in posted] == ["Running", "Completed"]
    assert posted[1]["text"].startswith("digits params.yaml seed 4: Completed")
    assert posted[1]["parameters"]["seed"] == 4


def test_a_group_of_trainings_is_no_study_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtcc.tracking import studies

    group = create_autospec(studies.StudyRun)
    monkeypatch.setattr(studies, "StudyRun", group)
    where = create_autospec(workspace.Workspace, instance=True)
    where.home, where.params = tmp_path, {"dataset": {"name": "digits"}, "train": {"seed": 3}}
    tasks._put_below("stems", where, "abc")
    title = "trainings of the group stems"
    group.assert_called_once_with("stems", title, "", "digits", kind="group")
    group.return_value.adopt.assert_called_once_with("seed 3", "abc")


def test_schema_names_every_parameter() -> None:
    properties = schema.json_schema(config.Params)["properties"]
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
    said = "train 3/100 · cluster_loss 2.346 · 1830 images/s · 2 min left"
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
