"""A tiny pretrained encoder with a card, on a machine that has no other."""

from pathlib import Path

import timm
import torch
import yaml
from safetensors.torch import save_file

from vtcc import encoders
from vtcc.encoders import EncoderCard, catalog


def install(tmp_path: Path, monkeypatch) -> EncoderCard:
    """A card `tiny-vit` of 64 features, the only one, with weights in VTCC_WEIGHTS."""
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
