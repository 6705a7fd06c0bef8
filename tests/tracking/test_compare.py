import csv

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.tracking import toy
from vtcc.errors import VtccError
from vtcc.tracking import compare, evaluations, runs, store
from vtcc.tracking.compare import Run
from vtcc.verbs import compare as stage


def of(label, clusters):
    sure = {image: (cluster, 0.9 - i / 100) for i, (image, cluster) in enumerate(clusters.items())}
    return Run(label, label, "1", {}, {}, sure)


def test_clusters_are_matched_before_anything_has_moved():
    first = of("a", {"p": 0, "q": 0, "r": 1, "s": 1, "t": 2, "only": 2})
    same = of("b", {"p": 5, "q": 5, "r": 3, "s": 3, "t": 4, "other": 0})
    found = compare.pair(first, same)
    assert (found.images, found.ari, found.moved) == (5, 1.0, [])
    assert found.table.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 1]]
    assert (found.rows, found.columns) == ([0, 1, 2], [5, 3, 4])


def test_what_moved_is_told_the_surest_first_by_the_numbers_of_the_first():
    first = of("a", {"p": 0, "q": 0, "r": 0, "s": 1, "t": 1, "u": 1})
    second = of("b", {"p": 1, "q": 1, "r": 0, "s": 0, "t": 0, "u": 1})
    found = compare.pair(first, second)
    assert [entry[:2] + entry[3:4] for entry in found.moved] == [("r", 0, 1), ("u", 1, 0)]
    assert found.ari == pytest.approx(-0.1111, abs=1e-3)
    assert found.table.sum() == 6


def test_a_cluster_without_a_partner_has_moved():
    found = compare.pair(of("a", {"p": 0, "q": 1}), of("b", {"p": 0, "q": 0}))
    assert found.moved == [("q", 1, 0.89, 0, 0.89)]
    assert found.table.shape == (2, 1)
    found = compare.pair(of("a", {"p": 0, "q": 0, "r": 0}), of("b", {"p": 3, "q": 3, "r": 0}))
    assert found.moved == [("r", 0, 0.88, None, 0.88)]


def test_no_image_in_common_is_no_comparison():
    assert compare.pair(of("a", {"p": 0}), of("b", {"q": 0})) is None
    assert compare.pair(of("a", {"p": 0}), of("b", {})) is None


def test_only_differences_are_told_and_what_the_machine_set_is_not():
    found = compare.differences(
        [{"k": "1", "same": "x", "kernels.device": "cpu"}, {"k": "2", "same": "x", "new": "y"}]
    )
    assert found == {"k": ["1", "2"], "new": [None, "y"]}


@pytest.fixture
def trained(client, cache, here, tmp_path):
    """Two trainings, evaluated, whose clusters differ by one image of the 64."""

    def one(seed, moved):
        tracker = runs.TrainingRun(params=toy.params(), cache=cache)
        tracker._params["train.seed"] = seed
        tracker.on_start({"parameters": 1, "resumed_run_id": None})
        tracker.on_end("FINISHED")
        room = tmp_path / str(seed)
        room.mkdir()
        with (room / "assignments.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "split", "cluster", "confidence"])
            for i, path in enumerate(cache.paths):
                cluster = (i % 4 + seed) % 4  # other numbers, the same clusters
                rows.writerow([path, "train", (cluster + 1) % 4 if i in moved else cluster, 0.5])
        record = {"run_id": tracker.run_id, "experiment": "my toys"}
        scores = {"acc": 0.5 + seed / 10}
        evaluations.log_evaluation(record, {"seed": seed}, scores, [room / "assignments.csv"])
        return tracker.run_id

    return one(0, ()), one(1, (7,))


def test_runs_are_compared_on_one_page(trained, client, here, capsys):
    first, second = trained
    console = Console(width=200, highlight=False)
    stage.run([first, second[:12]], here / "compared.png", console)
    told = capsys.readouterr().out
    assert "A  my toys seed 0" in told
    assert "train.seed" in told
    assert "acc" in told
    assert "0.5" in told
    assert "0.6" in told
    assert "ARI 0.95" in told
    assert "1 (1.6%) moved; clusters as A numbers them" in told
    assert "toys/07.png  3 (0.50) -> 0 (0.50)" in told
    assert "train.epochs" not in told
    assert f"http://127.0.0.1:5000/#/compare-runs?runs=%5B%22{first}%22%2C%20%22{second}" in told
    pixels = np.asarray(Image.open(here / "compared.png").convert("RGB"))
    assert pixels.shape[0] > 700
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_a_cluster_that_the_first_lacks_is_new(capsys):
    second = of("b", {"p": 3, "q": 3, "r": 0})
    pair = compare.pair(of("a", {"p": 0, "q": 0, "r": 0}), second)
    stage._overlap(Console(width=200, highlight=False), "A and B", second, pair)
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("moved; clusters as A numbers them, new: of no cluster of A")
    assert told[1:] == ["  r  0 (0.88) -> new (0.88)"]


def test_an_evaluation_stands_for_its_training(trained, client):
    first, second = trained
    experiment = client.get_run(first).info.experiment_id
    child = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{second}'")[0]
    assert [r.run_id for r in compare.read([first, child.info.run_id])] == [first, second]


def test_mistakes_name_the_run(trained, client):
    first, _ = trained
    for names, message in [
        ([first], "name two runs or more"),
        ([first, first[:10]], "the same run twice"),
        ([first, "ffffffffff"], "ffffffffff: no such run in sqlite"),
        ([first, "fff"], "a beginning needs 6 characters"),
        ([first, "models:/vtcc-none@champion"], "vtcc-none"),
    ]:
        with pytest.raises(VtccError, match=message):
            compare.read(names)
    with pytest.raises(VtccError, match=r"end the name with \.png"):
        stage.run([first, first], stage.Path("x.jpg"))


def test_a_version_without_a_run_is_one_line(trained, client, here):
    name = "vtcc-no-run"
    client.create_registered_model(name)
    client.create_model_version(name, source=(here / "m").as_uri())
    client.create_model_version(name, source=(here / "m").as_uri(), run_id="0" * 32)
    for version in ("1", "2"):
        uri = f"models:/{name}/{version}"
        with pytest.raises(VtccError) as refused:
            compare.read([trained[0], uri])
        assert str(refused.value) == (
            f"{uri}: the run that trained it is not in {store.public_uri()}; name another version "
            "or a run, `make ui` lists them"
        )


def test_figures_of_an_earlier_evaluation_are_not_shown(trained, client):
    first, second = trained
    record = {"run_id": first, "experiment": "my toys"}
    runs.log_figures(client, first, [("cluster_loss", 0.25, 0, 1)])
    before = {"acc": 0.7, "baseline_ward_acc": 0.4, "holdout_acc": 0.6}
    evaluations.log_evaluation(record, {"evaluate.baselines": ["ward"]}, before)
    evaluations.log_evaluation(record, {"evaluate.baselines": []}, {"acc": 0.8})
    assert compare.read([first, second])[0].metrics == {"acc": 0.8, "cluster_loss": 0.25}
    evaluations.log_evaluation(record, {"evaluate.baselines": ["ward"]}, before)  # back again
    assert compare.read([first, second])[0].metrics == {**before, "cluster_loss": 0.25}
