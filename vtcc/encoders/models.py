"""Which models timm has, before one is built."""

import difflib
from pathlib import Path

from vtcc.errors import VtccError


def check(name: str, weights: str) -> None:
    """Raises VtccError when timm has no model of this name, or the weights are no file."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise VtccError(f"train.model.encoder: timm has no model {name!r}; {hint}")
    if weights and not Path(weights).is_file():
        raise VtccError(
            f"train.model.weights: no file {weights!r} in {Path.cwd()}; name a file of "
            f"safetensors in full, take an encoder of `vtcc encoders`, or fetch the weights of "
            f"{name} where there is a network (timm.create_model({name!r}, pretrained=True)) and "
            "save its state_dict with safetensors"
        )
