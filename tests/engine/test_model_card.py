"""The cards beside a model's weights, read back by the hub's own reader."""

import json

import pytest
from huggingface_hub import DatasetCard, ModelCard

from tests.engine.test_checkpoint import INFO, saved  # noqa: F401 - a fixture
from tests.grouping import toy_results
from vtcc import encoders
from vtcc.engine import model_card
from vtcc.engine.model_info import one_head_info
from vtcc.errors import VtccError
from vtcc.grouping import result
from vtcc.verbs import export, refine

TRAINED = INFO | {
    "dataset": {"name": "Holiday at /home/me", "digest": "ab12", "images": 1797},
    "epoch": 15,
    "train": {"epochs": 18, "batch_size": 128, "seed": 0, "optimizer": {"learning_rate": 0.004}},
    "versions": {"vtcc": "0.2.0", "torch": "2.15.0"},
}


def cards(directory):
    model = ModelCard.load(directory / model_card.MODEL_CARD)
    return model, DatasetCard.load(directory / model_card.DATA_CARD)


def with_encoder(name):
    card = encoders.card(name)
    record = {"name": name, "timm": card.timm, "licence": card.licence, "digest": "cd34"}
    return TRAINED | {"encoder": record}


def test_every_model_that_is_written_has_cards(saved):  # noqa: F811
    model, data = cards(saved[0])
    assert model.data.to_dict() == {
        "library_name": "vtcc",
        "pipeline_tag": "image-classification",
        "tags": ["image-clustering", "unsupervised", "vtcc"],
    }
    assert "# 5 clusters\n" in model.text
    assert "| encoder | vit, from scratch |" in model.text
    assert "its licence is for whoever trained it to choose" in model.text
    assert "Not measured yet" in model.text
    assert "| decoded to, pixels | 20 x 20 |" in data.text


def test_numbers_of_the_training_and_no_names_of_folders(tmp_path):
    model_card.write(tmp_path, TRAINED, data=[("unreadable", 3)], figures=[("acc", 0.91234567)])
    model, data = cards(tmp_path)
    for row in ("images | 1,797", "epochs | 18", "epoch that was kept | 15", "acc | 0.9123",
                "learning rate | 0.004", "versions | torch 2.15.0, vtcc 0.2.0"):  # fmt: skip
        assert f"| {row} |" in model.text
    assert data.data.size_categories == ["1K<n<10K"]
    assert "| unreadable | 3 |" in data.text
    assert "Holiday" not in model.content + data.content


def test_images_that_were_held_out_are_told_apart(tmp_path):
    model_card.write(tmp_path, TRAINED | {"dataset": {"images": 800, "held_out": 200}})
    model, data = cards(tmp_path)
    assert "of 800 images\n" in model.text
    assert "| images | 800 |\n| images held out | 200 |\n" in model.text
    assert "| images the model was made from | 800 |\n| images held out | 200 |\n" in data.text
    model_card.write(tmp_path, TRAINED)
    assert "held out" not in "".join(card.text for card in cards(tmp_path))


@pytest.mark.parametrize(
    ("images", "size"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (20_000_000, "10M<n<100M")],
)
def test_sizes_are_the_hubs(tmp_path, images, size):
    model_card.write(tmp_path, TRAINED | {"dataset": {"images": images}})
    assert cards(tmp_path)[1].data.size_categories == [size]


@pytest.mark.parametrize("name", encoders.names())
def test_the_licence_is_the_encoders(tmp_path, name):
    model_card.write(tmp_path, with_encoder(name))
    model, card = cards(tmp_path)[0], encoders.card(name)
    assert model.data.base_model == card.hub.repo
    assert model.data.license_link == card.licence_url
    known = {"Apache-2.0": "apache-2.0", "MIT": "mit"}
    assert model.data.license == known.get(card.licence, "other")
    named = {} if card.licence in known else {"license_name": "dinov3-license"}
    assert {k: v for k, v in model.data.to_dict().items() if k == "license_name"} == named
    assert card.licence in model.text


