"""Pretrained features or training from scratch: decided by what the images are like."""

from dataclasses import dataclass

from vtcc import encoders
from vtcc.errors import VtccError
from vtcc.grouping.choices import FEW_COLOURED, PLAIN, Reason
from vtcc.grouping.options import Options
from vtcc.grouping.survey import Survey
from vtcc.progress import note

# Of those whose weights are on this machine the first is taken: strongest first on a GPU, by
# clusters per minute on a CPU.
ON_GPU = ("dinov2-base", "clip-b16", "eva02-clip-b", "dinov2-small", "clip-b32", "lite2", "lite0")
ON_CPU = ("lite2", "lite0")


@dataclass(frozen=True)
class Chosen:
    """The encoder, as `train.model.encoder` names it; empty: trained from scratch."""

    name: str
    reason: Reason


def encoder(options: Options, survey: Survey) -> Chosen:
    """Which encoder a folder gets.

    Raises:
        VtccError: when the one that was asked for does not exist, its weights cannot be had, or
            its licence is not accepted.
    """
    if given := options.overrides.get("train.model.encoder"):
        return _chosen("", str(given), "by the parameters you gave")
    if options.encoder == "none":
        return _chosen("", "from scratch", "as you asked")
    if options.encoder != "auto":
        return _asked_for(options)
    if survey.colour < FEW_COLOURED and survey.plain > PLAIN:
        return _chosen(
            "",
            "from scratch",
            f"{survey.plain:.0%} of the images are grey shapes on plain ground, unlike the "
            "photographs that pretrained encoders have seen",
        )
    import torch

    for name in ON_GPU if torch.cuda.is_available() else ON_CPU:
        if encoders.available(encoders.card(name)):
            card = encoders.card(name)
            why = f"photographs; {card.licence}, {card.parameters / 1e6:.0f} million parameters"
            return _chosen(name, name, why)
    why = (
        "no weights of a pretrained encoder are on this machine: `vtcc encoders` lists them, and "
        "with one photographs are grouped better in less time"
    )
    note(f"encoder: {why}")
    return _chosen("", "from scratch", why)


def _asked_for(options: Options) -> Chosen:
    name = options.encoder
    if name in encoders.names():
        resolved = encoders.resolve(
            name,
            weights=options.weights,
            may_download=True,
            accept_licence=options.accept_licence,
        )
        return _chosen(name, name, f"as you asked; {resolved.card.licence}, {resolved.source}")
    timm = name.removeprefix("timm:")
    if options.weights is None and timm == name:
        encoders.card(name)  # says which names there are
    if options.weights is None:
        raise VtccError(
            f"--encoder {name}: needs --weights, a file with the weights of timm's {timm}; those "
            "of `vtcc encoders` are found without"
        )
    return _chosen(f"timm:{timm}", timm, f"as you asked; weights from {options.weights}")


def _chosen(name: str, value: str, why: str) -> Chosen:
    return Chosen(name, Reason(value=value, why=why))
