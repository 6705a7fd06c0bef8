"""Reads a checkpoint of the authors' VTCC code into our model, without running code.

Their file holds the weights under `net`: `vtcc.*` (an encoder with timm's names),
`instance_projector.*` and `cluster_projector.*`. All sizes but the number of attention heads
follow from the tensors.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vtcc.config import PRESETS, Model, from_dict, read_yaml
from vtcc.encoders.tensor_file import check_numbers, read_tensors, some
from vtcc.engine.model import VTCC, build
from vtcc.engine.vit import sincos_positions
from vtcc.errors import VtccError

DEFAULT_IMAGE_SIZE = 224  # of the paper, where the file has no positions to tell
# Between tables computed in float32 and in float64; learned ones differ by far more.
SAME_POSITIONS = 1e-4

_PROJECTORS = {
    "instance_projector": "instance_projector",
    "cluster_projector": "cluster_projectors.0",
}
_ENCODER = {"cls_token": "class_token", "patch_embed.proj": "stem"}


@dataclass(frozen=True)
class Architecture:
    """What the tensors of a checkpoint tell of the model they belong to.

    Attributes:
        model: the `train.model` section. num_clusters: K.
        image_size: side in pixels. channels: C.
    """

    model: Model
    num_clusters: int
    image_size: int
    channels: int


def read_upstream(
    path: Path | str, num_heads: int = 12, image_size: int | None = None
) -> tuple[VTCC, Architecture]:
    """The model of an upstream checkpoint, on the CPU in eval mode, and what its tensors tell.

    Args:
        path: a torch file or safetensors.
        num_heads: attention heads per block, which no tensor tells (paper: 12).
        image_size: side in pixels the model will take; by default what the file's positions
            were made for, or 224 where it has none.

    Raises:
        VtccError: when the file is not such a checkpoint; the message names it and the reason.
    """
    path = Path(path)
    weights = _our_names(read_tensors(path), path)
    positions = weights.pop("encoder.pos_embed", None)
    sizes, K, channels = _sizes(weights, num_heads, path)
    patch, d = sizes["patch_size"], sizes["embed_dim"]
    own_size = image_size or DEFAULT_IMAGE_SIZE
    if positions is not None:
        own_size = _grid(positions, d, path) * patch
    image_size = image_size or own_size
    if image_size < patch or image_size % patch:
        raise VtccError(
            f"{path}: --image-size {image_size} is not a multiple of its patch, {patch}"
        )
    if positions is not None and image_size != own_size:
        if not _are_fixed(positions):
            raise VtccError(
                f"{path}: its positions are not the paper's fixed ones, so they hold at "
                f"{own_size} pixels only; leave out --image-size {image_size}"
            )
        positions = None

    section = read_yaml(PRESETS / "paper.yaml")["train"]["model"] | sizes
    params = from_dict(Model, section, f"{path}: model")
    with torch.device("meta"):  # costs no memory, whatever sizes a file pretends
        _check(weights, build(params, K, image_size=image_size, channels=channels), path)
    model = build(params, K, image_size=image_size, channels=channels)
    model.load_state_dict(model.state_dict() | weights)
    if positions is not None:
        # Kept to the last bit, also where it is the fixed table rounded another way: after
        # BatchNorm such a difference can show.
        model.load_state_dict(model.state_dict() | {"encoder.positions": positions.float()})
    return model.eval(), Architecture(params, K, image_size, channels)


def _our_names(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Upstream names to ours; whatever stands before the three parts is left out."""
    encoders = sorted({k.removesuffix("cls_token") for k in tensors if k.endswith("cls_token")})
    if len(encoders) != 1:
        raise VtccError(
            f"{path}: expected one encoder with a cls_token, found {len(encoders)}; it holds "
            f"{some(list(tensors)) or 'no tensor'}, where a VTCC checkpoint holds "
            "vtcc.cls_token, instance_projector.0.weight, cluster_projector.0.weight, ..."
        )
    ours: dict[str, Tensor] = {}
    for key, value in tensors.items():
        projector = re.search(r"(?:^|\.)(instance_projector|cluster_projector)\.(.+)", key)
        if projector:
            name = f"{_PROJECTORS[projector[1]]}.{projector[2]}"
        elif key.startswith(encoders[0]):
            rest = key.removeprefix(encoders[0])
            if rest.startswith("head."):  # of the classifier that the encoder's class brings along
                continue
            for theirs, mine in _ENCODER.items():
                if rest == theirs or rest.startswith(f"{theirs}."):
                    rest = mine + rest.removeprefix(theirs)
            name = f"encoder.{rest}"
        else:
            name = key
        if name in ours:
            raise VtccError(f"{path}: {some([key])}: holds the same part twice")
        ours[name] = value
    return ours


