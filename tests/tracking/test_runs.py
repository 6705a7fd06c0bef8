import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import requests
from mlflow import MlflowClient

from tests.fakes import stand_in
from tests.tracking import toy
from vtcc import config, paths, provenance
from vtcc.errors import VtccError
from vtcc.tracking import compare, evaluations, registry, runs, store


def start(cache, resumed=None, curves=()):
    tracker = runs.TrainingRun(params=toy.params(), cache=cache)
    info = {"parameters": 1234, "kernels": {"precision": "bf16", "compile": False}}
    tracker.on_start(info | {"resumed_run_id": resumed, "curves": list(curves)})
    return tracker


@pytest.fixture(scope="module")
def finished(shared_project):
    """A whole training as the train stage would report it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared_project)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        cache = runs_cache()
        tracker = start(cache)
        for epoch in (1, 2, 3):
            figures = {"cluster_loss": 3.0 - epoch, "entropy": float("nan")}
            tracker.on_epoch(epoch, figures)
        Path("curves.csv").write_text("epoch\n1\n", encoding="utf-8")
        tracker.on_end("FINISHED", [Path("curves.csv"), Path("missing.txt")], paths.MODEL)
        return tracker


def runs_cache():
    from vtcc.data.cache import open_cache

    return open_cache(paths.CACHE)


def test_importing_runs_does_not_import_mlflow():
    code = "import sys, vtcc.tracking.runs; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_pretrained_encoder_is_in_the_tags_of_run_and_version(client, finished, tmp_path):
    assert not [tag for tag in client.get_run(finished.run_id).data.tags if "encoder" in tag]
    encoder = {"name": "lite2", "timm": "x", "digest": "12ab", "licence": "MIT", "source": "hub"}
    tracker = runs.TrainingRun(params=toy.params(), cache=runs_cache(), encoder=encoder)
    tracker.on_start({"parameters": 1, "resumed_run_id": None})
    tags = client.get_run(tracker.run_id).data.tags
    expected = {
        "vtcc.encoder": "lite2",
        "vtcc.encoder_digest": "12ab",
        "vtcc.encoder_licence": "MIT",
        "vtcc.encoder_source": "hub",
    }
    assert {key: value for key, value in tags.items() if "encoder" in key} == expected
    tracker.on_end("KILLED")
    (tmp_path / "model.json").write_text(json.dumps({"encoder": encoder}))
    assert provenance.encoder_tags(registry._info(tmp_path).get("encoder")) == expected
    assert provenance.encoder_tags(registry._info(tmp_path / "none").get("encoder")) == {}


def test_run_has_all_params_as_in_the_file(client, finished):
    logged = client.get_run(finished.run_id).data.params
    written = config.flatten(config.to_dict(toy.params()))
    more = {"parameters": "1234", "kernels.precision": "bf16", "kernels.compile": "False"}
    assert logged == {k: str(v) for k, v in written.items()} | more
    assert logged["train.augment.crop_scale"] == "[0.5, 1.0]"


def test_a_password_among_parameters_is_not_logged():
    client = create_autospec(MlflowClient, instance=True)
    client.get_run.return_value.data.params = {}
    runs.log_params(client, "abc", {"download.mirror": "https://a:secret@host/x", "train.seed": 0})
    (logged,) = client.log_batch.call_args_list
    values = {param.key: param.value for param in logged.kwargs["params"]}
    assert values == {"download.mirror": "https://host/x", "train.seed": "0"}


def test_run_has_a_figure_per_epoch_and_none_that_is_not_finite(client, finished):
    history = client.get_metric_history(finished.run_id, "cluster_loss")
    assert [(m.step, m.value) for m in history if m.model_id is None] == [(1, 2), (2, 1), (3, 0)]
    assert "entropy" not in client.get_run(finished.run_id).data.metrics


def test_run_says_what_ran_but_not_where(client, finished, cache):
    run = client.get_run(finished.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "my toys seed 0"
    tags = run.data.tags
    assert tags["vtcc.data_digest"] == cache.digest
    assert tags["vtcc.python_version"] == ".".join(map(str, sys.version_info[:3]))
    assert tags["vtcc.torch_version"][0].isdigit()
    assert "mlflow.user" not in tags
    assert run.info.user_id in (None, "", "unknown")


def test_run_has_the_dataset(client, finished, cache):
    (entry,) = client.get_run(finished.run_id).inputs.dataset_inputs
    assert entry.dataset.name == "my toys"
    assert cache.digest.startswith(entry.dataset.digest)
    profile = {"num_rows": 64, "image_size": 16, "channels": 1}
    assert json.loads(entry.dataset.profile) == profile
    assert entry.tags[0].value == "training"


def test_run_has_its_files(client, finished, here):
    assert {f.path for f in client.list_artifacts(finished.run_id)} == {
        "curves.csv",
        "environment.txt",
    }
    where = here / "mlartifacts" / finished.run_id / "artifacts"
    lines = (where / "environment.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Python 3.")
    assert any(line.startswith("torch==") for line in lines)


def test_model_is_code_and_safetensors_in_the_project(client, finished, here):
    model = client.get_logged_model(runs.model_id(client, finished.run_id))
    assert str(model.status) == "READY"
    assert model.experiment_id == client.get_run(finished.run_id).info.experiment_id
    where = here / "mlartifacts" / "models" / model.model_id / "artifacts"
    assert (where / "artifacts" / "model" / "model.safetensors").is_file()
    assert (where / "code" / "vtcc" / "engine" / "predict.py").is_file()
    assert not [f for f in where.rglob("*") if f.suffix in {".pkl", ".pickle", ".pt", ".pyc"}]
    assert {m.key: m.value for m in model.metrics}["cluster_loss"] == 0.0  # of the last epoch


def test_record_is_what_run_json_keeps(finished, here):
    assert finished.record() == {
        "run_id": finished.run_id,
        "tracking_uri": f"sqlite:///{here.resolve()}/mlflow.db",
        "experiment": "my toys",
    }


def test_resume_goes_on_with_the_run_without_logging_an_epoch_twice(client, cache):
    first = start(cache)
    first.on_epoch(1, {"loss": 3})
    first.on_epoch(2, {"loss": 2})
    first.on_end("KILLED", [], None)
    assert client.get_run(first.run_id).info.status == "KILLED"
    second = start(cache, resumed=first.run_id)
    assert second.run_id == first.run_id
    assert client.get_run(first.run_id).info.status == "RUNNING"
    second.on_epoch(2, {"loss": 2})  # its checkpoint was of epoch 1
    second.on_epoch(3, {"loss": 1})
    second.on_end("FINISHED", [], None)
    history = client.get_metric_history(first.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 3), (2, 2), (3, 1)]
    assert client.get_run(first.run_id).info.status == "FINISHED"


def test_resume_of_a_run_unknown_here_starts_one_that_says_so(client, cache):
    tracker = start(cache, resumed="0" * 32)
    assert tracker.run_id != "0" * 32
    assert client.get_run(tracker.run_id).data.tags["vtcc.continues"] == "0" * 32
    client.delete_run(tracker.run_id)
    again = start(cache, resumed=tracker.run_id)
    assert again.run_id != tracker.run_id


def test_store_that_fails_in_mid_run_gets_everything_later(client, cache, monkeypatch, capsys):
    tracker = start(cache)
    real, broken = tracker._client.log_batch, [True]

    def log_batch(*args, **kwargs):
        if broken[0]:
            raise ConnectionError("server went away")
        return real(*args, **kwargs)

    stand_in(monkeypatch, tracker._client, "log_batch", log_batch)
    tracker.on_epoch(1, {"loss": 3})
    tracker.on_epoch(2, {"loss": 2})  # waits: a dead server is not asked every epoch
    assert capsys.readouterr().out.count("figures kept for later (server went away)") == 1
    broken[0] = False
    tracker.on_epoch(3, {"loss": 1})
    assert client.get_metric_history(tracker.run_id, "loss") == []
    tracker.on_end("FINISHED", [], None)
    history = client.get_metric_history(tracker.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 3), (2, 2), (3, 1)]


def history(client, run_id, key="loss"):
    return [(m.step, m.value) for m in client.get_metric_history(run_id, key)]


def broken(*args, **kwargs):
    raise ConnectionError("server went away")


ROWS = [{"epoch": e, "loss": 4 - e, "rate": 10.0} for e in (1, 2, 3)]


def test_figures_that_a_killed_training_kept_are_sent_at_its_resume(client, cache, monkeypatch):
    first = start(cache)
    first.on_epoch(1, {"loss": 3, "rate": 10.0})
    with monkeypatch.context() as patch:
        stand_in(patch, first._client, "log_batch", broken)
        for row in ROWS[1:]:
            first.on_epoch(row["epoch"], row)  # and now `kill -9`
    second = start(cache, resumed=first.run_id, curves=ROWS)
    second.on_epoch(3, ROWS[2])  # its checkpoint was of the middle of epoch 3
    second.on_epoch(4, {"loss": 0, "rate": 10.0})
    second.on_end("FINISHED", [], None)
    assert history(client, first.run_id) == [(1, 3), (2, 2), (3, 1), (4, 0)]
    assert [step for step, _ in history(client, first.run_id, "rate")] == [1, 2, 3, 4]


def test_a_half_delivered_epoch_is_completed(client, cache, monkeypatch):
    monkeypatch.setattr(runs, "BATCH", 3)  # a request ends in the middle of epoch 2
    stand_in(monkeypatch, runs, "_system_figures", lambda monitors: {})
    first = start(cache)
    real, calls = first._client.log_batch, []

    def once(*args, **kwargs):
        calls.append(1)
        return real(*args, **kwargs) if len(calls) == 1 else broken()

    stand_in(monkeypatch, first._client, "log_batch", once)
    first._retry_at = float("inf")
    for row in ROWS:
        first.on_epoch(row["epoch"], row)
    first._deliver()
    assert len(first._pending) == 3
    assert history(client, first.run_id) == [(1, 3), (2, 2)]
    second = start(cache, resumed=first.run_id, curves=ROWS)
    assert history(client, second.run_id) == [(1, 3), (2, 2), (3, 1)]
    assert [step for step, _ in history(client, second.run_id, "rate")] == [1, 2, 3]


def test_epochs_have_what_they_used_of_the_machine(client, cache):
    tracker = start(cache)
    tracker.on_epoch(1, ROWS[0])
    found = client.get_run(tracker.run_id).data.metrics
    assert 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert 0 < found["system/system_memory_usage_percentage"] <= 100
    assert 20 < found["system/system_memory_usage_megabytes"] < 1e7
    assert history(client, tracker.run_id, "system/system_memory_usage_megabytes")[0][0] == 1


def test_pictures_of_an_evaluation_are_kept_by_epoch(client, cache, tmp_path):
    from PIL import Image

    tracker = start(cache)
    for row in ROWS:
        tracker.on_epoch(row["epoch"], row)
    tracker.on_end("FINISHED")
    Image.new("RGBA", (20, 10), "red").save(tmp_path / "confusion.png")
    record = {"run_id": tracker.run_id, "experiment": cache.name}
    below = f"tags.`mlflow.parentRunId` = '{tracker.run_id}'"
    experiment = client.get_run(tracker.run_id).info.experiment_id
    for acc in (0.5, 0.6):  # the scores of the first add no epoch
        evaluations.log_evaluation(record, {}, {"acc": acc}, [tmp_path / "confusion.png"])
        child = client.search_runs([experiment], below)[0].info.run_id
        images = [entry.path for entry in client.list_artifacts(child, "images")]
        assert any("confusion" in name and "step+3+" in name for name in images), images


def test_figures_of_an_evaluation_hide_curves_of_the_same_name(client, cache):
    """The training's confidence is of its views, the evaluation's of the images as they are."""
    trained = []
    for first in (0.2, 0.3):
        tracker = start(cache)
        for epoch in (1, 2, 3):
            tracker.on_epoch(epoch, {"loss": 4 - epoch, "confidence": first + epoch / 10})
        tracker.on_end("FINISHED")
        scores = {"confidence": first + 0.6, "clusters_used": 4}
        evaluations.log_evaluation(tracker.record(), {}, scores)
        trained.append(tracker.run_id)
    metrics = client.get_run(trained[0]).data.metrics
    assert (metrics["confidence"], metrics["loss"]) == (0.8, 1)
    curve = [(step, round(value, 6)) for step, value in history(client, trained[0], "confidence")]
    assert curve == [(1, 0.3), (2, 0.4), (3, 0.5), (4, 0.8)]
    client.log_metric(trained[0], "confidence", 0.5, step=9)  # of a run from before
    compared = [run.metrics["confidence"] for run in compare.read(trained)]
    assert compared == pytest.approx([0.8, 0.9])


def test_an_evaluation_back_with_earlier_settings_is_shown_again(client, cache):
    """`evaluate.seed` 0, 1 and 0 again: the training shows what metrics.json says."""
    tracker = start(cache)
    tracker.on_epoch(1, {"loss": 3, "confidence": 0.3})
    tracker.on_end("FINISHED")
    settings = [({"evaluate.seed": 0}, {"acc": 0.9, "confidence": 0.8})]
    settings += [({"evaluate.seed": 1}, {"acc": 0.5, "confidence": 0.4})]
    other = start(cache)
    other.on_end("FINISHED")
    for params, scores in (settings[0], settings[1], settings[0], settings[0]):
        evaluations.log_evaluation(tracker.record(), params, scores)
        found = client.get_run(tracker.run_id).data
        assert {name: found.metrics[name] for name in scores} == scores
        first, _ = compare.read([tracker.run_id, other.run_id])
        assert {name: first.metrics[name] for name in scores} == scores
    assert [value for _, value in history(client, tracker.run_id, "acc")] == [0.9, 0.5, 0.9]
    below = f"tags.`mlflow.parentRunId` = '{tracker.run_id}'"
    assert len(client.search_runs([client.get_run(tracker.run_id).info.experiment_id], below)) == 2


def test_a_run_begun_elsewhere_has_all_epochs_here(client, cache):
    tracker = start(cache, resumed="0" * 32, curves=ROWS)
    assert history(client, tracker.run_id) == [(1, 3), (2, 2), (3, 1)]


def test_what_was_not_delivered_at_the_end_evaluate_sends(client, here, cache, monkeypatch):
    tracker = start(cache)
    tracker.on_epoch(1, ROWS[0])
    with monkeypatch.context() as patch:
        for name in ("log_batch", "log_text", "set_terminated"):
            stand_in(patch, tracker._client, name, broken)
        for row in ROWS[1:]:
            tracker.on_epoch(row["epoch"], row)
        tracker.on_end("FINISHED", [], None)
    assert client.get_run(tracker.run_id).info.status == "RUNNING"
    paths.CURVES.parent.mkdir(exist_ok=True)
    paths.CURVES.write_text("epoch,loss,rate,entropy\n1,3,10,nan\n2,2,10,nan\n3,1,10,nan\n")
    try:
        for seed in (0, 1):
            evaluations.log_evaluation(tracker.record(), {"evaluate.seed": seed}, {"acc": 0.5})
    finally:
        paths.CURVES.unlink()
    assert history(client, tracker.run_id) == [(1, 3), (2, 2), (3, 1)]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


def test_a_stopped_training_does_not_wait_for_a_dead_store(cache, monkeypatch, capsys):
    tracker = start(cache)
    asked = []

    def dead(*args, **kwargs):
        asked.append(1)
        broken()

    for name in ("log_batch", "log_text", "set_terminated"):
        stand_in(monkeypatch, tracker._client, name, dead)
    tracker.on_epoch(1, ROWS[0])
    tracker.on_end("KILLED", [], None)
    assert len(asked) == 2  # once in the training, once at its end
    assert "the run stays open; going on with the training closes it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED")]
)
def test_an_evaluation_that_is_cut_off_closes_its_run(
    client, cache, tmp_path, monkeypatch, error, status
):
    page = tmp_path / "page.html"
    page.write_text("hello")
    training = start(cache)
    training.on_end("FINISHED", [], None)
    made = []
    real = runs.store.client

    def patched():
        client = real()

        def cut(run_id, path):
            made.append(run_id)
            raise error

        client.log_artifact = cut
        return client

    stand_in(monkeypatch, runs.store, "client", patched)
    with pytest.raises(error):
        evaluations.log_evaluation(training.record(), {"evaluate.seed": 5}, {"acc": 0.1}, [page])
    assert client.get_run(made[0]).info.status == status
    assert "vtcc.evaluation" not in client.get_run(made[0]).data.tags


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("get_metric_history", "FAILED"),
        ("log_artifact", "FAILED"),
        ("log_image", "FAILED"),
        ("set_tag", "FAILED"),
        ("set_terminated", "RUNNING"),  # it says so itself when its process is gone
    ],
)
def test_an_evaluation_whose_store_fails_is_one_line(client, tmp_path, monkeypatch, call, status):
    from PIL import Image

    experiment = store.experiment_id(client, "outage")
    training = client.create_run(experiment).info.run_id
    client.log_metric(training, "loss", 1.0, step=1)

    picture = tmp_path / "curve.png"
    Image.new("RGB", (4, 4)).save(picture)
    opened = runs.store.client()

    def gone(*given, **named):
        raise requests.exceptions.ConnectionError("the server went away")

    stand_in(monkeypatch, opened, call, gone)
    stand_in(monkeypatch, runs.store, "client", lambda: opened)
    with pytest.raises(VtccError, match=r"MLflow store .*: the server went away; "):
        evaluations.log_evaluation(
            {"run_id": training}, {"evaluate.seed": 5}, {"acc": 0.1}, [picture], directory=tmp_path
        )
    (child,) = client.search_runs([experiment], f"tags.`{runs.PARENT}` = '{training}'")
    assert child.info.status == status


def test_store_that_fails_at_the_end_does_not_fail_the_training(cache, monkeypatch, capsys):
    tracker = start(cache)

    def fail(*args, **kwargs):
        raise ConnectionError("server went away")

    for name in ("log_batch", "log_text", "log_artifact", "set_terminated", "set_tag"):
        stand_in(monkeypatch, tracker._client, name, fail)
    tracker.on_epoch(1, {"loss": 3})
    tracker.on_end("FINISHED", [], paths.MODEL)
    assert "files were not delivered (server went away)" in capsys.readouterr().out


def test_end_without_a_start_does_nothing(cache):
    runs.TrainingRun(params=toy.params(), cache=cache).on_end("FAILED", [], None)


def test_evaluation_is_a_child_and_its_scores_are_on_the_training_too(client, finished, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("hello", encoding="utf-8")
    params, scores = {"evaluate.seed": 0}, {"acc": 0.5, "nmi": float("nan"), "images": 64}
    for _ in range(2):  # the second changes nothing
        parent = evaluations.log_evaluation(finished.record(), params, scores, [page])
        assert parent == finished.run_id
    experiment = client.get_run(parent).info.experiment_id
    mine = f"tags.`mlflow.parentRunId` = '{parent}'"
    (child,) = client.search_runs([experiment], mine)
    assert child.data.params == {"evaluate.seed": "0"}
    assert child.data.metrics == {"acc": 0.5, "images": 64}
    assert child.info.run_name == "evaluate"
    assert child.info.status == "FINISHED"
    assert [f.path for f in client.list_artifacts(child.info.run_id)] == ["page.html"]
    assert client.get_run(parent).data.metrics["acc"] == 0.5
    model = client.get_logged_model(runs.model_id(client, parent))
    assert {m.key: m.value for m in model.metrics}["acc"] == 0.5

    evaluations.log_evaluation(finished.record(), {"evaluate.seed": 1}, {"acc": 0.75}, [])
    assert len(client.search_runs([experiment], mine)) == 2
    assert client.get_run(parent).data.metrics["acc"] == 0.75


def test_evaluation_of_a_training_from_elsewhere_gets_a_run_with_the_model(client, here, capsys):
    directory = here / "other"
    toy.model(directory / paths.MODEL, seed=7)
    run = {"run_id": "f" * 32, "tracking_uri": "http://host", "experiment": "from elsewhere"}
    first = evaluations.log_evaluation(run, {"evaluate.seed": 0}, {"acc": 0.5}, directory=directory)
    assert "does not know the training" in capsys.readouterr().out
    again = evaluations.log_evaluation(run, {"evaluate.seed": 1}, {"acc": 0.5}, directory=directory)
    assert first == again != "f" * 32
    data = client.get_run(first).data
    assert data.tags["vtcc.origin"] == f"run {'f' * 32} of http://host"
    assert data.metrics == {"acc": 0.5}
    assert runs.model_id(client, first)
    experiment = client.get_experiment_by_name("from elsewhere").experiment_id
    assert len(client.search_runs([experiment])) == 3  # the training and two evaluations


def test_untracked_training_without_a_model_is_one_clear_line(here, tmp_path):
    with pytest.raises(VtccError, match=r"model\.json: not found; run `dvc repro train`"):
        evaluations.log_evaluation({"run_id": None}, {}, {}, directory=tmp_path)


def test_start_without_a_store_says_so(elsewhere, cache, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/x.db")
    with pytest.raises(VtccError, match="unset MLFLOW_TRACKING_URI"):
        start(cache)
    assert store.tracking_uri() == "sqlite:////proc/nowhere/x.db"


def test_a_warning_becomes_a_tag_though_the_store_was_away(client, cache, monkeypatch, capsys):
    from vtcc.engine.guard import Warned

    tracker = start(cache)
    real, broken = tracker._client.set_tag, [True]

    def set_tag(*args, **kwargs):
        if broken[0]:
            raise ConnectionError("server went away")
        return real(*args, **kwargs)

    stand_in(monkeypatch, tracker._client, "set_tag", set_tag)
    tracker.on_warning(Warned("clusters", 7, False, "2 of 10 clusters in use"))
    assert "warnings kept for later (server went away)" in capsys.readouterr().out
    broken[0] = False
    tracker.on_end("FAILED", [], None)
    run = client.get_run(tracker.run_id)
    assert run.data.tags["vtcc.warning.clusters"] == "epoch 7: 2 of 10 clusters in use"
    assert run.info.status == "FAILED"
