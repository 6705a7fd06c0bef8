import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.fakes import stand_in
from vtcc import config, paths, provenance
from vtcc.analysis import baselines, features, plots
from vtcc.data.cache import CacheWriter
from vtcc.engine import predict
from vtcc.errors import VtccError
from vtcc.grouping import clusters
from vtcc.pages import gallery
from vtcc.stages import evaluate
from vtcc.tracking import evaluations

K = 4
ROOT = Path(__file__).parents[2]
WRONG = 2  # image 2 is put into a cluster that its class does not have


class FakePredictor:
    """Knows a group by its grey level, so that every figure can be worked out by hand."""

    num_clusters, cache_size, channels, max_pixels, clusters = K, 8, 1, 10**6, None

    def __init__(self):
        self.info = {"dataset": {"digest": None}, "train": {"seed": 7}}

    def predict(self, images, batch_size=512):
        group = images[:, 0, 0, 0] // 50
        probabilities = np.full((len(images), K), 0.1, np.float32)
        probabilities[np.arange(len(images)), group] = 0.7
        embedding = np.eye(6, dtype=np.float32)[group] + images[:, 1, 1] / 2550
        return predict.Prediction(probabilities, embedding)


@pytest.fixture
def logged(monkeypatch):
    """Stands in for the tracking store: `log_current` with its signature and no work."""
    return stand_in(monkeypatch, evaluations, "log_current", lambda *given: "run-1")


@pytest.fixture
def project(tmp_path, monkeypatch, logged):
    """A project of 36 training and 12 held-out images of three classes, K = 4."""
    monkeypatch.chdir(tmp_path)
    stand_in(monkeypatch, provenance, "model_digest", lambda directory: "12ab")
    stand_in(monkeypatch, clusters, "load_predictor", lambda *given: FakePredictor())
    stand_in(
        monkeypatch,
        predict,
        "embed_untrained",
        lambda info, images, seed: images[:, 0, :, 0].astype("f4"),
    )
    # UMAP compiles for half a minute; its own tests are elsewhere.
    stand_in(monkeypatch, features, "umap", lambda x, seed: features.pca(x, 2, seed))
    write_params()
    write_cache(range(48), holdout=12)
    write_labels(range(48))
    paths.RUN.parent.mkdir()
    paths.RUN.write_text('{"run_id": "abc", "tracking_uri": "x", "experiment": "toys"}')
    paths.CURVES.parent.mkdir()
    paths.CURVES.write_text(
        "epoch,instance_loss,cluster_loss,entropy,smallest_cluster,confidence\n1,5,3,1,0.1,0.5\n"
    )
    return tmp_path


@pytest.fixture
def no_pictures(monkeypatch):
    """Leaves out the drawing, most of the time of a small evaluation."""
    for name in ("sizes", "embedding", "confusion", "curves"):
        stand_in(monkeypatch, plots, name, lambda path, *_: path.touch())


def write_params(**changes):
    values = config.read_yaml(ROOT / "params.yaml")
    values["evaluate"] |= {"plot_points": 20, "gallery_images": 4} | changes
    paths.PARAMS.write_text(yaml.safe_dump(values))


def write_cache(numbers, holdout=0):
    numbers = list(numbers)
    generator = np.random.default_rng(0)
    with CacheWriter(paths.CACHE, name="toys", image_size=8, channels=1) as writer:
        for i in numbers:
            pixels = generator.integers(0, 30, (8, 8, 1)) + 50 * (i % 3)
            pixels[0, 0] = 50 * (3 if i == WRONG else i % 3)
            split = "holdout" if i >= len(numbers) - holdout else "train"
            writer.add(image_path(i), split, pixels.astype(np.uint8))
        writer.finish()


def image_path(i):
    return 'odd, "name"\n🎉/2.png' if i == WRONG else f"dir/{i:03}.png"


def write_labels(numbers):
    paths.LABELS.parent.mkdir(parents=True, exist_ok=True)
    with paths.LABELS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "class_name"))
        writer.writerows((image_path(i), i % 3, ["ant", "bee", "cow"][i % 3]) for i in numbers)


