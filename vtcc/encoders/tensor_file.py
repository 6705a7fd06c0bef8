"""Reads a file of tensors that anyone may have made, without running code."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vtcc import zip_file
from vtcc.errors import VtccError, in_one_line, shown
from vtcc.progress import several
from vtcc.regular import regular

# Where a file has weights and their running average, as timm's do, the average is meant.
WRAPPERS = ("state_dict_ema", "model_ema", "net", "model", "state_dict")
_NAMED = 3  # keys told by name
_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file, on the CPU, without the wrapper they may lie in.

    Args:
        path: what `torch.save` wrote of a state dict, alone or under one of `WRAPPERS`; or
            safetensors.

    Raises:
        VtccError: when it is no such file or holds more than tensors; the message names it.
    """
    content = _open(path)
    if not isinstance(content, Mapping):
        raise _not_a_checkpoint(path, f"it holds a {type(content).__name__}, no named tensors")
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise _not_a_checkpoint(path, "it holds no named tensors")
    odd = [
        k for k, v in tensors.items() if v.layout != torch.strided or v.is_meta or v.is_quantized
    ]
    if odd:
        raise VtccError(f"{path}: {some(odd)}: not plain tensors; save them dense and float")
    if sum(v.numel() for v in tensors.values()) > path.stat().st_size:
        raise VtccError(f"{path}: its tensors claim to be larger than the file; not loaded")
    return tensors


@contextmanager
def plain_name(path: Path) -> Iterator[str]:
    """Yields a name that safetensors can open a file by, for it takes no path that is not UTF-8.

    Not the file's bytes: safetensors would copy them, and maps what it opens itself.

    Raises:
        OSError: when the file cannot be read.
    """
    with regular(path).open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def check_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuses weights that are not real numbers, not finite, or impossible statistics.

    Raises:
        VtccError: naming the tensors.
    """
    counters = [k for k in tensors if k.endswith("num_batches_tracked")]
    wrong = [k for k, v in tensors.items() if v.dtype not in _REAL and k not in counters]
    if wrong:
        kinds = sorted({str(tensors[k].dtype).removeprefix("torch.") for k in wrong})
        raise VtccError(
            f"{path}: {some(wrong)}: of type {', '.join(kinds)}, where weights are floating-point "
            "numbers; save the state_dict as it was trained"
        )
    broken = [
        k for k, v in tensors.items() if k not in counters and not bool(torch.isfinite(v).all())
    ]
    if broken:
        raise VtccError(
            f"{path}: {several(len(broken), 'tensors')} with values that are not finite: "
            f"{some(broken)}; the training diverged, so take an earlier checkpoint"
        )
    negative = [k for k, v in tensors.items() if k.endswith("running_var") and bool((v < 0).any())]
    if negative:
        raise VtccError(
            f"{path}: {some(negative)}: a variance below zero; the file is damaged, copy it again"
        )


def _open(path: Path) -> Any:
    if not path.exists():
        raise VtccError(f"{path}: no such file; give the checkpoint the training wrote")
    if path.is_dir():
        raise VtccError(f"{path}: a directory; give the checkpoint file in it")
    if not path.is_file():
        raise VtccError(f"{path}: a pipe or a device, not a file; give the checkpoint file")
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
            with plain_name(path) as name:
                return load_file(name)
        except SafetensorError as error:
            raise _not_a_checkpoint(path, f"damaged safetensors: {in_one_line(error)}") from None
    if len(head) > 4 and all(9 <= byte <= 13 or 32 <= byte < 127 for byte in head):
        raise _not_a_checkpoint(path, "it is text")
    _check_zip(path, head)
    return _torch_load(path)


def _check_zip(path: Path, head: bytes) -> None:
    """A torch file stores its tensors as they are; one that expands is none, or a trap."""
    try:
        if not zipfile.is_zipfile(regular(path)):
            if head.startswith(b"PK"):
                raise _not_a_checkpoint(path, "cut short or damaged; copy or download it again")
            return  # of before torch wrote zips
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zip_file.DAMAGED as error:
        raise _not_a_checkpoint(path, f"damaged: {in_one_line(error)}") from None
    if not any(m.filename.endswith("data.pkl") for m in members):
        raise _not_a_checkpoint(path, "a zip archive of other things")
    expanded = sum(m.file_size for m in members)
    if expanded > 2 * path.stat().st_size + 2**20:
        raise _not_a_checkpoint(path, f"a compressed archive that expands to {expanded:,} bytes")


def _torch_load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on foreign files help nobody here
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not match:
            # torch's own text goes on about its defaults.
            raise _not_a_checkpoint(
                path, "a pickle of something else, which could run code and was not opened"
            ) from None
        raise VtccError(
            f"{path}: holds more than tensors ({match[1]}), which could run code while loading, so "
            "it was not opened; if you trust it, extract the weights yourself, best in a "
            "container without network: torch.save({'net': torch.load(FILE, weights_only=False)"
            "['net']}, 'weights.pt'), or whatever key holds them, and give weights.pt instead"
        ) from None
    except Exception as error:
        # A damaged or foreign file breaks torch's reader in any way there is.
        raise _not_a_checkpoint(path, in_one_line(error)) from None


def _not_a_checkpoint(path: Path, why: str) -> VtccError:
    return VtccError(
        f"{path}: not a checkpoint of tensors ({why}); expected what torch.save wrote of a "
        "state_dict, or safetensors"
    )


def some(names: list[str]) -> str:
    """The first few names, as a message may show them."""
    return ", ".join(shown(name) for name in names[:_NAMED]) + (
        ", ..." if len(names) > _NAMED else ""
    )
