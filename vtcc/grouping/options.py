"""What a user can ask of `vtcc cluster`, and the settings they cannot change."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtcc import config, encoders
from vtcc.config import compose
from vtcc.data.inputs import Given, title_of
from vtcc.errors import VtccError
from vtcc.grouping.means import AT_MOST

AUTO_LOW, AUTO_HIGH = 2, 40
OVERCLUSTER = 20  # clusters of the heads of the training that K is chosen from
MAIN_SHARE = 0.72  # of the training time, with K given; the rest is the second training's
SCOUT_SHARE = 0.36  # of it, with K to be found
LEAST_TRAINING = 20.0  # seconds, whatever --minutes says
# Seconds kept for the steps after the trainings, by images: of few, of more up to some.
AFTER_FEW, AFTER_SOME = (15.0, 0.1), (45.0, 0.006)
AFTER_IMAGES = 20_000  # images from which these steps take no longer
LEAST_IMAGES = 10  # readable images that can be grouped
SAMPLE = 10_000  # images that clusters are made of; of more a sample is, and the rest is assigned

# Parameters, or their sections, that nothing here reads, and what to do instead.
_UNUSED = {
    "dataset.source": "INPUT names the images",
    "dataset.limit": "all images of the folder are grouped",
    "dataset.holdout": "all images of the folder are grouped",
    "dataset.seed": "all images of the folder are grouped",
    "download": "nothing is downloaded",
    "validate.max_unreadable": "what cannot be read is set aside, however much it is",
    "validate.max_duplicates": "the report says how many images are alike",
    "validate.near_duplicates": "the report says how many images are alike",
    "train.seed": "give --seed",
    "train.model.assign": "a head is taught the final clusters",
    "train.num_clusters": "give -k",
    "evaluate": "the report measures what it needs by itself",
}
_DECODING = ("max_pixels", "bands", "stretch", "stretch_range")
_OF_VIT = ("stem", "positions", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        folder: of images, or another input of `vtcc.data.inputs`; `others`: more of them.
        out: of the results, default `FOLDER-clusters` beside it, of a file beside its folder.
        clusters: K, or (low, high) to choose from. minutes: all of it should take.
        encoder: "auto", "none" (from scratch), a name of `vtcc encoders`, or a timm model's.
        weights: a local file for it. finetune: train the encoder as well, from these weights.
        seed: of everything random. folders: "", links or copies. overwrite: a finished result.
        overrides: dotted parameters that replace the automatic choices.
        unclustered: images that belong nowhere are in no cluster.
        unclustered_at_most: share of the images that may be so, in a model that is asked later too.
        exif: columns that the files' EXIF gives, of `vtcc.data.exif`.
        sample: images that clusters are made of, where there are more; 0: all.
    """

    folder: Given
    out: Path | None = None
    clusters: int | tuple[int, int] = (AUTO_LOW, AUTO_HIGH)
    minutes: float = 20.0
    encoder: str = "auto"
    weights: Path | None = None
    finetune: bool = False
    accept_licence: tuple[str, ...] = ()
    seed: int = 0
    folders: str = ""
    overwrite: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)
    unclustered: bool = False
    unclustered_at_most: float = AT_MOST
    others: tuple[Given, ...] = ()
    exif: tuple[str, ...] = ()
    sample: int = SAMPLE

    @property
    def given_clusters(self) -> int | None:
        """K where the user gave it; None where it is to be chosen."""
        return self.clusters if isinstance(self.clusters, int) else None

    @property
    def title(self) -> str:
        """As the results are headed."""
        return title_of(self.folder, self.others)

    @property
    def name(self) -> str:
        """Of the data set: the folder's, made fit for `dataset.name`, unless one is given."""
        given = self.overrides.get("dataset.name")
        return str(given) if given else config.fit_dataset_name(self.title)

    def decoding(self) -> dict[str, Any]:
        """How image files become pixels: keywords of `vtcc.data.images.decode`."""
        values = compose.compose("folder")["validate"]
        return {key: self.overrides.get(f"validate.{key}", values[key]) for key in _DECODING}


def parse_clusters(text: str) -> int | tuple[int, int]:
    """`auto`, a number, or a range such as 5-30.

    Raises:
        VtccError: on anything else.
    """
    if text.strip().lower() == "auto":
        return AUTO_LOW, AUTO_HIGH
    low, dash, high = text.partition("-")
    if low.isdecimal() and (not dash or high.isdecimal()):
        if not dash and int(low) >= 2:
            return int(low)
        if dash and 2 <= int(low) < int(high):
            return int(low), int(high)
    raise VtccError(f"-k: found {text!r}; allowed: a number from 2, a range such as 5-30, or auto")


def unused(key: str) -> str:
    """Why a parameter has no effect on `vtcc cluster`; empty where it has."""
    return _UNUSED.get(key) or _UNUSED.get(key.partition(".")[0], "")


