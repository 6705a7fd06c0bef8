"""The content of model.json: the same keys and values for whoever writes one."""

from types import SimpleNamespace

import pytest

from vtcc import config
from vtcc.config.compose import compose
from vtcc.engine import record
from vtcc.engine.kernels import Kernels
from vtcc.engine.model_info import imported_info, model_info, one_head_info, trained_info

TRAIN = config.from_dict(config.Params, compose("tiny")).train
READING = {
    "model": config.to_dict(TRAIN.model),
    "num_clusters": 7,
    "image_size": 16,
    "cache_size": 32,
    "channels": 1,
    "max_pixels": 99,
    "mean": [0.5],
    "std": [0.25],
}


def reading():
    return model_info(
        model=TRAIN.model,
        num_clusters=7,
        image_size=16,
        cache_size=32,
        channels=1,
        max_pixels=99,
        mean=(0.5,),
        std=(0.25,),
    )


def test_what_a_reader_needs():
    assert reading() == READING


def test_a_trained_model_tells_what_it_was_trained_on_and_how():
    decoding = {"bands": [2], "stretch": "type", "stretch_range": [0.0, 255.0]}
    images = SimpleNamespace(
        name="toys",
        digest="d1",
        split=["train", "holdout", "train"],
        image_size=32,
        channels=1,
        decoding=decoding,
    )
    info = trained_info(
        images,
        TRAIN,
        max_pixels=99,
        mean=(0.5,),
        std=(0.25,),
        head=2,
        epoch=5,
        kernels=Kernels("cpu", "fp32", False),
        processes=3,
    )
    own = {"num_clusters": TRAIN.num_clusters, "image_size": TRAIN.image_size}
    assert info == READING | own | decoding | {
        "head": 2,
        "epoch": 5,
        "dataset": {"name": "toys", "digest": "d1", "images": 2, "held_out": 1},
        "train": config.to_dict(TRAIN),
        "kernels": vars(Kernels("cpu", "fp32", False)),
        "processes": 3,
        "versions": record.versions(),
    }


def test_an_imported_model_names_its_file():
    assert imported_info(reading(), file="net.tar", sha256="ab") == READING | {
        "head": 0,
        "imported": {"file": "net.tar", "sha256": "ab"},
        "versions": record.versions(),
    }


def test_one_head_replaces_the_projectors():
    trained = READING | {"head": 3, "epoch": 5}
    info = one_head_info(trained, 4)
    one = {"num_cluster_heads": 1, "projectors": "both", "overcluster_heads": 0}
    one |= {"frozen": False, "weights": ""}
    assert info == trained | {"head": 0, "num_clusters": 4, "model": READING["model"] | one}
    assert trained["head"] == 3


@pytest.mark.parametrize("components", [0, 128])
def test_one_head_on_a_frozen_encoder_refers_to_it_still(components):
    frozen = {"frozen": True, "weights": "", "components": components}
    info = one_head_info(READING | {"model": READING["model"] | frozen}, 4)
    assert {k: info["model"][k] for k in frozen} == frozen