def metrics():
    return json.loads(paths.METRICS.read_text())


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_store_that_is_away_ends_no_evaluation(project, logged, no_pictures, capsys):
    logged.side_effect = VtccError("MLflow store http://x: away; start that server")
    evaluate.run()
    assert "start that server; then `vtcc register` logs it" in capsys.readouterr().out
    assert metrics()["acc"] == pytest.approx(35 / 36, abs=1e-6)


def test_scores_files_and_tracking(project, logged, capsys):
    evaluate.run()
    found = metrics()
    assert list(found) == sorted(found)
    assert found["acc"] == pytest.approx(35 / 36, abs=1e-6)
    assert found["holdout_acc"] == found["holdout_nmi"] == 1
    assert (found["images"], found["holdout_images"]) == (36, 12)
    assert (found["labelled_images"], found["classes"], found["num_clusters"]) == (36, 3, 4)
    assert (found["clusters_used"], found["holdout_clusters_used"]) == (4, 3)
    assert found["smallest_cluster"] == pytest.approx(1 / 36, abs=1e-6)
    assert found["confidence"] == pytest.approx(0.7, abs=1e-6)
    for name in baselines.BASELINES:
        if baselines.BASELINES[name].of_features:  # of a frozen encoder, which there is not
            assert f"baseline_{name}_acc" not in found
            continue
        assert found[f"baseline_{name}_acc"] > 0.6
        assert f"baseline_{name}_images" not in found
    assert not [key for key in found if "second" in key]

    rows = table(paths.ASSIGNMENTS)
    assert [row["path"] for row in rows] == [image_path(i) for i in range(48)]
    assert rows[WRONG] == {
        **{"path": image_path(WRONG), "split": "train"},
        **{"cluster": "3", "confidence": "0.700000"},
    }
    assert [row["split"] for row in rows].count("holdout") == 12
    confusion = table(paths.CONFUSION)
    assert len(confusion) == 48
    assert confusion[WRONG] == {"class": "cow", "cluster": "3"}
    pictures = sorted(file.name for file in paths.PLOTS.iterdir())
    assert pictures == ["confusion.png", "curves.png", "embedding.png", "sizes.png"]
    assert "dir/001.png" in paths.GALLERY.read_text()

    logged.assert_called_once_with()

    lines = capsys.readouterr().out.splitlines()
    steps = [json.loads(line)["progress"] for line in lines if line.startswith("{")]
    assert (steps[0]["done"], steps[-1]["done"], steps[-1]["total"]) == (0, 10, 10)
    assert steps[-1]["step"] == "tracking"
    assert lines[-1].startswith("ACC 0.972, NMI")


def test_the_same_again_gives_the_same_files(project):
    evaluate.run()
    names = [paths.METRICS, paths.ASSIGNMENTS, paths.CONFUSION, paths.GALLERY, paths.EVALUATED]
    names += sorted(paths.PLOTS.iterdir())
    first = [file.read_bytes() for file in names]
    evaluate.run()
    assert first == [file.read_bytes() for file in names]
    assert not list(Path("reports").glob(".*"))


@pytest.mark.parametrize("how", ["header only", "no file"])
def test_unlabelled(project, no_pictures, capsys, how):
    write_labels([])
    if how == "no file":
        paths.LABELS.unlink()
    evaluate.run()
    found = metrics()
    assert {"confidence", "entropy", "holdout_confidence"} <= set(found)
    assert not [k for k in found if k.startswith("baseline") or "acc" in k or "label" in k]
    assert table(paths.CONFUSION) == []
    assert not (paths.PLOTS / "confusion.png").exists()
    assert "No labels" in paths.GALLERY.read_text()
    printed = capsys.readouterr().out
    assert "baselines are left out" in printed
    assert ("no such file; evaluating without labels" in printed) == (how == "no file")


