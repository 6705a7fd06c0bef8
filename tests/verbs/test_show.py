import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from rich.console import Console

from vtcc import config, paths
from vtcc.errors import VtccError
from vtcc.stages import train
from vtcc.verbs import show


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    paths.PARAMS.write_text((config.PRESETS / "tiny.yaml").read_text(), encoding="utf-8")
    write(paths.CACHE / "cache.json", {"name": "my [toys]", "images": 1797})
    write(paths.RUN, {"run_id": "abc"})
    write(paths.MODEL / "model.json", {"train": config.to_dict(config.load().train)})
    return tmp_path


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def shown():
    out = io.StringIO()
    show.run(Console(file=out, width=200))
    return out.getvalue()


def test_nothing_evaluated_yet_says_what_to_do(project):
    with pytest.raises(VtccError, match=r"metrics\.json: nothing evaluated yet; run `dvc repro`"):
        show.run()


def test_scores_stand_beside_every_baseline(project):
    scores = {"acc": 0.972, "nmi": 0.942, "ari": 0.93, "fmi": 0.94, "holdout_acc": 0.961}
    write(
        paths.METRICS, scores | {"baseline_ward_acc": 0.84, "confidence": 0.9, "clusters_used": 7}
    )
    text = shown()
    assert "my [toys]: 1,797 images, K = 10, 16 px, 2 epochs, seed 0" in text
    rows = {line[:8].strip(): line[8:].split() for line in text.splitlines()}
    assert rows["VTCC"] == ["0.972", "0.942", "0.930", "0.940"]
    assert rows["held out"] == ["0.961", "-", "-", "-"]
    assert rows["ward"] == ["0.840", "-", "-", "-"]
    assert "confidence 0.900, clusters used 7" in text
    assert "--model models/model " in text


def test_figures_that_came_without_their_model_are_not_those_of_params(project):
    (paths.MODEL / "model.json").unlink()
    paths.MODEL.rmdir()
    write(paths.METRICS, {"acc": 0.5, "images": 2000, "num_clusters": 12})
    text = shown()
    assert text.startswith("2,000 images, K = 12\nno model here: the figures are those of ")
    assert "16 px" not in text and "vtcc predict" not in text
    paths.RUN.unlink()  # its run is not known here either
    assert "MLflow run" not in shown()
    write(paths.RUN, {"run_id": None})
    assert "MLflow run  not tracked" in shown()


def evaluated_digits(**changed):
    """Figures made here, of digits."""
    write(paths.METRICS, {"acc": 0.972, "images": 1797, "num_clusters": 10})
    train = config.to_dict(config.load().train)
    write(paths.EVALUATED, {"images": "d", "dataset": "digits", "train": train | changed})


def test_figures_of_another_data_set_whose_model_has_gone_are_named(project):
    evaluated_digits(seed=7)
    write(paths.CACHE / "cache.json", {"name": "holiday", "images": 120, "digest": "h"})
    use("holiday")
    (paths.MODEL / "model.json").unlink()
    assert shown().startswith(
        "digits: 1,797 images, K = 10, 16 px, 2 epochs, seed 7\n"
        "no model here: `dvc repro` (or `dvc pull`) makes it\n"
        "params.yaml has changed since (holiday, seed 0): `dvc repro` brings this up to date\n"
    )


def test_it_tells_how_far_the_next_training_is(project):
    evaluated_digits()
    (paths.MODEL / "model.json").unlink()
    with mock.patch.object(train, "standing", autospec=True, return_value=1) as standing:
        text = shown()
        paths.EVALUATED.unlink()
        came = shown()
    assert standing.call_args.args == (config.load(),)
    goes_on = "a training of params.yaml stands at epoch 1 of 2: `dvc repro` goes on\n"
    assert goes_on in text and goes_on in came
    refused = VtccError("no cache")
    with mock.patch.object(train, "standing", autospec=True, side_effect=refused):
        assert "stands at" not in shown()


def test_figures_are_not_those_of_the_next_images_or_model(project):
    evaluated_digits(seed=7)
    write(paths.CACHE / "cache.json", {"name": "holiday", "images": 120, "digest": "h"})
    encoder = {"name": "lite2", "source": "file"}
    now = config.to_dict(config.load().train)
    write(paths.MODEL / "model.json", {"train": now, "encoder": encoder})
    use("holiday")
    text = shown()
    assert text.startswith("digits: 1,797 images, K = 10, 16 px, 2 epochs, seed 7\n")
    assert "params.yaml has changed since (holiday, seed 0)" in text
    assert "holiday:" not in text and "lite2" not in text
    evaluated_digits()  # held-out images are in none of the figures, but in the cache
    write(paths.CACHE / "cache.json", {"name": "digits", "images": 2000, "digest": "d"})
    use("digits")
    text = shown()
    assert text.startswith("digits: 2,000 images, K = 10, 16 px, 2 epochs, seed 0\n")
    assert "has changed" not in text and "lite2" in text


def use(name):
    text = paths.PARAMS.read_text(encoding="utf-8")
    paths.PARAMS.write_text(config.edit(text, {"dataset.name": name}), encoding="utf-8")