def _sizes(
    weights: dict[str, Tensor], num_heads: int, path: Path
) -> tuple[dict[str, Any], int, int]:
    """The architecture by its tensors: keys of `train.model`, K and channels."""
    d = _shape(weights, "encoder.class_token", 3, path)[2]
    if num_heads < 1 or d % num_heads:
        fitting = [n for n in range(1, min(d, 64) + 1) if d % n == 0]
        raise VtccError(
            f"{path}: --num-heads {num_heads} does not divide its width d = {d}; give the number "
            f"it was trained with, one of {', '.join(map(str, fitting))}"
        )
    if "encoder.stem.weight" in weights:
        stem, (_, channels, patch, _) = "patchify", _shape(weights, "encoder.stem.weight", 4, path)
    else:
        channels = _shape(weights, "encoder.stem.0.weight", 4, path)[1]
        halvings = sum(
            key.startswith("encoder.stem.") and value.ndim == 4 and value.shape[2:] == (3, 3)
            for key, value in weights.items()
        )
        stem, patch = "conv", 2**halvings
    if d % 4:
        raise VtccError(f"{path}: its width d = {d} is not a multiple of 4, as vtcc needs")
    if channels not in (1, 3):
        raise VtccError(f"{path}: takes {channels} channels; vtcc reads images with 1 or 3")
    blocks = {m[1] for k in weights if (m := re.match(r"encoder\.blocks\.(\d+)\.", k))}
    hidden = _shape(weights, "encoder.blocks.0.mlp.fc1.weight", 2, path)[0]
    sizes = {
        "stem": stem,
        "patch_size": patch,
        "embed_dim": d,
        "depth": len(blocks),
        "num_heads": num_heads,
        "mlp_ratio": hidden / d,
        "feature_dim": _shape(weights, "instance_projector.6.weight", 2, path)[0],
        "num_cluster_heads": 1,
    }
    K = _shape(weights, "cluster_projectors.0.6.weight", 2, path)[0]
    if K < 2:
        raise VtccError(
            f"{path}: its cluster projector has {K} output; a clustering has at least 2"
        )
    return sizes, K, channels


def _shape(weights: dict[str, Tensor], name: str, dims: int, path: Path) -> tuple[int, ...]:
    if name not in weights:
        raise VtccError(
            f"{path}: without {_theirs(name)}, so not a whole VTCC checkpoint (missing; it holds "
            f"{some([_theirs(k) for k in weights])})"
        )
    shape = tuple(weights[name].shape)
    if len(shape) != dims or 0 in shape:
        raise VtccError(f"{path}: {_theirs(name)} has shape {shape}; expected {dims} dimensions")
    return shape


def _grid(positions: Tensor, d: int, path: Path) -> int:
    """Tokens per side that the positions were made for."""
    shape = tuple(positions.shape)
    grid = math.isqrt(max(shape[1] - 1, 0)) if len(shape) == 3 else 0
    if not grid or shape != (1, grid**2 + 1, d):
        raise VtccError(
            f"{path}: vtcc.pos_embed has shape {shape}; expected (1, 1 + a square number, {d})"
        )
    if not bool(torch.isfinite(positions.float()).all()):
        raise VtccError(f"{path}: vtcc.pos_embed is not finite; take an earlier checkpoint")
    return grid


def _check(weights: dict[str, Tensor], model: nn.Module, path: Path) -> None:
    """Every tensor of the model is there, in its shape and finite, and nothing else is."""
    wanted = {k: v for k, v in model.state_dict().items() if k not in _NOT_THEIRS}
    # Statistics of old torch versions lack the counter, which no output depends on.
    missing = [k for k in wanted if k not in weights and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in weights if k not in wanted]
    shaped = [k for k in wanted if k in weights and weights[k].shape != wanted[k].shape]
    problems = []
    for word, names in (("missing", missing), ("unexpected", unexpected), ("ill-shaped", shaped)):
        if names:
            described = [
                _theirs(k)
                + (
                    f" {tuple(weights[k].shape)}, expected {tuple(wanted[k].shape)}"
                    if word == "ill-shaped"
                    else ""
                )
                for k in names
            ]
            problems.append(f"{len(names)} {word}: {some(described)}")
    if problems:
        raise VtccError(f"{path}: not the weights of a VTCC model ({'; '.join(problems)})")
    check_numbers({_theirs(k): v for k, v in weights.items()}, path)


_NOT_THEIRS = ("selected_head", "encoder.positions")


def _are_fixed(positions: Tensor) -> bool:
    """True when positions are the paper's table, up to rounding."""
    _, tokens, d = positions.shape
    fixed = sincos_positions(math.isqrt(tokens - 1), d)
    return torch.allclose(positions.float(), fixed, rtol=0, atol=SAME_POSITIONS)


def _theirs(name: str) -> str:
    """Our name of a tensor as the user finds it in the file."""
    for theirs, mine in _PROJECTORS.items():
        if name.startswith(f"{mine}."):
            return theirs + name.removeprefix(mine)
    if not name.startswith("encoder."):
        return name
    rest = name.removeprefix("encoder.")
    for theirs, mine in _ENCODER.items():
        if rest == mine or rest.startswith(f"{mine}."):
            rest = theirs + rest.removeprefix(mine)
    return f"vtcc.{rest}"
