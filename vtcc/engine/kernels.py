"""Which device, precision and attention kernel a training uses.

`auto` is resolved by fixed rules, never by timing, so that a repeat and a resume on the same
kind of machine compute the same bits.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from vtcc.config import Train
from vtcc.errors import VtccError

# Measured on CPUs: below about this many tokens the plain product beats the fused kernel.
FEW_TOKENS = 64


@dataclass(frozen=True)
class Kernels:
    """Resolved choices: device "cpu" or "cuda", precision "fp32" or "bf16"."""

    device: str
    precision: str
    fused_attention: bool

    def autocast(self) -> AbstractContextManager:
        """bf16 for the matrix products, or nothing."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")


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
    """Resolves every `auto` of the train section for this machine."""
    device = resolve_device(params.device)
    precision = params.precision
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bf16()
        precision = "bf16" if fast else "fp32"
    tokens = (params.image_size // params.model.patch_size) ** 2 + 1
    fused = params.attention == "fused" or (
        params.attention == "auto" and (device == "cuda" or tokens > FEW_TOKENS)
    )
    return Kernels(device, precision, fused)


def _cpu_has_bf16() -> bool:
    """True with bf16 instructions; without them bf16 is emulated and slower than fp32."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
