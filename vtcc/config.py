"""`params.yaml`, typed and frozen.

The file is always complete: a missing key is an error, as is an unknown one. Each field
carries the reason for its default (`vtcc params --explain`) and what values it takes.
Sections are named after the stages that read them.
"""

import dataclasses
import difflib
import math
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from vtcc.errors import VtccError

PARAMS_FILE = "params.yaml"
MAX_CHANNELS = 16
MAX_SEED = 2**32 - 1  # numpy, scikit-learn and torch's CPU generator take no more


def _p(
    why: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    above: float | None = None,
    default: Any = dataclasses.MISSING,
) -> Any:
    """Declares a parameter: its reason and the values allowed (`low`/`high` inclusive).

    A `default` serves code that builds sections; params.yaml states every value.
    """
    return field(
        default=default,
        metadata={"why": why, "low": low, "high": high, "choices": choices, "above": above},
    )


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is clustered."""

    name: str = _p("names the registered model (vtcc-<name>) and the MLflow experiment")
    source: str = _p(
        "a dataset card (data/catalog/*.yaml), or a folder, zip or tar of images; "
        "the download stage depends on it, so new files re-run the pipeline"
    )
    channels: int = _p(
        "1 for grey images, 3 for colour, to which others are converted; 2 or 4 to 16 for "
        "images of that many bands",
        low=1,
        high=MAX_CHANNELS,
    )
    limit: int = _p("use a seeded random subset of this many images; 0 for all", low=0)
    holdout: float = _p(
        "fraction of images set apart, which training never sees", low=0.0, high=0.9
    )
    seed: int = _p("draws the subset and the held-out images", low=0, high=MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class Download:
    """How the images get here."""

    mirror: str = _p(
        "a directory or web address tried before the network; VTCC_MIRROR overrides it"
    )
    allow_missing: bool = _p("go on when a card promises more images than were found")


@dataclass(frozen=True, kw_only=True)
class Validate:
    """What images must be like, and the size at which they are cached."""

    image_size: int = _p(
        "side in pixels of the square uint8 cache; at least train.image_size, "
        "more keeps detail for random crops",
        low=4,
        high=1024,
    )
    max_pixels: int = _p("an image with more pixels is quarantined unread", low=1)
    bands: tuple[int, ...] = _p(
        "bands of the file to take, from 1; empty: what a viewer shows for 1 or 3 channels, "
        "else the first dataset.channels",
        low=1,
        high=65535,
    )
    stretch: str = _p(
        "what becomes black and white (docs/data.md): type: the lowest and highest value of an "
        "8- or 16-bit type; image: of each image; percentile: 2nd and 98th of each band of each "
        "image; fixed: stretch_range",
        choices=("type", "image", "percentile", "fixed"),
    )
    stretch_range: tuple[float, float] = _p(
        "the values that become black and white where stretch is fixed"
    )
    max_unreadable: float = _p("fail above this fraction of unreadable files", low=0, high=1)
    max_duplicates: float = _p("fail above this fraction of exact duplicates", low=0, high=1)
    near_duplicates: int = _p(
        "bits of 64 by which the perceptual hashes of images that look alike may differ; "
        "-1 does not look for them",
        low=-1,
        high=16,
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """The encoder and the projectors."""

    encoder: str = _p(
        "vit: the paper's, described by the sizes below; a name of `vtcc encoders`: pretrained; "
        "timm:NAME: any encoder of timm. These ignore stem, positions, patch_size, embed_dim, "
        "depth, num_heads and mlp_ratio",
        default="vit",
    )
    weights: str = _p(
        "a local file of pretrained weights (safetensors or torch); empty: those that an encoder "
        "of `vtcc encoders` has, random ones for timm:NAME",
        default="",
    )
    frozen: bool = _p(
        "keep the encoder's weights as they are and train the projectors only, on features that "
        "the stage embed makes once",
        default=False,
    )
    components: int = _p(
        "principal components of a frozen encoder's unit features that the projectors read; "
        "0: the features as they are",
        low=0,
        default=0,
    )
    stem: str = _p(
        "conv: stride-2 3x3 convolutions before the 1x1 projection, as the paper; "
        "patchify: one linear map per patch",
        choices=("conv", "patchify"),
    )
    positions: str = _p(
        "fixed: sine-cosine, as the paper; learned: a trained table",
        choices=("fixed", "learned"),
        default="fixed",
    )
    patch_size: int = _p("pixels per token side; a power of two for the conv stem", low=2)
    embed_dim: int = _p("token width d, a multiple of 4 and of num_heads", low=8)
    depth: int = _p("transformer blocks", low=1)
    num_heads: int = _p("attention heads", low=1)
    mlp_ratio: float = _p("hidden width of a block's MLP over d", above=0)
    projectors: str = _p(
        "both, as the paper; cluster: without the instance loss; instance: without the cluster "
        "loss, clusters are then k-means on the embedding",
        choices=("both", "instance", "cluster"),
        default="both",
    )
    feature_dim: int = _p("length of the instance features z (paper: 128)", low=2)
    num_cluster_heads: int = _p(
        "cluster projectors trained side by side; the one of lowest label-free loss is "
        "kept (paper: 1)",
        low=1,
        high=64,
    )
    overcluster_heads: int = _p(
        "further cluster projectors with more clusters, which shape the encoder only; 0: none",
        low=0,
        high=64,
        default=0,
    )
    overcluster_clusters: int = _p("clusters of each of those, such as 5 K", low=2, default=2)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The two contrastive losses (paper, section 3)."""

    instance_temperature: float = _p("temperature of the instance loss (paper: 0.5)", above=0)
    cluster_temperature: float = _p("temperature of the cluster loss (paper: 1.0)", above=0)
    entropy_weight: float = _p(
        "weight of log K - H(mean assignment), which keeps clusters from emptying (paper: 1)",
        low=0,
    )
    prior: str = _p(
        "cluster sizes that the entropy term pulls to. uniform: equal, as the paper; given: "
        "prior_sizes; estimated: followed from the model's own assignments, for imbalanced data",
        choices=("uniform", "given", "estimated"),
        default="uniform",
    )
    prior_sizes: tuple[float, ...] = _p(
        "K relative sizes for prior: given, in any order and unit; else empty", above=0, default=()
    )
    prior_start: float = _p(
        "fraction of the epochs with a uniform prior before estimation begins",
        low=0,
        high=0.9,
        default=0.3,
    )


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How weights move."""

    name: str = _p("adam as in the paper, or adamw", choices=("adam", "adamw"))
    learning_rate: float = _p("peak rate (paper: 3e-4)", above=0)
    weight_decay: float = _p("adamw only; not applied to biases and norms (paper: 0)", low=0)
    schedule: str = _p(
        "constant as in the paper, or cosine: warm-up, then annealed to zero, "
        "better for short trainings",
        choices=("constant", "cosine"),
    )
    warmup: float = _p("fraction of all steps with a linearly rising rate", low=0, high=0.9)


@dataclass(frozen=True, kw_only=True)
class SelfLabel:
    """A second phase: confident predictions become labels (SCAN, arXiv 2005.12320, section 2.3)."""

    epochs: int = _p("of self-labelling after the contrastive epochs; 0: none (paper)", low=0)
    threshold: float = _p("confidence from which a prediction is a label", low=0, high=1)
    learning_rate: float = _p("constant rate of this phase", above=0)


@dataclass(frozen=True, kw_only=True)
class Positives:
    """What is contrasted as the same thing, in a training on a frozen encoder's features."""

    neighbours: int = _p(
        "nearest images in feature space that may stand in for an image's second view", low=0
    )
    neighbour_share: float = _p("of the second views that are a neighbour's", low=0, high=1)
    dropout: float = _p("share of a view's features that are set to zero", low=0, high=0.9)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The label-free choice of checkpoint and head (docs/selection.md)."""

    points: int = _p("checkpoints compared, evenly over the last half of training", low=1, high=50)
    views: int = _p("fixed augmented pairs per image that all are scored on", low=1, high=64)
    images: int = _p("at most this many training images are scored, a fixed subset", low=2)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """One random view; every image draws its own numbers. Zero switches a thing off."""

    crop_scale: tuple[float, float] = _p("area of the crop over the image's", low=0.01, high=1)
    crop_ratio: tuple[float, float] = _p("width over height of the crop", low=0.1, high=10)
    flip: float = _p("probability of a left-right flip", low=0, high=1)
    vertical_flip: float = _p("probability of an up-down flip", low=0, high=1)
    quarter_turns: bool = _p("turn by a random multiple of 90 degrees (aerial images)")
    rotation: float = _p("degrees, drawn from +-this", low=0, high=180)
    shear: float = _p("degrees, drawn from +-this, on both axes", low=0, high=80)
    elastic: float = _p("standard deviation of a smooth warp, in image widths", low=0, high=1)
    elastic_grid: int = _p("control points per side of the warp", low=2, high=32)
    padding: str = _p(
        "what a moved image uncovers: zeros for glyphs on black, reflection for photographs",
        choices=("zeros", "reflection"),
    )
    jitter: float = _p("probability that brightness, contrast, ... change", low=0, high=1)
    brightness: float = _p("factor drawn from 1 +- this", low=0, high=1)
    contrast: float = _p("factor drawn from 1 +- this", low=0, high=1)
    saturation: float = _p("factor drawn from 1 +- this", low=0, high=1)
    hue: float = _p("shift drawn from +-this, in turns of the colour wheel", low=0, high=0.5)
    gamma: float = _p("log of the exponent drawn from +-this", low=0, high=3)
    grey: float = _p("probability of losing all colour", low=0, high=1)
    blur: float = _p("probability of a Gaussian blur", low=0, high=1)
    blur_sigma: tuple[float, float] = _p("standard deviation of the blur in pixels", low=0.01)
    solarize: float = _p("probability of inverting bright pixels, second view only", low=0, high=1)
    noise: float = _p("highest standard deviation of additive noise, image range 0-1", low=0)
    erase: float = _p("probability of erasing a rectangle", low=0, high=1)
    erase_scale: tuple[float, float] = _p("area of the rectangle over the image's", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class Train:
    """Everything the training depends on, beside the images."""

    seed: int = _p("initial weights, order of images and augmentations", low=0, high=MAX_SEED)
    num_clusters: int = _p("clusters to find, K", low=2)
    image_size: int = _p("side in pixels of a view, in training and in prediction", low=4)
    normalize: str = _p(
        "dataset: mean and deviation of the training images; imagenet: the paper's constants; "
        "encoder: those the pretrained encoder was made with",
        choices=("dataset", "imagenet", "encoder"),
    )
    epochs: int = _p("passes over the training images (paper: 1000)", low=1)
    batch_size: int = _p("images per step; the last partial batch is dropped (paper: 128)", low=2)
    model: Model
    loss: Loss
    optimizer: Optimizer
    ema: float = _p(
        "decay per step of the average of weights that is kept as the model; 0: none (paper)",
        low=0,
        high=0.99999,
    )
    self_label: SelfLabel
    selection: Selection
    positives: Positives
    augment: Augment
    device: str = _p("auto: cuda when there is one, else cpu", choices=("auto", "cpu", "cuda"))
    precision: str = _p(
        "auto: bf16 where the processor has instructions for it, else fp32, unless a short "
        "measurement before the training shows better; losses are fp32",
        choices=("auto", "fp32", "bf16"),
    )
    attention: str = _p(
        "auto: plain on a CPU with few tokens, else fused, unless measured better",
        choices=("auto", "plain", "fused"),
    )
    compile: str = _p(
        "torch.compile. auto: on a GPU, in long trainings, where it is measured faster; never on "
        "a CPU, where compiling takes minutes and gains little",
        choices=("auto", "always", "never"),
    )
    threads: int = _p(
        "processor threads, at most those there are; 0: all cores, for large models. On a CPU each "
        "view of a step has half of them, and one or two give the same bits; more gain small "
        "models nothing",
        low=0,
    )
    checkpoint_minutes: float = _p("a resume loses at most this much work", above=0)
    collapse: str = _p(
        "when clusters, embedding or losses look collapsed (docs/plan.md). warn: say so; abort: "
        "stop there, with the checkpoint kept; off: stay silent",
        choices=("warn", "abort", "off"),
    )


@dataclass(frozen=True, kw_only=True)
class Embed:
    """The features of a frozen encoder, made once; without one this stage has nothing to do."""

    views: int = _p(
        "augmented views of every image that are embedded, beside the image as it is; 0: none, for "
        "images too small to be cropped",
        low=0,
        high=64,
    )
    seed: int = _p("draws the views", low=0, high=MAX_SEED)
    runtime: str = _p(
        "what computes the features on a CPU. auto: onnxruntime where it is installed, about twice "
        "as fast as torch; on a GPU it is torch in any case",
        choices=("auto", "torch", "onnxruntime"),
    )


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What is measured after training. Labels, where they exist, score and do nothing else."""

    batch_size: int = _p("images per forward pass", low=1)
    seed: int = _p("subsamples, k-means starts, UMAP", low=0, high=MAX_SEED)
    baselines: tuple[str, ...] = _p(
        "measured on the same images; those of features need train.model.frozen",
        choices=(
            "kmeans_pixels",
            "pca_kmeans",
            "ward",
            "umap_kmeans",
            "kmeans_untrained",
            "kmeans_embedding",
            "kmeans_features",
            "umap_kmeans_features",
            "umap_hdbscan_features",
        ),
    )
    quadratic_limit: int = _p("Ward and UMAP see a seeded subsample above this many images", low=10)
    projection: str = _p(
        "of the embedding to the plane: umap shows groups better, pca is done at once",
        choices=("umap", "pca"),
    )
    plot_points: int = _p("points in the 2-D picture of the embedding", low=10)
    gallery_images: int = _p("images shown per cluster, half most and half least certain", low=2)


