"""A running average of weights (EMA), kept as the model where `train.ema` asks for it."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    """An average of the weights and buffers of `model` on its device; None for decay 0.

    Args:
        model: whose present weights are the first average.
        decay: share of the average that stays at each `update_parameters`, 0 to below 1.
    """
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
