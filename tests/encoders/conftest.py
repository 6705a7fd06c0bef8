"""An empty machine: no caches, no directory of weights, no network but loopback."""

import pytest

from tests import toy_encoder


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
    return toy_encoder.install(tmp_path, monkeypatch)
