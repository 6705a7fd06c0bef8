"""Presets, cards and overrides: who wins, and what comes out."""

import shutil

import pytest
import yaml
from typer.testing import CliRunner

from tests.fakes import stand_in
from vtcc import cli, config
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.study import plan


@pytest.fixture
def project(tmp_path, monkeypatch):
    presets = tmp_path / "vtcc" / "presets"
    shutil.copytree(config.PRESETS, presets)
    for kind in ("models", "augment"):
        shutil.rmtree(presets / kind, ignore_errors=True)
        (presets / kind).mkdir()
    (presets / "models" / "vtcc-small.yaml").write_text(
        "# The paper's.\ntrain.model.embed_dim: 384\ntrain.model.num_heads: 12\n"
        "train.model.patch_size: 16\ntrain.image_size: 224\nvalidate.image_size: 256\n"
    )
    augment = config.to_dict(config.load(presets / "folder.yaml").train.augment)
    for name, rotation in (("aerial", 180.0), ("natural", 0.0)):
        text = yaml.safe_dump(augment | {"rotation": rotation, "flip": 0.25})
        (presets / "augment" / f"{name}.yaml").write_text(f"# {name} pictures\n{text}")
    shutil.copy(presets / "folder.yaml", presets / "paper.yaml")
    catalog = tmp_path / "data" / "catalog"
    catalog.mkdir(parents=True)
    (catalog / "fields.yaml").write_text(
        "{name: Fields, classes: 21, channels: 3, images: 2100, augment: aerial}"
    )
    (catalog / "plain.yaml").write_text("{name: plain, classes: null, channels: 1, images: 9}")
    (catalog / "odd.yaml").write_text("{name: odd, classes: 2, channels: 3, augment: areal}")
    shutil.copy(presets / "folder.yaml", tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_later_wins(project):
    flat = config.flatten(compose.compose("folder", model="vtcc-small", dataset="fields"))
    assert (flat["dataset.name"], flat["dataset.source"], flat["dataset.channels"]) == (
        "Fields", "data/catalog/fields.yaml", 3,
    )  # fmt: skip
    assert (flat["train.num_clusters"], flat["train.model.embed_dim"]) == (21, 384)
    assert (flat["train.image_size"], flat["validate.image_size"]) == (224, 256)
    assert (flat["train.augment.rotation"], flat["train.augment.flip"]) == (180.0, 0.25)
    flat = config.flatten(
        compose.compose(
            "folder",
            dataset="fields",
            augment="natural",
            overrides={"train.num_clusters": 7, "train.augment.flip": 0.5},
        )
    )
    assert (flat["train.augment.rotation"], flat["train.augment.flip"]) == (0.0, 0.5)
    assert flat["train.num_clusters"] == 7


def test_nothing_given_is_params_yaml_and_unknown_classes_leave_k(project):
    own = config.read_yaml(project / "params.yaml")
    assert compose.compose(None) == own
    plain = compose.compose(None, dataset="plain")
    assert plain["train"] == own["train"]
    assert plain["dataset"]["channels"] == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preset": "folda"}, "preset 'folda': unknown; did you mean 'folder'?"),
        ({"model": "vtcc-smal"}, "model preset 'vtcc-smal': unknown; did you mean 'vtcc-small'?"),
        ({"augment": "arial"}, "augmentation preset 'arial': unknown; did you mean 'aerial'?"),
        ({"dataset": "field"}, "dataset 'field': unknown; did you mean 'fields'?"),
        ({"dataset": "odd"}, "augmentation preset 'areal': unknown; did you mean 'aerial'?"),
        ({"overrides": {"train.epoch": 1}}, "train.epoch: unknown parameter; did you mean"),
        ({"model": "vtcc-small", "overrides": {"train.image_size": 100}}, "not a multiple of"),
    ],
)
def test_mistakes_are_named(project, given, said):
    with pytest.raises(VtccError) as caught:
        compose.compose(**({"preset": "folder"} | given))
    assert said in str(caught.value)


def test_use_keeps_the_presets_layout_and_writes_numbers(project):
    run = CliRunner().invoke
    words = "use folder --dataset fields --model vtcc-small --set train.epochs=3"
    result = run(cli.app, words.split())
    assert result.exit_code == 0, result.output
    assert "preset folder, dataset fields, model vtcc-small, train.epochs=3" in result.output
    text = (project / "params.yaml").read_text()
    assert text.splitlines()[:2] == (config.PRESETS / "folder.yaml").read_text().splitlines()[:2]
    made = yaml.safe_load(text)
    overrides = {"train.epochs": 3}
    assert made == compose.compose(
        "folder", dataset="fields", model="vtcc-small", overrides=overrides
    )