def test_it_tells_of_the_model_that_was_trained_not_of_newer_params(project):
    write(paths.METRICS, {"acc": 0.5})
    train = config.to_dict(config.load().train)
    write(paths.MODEL / "model.json", {"train": train})
    assert "has changed since" not in shown()
    write(paths.MODEL / "model.json", {"train": train | {"num_clusters": 7, "epochs": 3}})
    text = shown()
    assert "K = 7, 16 px, 3 epochs" in text
    assert "params.yaml has changed since" in text


def test_without_labels_it_points_at_the_gallery(project):
    write(paths.METRICS, {"confidence": 0.5})
    paths.GALLERY.touch()
    text = shown()
    assert "No labels, so no scores" in text
    assert str(paths.GALLERY.resolve()) in text
    write(paths.METRICS, {"confidence": 0.5, "labelled_images": 9, "classes": 1})
    assert "All labels are of one class, so no scores" in shown()


@pytest.mark.parametrize(
    ("run_id", "says"),
    [("abc", "version 3 (challenger); kept"), ("x", "version 3, of another run")],
)
def test_registered_version_of_this_run_or_none(project, run_id, says):
    write(paths.METRICS, {"acc": 0.5})
    entry = {"name": "vtcc-toys", "version": "3", "run_id": run_id, "reason": "kept"}
    entry["aliases"] = {"challenger": "3", "champion": "1"}
    write(project / ".vtcc" / "registered.json", entry)
    text = shown()
    assert says in text
    assert "vtcc predict PATH... --model models:/vtcc-toys@champion" in text


@pytest.mark.parametrize("name", ["vtcc-toys", "my [toys] #1", "it's", 'of "them"'])
def test_the_command_for_images_can_be_pasted(project, name):
    write(paths.METRICS, {"acc": 0.5})
    entry = {"name": name, "version": "3", "run_id": "abc", "reason": "", "aliases": {}}
    write(project / ".vtcc" / "registered.json", entry)
    text = shown()
    assert f"registered  {name} version 3" in text
    assert shlex.split(text.splitlines()[-1], comments=True) == [
        *("vtcc", "predict", "PATH...", "--model"), f"models:/{name}@champion",
        *("--out", "clusters.csv"),
    ]  # fmt: skip


def test_a_model_of_other_images_is_not_shown(project):
    write(paths.METRICS, {"acc": 0.5})
    write(paths.CACHE / "cache.json", {"name": "birds"})
    write(paths.RUN, {"run_id": None})
    entry = {"name": "vtcc-toys", "version": "3", "run_id": "x", "reason": "", "aliases": {}}
    write(project / ".vtcc" / "registered.json", entry | {"dataset": "toys"})
    assert "vtcc-toys" not in shown()


def test_heavy_libraries_are_not_imported(project):
    write(paths.METRICS, {"acc": 0.5})
    code = (
        "import sys; from vtcc.verbs import show; show.run();"
        "sys.exit(bool({'mlflow', 'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(("record", "words"), [({"licence": "MIT"}, "MIT"), ({}, "own file")])
def test_the_encoder_is_named_with_its_licence_where_it_is_known(project, record, words):
    write(paths.METRICS, {"acc": 0.5})
    train = config.to_dict(config.load().train)
    encoder = {"name": "lite2", "timm": "x", "digest": "d", "source": "file mine"} | record
    model = {"train": train, "model": train["model"], "encoder": encoder}
    write(paths.MODEL / "model.json", model)
    assert f"lite2 (trained on), {words}: file mine" in shown()


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        (paths.METRICS, [0.5], r"found \[0\.5\], expected named values; run `dvc repro` again"),
        (paths.CACHE / "cache.json", {"images": "many"}, "images: found 'many'; run `dvc repro`"),
        (paths.MODEL / "model.json", {"train": {}}, "without train.num_clusters; run"),
        (paths.MODEL / "model.json", {"encoder": {"name": "x"}}, "without encoder.source; run"),
        (paths.RUN, {"run_id": 3}, "run_id: found 3; run"),
        (Path(".vtcc/registered.json"), {"name": "x"}, "without version; delete it"),
        (Path(".vtcc/registered.json"), [], r"found \[\], expected named values; delete it"),
    ],
)
def test_files_that_are_not_ours_are_one_line(project, file, values, words):
    write(paths.METRICS, {"acc": 0.5})
    write(project / file, values)
    with pytest.raises(VtccError, match=rf"{file.name}: {words}"):
        show.run()


def test_values_that_lack_or_are_no_numbers_are_left_out(project):
    write(paths.METRICS, {"acc": "high", "nmi": None, "ari": 0.5})
    write(paths.CACHE / "cache.json", {"name": None, "images": None})
    write(paths.MODEL / "model.json", {"train": None, "encoder": {"name": "x", "source": "y"}})
    text = shown()
    assert "images: images not here, K = 10" in text
    assert "x (trained on), own file: y" in text
    assert next(line.split() for line in text.splitlines() if "VTCC" in line) == [
        "VTCC", "-", "-", "0.500", "-",
    ]  # fmt: skip
