"""Which device, precision, attention kernel and compilation a training uses.

By fixed rules; a training that goes on keeps those it began with.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from vtcc.config import Train
from vtcc.errors import VtccError

# Measured on CPUs: below about this many tokens the plain product beats the fused kernel.
FEW_TOKENS = 64

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Kernels:
    """Resolved choices.

    Attributes:
        device: "cpu" or "cuda". precision: "fp32" or "bf16".
        fused_attention: torch's fused kernel instead of the plain product, in our encoder.
        compile: torch.compile of the passes that are trained.
        channels_last: memory layout of images and convolutions.
    """

    device: str
    precision: str
    fused_attention: bool
    compile: bool = False
    channels_last: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 for the matrix products, or nothing."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def placed(self, model: M) -> M:
        """The model on the device, its convolutions in the memory layout."""
        model = model.to(self.device)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model


def resolve_device(device: str) -> str:
    """Turns "auto" into "cuda" or "cpu".

    Raises:
        VtccError: when cuda is asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise VtccError("train.device: cuda, but torch finds no GPU; use auto or cpu")
    return device


def resolve(params: Train) -> Kernels:
    """Resolves every `auto` of the train section by what this machine has.

    The channels-last layout is for GPUs: on a CPU it takes 2 to 24 % off the stem, which is at
    most 2 % of a step, and would change the bits of every training made without it.
    """
    device = resolve_device(params.device)
    precision = params.precision
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bf16()
        precision = "bf16" if fast else "fp32"
    tokens = (params.image_size // params.model.patch_size) ** 2 + 1
    fused = params.attention == "fused" or (
        params.attention == "auto" and (device == "cuda" or tokens > FEW_TOKENS)
    )
    return Kernels(device, precision, fused, params.compile == "always", device == "cuda")


def begun_with(kernels: Mapping[str, Any] | None, params: Train) -> Kernels:
    """Those that a checkpoint was made with, else `resolve`: where there is none, or the user asks
    for others.

    On another kind of device all that is computed stays; the memory layout is by its rule.

    Args:
        kernels: of the checkpoint. params: the `train` section.
    """
    rule = resolve(params)
    try:
        begun = Kernels(**kernels) if kernels else rule
    except TypeError:  # of another version
        return rule
    if begun.device != rule.device:
        begun = replace(begun, device=rule.device, channels_last=rule.channels_last)
    asked = (
        params.precision in ("auto", begun.precision),
        params.attention in ("auto", "fused" if begun.fused_attention else "plain"),
        params.compile in ("auto", "always" if begun.compile else "never"),
    )
    return begun if all(asked) else rule


def _cpu_has_bf16() -> bool:
    """True with bf16 instructions; without them bf16 is emulated and slower than fp32."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