def test_use_of_a_card_is_the_paper_on_it(project):
    result = CliRunner().invoke(cli.app, ["use", "fields"])
    assert result.exit_code == 0, result.output
    assert "`vtcc use paper --dataset fields`" in result.output
    assert "cheaper: `vtcc use folder --dataset fields`" in result.output
    assert config.load(project / "params.yaml").train.num_clusters == 21
    result = CliRunner().invoke(cli.app, ["use", "fields", "--dataset", "plain"])
    assert "'fields' is a dataset already" in str(result.exception)


def test_presets_lists_every_kind(project):
    out = CliRunner().invoke(cli.app, ["presets"]).output
    for said in ("folder", "vtcc-small", "The paper's.", "aerial pictures", "2,100 images"):
        assert said in out


@pytest.fixture
def pretrained(project):
    shutil.copy(config.PRESETS / "augment" / "features.yaml", project / "vtcc/presets/augment")
    return project


def test_use_of_a_card_with_an_encoder_does_not_speak_of_a_gpu(pretrained):
    result = CliRunner().invoke(cli.app, ["use", "fields", "--encoder", "lite2"])
    assert result.exit_code == 0, result.output
    assert "with the encoder in place of the paper's model" in result.output
    assert "GPU" not in result.output and "cheaper" not in result.output


def test_an_encoder_expands_into_all_that_goes_with_it(pretrained):
    flat = config.flatten(compose.compose("folder", dataset="fields", encoder="lite2"))
    assert flat["train.model.encoder"] == "lite2" and flat["train.model.frozen"] is True
    assert (flat["train.model.components"], flat["train.model.num_cluster_heads"]) == (128, 4)
    assert (flat["train.image_size"], flat["validate.image_size"]) == (260, 260)
    assert (flat["train.normalize"], flat["dataset.channels"]) == ("encoder", 3)
    assert (flat["train.batch_size"], flat["train.optimizer.learning_rate"]) == (256, 0.001)
    assert (flat["train.model.assign"], flat["train.optimizer.schedule"]) == ("instance", "cosine")
    assert flat["train.epochs"] == 75  # of 8 steps, for 2,100 images: 600 steps
    assert flat["train.num_clusters"] == 21
    views = config.read_yaml(config.PRESETS / "augment" / "features.yaml")
    assert {key: flat[f"train.augment.{key}"] for key in views} == views
    assert flat["evaluate.baselines"] == [
        "kmeans_features",
        "umap_kmeans_features",
        "umap_hdbscan_features",
        "kmeans_pixels",
    ]


@pytest.mark.parametrize(
    ("encoder", "said", "size"),
    [
        ("lite2", [32, 64], 160),
        ("lite2", [64, 65], 160),
        ("lite2", [65, 65], 260),
        ("lite2", None, 260),
        ("lite2", "small", 260),
        ("lite0", [32, 32], 224),  # has no other for small images
    ],
)
def test_small_images_are_embedded_at_the_encoders_own_size_for_them(
    pretrained, encoder, said, size
):
    card = pretrained / "data/catalog/fields.yaml"
    card.write_text(yaml.safe_dump(yaml.safe_load(card.read_text()) | {"image_size": said}))
    flat = config.flatten(compose.compose("folder", dataset="fields", encoder=encoder))
    assert (flat["train.image_size"], flat["validate.image_size"]) == (size, size)
    given = {"train.image_size": 96, "validate.image_size": 128}
    made = compose.compose("folder", dataset="fields", encoder=encoder, overrides=given)
    assert (made["train"]["image_size"], made["validate"]["image_size"]) == (96, 128)


def test_an_encoders_place_among_the_others(pretrained):
    values = compose.compose("folder", dataset="plain", encoder="lite0", augment="aerial")
    flat = config.flatten(values)
    assert flat["dataset.channels"] == 3  # over the card's 1: the encoder knows colours
    assert flat["train.augment.rotation"] == 180.0  # an augmentation of one's own wins
    assert (flat["train.batch_size"], flat["train.epochs"]) == (4, 300)  # 9 images, 2 steps each
    given = {"train.epochs": 7, "train.image_size": 128}
    flat = config.flatten(compose.compose("folder", encoder="lite0", overrides=given))
    assert (flat["train.epochs"], flat["train.image_size"]) == (7, 128)
    folder = config.flatten(compose.compose("folder", encoder="lite0"))
    assert folder["train.epochs"] == 100  # a folder promises no number of images
    with pytest.raises(VtccError, match="encoder 'lite': unknown; did you mean 'lite"):
        compose.compose("folder", encoder="lite")