def test_labels_of_some_images_only(project, no_pictures):
    write_labels(range(0, 20))
    evaluate.run()
    found = metrics()
    assert (found["images"], found["labelled_images"]) == (36, 20)
    assert found["acc"] == pytest.approx(19 / 20)
    assert found["holdout_labelled_images"] == 0
    assert "holdout_acc" not in found
    assert len(table(paths.CONFUSION)) == 20
    assert "20 labelled of 36" in " ".join(paths.GALLERY.read_text().split())


@pytest.mark.parametrize("labelled", [[0], [0, 3, 6, 39]])
def test_labels_of_one_class_give_no_scores(project, no_pictures, capsys, labelled):
    write_labels(labelled)
    write_params(baselines=["kmeans_pixels"])
    evaluate.run()
    found = metrics()
    count = sum(i < 36 for i in labelled)
    assert (found["labelled_images"], found["classes"]) == (count, 1)
    assert not [k for k in found if k.endswith(("acc", "nmi", "ari", "fmi"))]
    said = capsys.readouterr().out
    assert f"no scores: all {count} labelled images are of one class" in said
    assert ("all 1 held-out images with a label are of one class" in said) == (39 in labelled)
    assert "Labels of one class" in paths.GALLERY.read_text()


class RefinedPredictor(FakePredictor):
    """Its head's clusters went to those of `of_base`; of group 0 it is not sure."""

    def __init__(self, of_base):
        super().__init__()
        p = np.full((K, K), 0.1, np.float32) + 0.6 * np.eye(K, dtype=np.float32)
        known = clusters.Clusters.fit(p, np.eye(K, 6, dtype=np.float32))
        names = {k: f"kind {k}" for k in of_base if k >= 0}
        self.clusters = replace(known, of_base=of_base, names=names)

    def predict(self, images, batch_size=512):
        found = super().predict(images, batch_size)
        found.probabilities[images[:, 0, 0, 0] < 50] = [0.4, 0.25, 0.2, 0.15]
        return found


@pytest.mark.parametrize(
    ("of_base", "sizes", "confidence", "shares"),
    [
        # Of group 0: 0.4 to 0, and 0.6 to what was merged.
        ((0, 1, 1, 1), [12, 24], (12 * 0.4 + 24 * 0.9) / 36, [0.2, 0.8]),
        ((-1, 1, 2, 2), [12, 12], (12 * 0.7 + 12 * 0.8) / 24, [4 / 9, 5 / 9]),
        ((0, 0, 0, 0), [36], 1, [1]),
    ],
)
def test_figures_of_a_refined_model_are_of_the_clusters_in_its_table(
    project, no_pictures, monkeypatch, of_base, sizes, confidence, shares
):
    model = RefinedPredictor(of_base)
    stand_in(monkeypatch, clusters, "load_predictor", lambda *given: model)
    write_params(baselines=[])
    evaluate.run()
    in_table = [row["cluster"] for row in table(paths.ASSIGNMENTS) if row["split"] == "train"]
    assert sorted(map(in_table.count, set(in_table) - {""})) == sizes
    found = metrics()
    assert (found["images"], found["num_clusters"]) == (sum(sizes), len(sizes))
    assert found["clusters_used"] == len(sizes)
    assert found["smallest_cluster"] == pytest.approx(sizes[0] / sum(sizes), abs=1e-6)
    assert found["largest_cluster"] == pytest.approx(sizes[-1] / sum(sizes), abs=1e-6)
    assert found["confidence"] == pytest.approx(confidence, abs=1e-6)
    assert f"<b>{len(sizes)}</b> clusters" in paths.GALLERY.read_text()
    entropy = -sum(s * np.log2(s) for s in shares)
    assert found["entropy"] == pytest.approx(entropy, abs=1e-6)


def test_images_of_excluded_clusters_alone_are_refused(project, no_pictures, monkeypatch):
    model = RefinedPredictor((-1, -1, -1, 3))
    stand_in(monkeypatch, clusters, "load_predictor", lambda *given: model)
    write_cache([0, 1, 3, 4])
    with pytest.raises(VtccError, match="toys: the model puts no training image into a cluster"):
        evaluate.run()