@dataclass(frozen=True, kw_only=True)
class Params:
    """All of `params.yaml`."""

    dataset: Dataset
    download: Download
    validate: Validate
    embed: Embed
    train: Train
    evaluate: Evaluate

    def __post_init__(self) -> None:
        _check_together(self)


def _check_together(params: Params) -> None:
    """Refuses combinations of values that are fine alone."""
    train, model = params.train, params.train.model
    name = params.dataset.name
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise VtccError(
            f"dataset.name: found {name[:100]!r}; allowed: 1 to 100 printable characters"
        )
    if set(name) & set("/\\:") or name.startswith("."):
        raise VtccError(
            f"dataset.name: found {name!r}; no slash, backslash or colon, no dot at the start: it "
            "names the registered model"
        )
    if not params.dataset.source.strip():
        raise VtccError(
            "dataset.source: empty; name a card of data/catalog, a folder or an archive"
        )
    _check_bands(params)
    _check_losses(train)
    _check_encoder(train)
    if model.components and not (model.frozen and model.encoder != "vit"):
        raise VtccError(
            f"train.model.components: found {model.components}; components are of the features of "
            "a frozen encoder: set train.model.frozen: true, or components: 0"
        )
    if model.encoder == "vit":
        _check_vit(train)
    if train.image_size > params.validate.image_size:
        raise VtccError(
            f"validate.image_size: {params.validate.image_size} is below train.image_size "
            f"({train.image_size}); images would be cached smaller than training reads them"
        )
    if train.optimizer.name == "adam" and train.optimizer.weight_decay:
        raise VtccError(
            "train.optimizer.weight_decay: found "
            f"{train.optimizer.weight_decay} with adam, which has none; use adamw or 0"
        )


