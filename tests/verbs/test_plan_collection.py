"""`vtcc plan INPUT...`: what `vtcc cluster` will take."""

import json
import math
import shutil
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests import toy_encoder
from tests.fakes import stand_in
from tests.grouping.test_collection import draw
from tests.grouping.test_run_encoder import SMALL
from vtcc import config
from vtcc.cli import app
from vtcc.config import compose
from vtcc.data import peek
from vtcc.engine import plan
from vtcc.errors import VtccError
from vtcc.grouping import estimate
from vtcc.grouping.options import Options
from vtcc.verbs import plan_collection


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("plan") / "photos"
    draw(root, 40)
    (root / "notes.txt").write_text("no image")
    return root


def tar(photos: Path, out: Path, numbers) -> None:
    with tarfile.open(out, "w") as archive:
        for i in numbers:
            archive.add(photos / f"{i:03d}.png", f"{i:03d}.png")
            archive.add(photos / "notes.txt", f"{i:03d}.cls")


@pytest.fixture
def shards(photos, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    tar(photos, folder / "a.tar", range(25))
    tar(photos, folder / "b.tar", range(25, 40))
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["plan", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def longest(monkeypatch):
    """Two trainings of a day, so that the limit ends them."""
    stand_in(monkeypatch, estimate, "longest_trainings", lambda *_: 86400.0)


def test_the_plan_says_what_is_sampled_and_what_it_takes(photos, longest):
    before = sorted(photos.parent.rglob("*"))
    told = run(photos, "--encoder", "none", "--sample", 30, "--set", "train.batch_size=8")
    assert told.exit_code == 0
    text = " ".join(told.output.split())
    assert "images 40 " in text
    assert "made of 30 of them, drawn with seed 0; 10 are assigned" in text
    assert "from scratch (as you asked)" in text
    assert "images/s decoded and embedded" in text
    assert "what is left of the limit" in text
    assert "in all at most 20 min; --minutes 20 is enough" in text
    assert "the page shows 30" in text
    assert sorted(photos.parent.rglob("*")) == before


def test_trainings_of_few_images_end_before_the_limit(photos, monkeypatch):
    stand_in(monkeypatch, estimate, "longest_trainings", lambda *_: 12.3)
    told = run(photos, "--encoder", "none", "--json")
    planned = json.loads(told.stdout)
    seconds = planned["seconds"]
    assert (seconds["trainings"], planned["fits"]) == (12.3, True)
    assert seconds["total"] == pytest.approx(12.3 + seconds["embedding"] + 19.0, abs=0.2)
    text = " ".join(run(photos, "--encoder", "none").output.split())
    assert "trainings about 12 s, more brings nothing" in text
    assert "in all about " in text and "; --minutes 20 is enough" in text


@pytest.mark.parametrize(("encoder", "epochs"), [("none", 600), ("lite2", 400)])
def test_how_long_trainings_are_that_no_limit_ends(encoder, epochs, monkeypatch):
    """40 images are one step of an epoch."""
    chosen = {} if encoder == "none" else {"encoder": encoder}
    params = config.override(compose.compose("folder", **chosen), {"train.num_clusters": 20})
    timed = plan.Timing(8, 3, 0.01, 0.01, 0.01, 0.01)
    stand_in(monkeypatch, plan.Rehearsal, "steps", lambda self, seconds: timed)
    rates = estimate.Rates(whole=25.0, embedded=30.0, width=1280)
    assert estimate.longest_trainings(40, rates, params) == pytest.approx(2 * epochs * 0.05)


def test_the_plan_for_programs(photos, longest):
    told = run(photos, "--encoder", "none", "--minutes", 0.3, "--sample", 0, "--json")
    planned = json.loads(told.stdout)
    counted = [planned[of] for of in ("images", "sample", "assigned", "shards")]
    assert counted == [40, 40, 0, 0]
    assert planned["images_per_second"] > 1
    assert planned["seconds"]["assigning"] == 0
    assert planned["seconds"]["after"] == 19
    least = planned["seconds"]["embedding"] + 19 + 2 * 20
    assert planned["least_minutes"] in (math.ceil((least + by) / 60) for by in (-0.1, 0.1))
    assert not planned["fits"]
    assert planned["tables"] == ["csv", "parquet", "json"]
    assert planned["memory"] > 1e9
    assert planned["disk"]["results"] > 40 * 3000


def test_shards_are_counted_and_not_unpacked(photos, shards, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    planned = json.loads(run(shards, "--encoder", "none", "--sample", 30, "--json").stdout)
    assert (planned["images"], planned["sample"], planned["shards"]) == (40, 30, 2)
    assert planned["disk"]["unpacked"] == sum(f.stat().st_size for f in shards.iterdir())
    assert sorted(tmp_path.rglob("*")) == before


def test_some_images_of_each_shard_are_looked_at(shards, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    seen = peek.peeked([shards], room, 10)
    assert seen.images == 40
    assert [file.relative_to(room).as_posix() for file in seen.files] == [
        *(f"0/{i:03d}.png" for i in range(5)),
        *(f"1/{i:03d}.png" for i in range(25, 30)),
    ]


def test_a_table_with_images_inside(photos, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(photos.glob("*.png"))
    column = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": column}), tmp_path / "images.parquet")
    room = tmp_path / "room"
    room.mkdir()
    seen = peek.peeked([tmp_path / "images.parquet"], room, 10)
    assert (seen.images, seen.shards) == (40, 1)
    assert len(seen.files) == 10
    assert seen.files[0].read_bytes() == files[0].read_bytes()


def test_the_plan_is_of_the_encoder_that_would_be_taken(photos, tmp_path, monkeypatch):
    toy_encoder.install(tmp_path, monkeypatch)
    stand_in(monkeypatch, estimate, "training_bytes", lambda images, *_: images << 30)
    options = Options(photos, encoder="tiny-vit", sample=20, overrides={"train.device": "cpu"})
    planned = plan_collection.run(options)
    assert planned["encoder"] == "tiny-vit"
    pixels, features = 20 * 64 * 64 * 3, 20 * 2 * 64 * 2  # at least one view beside the image
    trainings = 2 * 20 << 30
    assert trainings + pixels + features < planned["disk"]["work"] < trainings + 2**30
    shutil.rmtree(tmp_path / "weights")
    (tmp_path / "weights").mkdir()
    with pytest.raises(VtccError, match="--encoder tiny-vit: its weights are not on this machine"):
        plan_collection.run(options)


@pytest.mark.parametrize(
    ("encoder", "size"), [("lite2", 3_595_080), ("none", 6_600_000)], ids=["lite2", "none"]
)
def test_the_results_hold_the_model(encoder, size):
    """Of `lite2` what `vtcc cluster` wrote of three clusters; with its encoder where it has one."""
    chosen = {} if encoder == "none" else {"encoder": encoder}
    params = config.override(compose.compose("folder", **chosen), {"train.num_clusters": 3})
    assert estimate.model_bytes(params) == pytest.approx(size, rel=0.01)


def test_what_a_million_takes():
    params = config.override(compose.compose("folder", encoder="lite2"), SMALL)
    rates = estimate.Rates(whole=25.0, embedded=30.0, width=1280)
    million = estimate.foreseen(1_000_000, 10_000, rates, params)
    assert million.assigning == pytest.approx(990_000 / 25)
    assert million.memory < 4 * 2**30
    views = params["embed"]["views"]
    assert million.embedding == pytest.approx(10_000 / 25 + 10_000 * views / 30)
    small = estimate.foreseen(1_000, 10_000, rates, params)
    assert (small.sample, small.assigning) == (1_000, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--preset", "paper"], "--preset: of a training's plan"),
        (["photos", "--images", "9"], "--images: of a training's plan"),
        (["--sample", "9"], "--sample: belongs to a plan of inputs"),
        (["nowhere"], "nowhere: no such file"),
        (["s3://bucket/photos"], "copy it first"),
        (["photos", "--set", "train.epochs=9"], "train.epochs: a plan of inputs asks what fits"),
        (["photos", "--sample", "9"], "--sample: found 9; allowed: at least 10"),
        (
            ["photos", "--encoder", "none", "--set", "train.model.encoder=lite2"],
            "--encoder none: --params or --set has train.model.encoder as well",
        ),
    ],
)
def test_what_is_asked_wrongly(arguments, message, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    with pytest.raises(VtccError, match=message):
        run(*arguments)


@pytest.mark.parametrize("number", [0, 1, 5])
def test_an_archive_of_few_images_is_refused_as_cluster_does(photos, tmp_path, number):
    tar(photos, tmp_path / "few.tar", range(number))
    with pytest.raises(VtccError, match=r"few\.tar: \d images?, and grouping needs at least 10"):
        plan_collection.run(Options(tmp_path / "few.tar"))
