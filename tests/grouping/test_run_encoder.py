"""`vtcc cluster` on a pretrained encoder's features, from end to end at toy size."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.fakes import stand_in
from vtcc.cli import app
from vtcc.engine import checkpoint, timm_encoder
from vtcc.errors import VtccError
from vtcc.grouping import intake
from vtcc.grouping import run as cluster
from vtcc.grouping.options import Options
from vtcc.verbs import predict

SMALL = {
    "train.image_size": 64,
    "validate.image_size": 64,
    "train.batch_size": 32,
    "train.device": "cpu",
}


def photographs(n):
    """n colour images of 96 pixels: waves, checks or discs in changing colours; by i % 3."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    for i in range(n):
        angle, size = rng.uniform(0, 3), rng.uniform(6, 9)
        turned = np.cos(angle) * x + np.sin(angle) * y
        centre = rng.uniform(40, 56, 2)
        shape = [
            np.sin(turned / size * 2),
            np.sign(np.sin(x / size * 2) * np.sin(y / size * 2)),
            np.where(np.hypot(x - centre[0], y - centre[1]) < 4 * size, 1.0, -1.0),
        ][i % 3]
        colour = rng.uniform(40, 110, 3)
        noise = rng.normal(0, 12, (96, 96, 3))
        picture = 128 + shape[..., None] * colour + noise
        yield np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoder") / "photos"
    root.mkdir()
    for i, picture in enumerate(photographs(60)):
        Image.fromarray(picture).save(root / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def results(photos, no_copies):
    short = SMALL | {"train.epochs": 60}
    options = Options(photos, clusters=3, minutes=1.0, encoder="lite0", overrides=short)
    return cluster.run(options)


def rows(file):
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_kinds_are_found(results):
    found = np.array([int(row["cluster"]) for row in rows(results / "assignments.csv")])
    table = np.zeros((3, 3))
    np.add.at(table, (np.arange(60) % 3, found), 1)
    assert table.max(axis=1).sum() >= 54


def test_the_summary_names_the_encoder_and_what_others_do_with_it(results):
    summary = json.loads((results / "summary.json").read_text())
    assert summary["choices"]["encoder"]["value"] == "lite0"
    assert "Apache-2.0" in summary["choices"]["encoder"]["why"]
    titles = [row["title"] for row in summary["baselines"]]
    for title in ("k-means", "UMAP + k-means", "UMAP + HDBSCAN"):
        assert f"{title} on lite0's features" in titles
    assert summary["trust"]["seeds"] > 0.5


def test_the_model_refers_to_the_encoder(results):
    info = checkpoint.read_info(results / "model")
    assert info["encoder"]["name"] == "lite0"
    assert info["encoder"]["licence"] == "Apache-2.0"
    assert len(info["encoder"]["digest"]) == 64
    names = load_file(results / "model" / checkpoint.WEIGHTS)
    assert not any(name.startswith("encoder.backbone") for name in names)
    assert names["encoder.axes"].shape == (1280, info["model"]["components"])
    assert (results / "model" / checkpoint.WEIGHTS).stat().st_size < 6e6


def test_new_images_go_where_the_table_has_them(photos, results, tmp_path):
    predict.run([photos], str(results / "model"), out=tmp_path / "again.csv")
    again = {row["file"].rsplit("/", 1)[1]: row for row in rows(tmp_path / "again.csv")}
    for row in rows(results / "assignments.csv"):
        other = again[row["file"]]
        assert row["cluster"] == other["cluster"]
        # Features are kept as float16, and computed by another runtime.
        assert float(row["confidence"]) == pytest.approx(float(other["confidence"]), abs=0.02)


def test_the_summary_says_how_confidence_was_softened(results):
    summary = json.loads((results / "summary.json").read_text())
    assert "softened by" in summary["choices"]["clusters by"]["why"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "lite9"], "lite"),
        (["--encoder", "timm:resnet10t"], "needs --weights"),
        (["--weights", "w.safetensors"], "name it by --encoder"),
        (["--finetune"], "name it by --encoder"),
        (["--encoder", "dinov3-small"], "--accept-licence"),
    ],
)
def test_mistakes_are_said_before_any_work(photos, tmp_path, arguments, message):
    out = tmp_path / "out"
    with pytest.raises(VtccError, match=message):
        CliRunner().invoke(
            app, ["cluster", str(photos), "--out", str(out), *arguments], catch_exceptions=False
        )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "timm:resnet10x", "--weights", "FILE"], "timm has no model 'resnet10x'"),
        (["--encoder", "timm:resnet10t", "--weights", "FILE"], "damaged safetensors"),
        (
            ["--set", "train.model.encoder=timm:resnet10t", "--set", "train.model.weights=FILE"],
            "damaged safetensors",
        ),
    ],
)
def test_wrong_weights_are_told_before_the_images_are_decoded(
    photos, tmp_path, monkeypatch, arguments, message
):
    stand_in(monkeypatch, intake, "cached", lambda *_, **__: pytest.fail("decoded"))
    damaged = tmp_path / "w.safetensors"
    damaged.write_bytes(b"\x08" + bytes(7) + b"{damaged")
    words = [word.replace("FILE", str(damaged)) for word in arguments]
    given = ["cluster", str(photos), "--out", str(tmp_path / "out"), *words]
    with pytest.raises(VtccError, match=message):
        CliRunner().invoke(app, given, catch_exceptions=False)
    assert list(tmp_path.iterdir()) == [damaged]


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            ["--encoder", "timm:resnet10t"],
            r"not usable .*size mismatch for bn1\.weight.*; of lite0$",
        ),
        (
            ["--encoder", "lite2"],
            r"not usable .*_lite2.*size mismatch for bn1\.weight.*; of lite0$",
        ),
        (
            ["--set", "train.model.encoder=timm:resnet10t", "--set", "train.model.weights=FILE"],
            r"not usable for timm's resnet10t at 224 .*size mismatch for bn1\.weight.*; of lite0$",
        ),
    ],
)
def test_weights_of_another_encoder_are_told_before_images_are_listed(
    photos, tmp_path, monkeypatch, encoder, message
):
    stand_in(monkeypatch, intake, "listed", lambda *_, **__: pytest.fail("listed"))
    stand_in(monkeypatch, timm_encoder, "whose", lambda tensors, besides: "of lite0")
    weights = tmp_path / "w.safetensors"
    save_file({"bn1.weight": torch.ones(3)}, weights)
    words = [word.replace("FILE", str(weights)) for word in encoder]
    if "--encoder" in words:
        words += ["--weights", str(weights)]
    given = ["cluster", str(photos), "--out", str(tmp_path / "out"), *words]
    with pytest.raises(VtccError, match=rf"{weights}: {message}"):
        CliRunner().invoke(app, given, catch_exceptions=False)
    assert list(tmp_path.iterdir()) == [weights]