def test_no_held_out_images_and_a_subsample(project, no_pictures):
    write_cache(range(48))
    write_params(quadratic_limit=12, baselines=["ward", "kmeans_pixels"])
    evaluate.run()
    found = metrics()
    assert not [key for key in found if key.startswith("holdout")]
    assert found["baseline_ward_images"] == 12
    assert "baseline_kmeans_pixels_images" not in found
    assert {k.split("_")[1] for k in found if k.startswith("baseline")} == {"ward", "kmeans"}


def test_two_images_and_more_clusters(project, capsys):
    write_cache(range(2))
    write_params(baselines=list(baselines.BASELINES))
    evaluate.run()
    assert metrics()["acc"] == 1
    assert "umap_kmeans: left out, it needs 10 images" in capsys.readouterr().out


def test_without_mlflow_the_reports_are_written(project, no_pictures, logged, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "mlflow" else real(name)
    )
    evaluate.run()
    assert "mlflow is not installed: nothing is logged" in capsys.readouterr().out
    assert paths.GALLERY.is_file()
    logged.assert_not_called()


def test_without_a_run_file_and_without_curves(project, no_pictures, capsys):
    paths.RUN.unlink()
    paths.CURVES.unlink()
    evaluate.run()
    assert not (paths.PLOTS / "curves.png").exists()
    assert "no picture of the losses" in capsys.readouterr().out


def test_a_model_of_another_size_is_refused(project, monkeypatch):
    wrong = FakePredictor()
    wrong.cache_size = 16
    stand_in(monkeypatch, clusters, "load_predictor", lambda *given: wrong)
    with pytest.raises(VtccError, match=r"\(16, 16, 1\), but data/cache holds \(8, 8, 1\)"):
        evaluate.run()
    assert not paths.METRICS.exists()


def test_a_model_of_other_images_is_noted(project, no_pictures, monkeypatch, capsys):
    other = FakePredictor()
    other.info = {"dataset": {"digest": "something else"}}
    stand_in(monkeypatch, clusters, "load_predictor", lambda *given: other)
    evaluate.run()
    assert "trained on other images" in capsys.readouterr().out


def test_predictions_in_chunks_are_the_same(project, no_pictures, monkeypatch, capsys):
    evaluate.run()
    whole = paths.ASSIGNMENTS.read_text()
    monkeypatch.setattr(evaluate, "_CHUNK", 10)
    write_params(batch_size=5)
    evaluate.run()
    assert paths.ASSIGNMENTS.read_text() == whole
    assert '"images": 40, "of": 48' in capsys.readouterr().out


def test_reports_say_of_what_they_are_once_all_are_written(project, no_pictures, monkeypatch):
    write_params(baselines=["kmeans_pixels"])
    evaluate.run()
    cache = json.loads((paths.CACHE / "cache.json").read_text())
    what = json.loads(paths.EVALUATED.read_text())
    assert (what["model"], what["images"]) == ("12ab", cache["digest"])
    assert what["evaluate"]["baselines"] == ["kmeans_pixels"]
    assert (what["dataset"], what["train"]) == (cache["name"], {"seed": 7})

    def away(page):
        raise OSError("no space")

    stand_in(monkeypatch, gallery, "render", away)
    with pytest.raises(VtccError, match="reports: could not write"):
        evaluate.run()
    assert not paths.EVALUATED.exists()


def test_missing_cache_is_one_clear_line(project):
    (paths.CACHE / "cache.json").unlink()
    with pytest.raises(VtccError, match="vtcc validate"):
        evaluate.run()


def test_a_place_that_cannot_be_written_is_one_clear_line(project, no_pictures):
    paths.GALLERY.mkdir()
    (paths.GALLERY / "file").touch()
    with pytest.raises(VtccError, match="reports: could not write"):
        evaluate.run()


def test_baselines_of_features_are_left_out_with_a_word(project, no_pictures, capsys):
    write_params(baselines=["kmeans_features", "kmeans_pixels"])
    evaluate.run()
    said = capsys.readouterr().out
    assert "kmeans_features: left out, it needs the features of a frozen encoder" in said
    assert "baseline_kmeans_pixels_acc" in metrics()
    assert "baseline_kmeans_features_acc" not in metrics()
