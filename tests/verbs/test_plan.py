import json

import numpy as np
import pytest
from rich.console import Console

from tests import toy_encoder
from tests.fakes import stand_in
from vtcc import config, paths
from vtcc.data.cache import CacheWriter
from vtcc.engine import plan as engine
from vtcc.errors import VtccError
from vtcc.verbs import plan

QUICK = {"seconds": 0.2}


@pytest.fixture
def project(tmp_path, monkeypatch):
    text = config.edit(
        (config.PRESETS / "tiny.yaml").read_text(), {"train.batch_size": 16, "train.epochs": 30}
    )
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    real = engine.rehearse
    stand_in(monkeypatch, engine, "rehearse", lambda *a, **k: real(*a, **(k | QUICK)))
    return tmp_path


def cached(project, name):
    rng = np.random.default_rng(0)
    with CacheWriter(project / paths.CACHE, name=name, image_size=16, channels=1) as writer:
        for i in range(50):
            pixels = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8)
            writer.add(f"{i}.png", "holdout" if i < 10 else "train", pixels)
        writer.finish()


def planned(capsys, **options):
    measured = plan.run(**options)
    assert "images" in capsys.readouterr().out
    return json.loads(json.dumps(measured))


def test_a_plan_of_the_cache_touches_nothing(project, capsys):
    cached(project, config.load().dataset.name)
    before = sorted(p for p in project.rglob("*"))
    found = planned(capsys)
    assert found["pixels"].startswith("data/cache")
    assert (found["images"], found["steps_per_epoch"], found["epochs"]) == (40, 2, 30)
    assert found["training_seconds"] == pytest.approx(sum(found["seconds"].values()))
    assert found["stage_seconds"] > found["training_seconds"]
    assert found["evaluate_seconds_rough"] > 30
    assert sorted(p for p in project.rglob("*")) == before


def test_a_plan_without_a_cache_or_with_one_of_other_images(project, capsys):
    (project / "card.yaml").write_text("images: 90\n")
    paths.PARAMS.write_text(config.edit(paths.PARAMS.read_text(), {"dataset.source": "card.yaml"}))
    overrides = {"dataset.holdout": 0.2, "train.epochs": 5}
    found = planned(capsys, overrides=overrides)
    assert (found["pixels"], found["images"], found["epochs"]) == ("synthetic", 72, 5)
    cached(project, "something else")
    assert planned(capsys)["images"] == 81  # the preset holds a tenth out
    assert planned(capsys, images=3000)["images"] == 3000


def test_without_any_number_of_images_it_is_asked_for(project):
    overrides = {"dataset.source": "photos"}
    with pytest.raises(VtccError, match=r"does not say how many .* or give --images N"):
        plan.run(overrides=overrides)


def test_the_table_is_for_a_person(project, capsys):
    console = Console(width=300, record=True, highlight=False)
    plan.run(images=100, console=console)
    lines = console.export_text().splitlines()
    table = {line[:18].strip(): line[18:].strip() for line in lines}
    assert table["images"] == "100 of synthetic, 16 px"
    assert "for a batch of 16" in table["memory"]
    assert "for 30 epochs of 6 steps (steps" in table["training"]
    assert table["evaluate"].startswith("roughly ")


def test_a_plan_with_a_frozen_encoder_measures_embedding_and_training_apart(
    project, tmp_path, monkeypatch, capsys
):
    toy_encoder.install(tmp_path, monkeypatch)
    (tmp_path / "weights/tiny-vit.safetensors").unlink()  # a plan needs no weights
    monkeypatch.setattr(engine, "SEARCHED", 20)
    found = planned(
        capsys,
        images=600,
        overrides={
            "dataset.channels": 3,
            "embed.views": 3,
            "embed.runtime": "torch",
            "validate.image_size": 32,
            "train.image_size": 32,
            "train.model.encoder": "tiny-vit",
            "train.model.frozen": True,
            "train.model.components": 8,
        },
    )
    assert (found["images"], found["steps_per_epoch"]) == (600, 600 // 16)
    assert found["embed_seconds"] == pytest.approx(600 / found["embed_images_per_second"])
    assert found["embed_bytes"] == 600 * 4 * 64 * 2
    assert set(found["seconds"]) == {"steps", "neighbours", "scoring", "checkpoints"}
    assert found["training_seconds"] == pytest.approx(sum(found["seconds"].values()))
    # Projectors alone: 8 -> 32 -> 32 -> 128, and heads that end in 10 clusters.
    heads = found["trainable"]
    assert heads == found["parameters"] < 30_000
    assert found["flops_per_image"] < 2 * 6 * heads * 1.1
