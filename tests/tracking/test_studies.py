"""A study as the parent of its trainings' runs, in a store of its own."""

from tests.fakes import stand_in
from vtcc.errors import VtccError
from vtcc.tracking import store
from vtcc.tracking.runs import PARENT
from vtcc.tracking.studies import StudyRun


def made(client, experiment="my toys", **tags):
    where = store.experiment_id(client, experiment)
    return client.create_run(where, tags=tags).info.run_id


def tags(client, run_id):
    return client.get_run(run_id).data.tags


def test_trainings_become_children_of_one_parent(client, tmp_path):
    first, second, deleted = (made(client) for _ in range(3))
    client.delete_run(deleted)
    study = StudyRun("stems", "Which stem", "Why <ask>?", "my toys")
    study.adopt("conv", first)
    for missing in (deleted, "0" * 32, "conv-1", None):
        study.adopt("conv", missing)
    page = tmp_path / "study.html"
    page.write_text("<p>")
    figures = {"acc_mean/conv": 0.9, "acc_std/conv": float("nan")}
    study.finish("FAILED", figures, [page, tmp_path / "none"])
    parent = client.get_run(study.run_id)
    assert parent.info.status == "FAILED"
    assert parent.data.metrics == {"acc_mean/conv": 0.9}
    assert [f.path for f in client.list_artifacts(study.run_id)] == ["study.html"]
    assert parent.data.tags["mlflow.note.content"] == "Which stem\n\nWhy <ask>?"
    assert tags(client, first)[PARENT] == study.run_id
    assert tags(client, first)["vtcc.study.stems"] == "conv"
    # The same study later is the same run.
    again = StudyRun("stems", "Which stem", "", "my toys")
    assert again.run_id == study.run_id
    assert client.get_run(again.run_id).info.status == "RUNNING"
    again.adopt("patchify", second)
    again.finish("FINISHED", {"acc_mean/conv": 0.8})
    assert client.get_run(again.run_id).data.metrics == {"acc_mean/conv": 0.8}
    query = f"tags.`{PARENT}` = '{again.run_id}'"
    children = client.search_runs([client.get_run(first).info.experiment_id], query)
    assert {r.info.run_id for r in children} == {first, second}
    # A training that two studies share stays where it was.
    other = StudyRun("others", "Others", "", "my toys")
    other.adopt("base", first)
    assert tags(client, first)[PARENT] == again.run_id
    assert tags(client, first)["vtcc.study.others"] == "base"
    other.finish("FINISHED", {})


def test_a_store_that_fails_costs_the_study_nothing(monkeypatch, capsys):
    def fail():
        raise VtccError("no route to host")

    stand_in(monkeypatch, store, "client", fail)
    study = StudyRun("stems", "Which stem", "", "my toys")
    study.adopt("conv", "0" * 32)
    study.finish("FINISHED", {})
    assert study.run_id is None
    assert "MLflow: the study is not tracked (no route to host)" in capsys.readouterr().out


def test_a_sweep_is_a_run_of_its_own_and_its_trainings_have_names(client):
    study, sweep = StudyRun("same", "", "", "my toys"), StudyRun("same", "", "", "my toys", "sweep")
    assert study.run_id != sweep.run_id
    assert tags(client, sweep.run_id)["mlflow.runName"] == "sweep same"
    one, other = made(client), made(client)
    sweep.adopt("trial 3", one, "trial 3")
    sweep.score(one, {"objective": 0.5, "view_information": float("nan")})
    study.adopt("conv", other, "conv seed 0")
    assert tags(client, one)["mlflow.runName"] == "same trial 3"
    assert client.get_run(one).data.metrics == {"objective": 0.5}
    assert tags(client, other)["mlflow.runName"] == "same conv seed 0"
    sweep.score("0" * 32, {"objective": 0.5})  # a store that does not know it loses nothing
    sweep.finish("FINISHED", {})
    study.finish("FINISHED", {})
