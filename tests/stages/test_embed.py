"""Embedding, training and evaluating on a frozen encoder's features, and the model it leaves."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import yaml

from tests import toy_encoder
from tests.fakes import stand_in
from vtcc import config, paths
from vtcc.data.cache import CacheWriter, open_cache
from vtcc.engine import checkpoint, features, loop, predict, runtime
from vtcc.errors import VtccError
from vtcc.stages import embed, evaluate, resuming, train
from vtcc.verbs import export

K, SIZE = 3, 32
FROZEN = {
    "dataset.name": "shades",
    "dataset.channels": 3,
    "validate.image_size": SIZE,
    "embed.runtime": "torch",
    "train.image_size": SIZE,
    "train.normalize": "encoder",
    "train.num_clusters": K,
    "train.batch_size": 16,
    "train.epochs": 3,
    "train.threads": 1,
    "train.model.encoder": "tiny-vit",
    "train.model.frozen": True,
    "train.model.components": 8,
    "evaluate.projection": "pca",
    "evaluate.baselines": ["kmeans_features", "kmeans_pixels"],
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """48 images of three shades, with a tiny frozen encoder in params.yaml."""
    toy_encoder.install(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    stand_in(monkeypatch, train, "_tracker", lambda *_, **__: loop.Silent())
    stand_in(monkeypatch, evaluate, "_track", lambda *_: None)
    text = (config.PRESETS / "tiny.yaml").read_text()
    paths.PARAMS.write_text(yaml.safe_dump(config.override(yaml.safe_load(text), FROZEN)))
    rng = np.random.default_rng(0)
    with CacheWriter(paths.CACHE, name="shades", image_size=SIZE, channels=3) as writer:
        for i in range(48):
            pixels = rng.integers(0, 60, (SIZE, SIZE, 3)) + np.roll([150, 60, 0], i)
            writer.add(f"{i}.png", "holdout" if i >= 42 else "train", pixels.astype(np.uint8))
        writer.finish()
    paths.LABELS.parent.mkdir(parents=True)
    rows = "".join(f"{i}.png,{i % K},{'rgb'[i % K]}\n" for i in range(48))
    paths.LABELS.write_text(f"path,label,class_name\n{rows}")
    return tmp_path


def change(**overrides):
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    values = config.override(config.read_yaml(paths.PARAMS), dotted)
    paths.PARAMS.write_text(yaml.safe_dump(values))


def stored():
    return (paths.FEATURES / features.FILE).read_bytes()


def test_from_features_to_scores_and_a_model_by_reference(project, monkeypatch, capsys):
    embed.run()
    said = capsys.readouterr().out
    assert "encoder tiny-vit: VTCC_WEIGHTS: " in said and "licence Apache-2.0" in said
    made = features.open_features(paths.FEATURES)
    assert made.values.shape == (48, 3, 64) and made.info["encoder"]["name"] == "tiny-vit"
    assert list((project / ".vtcc/scratch").glob("*/")) == []
    train.run()
    info = checkpoint.read_info(paths.MODEL)
    assert info["features"] == made.info["key"]
    assert info["encoder"] == made.info["encoder"]
    assert (paths.MODEL / "clusters.json").is_file()
    weights = (paths.MODEL / checkpoint.WEIGHTS).stat().st_size
    whole = (project / "weights/tiny-vit.safetensors").stat().st_size
    assert weights < whole

    images = open_cache(paths.CACHE).images
    predictor = predict.load(paths.MODEL)
    by_pixels = predictor.predict(images)
    by_features = predictor.predict_features(made.values[:, 0])
    assert by_features.embedding.shape == (48, 8)
    assert np.allclose(by_pixels.embedding, by_features.embedding, atol=0.02)
    assert (by_pixels.cluster == by_features.cluster).all()

    monkeypatch.setattr(predict.Predictor, "predict", None)  # nothing is embedded again
    evaluate.run()
    metrics = json.loads(paths.METRICS.read_text())
    assert metrics["baseline_kmeans_features_acc"] == 1.0
    assert {"acc", "holdout_acc", "baseline_kmeans_pixels_acc"} <= metrics.keys()
    cluster = [line.split(",")[2] for line in paths.ASSIGNMENTS.read_text().splitlines()[1:]]
    assert cluster == [str(c) for c in by_features.cluster]


@pytest.mark.parametrize(
    ("projectors", "assign"), [("both", "heads"), ("both", "instance"), ("instance", "heads")]
)
def test_without_components_the_features_are_trained_on_as_they_are(project, projectors, assign):
    change(
        train__model__components=0,
        train__model__projectors=projectors,
        train__model__assign=assign,
        train__epochs=1,
    )
    embed.run()
    train.run()
    made = features.open_features(paths.FEATURES)
    predictor = predict.load(paths.MODEL)
    known = predictor.predict_features(made.values[:, 0])
    assert known.embedding.shape == (48, 64)
    pixels = predictor.predict(open_cache(paths.CACHE).images)
    assert np.allclose(pixels.embedding, known.embedding, atol=0.02)


def test_an_encoder_that_is_trained_needs_no_features_and_no_torch(project):
    frozen = paths.PARAMS.read_text()
    paths.PARAMS.write_text((config.PRESETS / "tiny.yaml").read_text())
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'numpy', 'timm']));"
        "from vtcc.stages import embed; embed.run()"
    )
    environment = os.environ | {"PYTHONPATH": str(config.PRESETS.parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert [f.name for f in paths.FEATURES.iterdir()] == [embed.INFO]
    assert json.loads((paths.FEATURES / embed.INFO).read_text()) == {"needed": False}
    paths.PARAMS.write_text(frozen)
    with pytest.raises(VtccError, match=r"data/features: no features here.*`vtcc embed`"):
        train.run()


def test_features_of_other_parameters_are_refused(project):
    embed.run()
    change(train__augment__flip=0.1)
    with pytest.raises(VtccError, match=r"data/features: of other images, .*run `vtcc embed`"):
        train.run()
    assert not paths.MODEL.exists()
    (paths.FEATURES / embed.INFO).write_text("{")
    with pytest.raises(VtccError, match=r"features\.json: damaged"):
        train.run()


def test_dvc_embeds_again_for_what_the_features_depend_on_alone():
    stage = yaml.safe_load((config.PRESETS.parents[1] / "dvc.yaml").read_text())["stages"]["embed"]

    def seen(values):
        flat = config.flatten(values)
        return {
            key: value
            for key, value in flat.items()
            if any(key == p or key.startswith(f"{p}.") for p in stage["params"])
        }

    named = {"train.model.encoder": "lite2"}
    start = config.override(
        yaml.safe_load((config.PRESETS / "tiny.yaml").read_text()), FROZEN | named
    )
    for key, value in {
        "train.seed": 9,
        "train.num_clusters": 7,
        "train.epochs": 9,
        "train.batch_size": 8,
        "train.optimizer.learning_rate": 0.1,
        "train.model.components": 4,
        "train.model.num_cluster_heads": 2,
        "train.model.feature_dim": 16,
        "train.positives.neighbours": 3,
        "train.loss.entropy_weight": 2.0,
        "evaluate.seed": 3,
    }.items():
        assert seen(config.override(start, {key: value})) == seen(start), key
    for key, value in {
        "embed.views": 5,
        "embed.seed": 5,
        "train.augment.flip": 0.1,
        "train.image_size": 24,
        "train.normalize": "dataset",
    }.items():
        assert seen(config.override(start, {key: value})) != seen(start), key


def test_a_full_disk_is_one_line_and_what_is_there_is_gone_on_from(project, monkeypatch, capsys):
    monkeypatch.setattr(features, "_SECONDS", 0.0)
    embed.run()
    whole = stored()
    (paths.FEATURES / features.FILE).unlink()
    (paths.FEATURES / features.INFO).unlink()
    paths.FEATURES.rmdir()  # as DVC does before the stage
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) * 3 // 4, limits[1]))
    try:
        with pytest.raises(VtccError, match=r"could not write: .*File too large.* goes on from"):
            embed.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not paths.FEATURES.exists()
    capsys.readouterr()
    embed.run()
    assert "features: going on at image 32 of 48" in capsys.readouterr().out
    assert stored() == whole


def test_finished_features_outlast_a_kill_while_dvc_notes_them(project, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "embed")
    embed.run()
    whole = stored()
    for file in paths.FEATURES.iterdir():
        file.unlink()
    with monkeypatch.context() as patch:
        stand_in(patch, runtime, "of_encoder", lambda *_, **__: None)  # would fail for an image
        embed.run()
    assert stored() == whole
    assert len(list((project / ".vtcc/scratch").glob("features-*/finished"))) == 1
    resuming.forget("features-*")
    assert not list((project / ".vtcc/scratch").glob("features-*/"))
    assert stored() == whole


def test_other_images_are_predicted_and_exported_the_same(project):
    onnxruntime = pytest.importorskip("onnxruntime")
    embed.run()
    train.run()
    images = open_cache(paths.CACHE).images
    expected = predict.load(paths.MODEL).predict(images)
    export.run(str(paths.MODEL), onnx=project / "m.onnx", with_encoder=project / "whole")
    session = onnxruntime.InferenceSession(str(project / "m.onnx"))
    cluster, _, _, h = session.run(None, {"image": np.asarray(images)})
    assert (cluster == expected.cluster).all()
    assert np.allclose(h, expected.embedding, atol=1e-3)
    assert (project / "whole/clusters.json").is_file()
    (project / "weights/tiny-vit.safetensors").unlink()
    alone = predict.load(project / "whole").predict(images)
    assert np.array_equal(alone.probabilities, expected.probabilities)
    with pytest.raises(VtccError, match="refers to a pretrained encoder"):
        predict.load(paths.MODEL)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "nothing to write; give --onnx FILE.onnx or --with-encoder DIR"),
        ({"with_encoder": paths.CACHE}, "--with-encoder data/cache: not empty and no vtcc model"),
    ],
)
def test_an_export_replaces_nothing_but_models(project, given, words):
    before = sorted(project.rglob("*"))
    with pytest.raises(VtccError, match=words):
        export.run(str(paths.MODEL), **given)
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize("count", [48, 45])
def test_features_of_other_images_do_not_score_these(project, count, capsys):
    embed.run()
    train.run()
    rng = np.random.default_rng(1)
    with CacheWriter(paths.CACHE, name="shades", image_size=SIZE, channels=3) as writer:
        for i in range(count):
            pixels = rng.integers(0, 60, (SIZE, SIZE, 3)) + np.roll([60, 0, 150], i)
            writer.add(f"{i}.png", "train", pixels.astype(np.uint8))
        writer.finish()
    capsys.readouterr()
    evaluate.run()
    assert "trained on other images than data/cache holds now" in capsys.readouterr().out
    expected = predict.load(paths.MODEL).predict(open_cache(paths.CACHE).images).cluster
    cluster = [line.split(",")[2] for line in paths.ASSIGNMENTS.read_text().splitlines()[1:]]
    assert cluster == [str(c) for c in expected]
