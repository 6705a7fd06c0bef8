"""The sections of `params.yaml`, typed and frozen, with a reason for every value.

A missing key is an error, as is an unknown one. A parameter that came after others had written
their params.yaml has a `default`, with which everything is as it was before, and may lack. Sections
are named after the stages that read them.
"""

from dataclasses import dataclass

from vtcc.schema import MAX_SEED
from vtcc.schema import parameter as _p

MAX_CHANNELS = 16


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
        "a directory or web address tried before the network, without a password; the variable "
        "VTCC_MIRROR overrides it and may have one"
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
    assign: str = _p(
        "what says which cluster an image is in. heads: the kept cluster projector, as the paper; "
        "instance: k-means on the instance features z, better on a frozen encoder's features",
        choices=("heads", "instance"),
        default="heads",
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

    @property
    def reads_features(self) -> bool:
        """Whether a training reads the features of a frozen encoder instead of pixels."""
        return self.frozen and self.encoder != "vit"


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
    image_size: int = _p(
        "side in pixels of a view, in training and in prediction; with `vtcc use --encoder` that "
        "of the encoder's card, which may have another for images of at most 64 pixels",
        low=4,
    )
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
    restart_heads: bool = _p(
        "half of several cluster heads begin afresh half-way: heads trained side by side agree, "
        "rightly or wrongly, and a new one sees what the encoder has learned (paper: false)",
        default=False,
    )
    self_label: SelfLabel
    selection: Selection
    positives: Positives
    augment: Augment
    device: str = _p("auto: cuda when there is one, else cpu", choices=("auto", "cpu", "cuda"))
    precision: str = _p(
        "auto: bf16 where the processor has instructions for it, else fp32; losses are fp32",
        choices=("auto", "fp32", "bf16"),
    )
    attention: str = _p(
        "auto: plain on a CPU with few tokens, else fused",
        choices=("auto", "plain", "fused"),
    )
    compile: str = _p(
        "torch.compile; auto: never, since on a CPU it takes minutes and gains little, and on GPUs "
        "it is not measured",
        choices=("auto", "always", "never"),
    )
    threads: int = _p(
        "processor threads, at most those there are; 0: all cores, for large models. More than two "
        "gain small models nothing",
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
        "augmented views of every image that are embedded, beside the image as it is; 0: none",
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
        from vtcc.config.together import check_together

        check_together(self)
