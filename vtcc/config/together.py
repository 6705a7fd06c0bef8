"""Combinations of parameters that are fine alone and refused together."""

from vtcc.config.params import Params, Train
from vtcc.errors import VtccError, holds_secret, without_passwords


def check_together(params: Params) -> None:
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
    mirror = params.download.mirror
    if "://" in mirror and holds_secret(mirror):
        raise VtccError(
            f"download.mirror: found {without_passwords(mirror)!r:.200} and a user, password or "
            "key in it; parameters are kept in git, dvc.lock, MLflow and records: leave it empty, "
            "and set the environment variable VTCC_MIRROR to this address"
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
                f"train.model.encoder: found {model.encoder!r:.200}; allowed: vit, a name of "
                f"`vtcc encoders` ({catalog.nearest(model.encoder)}) or timm:NAME such as "
                "timm:resnet18"
            )
        if model.components > (D := catalog.card(model.encoder).feature_dim):
            raise VtccError(
                f"train.model.components: {model.components} of {model.encoder}'s features of "
                f"length {D}; use at most {D}"
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
    if model.assign == "instance" and model.projectors == "cluster":
        raise VtccError(
            "train.model.assign: instance needs the instance projector, which "
            "train.model.projectors: cluster leaves out; use assign: heads or projectors: both"
        )
    if model.assign == "instance" and train.self_label.epochs:
        raise VtccError(
            "train.self_label.epochs: self-labelling trains the cluster projectors, which "
            "train.model.assign: instance does not ask; set it to 0, or assign: heads"
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
