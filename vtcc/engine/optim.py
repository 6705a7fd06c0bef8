"""Optimiser and learning-rate schedule."""

import math

import torch
from torch import nn

from vtcc.config import Optimizer


def make_optimizer(model: nn.Module, params: Optimizer) -> torch.optim.Optimizer:
    """Adam as in the paper, or AdamW without decay on biases, norms and the class token."""
    if params.name == "adam":
        moving = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.Adam(moving, lr=params.learning_rate, fused=True)
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        (exempt if p.ndim <= 1 or name.endswith(("class_token", "positions")) else decayed).append(
            p
        )
    groups = [
        {"params": decayed, "weight_decay": params.weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)


def learning_rate(params: Optimizer, step: int, steps: int) -> float:
    """Rate for `step` (from 0) of `steps`: constant, or linear warm-up and cosine to zero."""
    warmup = round(params.warmup * steps)
    if step < warmup:
        return params.learning_rate * (step + 1) / warmup
    if params.schedule == "constant":
        return params.learning_rate
    progress = (step - warmup) / max(steps - warmup, 1)
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets one rate for all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate
