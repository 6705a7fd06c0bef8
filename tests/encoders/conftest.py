"""An empty machine: no caches, no directory of weights, no network but loopback."""

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from vtcc import encoders
from vtcc.encoders import catalog


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    from huggingface_hub import constants

    from vtcc.encoders import weights

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("VTCC_CACHE", str(tmp_path / "vtcc-cache"))
    monkeypatch.delenv("VTCC_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(weights, "_noted", set())


@pytest.fixture
def tiny_vit(tmp_path, monkeypatch):
    """A card `tiny-vit` of 64 features, the only one, with weights in VTCC_WEIGHTS: the card."""
    values = yaml.safe_load((catalog.CARDS / "lite2.yaml").read_text())
    values |= {"name": "tiny-vit", "timm": "test_vit.r160_in1k", "pooling": "token"}
    values |= {"image_size": 32, "feature_dim": 64, "mean": [0.4, 0.5, 0.6], "package": None}
    cards, directory = tmp_path / "cards", tmp_path / "weights"
    cards.mkdir()
    directory.mkdir()
    (cards / "tiny-vit.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(catalog, "CARDS", cards)
    monkeypatch.setenv("VTCC_WEIGHTS", str(directory))
    torch.manual_seed(3)
    save_file(timm.create_model("test_vit").state_dict(), directory / "tiny-vit.safetensors")
    return encoders.card("tiny-vit")
