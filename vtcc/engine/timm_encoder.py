"""Any encoder of timm under the projectors, with weights from a local file."""

import difflib
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vtcc.errors import VtccError


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
        with torch.no_grad():
            was = self.model.training
            found = self.model.eval()(torch.zeros(1, channels, image_size, image_size))
            self.model.train(was)
        self.embed_dim = int(found.shape[1])
        if frozen:
            self.requires_grad_(False)
            self.train()

    def train(self, mode: bool = True) -> "TimmEncoder":
        """As usual; a frozen encoder stays in eval mode."""
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, S, S) float -> h: (N, d)."""
        if not self.frozen:
            return self.model(x)
        with torch.no_grad():
            return self.model(x)


def _create(name: str, image_size: int, channels: int, weights: str) -> nn.Module:
    import timm

    if not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(name.split(".")[0], known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise VtccError(f"train.model.encoder: timm has no model {name!r}; {hint}")
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    if weights:
        if not Path(weights).is_file():
            raise VtccError(
                f"train.model.weights: no file {weights!r} in {Path.cwd()}; fetch the weights of "
                f"{name} where there is a network (timm.create_model({name!r}, pretrained=True)), "
                "save its state_dict with safetensors and name that file in full"
            )
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": weights}}
    try:
        try:
            return timm.create_model(name, img_size=image_size, **options)
        except TypeError as error:
            # Convolutional models take any size and know no such argument.
            if "img_size" not in str(error):
                raise
            return timm.create_model(name, **options)
    except (
        RuntimeError,
        SafetensorError,
        pickle.UnpicklingError,
        LookupError,
        ValueError,
        AssertionError,
        EOFError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        where = f"train.model.weights: {weights}" if weights else "train.model.encoder"
        raise VtccError(
            f"{where}: not usable for timm's {name} at {image_size} pixels ({reason})"
        ) from None