def test_an_encoder_that_this_version_does_not_know_keeps_its_licence(tmp_path):
    info = with_encoder("lite2")
    model_card.write(tmp_path, info | {"encoder": info["encoder"] | {"name": "gone"}})
    model = cards(tmp_path)[0]
    assert (model.data.license, model.data.base_model) == ("apache-2.0", None)
    assert "The encoder gone is under Apache-2.0;" in model.text


def test_weights_of_elsewhere_are_said_to_be(tmp_path):
    model_card.write(tmp_path, INFO | {"imported": {"file": "x.pt", "sha256": "ef56"}})
    text = cards(tmp_path)[0].text
    assert "imported, SHA-256 ef56" in text
    assert "licence vtcc does not know" in text


def test_a_finetuned_encoder_of_a_file_is_not_called_ones_own(tmp_path):
    model = {"encoder": "timm:resnet18", "weights": "own.safetensors", "frozen": False}
    info = TRAINED | {"model": TRAINED["model"] | model}
    info = one_head_info(info | {"train": {**TRAINED.get("train", {}), "model": model}}, 5)
    assert info["model"]["weights"] == ""
    model_card.write(tmp_path, info)
    text = cards(tmp_path)[0].text
    assert "timm:resnet18, pretrained" in text
    assert "licence vtcc does not know" in text and "own.safetensors" not in text


def test_a_file_of_ones_own_in_a_known_encoder_has_no_licence_that_is_known(tmp_path):
    info = with_encoder("lite2")
    record = {k: v for k, v in info["encoder"].items() if k != "licence"}
    model_card.write(tmp_path, info | {"encoder": record})
    model = cards(tmp_path)[0]
    assert (model.data.license, model.data.base_model) == (None, None)
    assert "licence vtcc does not know" in model.text and "Apache" not in model.text


def test_a_name_is_text_whatever_it_holds(tmp_path):
    names = ["a|b", "<script>", "[x](y)", "two\nlines", "\udcff"]
    rows = [(k, name, 1) for k, name in enumerate(names)]
    text = model_card.body(TRAINED, clusters=rows)
    for shown in (r"0: a\|b", r"1: \<script\>", r"2: \[x\](y)", "3: two lines", "4:  "):
        assert f"| {shown} | 1 |" in text
    many = model_card.body(TRAINED, clusters=[(k, "c", 1) for k in range(130)])
    assert "30 more are in clusters.json." in many


def test_cards_of_results_have_the_verdict_and_follow_edits(tmp_path):
    photos, results = tmp_path / "photos", tmp_path / "results"
    toy_results.folder_of(photos)
    toy_results.write(photos, results)
    model, data = cards(results / result.MODEL)
    assert "clear structure" in model.text
    assert "| agreement with a second training, adjusted Rand index | 0.9 |" in model.text
    assert "| 0: cluster 0 | 20 |" in model.text
    assert "| unreadable | 0 |" in data.text
    assert "photos" not in model.text.split("## Limits")[0] + data.text
    edit = {"do": "rename", "cluster": 0, "name": "left"}
    known = {"format": 1, "model": result.digest(results / result.MODEL), "edits": [edit]}
    (tmp_path / "edits.json").write_text(json.dumps(known))
    refine.run(results, tmp_path / "edits.json")
    assert "| 0: left | 20 |" in cards(results / result.MODEL)[0].text
    export.run(str(results / result.MODEL), with_encoder=tmp_path / "whole")
    for card in model_card.CARDS:
        assert (tmp_path / "whole" / card).read_bytes() == (
            results / result.MODEL / card
        ).read_bytes()
    with pytest.raises(VtccError, match="model: lies in the results in "):
        export.run(str(tmp_path / "whole"), with_encoder=results / result.MODEL)
