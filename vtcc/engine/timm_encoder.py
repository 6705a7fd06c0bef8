"""Any encoder of timm under the projectors, with weights from a local file."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vtcc.encoders.conversion import whose
from vtcc.encoders.models import check
from vtcc.encoders.tensor_file import check_numbers, read_tensors, some
from vtcc.errors import VtccError, in_one_line


class TimmEncoder(nn.Module):
    """Image -> pooled features of a timm model.

    Args:
        name: of the timm model, such as "resnet18" or "vit_small_patch16_224.dino".
        image_size: side in pixels; passed on to models that are built for one size.
        channels: of the images; timm adapts pretrained first layers to it.
        weights: a local file (safetensors, or a torch file of tensors); empty for random ones.
        frozen: keep weights and BatchNorm statistics as they are.

    Raises:
        VtccError: when there is no such model, or the weights are missing or do not fit.
    """

    def __init__(
        self, name: str, *, image_size: int, channels: int, weights: str = "", frozen: bool = False
    ):
        super().__init__()
        self.frozen = frozen
        self.model = _create(name, image_size, channels, weights)
        self.embed_dim = _width(self.model, name, image_size, channels)
        if frozen:
            self.requires_grad_(False)
            self.train()

    def train(self, mode: bool = True) -> "TimmEncoder":
        """As usual; a frozen encoder stays in eval mode."""
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, S, S) float -> h: (N, d)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            h: Tensor = self.model(x)
        return h


def constants(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per RGB channel that a timm model's weights were trained with.

    Raises:
        VtccError: when timm does not say.
    """
    import timm

    check(name, "")
    known = timm.get_pretrained_cfg(name)
    if known is None or len(known.mean) != 3:
        raise VtccError(
            f"train.normalize: timm does not say what images {name} was trained on; use 'dataset'"
        )
    return tuple(known.mean), tuple(known.std)


def _create(name: str, image_size: int, channels: int, weights: str) -> nn.Module:
    check(name, weights)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    if not weights:
        return _made(name, image_size, options, "train.model.encoder")
    from timm.models import clean_state_dict

    file = Path(weights)
    where = f"train.model.weights: {weights}"
    tensors = read_tensors(file)
    check_numbers(tensors, file)
    before = torch.get_rng_state()
    # The tensors, not the file: timm's own reader may find others in it, or run its code.
    overlay = {"state_dict": clean_state_dict(tensors)}
    given = options | {"pretrained": True, "pretrained_cfg_overlay": overlay}
    try:
        loaded = _made(name, image_size, given, where)
    except VtccError as error:
        known = whose(overlay["state_dict"], name)
        raise VtccError(f"{error}; {known}" if known else str(error)) from None
    settings: Any = loaded.pretrained_cfg
    del settings["state_dict"]  # a copy of all tensors
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(before)
        fresh = _made(name, image_size, options, where).state_dict()
    # timm passes over what a file lacks; weights still at their random start were not in it.
    drawn = {k for k, v in fresh.items() if v.ndim > 1 and v.is_floating_point() and v.std() > 0}
    missing = [k for k, v in loaded.state_dict().items() if k in drawn and torch.equal(v, fresh[k])]
    if missing:
        raise VtccError(
            f"{where}: without {len(missing)} of the {len(drawn)} weights of timm's {name}: "
            f"{some(missing)}; "
            f"{whose(overlay['state_dict'], name) or 'is it a file of that model?'}"
        )
    return loaded


def _made(name: str, image_size: int, options: dict[str, Any], where: str) -> nn.Module:
    import timm

    try:
        try:
            return timm.create_model(name, img_size=image_size, **options)
        except TypeError as error:
            # Convolutional models take any size and know no such argument.
            if "img_size" not in str(error):
                raise
            return timm.create_model(name, **options)
    except (RuntimeError, LookupError, ValueError, AssertionError, AttributeError) as error:
        raise VtccError(
            f"{where}: not usable for timm's {name} at {image_size} pixels ({in_one_line(error)})"
        ) from None


def _width(model: nn.Module, name: str, image_size: int, channels: int) -> int:
    """Length of the features, by a forward pass: not every model of timm tells it rightly."""
    was = model.training
    try:
        with torch.no_grad():
            features = model.eval()(torch.zeros(1, channels, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise VtccError(
            f"train.model.encoder: timm's {name} does not take images of {image_size} pixels "
            f"({in_one_line(error)}); raise train.image_size or take another encoder"
        ) from None
    finally:
        model.train(was)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise VtccError(
            f"train.model.encoder: timm's {name} gives no one vector per image; take another"
        )
    return int(features.shape[1])