@pytest.mark.parametrize(
    ("given", "batch_size", "epochs"),
    [
        ({"dataset.limit": 600}, 256, 300),  # 2 steps each
        ({"dataset.limit": 200}, 100, 300),
        ({"dataset.holdout": 0.5}, 256, 150),  # 1,050 images: 4 steps each
        ({"dataset.source": "data/photos"}, 256, 100),  # a folder promises no number
    ],
)
def test_an_encoders_steps_are_for_the_images_that_overrides_leave(
    pretrained, monkeypatch, given, batch_size, epochs
):
    stand_in(monkeypatch, compose, "check_encoder", lambda values: None)  # needs timm, seconds
    made = compose.compose("folder", dataset="fields", encoder="lite2", overrides=given)
    assert (made["train"]["batch_size"], made["train"]["epochs"]) == (batch_size, epochs)
    # A study file has two places for an encoder; its arms are comparable.
    top = {"name": "top", "preset": "folder", "dataset": "fields", "encoder": "lite2"}
    inside = {k: v for k, v in top.items() if k != "encoder"}
    inside |= {"settings": {"lite2": {"encoder": "lite2"}}}
    dotted = top | {"settings": {"dotted": given}}
    for text in (top | {"overrides": given}, dotted, inside | {"overrides": given}):
        (pretrained / "study.yaml").write_text(yaml.safe_dump(text))
        (setting,) = plan.read(pretrained / "study.yaml", pretrained).settings
        assert setting.params == made
    own = compose.compose(
        "folder", dataset="fields", encoder="lite2", overrides=given | {"train.epochs": 9}
    )
    assert (own["train"]["batch_size"], own["train"]["epochs"]) == (batch_size, 9)


def test_an_override_of_the_images_is_checked_before_an_encoder_counts_them(pretrained):
    with pytest.raises(VtccError, match=r"dataset\.limit: .*'many'"):
        compose.compose(
            "folder", dataset="fields", encoder="lite2", overrides={"dataset.limit": "many"}
        )


def test_use_writes_an_encoder_as_numbers(pretrained, monkeypatch):
    stand_in(monkeypatch, compose, "check_encoder", lambda values: None)  # needs timm, seconds
    arguments = ["use", "folder", "--dataset", "fields", "--encoder", "lite2"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    assert "preset folder, dataset fields, encoder lite2" in done.output
    written = config.read_yaml(pretrained / "params.yaml")
    assert written == compose.compose("folder", dataset="fields", encoder="lite2")
    shown = CliRunner().invoke(cli.app, ["presets"])
    assert "--encoder" in shown.output and "lite2" in shown.output


PAPERS = ("rsod", "ucmerced", "siri-whu", "aid", "d0", "dtd", "chaoyang", "cifar100")
OF_THE_DATA = {"dataset.name", "dataset.source", "dataset.channels", "train.num_clusters"}


@pytest.mark.parametrize("name", PAPERS)
def test_use_of_each_of_the_papers_data_sets_is_the_papers_training(name, tmp_path, monkeypatch):
    shutil.copytree(config.PRESETS.parents[1] / "data/catalog", tmp_path / "data/catalog")
    (tmp_path / "params.yaml").write_text((config.PRESETS / "tiny.yaml").read_text())
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["use", name])
    assert result.exit_code == 0, result.output
    written = (tmp_path / "params.yaml").read_text()
    ours = config.flatten(yaml.safe_load(written))
    paper = config.flatten(yaml.safe_load((config.PRESETS / "paper.yaml").read_text()))
    assert {k for k in paper if ours[k] != paper[k]} <= OF_THE_DATA
    card = config.read_yaml(tmp_path / f"data/catalog/{name}.yaml")
    assert ours["dataset.source"] == f"data/catalog/{name}.yaml"
    assert (ours["dataset.name"], ours["train.num_clusters"]) == (card["name"], card["classes"])
    assert written.splitlines()[2] == f"# Changed by vtcc use: dataset {name}"
    assert f"proposes {card['augment']}: --augment {card['augment']}" in result.output
    result = CliRunner().invoke(cli.app, ["use", name, "--augment", card["augment"]])
    assert result.exit_code == 0, result.output
    augment = config.read_yaml(config.PRESETS / "augment" / f"{card['augment']}.yaml")
    written = (tmp_path / "params.yaml").read_text()
    assert yaml.safe_load(written)["train"]["augment"] == augment
    assert f"augmentation {card['augment']}" in written.splitlines()[2]
    assert "proposes" not in result.output


@pytest.mark.parametrize(
    ("preset", "dataset", "kept"),
    [
        ("folder", "aid", False),  # ranges for any images
        ("digits", "aid", False),  # glyphs, which the card of the digits proposes
        ("paper", "aid", True),
        ("fashion-mnist", "cifar10", True),  # a recipe of its own
    ],
)
def test_a_card_proposes_and_an_explicit_augmentation_stays(preset, dataset, kept):
    project = config.PRESETS.parents[1]
    own = config.read_yaml(config.PRESETS / f"{preset}.yaml")["train"]["augment"]
    now = compose.compose(preset, dataset=dataset, project=project)["train"]["augment"]
    card = config.read_yaml(project / f"data/catalog/{dataset}.yaml")["augment"]
    theirs = config.read_yaml(config.PRESETS / "augment" / f"{card}.yaml")
    assert now == (own if kept else theirs)