def _check_encoder(train: Train) -> None:
    model = train.model
    if model.weights and model.encoder == "vit":
        raise VtccError(
            "train.model.weights: only timm encoders take pretrained weights; set "
            "train.model.encoder to timm:NAME or a name of `vtcc encoders`, or leave it empty"
        )
    if not model.encoder.removeprefix("timm:").strip():
        raise VtccError("train.model.encoder: timm: needs a name, such as timm:resnet18")
    if has_card := model.encoder != "vit" and not model.encoder.startswith("timm:"):
        from vtcc.encoders import catalog

        if model.encoder not in catalog.names():
            raise VtccError(
                f"train.model.encoder: found {model.encoder!r}; allowed: vit, a name of "
                f"`vtcc encoders` ({catalog.nearest(model.encoder)}) or timm:NAME such as "
                "timm:resnet18"
            )
    if model.frozen and not (model.weights or has_card):
        raise VtccError(
            "train.model.frozen: a frozen encoder needs train.model.weights, or to be one of "
            "`vtcc encoders`; frozen at random weights it could learn nothing"
        )
    if train.normalize == "encoder" and model.encoder == "vit":
        raise VtccError(
            "train.normalize: found 'encoder' with train.model.encoder: vit, which was made with "
            "no constants of its own; use 'dataset' or 'imagenet'"
        )