def idle(key: str, params: dict[str, Any]) -> bool:
    """Whether a parameter has no effect beside the others: of another kind of model.

    Args:
        key: dotted. params: nested, complete.
    """
    model = params["train"]["model"]
    if model["frozen"] and key == "validate.image_size":
        return True
    if not model["frozen"] and key.startswith(("embed.", "train.positives.")):
        return True
    section, _, name = key.rpartition(".")
    if model["encoder"] == "vit":
        return False
    return key == "train.attention" or (section == "train.model" and name in _OF_VIT)


def check(options: Options) -> None:
    """Refuses what no call of `vtcc cluster` can be, before any work.

    Raises:
        VtccError: on a value that is not allowed, or one that another one leaves without effect.
    """
    given = "finetune" if options.finetune else "weights"
    if (options.finetune or options.weights) and options.encoder in ("auto", "none"):
        raise VtccError(
            f"--{given}: belongs to an encoder; name it by --encoder (`vtcc encoders` lists them)"
        )
    of_params = options.overrides.get("train.model.encoder", options.encoder)
    same = "none" if of_params == "vit" else of_params
    # What --encoder sets beside the name comes with a whole file of parameters alone.
    whole = same == "none" or "train.model.frozen" in options.overrides
    doubled = "train.model.encoder" in options.overrides and not whole
    if options.encoder != "auto" and (options.encoder != same or doubled):
        raise VtccError(
            f"--encoder {options.encoder}: --params or --set has train.model.encoder as well, "
            f"{of_params!r}; leave out one of them"
        )
    if "train.model.encoder" in options.overrides:
        for option, used in (
            ("--weights", options.weights),
            ("--finetune", options.finetune),
            ("--accept-licence", options.accept_licence),
        ):
            if used:
                raise VtccError(
                    f"{option}: has no effect beside train.model.encoder of --params or --set, "
                    "which says which weights and whether they are trained; leave one of them out"
                )
    if options.weights and not options.weights.is_file():
        raise VtccError(
            f"--weights {options.weights}: no such file; name one of safetensors or of torch, or "
            "leave it out for an encoder whose weights `vtcc encoders` finds"
        )
    if options.encoder not in ("auto", "none", *encoders.names()) and not options.weights:
        timm = options.encoder.removeprefix("timm:")
        if timm == options.encoder:
            encoders.card(timm)  # says which names there are
        raise VtccError(
            f"--encoder {options.encoder}: needs --weights, a file with the weights of timm's "
            f"{timm}; those of `vtcc encoders` are found without"
        )
    for name in options.accept_licence:
        if name != options.encoder:
            raise VtccError(f"--accept-licence {name}: belongs to --encoder {name}; add it")
    if options.folders not in ("", "links", "copies"):
        raise VtccError(f"--folders: found {options.folders!r}; allowed: links, copies")
    if not 0 < options.minutes < math.inf:
        raise VtccError(f"--minutes: found {options.minutes:g}; allowed: a number above 0")
    if options.sample and options.sample < LEAST_IMAGES:
        raise VtccError(
            f"--sample: found {options.sample}; allowed: at least {LEAST_IMAGES}, or 0 for all"
        )
    check_overrides(options.overrides)


def after_trainings(images: int) -> float:
    """Seconds kept for maps, judging and the page of so many images."""
    n = min(images, AFTER_IMAGES)
    return min(base + each * n for base, each in (AFTER_FEW, AFTER_SOME))


def check_overrides(overrides: dict[str, Any]) -> None:
    """Refuses what no training of `vtcc cluster` can be, before any work.

    Raises:
        VtccError: for a parameter that is unknown or without effect, a value that is not
            allowed, or a training without cluster projectors.
    """
    for key, value in overrides.items():
        config.check(key, value)
        if why := unused(key):
            raise VtccError(f"{key}: has no effect in `vtcc cluster`: {why}")
    if overrides.get("train.model.projectors") == "instance":
        raise VtccError(
            "train.model.projectors: found 'instance', which leaves out the cluster projectors "
            "that `vtcc cluster` chooses its model by; allowed here: both, cluster"
        )
    # The rest has to go with choices that depend on the images.
    early = ("dataset.", "validate.bands", "validate.stretch", "train.model.encoder")
    given = with_channels(overrides)
    config.override(
        compose.compose("folder"), {k: v for k, v in given.items() if k.startswith(early)}
    )


def with_channels(overrides: dict[str, Any]) -> dict[str, Any]:
    """The overrides; bands without a number of channels give it."""
    bands = overrides.get("validate.bands")
    return {"dataset.channels": len(bands), **overrides} if bands else overrides


def check_clusters(clusters: int | tuple[int, int], images: int, *, readable: bool) -> None:
    """Refuses a K that so few images cannot have.

    Args:
        clusters: K, or the range that it is chosen from.
        images: how many. readable: these are the images that can be read, not all files.

    Raises:
        VtccError: when there are fewer than two images a cluster.
    """
    least = clusters if isinstance(clusters, int) else clusters[0]
    if least > images // 2:
        counted = f"only {images} images can be read" if readable else f"for {images} images"
        raise VtccError(
            f"-k {least}: {counted}; allowed: at most {images // 2}, two images a cluster"
        )