@pytest.mark.slow  # test_encode.py looks at the sketches of the sample
def test_copies_are_found_across_the_border_of_the_sample(tmp_path, no_copies):
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(24):
        noise = np.random.default_rng(i).integers(0, 256, (100, 100, 3), np.uint8)
        Image.fromarray(noise).save(root / f"{i:02d}-a.png")
        shutil.copy(root / f"{i:02d}-a.png", root / f"{i:02d}-b.png")
    sizes = {"train.image_size": 96, "validate.image_size": 96}
    quick = SMALL | sizes | {"train.epochs": 2, "embed.runtime": "torch", "train.batch_size": 16}
    options = Options(root, clusters=2, minutes=1.0, encoder="lite0", sample=20, overrides=quick)
    out = cluster.run(options)
    shown = set(json.loads((out / "summary.json").read_text())["files"])
    pairs = [{f"{i:02d}-a.png", f"{i:02d}-b.png"} for i in range(24)]
    assert sum(len(pair & shown) == 1 for pair in pairs) > 5
    found = [{row["file"], row["looks_like"]} for row in rows(out / "duplicates.csv")]
    assert sorted(map(sorted, found)) == sorted(map(sorted, pairs))


@pytest.mark.slow
@pytest.mark.parametrize("finetune", [False, True])
def test_a_timm_model_with_weights_of_ones_own(photos, tmp_path, finetune):
    import timm

    weights = tmp_path / "w.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), weights)
    out = tmp_path / "out"
    asked = ["cluster", str(photos), "-k", "3", "--minutes", "0.1", "--out", str(out)]
    asked += ["--encoder", "resnet10t", "--weights", str(weights), "--set", "train.epochs=2"]
    asked += ["--set", "train.image_size=64", "--set", "validate.image_size=64"]
    asked += ["--set", "train.batch_size=32", *(["--finetune"] if finetune else [])]
    finished = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert finished.exit_code == 0, finished.output
    predict.run([photos], str(out / "model"), out=tmp_path / "p.csv")
    again = {row["file"].rsplit("/", 1)[1]: row["cluster"] for row in rows(tmp_path / "p.csv")}
    assert {row["file"]: row["cluster"] for row in rows(out / "assignments.csv")} == again


@pytest.mark.slow
def test_the_params_repeat_the_result(photos, results, tmp_path):
    out = tmp_path / "again"
    asked = ["cluster", str(photos), "-k", "3", "--out", str(out)]
    asked += ["--params", str(results / "params.yaml")]
    finished = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert finished.exit_code == 0, finished.output
    assert "by the parameters you gave" in finished.output
    first, again = (
        [row["cluster"] for row in rows(directory / "assignments.csv")]
        for directory in (results, out)
    )
    assert first == again
