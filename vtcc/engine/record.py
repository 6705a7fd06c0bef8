"""What a checkpoint records of its training besides weights: enough to know it again."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vtcc import encoders, version
from vtcc.config import Train, flatten, to_dict
from vtcc.digests import sha256
from vtcc.engine.kernels import Kernels

# Not part of what is computed: how often it is saved, and what `kernels` states resolved.
_FREE = {
    "params.checkpoint_minutes",
    "params.device",
    "params.precision",
    "params.attention",
    "params.compile",
    "params.collapse",
    "kernels.device",  # a checkpoint of a GPU may go on elsewhere
    "kernels.channels_last",
    "params.model.weights",  # a path; `weights` states what the file holds
}


def describe(params: Train, digest: str, kernels: Kernels) -> dict[str, Any]:
    """Plain values: `params`, `digest` of the data, `weights`, `kernels`, `versions`."""
    model = params.model
    file = Path(model.weights) if model.weights else None
    if pretrained := encoders.encoder_record(model.encoder, model.weights):
        weights = pretrained["digest"]
    else:
        weights = sha256(file) if file and file.is_file() else ""
    return {
        "params": _plain(to_dict(params)),
        "digest": digest,
        "weights": weights,
        "kernels": asdict(kernels),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what a model's numbers depend on."""
    # torch says which build it is (2.15.0+cu132), its metadata do not.
    others = version.versions("timm", "numpy")
    return {"vtcc": version.__version__, **others, "torch": str(torch.__version__)}


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """`train.epochs (200 there, 100 here)`, for all that makes two trainings different ones."""
    there, here = _comparable(theirs), _comparable(ours)
    return [
        f"{_name(key)} ({_short(there.get(key))} there, {_short(here.get(key))} here)"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]


def generators(device: str) -> dict[str, Any]:
    """States of torch's global generators, which dropout in timm's encoders draws from.

    All other draws are functions of seed and step, from generators of their own; those of
    Python and numpy are not used at all.
    """
    cuda = torch.cuda.get_rng_state_all() if device == "cuda" else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_generators(states: Mapping[str, Any]) -> None:
    """Puts back what `generators` gave; a GPU's only where there are as many GPUs."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def _comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    parts = {k: record.get(k, "") for k in ("params", "digest", "weights", "kernels")}
    return {k: v for k, v in flatten(parts).items() if k not in _FREE}


def _name(key: str) -> str:
    if key == "digest":
        return "digest of data/cache"
    if key == "weights":
        return "content of train.model.weights"
    by = {"fused_attention": "attention", "precision": "precision", "compile": "compile"}
    if key.startswith("kernels.") and (asked := by.get(key.removeprefix("kernels."))):
        return f"{key}, by train.{asked}"
    return key.replace("params.", "train.", 1)


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _plain(value: Any) -> Any:
    """With lists for tuples, as a checkpoint and YAML give them back."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
