"""The choices of `vtcc cluster`, each with its reason; params.yaml holds what comes out."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from vtcc import config, encoders
from vtcc.config import compose
from vtcc.encoders import catalog
from vtcc.grouping.survey import Survey

SAME = 0.62  # images and turned copies told apart less often than this look the same
PLAIN = 0.5  # share of images on plain ground from which all are taken to be
FEW_COLOURED = 0.05
LEAST_STEPS, MOST_STEPS = 200, 6000
MOST_EPOCHS = 600
FROZEN_STEPS = 100, 400  # least and most of a training of projectors alone

# Recipes by the longer training they can bear: side in pixels, then the model.
SMALL = {
    16: {"patch_size": 4, "embed_dim": 64, "depth": 3, "num_heads": 4},
    32: {"patch_size": 8, "embed_dim": 96, "depth": 3, "num_heads": 4},
    48: {"patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4},
    64: {"patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4},
}


LARGEST = 224  # pixels; at 260 lite2 takes a third longer for the same clusters
FINETUNING_RATE = 1e-4
_FLIPS = ("flip", "vertical_flip", "quarter_turns")


class Reason(TypedDict):
    """A decision, and why it was taken, in words."""

    value: Any
    why: str


@dataclass
class Choices:
    """Parameters and why they are what they are.

    Attributes:
        params: nested, complete.
        reasons: dotted parameter (or a word) -> value and reason in words.
    """

    params: dict[str, Any]
    reasons: dict[str, Reason] = field(default_factory=dict)

    def set(self, values: dict[str, Any], what: str, shown: Any, why: str) -> None:
        """Replaces parameters and says why.

        Args:
            values: dotted keys. what: is decided. shown: the decision. why: in words.
        """
        self.params = config.override(self.params, values)
        self.reasons[what] = Reason(value=shown, why=why)


def choose(survey: Survey, *, name: str, source: str, clusters: int, seed: int = 0) -> Choices:
    """Parameters for a folder, by what a sample of it is like; no label is looked at.

    Args:
        survey: of the folder. name: of the data set. source: absolute path of the folder.
        clusters: K of the heads. seed: of the training.
    """
    values = compose.compose("folder")
    values["evaluate"]["baselines"] = []
    choices = Choices(config.override(values, {"dataset.name": name, "dataset.source": source}))
    choices.params["train"]["seed"] = seed
    choices.params["train"]["num_clusters"] = clusters
    # One training is over in minutes; what is odd in it the report says.
    choices.params["validate"] |= {"max_unreadable": 0.5, "max_duplicates": 1.0}
    _channels(choices, survey)
    _size(choices, survey)
    _augmentation(choices, survey)
    _optimisation(choices, survey)
    config.from_dict(config.Params, choices.params)
    return choices


def use_encoder(
    choices: Choices, encoder: str, survey: Survey, *, weights: Path | None, finetune: bool
) -> None:
    """Replaces the model that learns from pixels by a pretrained encoder under the projectors.

    Args:
        encoder: a name of `vtcc encoders`, or "timm:NAME" with weights. survey: of the folder.
        weights: a local file; None: those that `vtcc encoders` finds.
        finetune: train the encoder too; else its features are made once.
    """
    card = None if encoder.startswith("timm:") else encoders.card(encoder)
    side = survey.short_side
    small = side <= catalog.SMALL  # crops of such images mislead the encoder (docs/design.md)
    size = LARGEST
    if card is not None:
        size = min(card.size_for(None if finetune else side), LARGEST)
    values: dict[str, Any] = {
        "train.model.encoder": encoder,
        "train.model.weights": str(weights.absolute()) if weights else "",
        "train.normalize": "encoder",
        "dataset.channels": 3,
        "train.image_size": size,
        "validate.image_size": size,
    }
    if finetune:
        values["train.optimizer.learning_rate"] = FINETUNING_RATE
    else:
        flips = {f"train.augment.{k}": choices.params["train"]["augment"][k] for k in _FLIPS}
        own: dict[str, Any] = {
            "train.loss.instance_temperature": 0.5,
            "train.model.num_cluster_heads": 1,  # shares no weight with the instance features
            "train.model.assign": "heads",  # a head is taught at the end
            "train.selection.points": 1,  # by a head that is not used: the last epoch is as good
            "evaluate.baselines": [],
        }
        if small:
            mirrored = float(flips["train.augment.flip"] > 0)
            own |= {
                "embed.views": 1,
                "train.augment.crop_scale": [1.0, 1.0],
                "train.augment.flip": mirrored,
            }
            value = "mirrored" if mirrored else "mild light"
            why = f"{side:.0f} pixels are too few for crops that an encoder knows"
        else:
            value, why = "features", "crops and mild light, of which features are made once"
        values = compose.frozen() | values | flips | own
        if card is not None:
            components = values["train.model.components"]
            values["train.model.components"] = min(components, card.feature_dim)
        choices.reasons["augmentation"] = Reason(value=value, why=why)
    choices.params = config.override(choices.params, values)
    for what in ("image size", "model", "colours", "batch"):
        choices.reasons.pop(what, None)


def _channels(choices: Choices, survey: Survey) -> None:
    grey = survey.colour < FEW_COLOURED
    choices.set(
        {"dataset.channels": 1 if grey else 3},
        "colours",
        "grey" if grey else "RGB",
        f"{survey.colour:.0%} of {survey.looked_at} images looked at have colour",
    )


def _size(choices: Choices, survey: Survey) -> None:
    side = survey.short_side
    size = next((s for s in (16, 32) if side <= 1.25 * s), 48)
    cache = {16: 16, 32: 32, 48: 64}[size]
    model = {f"train.model.{k}": v for k, v in SMALL[size].items()}
    choices.set(
        {"train.image_size": size, "validate.image_size": cache, **model},
        "image size",
        f"{size} x {size} pixels",
        f"the images are {side:.0f} pixels on their shorter side"
        + (", more than a processor can learn from in minutes" if size < side else ""),
    )
    choices.reasons["model"] = {
        "value": "conv-stem ViT, width {embed_dim}, depth {depth}, patch {patch_size}".format(
            **SMALL[size]
        ),
        "why": "the largest at this image size that learns within minutes on a processor",
    }


def _augmentation(choices: Choices, survey: Survey) -> None:
    no_up = max(survey.upside_down, survey.quarter) < SAME
    mirrored = survey.mirror < SAME
    shapes = survey.plain > PLAIN and survey.colour < FEW_COLOURED
    if shapes:
        kind, why = "glyphs", f"{survey.plain:.0%} of the images are shapes on plain ground"
    elif no_up:
        kind, why = "aerial", "turned copies of the images look like the images: nothing is up"
    else:
        kind, why = "natural", "the images have an up and a down"
    size = choices.params["train"]["image_size"]
    flips = {
        "train.augment.flip": 0.5 if mirrored else 0.0,
        "train.augment.vertical_flip": 0.5 if no_up else 0.0,
        "train.augment.quarter_turns": no_up,
    }
    ranges = compose.changes(augment=kind)
    if shapes:  # pixel-valued ranges hold at 16 pixels
        ranges["train.augment.blur_sigma"] = [0.01, size / 16]
        if survey.dark_ground < 0.5:
            ranges["train.augment.padding"] = "reflection"
    if choices.params["dataset"]["channels"] == 1:
        ranges |= {f"train.augment.{k}": 0.0 for k in ("saturation", "hue", "grey")}
    choices.set(ranges | flips, "augmentation", kind, why)
    accuracies = (
        f"a linear classifier tells images from mirrored ones {survey.mirror:.0%} of the time, "
        f"from upside-down ones {survey.upside_down:.0%}, from ones turned by a quarter "
        f"{survey.quarter:.0%} (chance 50%)"
    )
    does = [w for w, on in (("mirrored", mirrored), ("turned", no_up)) if on]
    choices.reasons["flips"] = {"value": " and ".join(does) or "none", "why": accuracies}


def _optimisation(choices: Choices, survey: Survey) -> None:
    photographs = choices.reasons["augmentation"]["value"] != "glyphs"
    batch = 128 if survey.images >= 256 else max(2, 2 ** int(math.log2(survey.images / 2)))
    choices.set(
        {
            "train.batch_size": batch,
            "train.loss.instance_temperature": 0.2 if photographs else 0.5,
            "train.optimizer.learning_rate": 0.002 if photographs else 0.004,
            "train.loss.entropy_weight": 1.0 if photographs else 1.5,
            "train.model.num_cluster_heads": 8,
            "train.restart_heads": not photographs,
        },
        "batch",
        batch,
        f"{survey.images} images",
    )


def epochs_for(
    seconds: float, seconds_per_step: float, steps_per_epoch: int, *, frozen: bool = False
) -> int:
    """As many epochs as fit the time, within what a training can use.

    Args:
        frozen: projectors alone are trained, which have learned what they can much sooner.
    """
    least, most = FROZEN_STEPS if frozen else (LEAST_STEPS, MOST_STEPS)
    steps = min(max(seconds / seconds_per_step, least), most)
    return int(min(max(round(steps / steps_per_epoch), 1), MOST_EPOCHS))