def _check_losses(train: Train) -> None:
    loss, model = train.loss, train.model
    if (loss.prior == "given") != bool(loss.prior_sizes):
        raise VtccError(
            f"train.loss.prior_sizes: found {list(loss.prior_sizes)} with train.loss.prior: "
            f"{loss.prior}; sizes go with prior: given, and only with it"
        )
    if loss.prior_sizes and len(loss.prior_sizes) != train.num_clusters:
        raise VtccError(
            f"train.loss.prior_sizes: found {len(loss.prior_sizes)} sizes for "
            f"train.num_clusters: {train.num_clusters}; give one per cluster"
        )
    if model.projectors == "instance" and train.self_label.epochs:
        raise VtccError(
            "train.self_label.epochs: self-labelling trains the cluster projectors, which "
            "train.model.projectors: instance leaves out; set it to 0"
        )
    if model.projectors == "instance" and model.overcluster_heads:
        raise VtccError(
            "train.model.overcluster_heads: cluster projectors, which "
            "train.model.projectors: instance leaves out; set it to 0"
        )


def _check_vit(train: Train) -> None:
    model = train.model
    if train.image_size % model.patch_size:
        raise VtccError(
            f"train.image_size: {train.image_size} is not a multiple of "
            f"train.model.patch_size ({model.patch_size})"
        )
    if model.stem == "conv" and model.patch_size & (model.patch_size - 1):
        raise VtccError(
            f"train.model.patch_size: found {model.patch_size}; the conv stem halves the image "
            "at each step, so it must be a power of two (or use train.model.stem: patchify)"
        )
    if model.stem == "conv" and model.embed_dim * 2 < model.patch_size:
        raise VtccError(
            f"train.model.embed_dim: {model.embed_dim} is too small for patch_size "
            f"{model.patch_size}: the first convolution would have no channel"
        )
    for divisor, name in ((4, "4, for the sine-cosine positions"), (model.num_heads, "num_heads")):
        if model.embed_dim % divisor:
            raise VtccError(
                f"train.model.embed_dim: {model.embed_dim} is not a multiple of {name}"
                + (f" ({divisor})" if name == "num_heads" else "")
            )


