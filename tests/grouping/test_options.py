"""What `vtcc cluster` is asked for is obeyed, or refused in one line before any work."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fakes import stand_in
from vtcc import config, schema
from vtcc.config import compose
from vtcc.engine import runtime
from vtcc.engine.schedule import check_fits
from vtcc.errors import VtccError
from vtcc.grouping import intake, options, prepare, result, workdir
from vtcc.grouping import run as cluster
from vtcc.grouping.options import Options
from vtcc.verbs import cluster as verb

NAMES = [
    "trip: 2024",
    "back\\slash",
    "two\nlines",
    os.fsdecode(b"Fotos-\xe9"),
    "...",
    " ",
    "x" * 200,
]
KEYS = [row.key for row in schema.explain(config.Params)]
REFUSED = {
    *(k for k in KEYS if k.startswith(("download.", "evaluate."))),
    *("dataset.source", "dataset.limit", "dataset.holdout", "dataset.seed"),
    *("validate.max_unreadable", "validate.max_duplicates", "validate.near_duplicates"),
    *("train.seed", "train.num_clusters", "train.model.assign"),
}


@pytest.fixture
def dark(tmp_path):
    """16 grey images of 16 bits that use 12."""
    folder = tmp_path / "dark: 12 bits"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(16):
        values = draw.integers(0, 4096, (24, 24), dtype=np.uint16)
        Image.fromarray(values).save(folder / f"{i:02}.png")
    return folder


def prepared(folder, work, clusters=2, **overrides):
    asked = Options(
        folder,
        clusters=clusters,
        encoder="none",
        overrides={k.replace("__", "."): v for k, v in overrides.items()},
    )
    options.check_overrides(asked.overrides)
    work.mkdir()
    return prepare.prepare(asked, intake.listed(folder), work)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_gives_a_name_that_is_taken(name):
    asked = Options(Path("/photos") / name)
    values = config.override(
        config.read_yaml(config.PRESETS / "folder.yaml"), {"dataset.name": asked.name}
    )
    assert values["dataset"]["name"] == asked.name
    asked.title.encode("utf-8")  # heads a page
    assert (
        Options(Path("/photos/Rome 2024")).name
        == Options(Path("/photos/Rome 2024")).title
        == "Rome 2024"
    )
    assert Options(Path("/a:b"), overrides={"dataset.name": "x"}).name == "x"


def test_every_parameter_is_read_or_refused():
    assert {key for key in KEYS if options.unused(key)} == REFUSED
    values = config.flatten(config.read_yaml(config.PRESETS / "folder.yaml"))
    for key in KEYS:
        if key in REFUSED:
            with pytest.raises(VtccError, match=f"^{key}: has no effect in `vtcc cluster`: "):
                options.check_overrides({key: values[key]})
        else:
            options.check_overrides({key: values[key]})


def test_decoding_is_obeyed_and_goes_into_cache_and_model(dark, tmp_path):
    plain = prepared(dark, tmp_path / "a")
    stretched = prepared(dark, tmp_path / "b", validate__stretch="image")
    fixed = prepared(
        dark, tmp_path / "c", validate__stretch="fixed", validate__stretch_range=[0.0, 4095.0]
    )
    assert len({p.cache.digest for p in (plain, stretched, fixed)}) == 3
    assert plain.cache.images.max() < 20
    assert min(stretched.cache.images.max(), fixed.cache.images.max()) > 240
    assert fixed.cache.decoding == {
        "bands": [],
        "stretch": "fixed",
        "stretch_range": [0.0, 4095.0],
    }
    assert fixed.params["validate"]["stretch_range"] == [0.0, 4095.0]
    assert fixed.cache.name == fixed.params["dataset"]["name"] == "dark- 12 bits"


def test_bands_bring_their_number(dark, tmp_path):
    one = prepared(dark, tmp_path / "a", validate__bands=[1])
    assert (one.cache.channels, one.params["dataset"]["channels"]) == (1, 1)


def test_a_limit_on_pixels_is_obeyed(dark, tmp_path):
    with pytest.raises(VtccError, match=r"24 x 24 pixels, more than validate.max_pixels \(100\)"):
        prepared(dark, tmp_path / "a", validate__max_pixels=100)


def test_heads_for_an_open_k_fit_the_images_that_can_be_read(dark, tmp_path):
    for i in range(24):
        (dark / f"broken {i}.png").write_bytes(b"no image")
    for clusters in (options.parse_clusters("auto"), (3, 5)):
        made = prepared(dark, tmp_path / f"{clusters[0]}", clusters)
        assert made.params["train"]["num_clusters"] == 8
        check_fits(config.from_dict(config.Params, made.params).train, len(made.cache.paths))


def test_what_has_no_effect_beside_the_model_is_said(dark, tmp_path):
    made = prepared(dark, tmp_path / "a", train__epochs=3, embed__views=4, train__batch_size=99)
    assert made.reasons["set by you"]["value"] == "train.epochs=3, train.batch_size=99"
    assert made.reasons["set by you"]["why"].endswith("without effect here: embed.views")
    assert made.params["train"]["batch_size"] == 16
    params = config.override(
        made.params,
        {
            "train.model.encoder": "lite2",
            "train.model.frozen": True,
            "dataset.channels": 3,
        },
    )
    idle = {key for key in KEYS if options.idle(key, params)}
    of_vit = {"train.attention", *(f"train.model.{k}" for k in options._OF_VIT)}
    assert idle == {"validate.image_size", *of_vit}


def test_a_mistake_that_shows_late_leaves_no_folder(dark):
    asked = Options(dark, encoder="none", overrides={"train.image_size": 17})
    with pytest.raises(VtccError, match=r"train.image_size: 17 is not a multiple"):
        cluster.run(asked)
    assert [p.name for p in dark.parent.iterdir()] == [dark.name]


def test_a_mistake_in_set_is_said_before_the_images_are_looked_at(dark, monkeypatch):
    monkeypatch.setattr(intake, "listed", lambda *_: pytest.fail("looked"))
    for key, value in {"train.epoch": 1, "train.epochs": 0, "train.seed": 1}.items():
        with pytest.raises(VtccError, match=key):
            cluster.run(Options(dark, overrides={key: value}))
    assert not workdir.beside(dark.with_name(f"{dark.name}-clusters")).exists()


def test_a_pages_links_lead_to_a_folder_whose_name_is_not_utf8():
    root = Path(os.fsdecode(b"/photos/Rome-\xe9 #1"))
    links = os.path.relpath(root, "/photos/out")
    assert result._quoted(links) == "../Rome-%E9%20%231/"


OF_PARAMS = {"train.model.encoder": "lite2", "train.model.frozen": True}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"weights": Path("mine.safetensors")}, "--weights: belongs to an encoder"),
        ({"encoder": "none", "finetune": True}, "--finetune: belongs to an encoder"),
        (
            {"encoder": "timm:resnet18", "weights": Path("mine.safetensors")},
            "--weights mine.safetensors: no such file",
        ),
        ({"minutes": 0}, "--minutes: found 0"),
        ({"minutes": float("inf")}, "--minutes: found inf"),
        ({"minutes": float("nan")}, "--minutes: found nan"),
        ({"folders": "moved"}, "--folders: found 'moved'"),
        ({"sample": 3}, "--sample: found 3"),
        ({"accept_licence": ("dinov3-small",)}, "--accept-licence dinov3-small: belongs to"),
        (
            {"encoder": "lite2", "overrides": {"train.model.encoder": "lite0"}},
            "--encoder lite2: --params or --set has train.model.encoder as well, 'lite0'",
        ),
        (
            {"encoder": "lite2", "overrides": {"train.model.encoder": "lite2"}},
            "--encoder lite2: --params or --set has train.model.encoder as well, 'lite2'",
        ),
        *(
            (
                {"encoder": "lite2", "overrides": OF_PARAMS} | {option: value},
                f"--{option.replace('_', '-')}: has no effect beside train.model.encoder",
            )
            for option, value in {
                "weights": Path("mine.safetensors"),
                "finetune": True,
                "accept_licence": ("lite2",),
            }.items()
        ),
    ],
)
def test_every_caller_is_refused_what_no_run_can_be(dark, asked, words):
    with pytest.raises(VtccError, match=words):
        cluster.run(Options(dark, **asked))
    assert not list(dark.parent.glob("*-clusters*"))


def test_weights_are_looked_at_before_the_images(dark, monkeypatch):
    monkeypatch.setattr(intake, "listed", lambda *_: pytest.fail("looked"))
    for encoder in ("lite2", "timm:resnet18"):
        with pytest.raises(VtccError, match=r"--weights .*: no such file; name one of safetensors"):
            cluster.run(Options(dark, encoder=encoder, weights=dark))


def test_an_encoder_may_stand_beside_a_file_of_parameters_that_has_it(dark):
    options.check(Options(dark, encoder="lite2", overrides=OF_PARAMS))


def test_an_encoder_has_the_threads_that_are_asked_for_and_leaves_those_there_were(monkeypatch):
    made: list[int] = []

    def computes(*args, **how):
        made.append(torch.get_num_threads())
        return lambda x: torch.get_num_threads()

    monkeypatch.setattr(runtime.cpus, "usable", lambda: 4)
    stand_in(monkeypatch, runtime, "runtime", computes)
    values = compose.compose("folder", encoder="lite0")
    train = config.from_dict(config.Params, values).train
    before, taken = torch.get_num_threads(), []
    for threads in (0, 1, 9):
        how = {"channels": 3, "kind": "torch", "pretrained": False, "threads": threads}
        compute = runtime.of_encoder(train, **how)
        assert torch.get_num_threads() == before
        taken.append(compute(torch.zeros(1)))
        assert torch.get_num_threads() == before
    assert made == taken == [4, 1, 4]


def test_a_seed_of_a_file_of_parameters_is_said_to_be_left_out(tmp_path, capsys):
    text = result.params_text(config.override(compose.compose("folder"), {"train.seed": 7}), K=5)
    assert "vtcc cluster FOLDER -k 5 --seed 7 --params RESULTS/params.yaml --out AGAIN" in text
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    asked = partial(verb.options, [tmp_path], "5", params=file, assignments=[])
    assert asked(seed=0).seed == 0
    said = capsys.readouterr().out
    assert "its train.seed 7 is left out; --seed is 0" in said
    asked(seed=7)
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize("clusters", [9, (9, 20)])
def test_a_range_needs_as_many_images_as_its_least_number(clusters):
    with pytest.raises(VtccError, match="-k 9: for 16 images; allowed: at most 8"):
        options.check_clusters(clusters, 16, readable=False)
    options.check_clusters((8, 20), 16, readable=False)
    options.check_clusters((2, 40), 16, readable=False)


def test_a_limit_that_the_features_alone_pass_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(prepare.time, "monotonic", lambda: 100.0)
    late = prepare._Late(160.0, 3, 1000)
    late.look(50.0)
    assert capsys.readouterr().out == ""
    late.look(360.0)
    late.look(370.0)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "--minutes 3 is too short: the features alone are there in about 6 min, 5 min " in said
    # 3, the 5 that are lacking, the shortest training, and 51 seconds after it.
    assert "over the limit; wait, or stop and go on from here with --minutes 10" in said


def test_more_minutes_go_on_with_what_there_is(dark, tmp_path):
    work = tmp_path / "work"
    workdir.resume_or_restart(work, Options(dark, minutes=3), "images")
    (work / "features").mkdir()
    workdir.resume_or_restart(work, Options(dark, minutes=9), "images")
    assert (work / "features").is_dir()
    workdir.resume_or_restart(work, Options(dark, minutes=9, seed=1), "images")
    assert not (work / "features").exists()
