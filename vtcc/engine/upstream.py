"""Reads a checkpoint of the authors' VTCC code into our model, without running code.

Their file holds the weights under `net`: `vtcc.*` (an encoder with timm's names),
`instance_projector.*` and `cluster_projector.*`. All sizes but the number of attention heads
follow from the tensors.
"""

import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vtcc.config import Model, from_dict, preset_text, to_dict
from vtcc.engine.model import VTCC, build
from vtcc.engine.vit import sincos_positions
from vtcc.errors import VtccError

WRAPPERS = ("net", "model", "state_dict")
DEFAULT_IMAGE_SIZE = 224  # of the paper, where the file has no positions to tell
# Between tables computed in float32 and in float64; learned ones differ by far more.
SAME_POSITIONS = 1e-4
_NAMED = 3  # keys told by name

_PROJECTORS = {
    "instance_projector": "instance_projector",
    "cluster_projector": "cluster_projectors.0",
}
_ENCODER = {"cls_token": "class_token", "patch_embed.proj": "stem"}


def import_upstream(path: Path | str, num_heads: int = 12, image_size: int | None = None) -> VTCC:
    """The model of an upstream checkpoint, on the CPU in eval mode.

    Args:
        path: a torch file or safetensors.
        num_heads: attention heads per block, which no tensor tells (paper: 12).
        image_size: side in pixels the model will take; by default what the file's positions
            were made for, or 224 where it has none.

    Raises:
        VtccError: when the file is not such a checkpoint; the message names it and the reason.
    """
    return read_upstream(path, num_heads, image_size)[0]


def read_upstream(
    path: Path | str, num_heads: int = 12, image_size: int | None = None
) -> tuple[VTCC, dict[str, Any]]:
    """As `import_upstream`, with what `save_model` needs to know of the architecture.

    Returns:
        The model, and `model`, `num_clusters`, `image_size`, `channels` as in `model.json`.
    """
    path = Path(path)
    weights = _our_names(_tensors(path), path)
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

    section = yaml.safe_load(preset_text("paper"))["train"]["model"] | sizes
    params = from_dict(Model, section, f"{path}: model")
    with torch.device("meta"):  # costs no memory, whatever sizes a file pretends
        _check(weights, build(params, K, image_size=image_size, channels=channels), path)
    model = build(params, K, image_size=image_size, channels=channels)
    model.load_state_dict(model.state_dict() | weights)
    if positions is not None:
        keep_positions(model, positions.float())
    facts = {
        "model": to_dict(params),
        "num_clusters": K,
        "image_size": image_size,
        "channels": channels,
    }
    return model.eval(), facts


def keep_positions(model: VTCC, positions: Tensor) -> None:
    """Puts other positions in place of the encoder's fixed table; they are saved with the model.

    A table that was rounded another way counts as another: after BatchNorm, a difference in the
    last bits can show.
    """
    encoder: Any = model.encoder
    if not torch.equal(encoder.positions, positions):
        encoder.register_buffer("positions", positions.clone())


def _tensors(path: Path) -> dict[str, Tensor]:
    """The file's weights by upstream name, without wrapper."""
    content = _open(path)
    if not isinstance(content, Mapping):
        raise _not_a_checkpoint(path, f"it holds a {type(content).__name__}, no named tensors")
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    odd = [
        k for k, v in tensors.items() if v.layout != torch.strided or v.is_meta or v.is_quantized
    ]
    if odd:
        raise VtccError(f"{path}: {_some(odd)}: not plain tensors; save them dense and float")
    if sum(v.numel() for v in tensors.values()) > path.stat().st_size:
        raise VtccError(f"{path}: its tensors claim to be larger than the file; not loaded")
    return tensors


def _open(path: Path) -> Any:
    if not path.exists():
        raise VtccError(f"{path}: no such file; give the checkpoint the training wrote")
    if path.is_dir():
        raise VtccError(f"{path}: a directory; give the checkpoint file in it")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise VtccError(f"{path}: empty; copy or download it again")
    text = head.lstrip().lower()
    if text.startswith(b"<"):
        raise _not_a_checkpoint(path, "it is a web page or XML")
    if text.startswith(b"version https://git-lfs"):
        raise _not_a_checkpoint(path, "it is a git-lfs pointer; run `git lfs pull`")
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise _not_a_checkpoint(path, f"damaged safetensors: {_line(error)}") from None
    if zipfile.is_zipfile(path):
        _refuse_compressed(path)
    return _torch_load(path)


def _refuse_compressed(path: Path) -> None:
    """A torch file stores its tensors as they are; one that expands is none, or a trap."""
    try:
        with zipfile.ZipFile(path) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _not_a_checkpoint(path, f"damaged: {_line(error)}") from None
    if expanded > 2 * path.stat().st_size + 2**20:
        raise _not_a_checkpoint(path, f"a compressed archive that expands to {expanded:,} bytes")


def _torch_load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not found:
            # torch's own text goes on about its defaults, which helps nobody here.
            raise _not_a_checkpoint(path, "not in torch's file format") from None
        raise VtccError(
            f"{path}: holds more than tensors ({found[1]}), which could run code while loading, so "
            "it was not opened; if you trust it, extract the weights yourself, best in a "
            "container without network: torch.save({'net': torch.load(FILE, weights_only=False)"
            "['net']}, 'weights.pt'), and import weights.pt"
        ) from None
    except Exception as error:
        # A damaged or foreign file breaks torch's reader in any way there is.
        raise _not_a_checkpoint(path, _line(error)) from None


def _not_a_checkpoint(path: Path, why: str) -> VtccError:
    return VtccError(
        f"{path}: not a checkpoint of tensors ({why}); expected what torch.save wrote, "
        "with the weights under 'net', or safetensors"
    )


def _our_names(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Upstream names to ours; whatever stands before the three parts is left out."""
    encoders = sorted({k.removesuffix("cls_token") for k in tensors if k.endswith("cls_token")})
    if len(encoders) != 1:
        raise VtccError(
            f"{path}: expected one encoder with a cls_token, found {len(encoders)}; it holds "
            f"{_some(list(tensors)) or 'no tensor'}, where a VTCC checkpoint holds "
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
            raise VtccError(f"{path}: {key}: holds the same part twice")
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
            f"{_some([_theirs(k) for k in weights])})"
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
            told = [
                _theirs(k)
                + (
                    f" {tuple(weights[k].shape)}, expected {tuple(wanted[k].shape)}"
                    if word == "ill-shaped"
                    else ""
                )
                for k in names
            ]
            problems.append(f"{len(names)} {word}: {_some(told)}")
    if problems:
        raise VtccError(f"{path}: not the weights of a VTCC model ({'; '.join(problems)})")
    broken = [_theirs(k) for k, v in weights.items() if not bool(torch.isfinite(v.float()).all())]
    if broken:
        raise VtccError(
            f"{path}: {len(broken)} tensors are not finite: {_some(broken)}; the training "
            "diverged, so take an earlier checkpoint"
        )


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


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