def _check_bands(params: Params) -> None:
    channels, validate = params.dataset.channels, params.validate
    if validate.bands and len(validate.bands) != channels:
        raise VtccError(
            f"validate.bands: found {len(validate.bands)} bands {list(validate.bands)}, but "
            f"dataset.channels is {channels}; give as many, or [] for the first {channels}"
        )
    low, high = validate.stretch_range
    if validate.stretch == "fixed" and low == high:
        raise VtccError(
            f"validate.stretch_range: found {[low, high]}; with validate.stretch: fixed the first "
            "must be below the second"
        )
    if (kind := params.train.normalize) != "dataset" and channels not in (1, 3):
        raise VtccError(
            f"train.normalize: found {kind!r} with dataset.channels {channels}; its constants "
            "are for 1 or 3 channels, so use 'dataset'"
        )


def from_dict(cls: type, values: Any, where: str = "") -> Any:
    """Builds dataclass `cls` from nested dicts.

    Raises:
        VtccError: on an unknown, missing or ill-typed key or a value out of range; the
            message names the key, the value and what is allowed.
    """
    if not isinstance(values, dict):
        raise VtccError(f"{where or PARAMS_FILE}: expected a section, found {values!r}")
    known = {f.name: f for f in fields(cls)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise VtccError(f"{_join(where, key)}: unknown parameter; {hint}")
    hints = typing.get_type_hints(cls)
    built = {}
    for name, f in known.items():
        key = _join(where, name)
        if name not in values:
            raise VtccError(
                f"{key}: missing from {PARAMS_FILE}"
                + (f" ({f.metadata['why']})" if "why" in f.metadata else "")
            )
        if dataclasses.is_dataclass(hints[name]):
            built[name] = from_dict(typing.cast(type, hints[name]), values[name], key)
        else:
            built[name] = _value(hints[name], values[name], f.metadata, key)
    return cls(**built)


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _value(hint: Any, value: Any, limits: typing.Mapping[str, Any], key: str) -> Any:
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, list | tuple):
            raise VtccError(f"{key}: expected a list, found {value!r}")
        if inner[-1] is Ellipsis:
            items = tuple(_value(inner[0], v, limits, f"{key}[{i}]") for i, v in enumerate(value))
            if inner[0] is not float and len(set(items)) != len(items):
                what = "name" if inner[0] is str else "number"
                raise VtccError(f"{key}: found a {what} twice in {list(items)}")
            return items
        if len(value) != 2 or not all(_is_number(v) for v in value) or value[0] > value[1]:
            raise VtccError(f"{key}: expected [low, high] with low <= high, found {value!r}")
        return tuple(_value(inner[0], v, limits, f"{key}[{i}]") for i, v in enumerate(value))
    if hint is float and _is_number(value):
        value = float(value)
    if hint is str and isinstance(value, dict) and len(value) == 1:
        name = next(iter(value))
        raise VtccError(f"{key}: expected text, found {value!r}; quote what has a colon: '{name}:'")
    ok = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    if not ok or (hint is float and not math.isfinite(value)):
        found = f"{value!r}"
        if hint is float and isinstance(value, str) and _parses(value):
            found += f" (text to YAML; write {float(value)!r})"
        raise VtccError(f"{key}: expected {_TYPE_NAMES[hint]}, found {found}")
    if limits["choices"] and value not in limits["choices"]:
        raise VtccError(f"{key}: found {value!r}; allowed: {', '.join(limits['choices'])}")
    low, high, above = limits["low"], limits["high"], limits["above"]
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    ):
        raise VtccError(f"{key}: found {value!r}; allowed: {allowed(limits)}")
    return value


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parses(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def allowed(limits: typing.Mapping[str, Any]) -> str:
    """The values a parameter takes, in words; empty when any of its type will do."""
    if limits["choices"]:
        return " | ".join(limits["choices"])
    parts = []
    if limits["low"] is not None:
        parts.append(f"at least {limits['low']:.10g}")
    if limits["above"] is not None:
        parts.append(f"above {limits['above']:.10g}")
    if limits["high"] is not None:
        parts.append(f"at most {limits['high']:.10g}")
    return ", ".join(parts)


def load(path: Path | str = PARAMS_FILE) -> Params:
    """Reads and checks a params file."""
    path = Path(path)
    return from_dict(Params, read_yaml(path))


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice, of which one would silently win."""


def _unique_mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict:
    keys = [loader.construct_object(k) for k, _ in node.value]
    for i, key in enumerate(keys):
        if key in keys[:i]:
            raise yaml.YAMLError(f"key {key!r} is written twice{node.start_mark}")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> Any:
    """Parses a YAML file.

    Raises:
        VtccError: when the file is missing or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise VtccError(
            f"{path}: no such file in {Path.cwd()}; run `vtcc use digits` to write one, "
            "or change to the project's directory"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VtccError(f"{path}: not valid YAML: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What PyYAML complains about and where, without its picture of the line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = getattr(error, "problem", None) or "cannot be read"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def to_dict(params: Any) -> dict:
    """The plain nested dict of a params dataclass, tuples as lists, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(params))


def flatten(values: dict, where: str = "") -> dict[str, Any]:
    """`{"train": {"seed": 0}}` -> `{"train.seed": 0}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, _join(where, key))
        else:
            flat[_join(where, key)] = value
    return flat


def override(values: dict, overrides: dict[str, Any]) -> dict:
    """A copy of a params dict with dotted keys replaced, checked as a whole.

    Args:
        values: nested params.
        overrides: `{"train.epochs": 2}`; a key must exist.

    Raises:
        VtccError: on an unknown key or a value that is not allowed.
    """
    flat = flatten(values)
    changed = yaml.safe_load(yaml.safe_dump(values))
    for key, value in overrides.items():
        if key not in flat:
            near = difflib.get_close_matches(str(key), flat, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see `vtcc params --explain`"
            raise VtccError(f"{key}: unknown parameter; {hint}")
        *sections, name = key.split(".")
        at = changed
        for section in sections:
            at = at[section]
        at[name] = value
    from_dict(Params, changed)
    return changed


def check(key: str, value: Any) -> None:
    """Checks a value for a dotted key by itself: type, range, choices.

    Raises:
        VtccError: as `from_dict`, or when there is no such key, with the nearest.
    """
    cls: Any = Params
    *sections, name = key.split(".")
    for section in sections:
        cls = typing.get_type_hints(cls).get(section) if dataclasses.is_dataclass(cls) else None
    known = {f.name: f for f in fields(cls)} if dataclasses.is_dataclass(cls) else {}
    hint = typing.get_type_hints(cls)[name] if name in known else None
    if hint is None or dataclasses.is_dataclass(hint):
        near = difflib.get_close_matches(key, [row.key for row in explain()], n=1)
        told = f"did you mean {near[0]!r}?" if near else "see `vtcc params --explain`"
        raise VtccError(f"{key}: unknown parameter; {told}")
    _value(hint, value, known[name].metadata, key)


def edit(text: str, overrides: dict[str, Any]) -> str:
    """The text of a params file with some values replaced, comments and layout kept.

    Args:
        text: a complete params file.
        overrides: dotted keys, each of which must exist.

    Raises:
        VtccError: as `override`.
    """
    override(yaml.safe_load(text), overrides)
    spans = {}
    for key, value in overrides.items():
        node: Any = yaml.compose(text, yaml.SafeLoader)
        for part in key.split("."):
            node = next(v for k, v in node.value if k.value == part)
        plain = list(value) if isinstance(value, tuple) else value
        spans[node.start_mark.index, node.end_mark.index] = _written(plain)
    for (start, end), written in sorted(spans.items(), reverse=True):
        text = text[:start] + written + text[end:]
    return text


def _written(value: Any) -> str:
    """A value as YAML on one line; readable where that reads back as the same, else escaped."""

    def dump(readable: bool) -> str:
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=readable)
        return text.removesuffix("...\n").rstrip("\n")

    return dump(True) if yaml.safe_load(dump(True)) == value else dump(False)


PRESETS = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """Names of the presets that ship with vtcc."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def preset_text(name: str) -> str:
    """The params file of a preset, as text.

    Raises:
        VtccError: when there is no such preset, with the nearest name.
    """
    names = preset_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "there are"
        raise VtccError(f"preset {name!r}: unknown; {hint} ({', '.join(names)})")
    return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["train.epochs=2"]` -> `{"train.epochs": 2}`, values read as YAML.

    Raises:
        VtccError: on an assignment without a key or an equals sign, a key that comes twice, or
            a value that is not YAML.
    """
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise VtccError(f"--set {assignment}: expected KEY=VALUE, as in train.epochs=2")
        if key.strip() in parsed:
            raise VtccError(f"--set {key.strip()}: given twice")
        try:
            parsed[key.strip()] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            raise VtccError(f"--set {assignment}: {value!r} is not a YAML value") from None
    return parsed


@dataclass(frozen=True)
class Explained:
    """One parameter, as `vtcc params --explain` shows it."""

    key: str
    kind: str
    allowed: str
    why: str


def explain(cls: type = Params, where: str = "") -> list[Explained]:
    """Every parameter with its type, allowed values and reason, in file order."""
    hints, rows = typing.get_type_hints(cls), []
    for f in fields(cls):
        key, hint = _join(where, f.name), hints[f.name]
        if dataclasses.is_dataclass(hint):
            rows += explain(typing.cast(type, hint), key)
        else:
            kind = _TYPE_NAMES.get(hint, "[low, high]")
            if typing.get_args(hint) and typing.get_args(hint)[-1] is Ellipsis:
                kind = "list"
            rows.append(Explained(key, kind, allowed(f.metadata), f.metadata["why"]))
    return rows
