"""Stage `embed`: features of a frozen encoder, made once for all trainings on these images.

Without a frozen encoder it notes that none are needed, and what a file of weights holds that the
training begins with; it imports neither torch nor numpy then.
"""

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import config, json_file, paths
from vtcc.atomic import atomic_directory, remove, sweep, sync_files, write_text
from vtcc.digests import sha256
from vtcc.errors import VtccError
from vtcc.progress import note, several
from vtcc.stages import resuming

if TYPE_CHECKING:
    from vtcc.engine.features import Drawing, Features

INFO = "features.json"  # as `engine.features.INFO`, which needs torch


@dataclass(frozen=True)
class Wanted:
    """The features that parameters and images ask for.

    Attributes:
        drawing: how images become what the encoder takes.
        encoder: record of what it is. key: names the features.
    """

    drawing: "Drawing"
    encoder: dict[str, Any]
    key: str


def run() -> None:
    """Embeds all of `data/cache` into `data/features`, or goes on with what was cut off.

    Raises:
        VtccError: on a user's mistake, weights that are not to be had, or a disk that is full.
    """
    params = config.load()
    sweep(paths.FEATURES)
    if not params.train.model.reads_features:
        with resuming.unwritten("the beginning"), atomic_directory(paths.FEATURES) as directory:
            write_text(directory / INFO, json.dumps(_not_needed(params.train.model)) + "\n")
        note("train.model.encoder is trained, not frozen: no features are needed")
        return
    from vtcc.data.cache import open_cache

    cache = open_cache(paths.CACHE)
    have_weights(params.train.model)
    want = wanted(params, cache)
    scratch = paths.scratch() / f"features-{want.key}"
    where = "what is in scratch already"
    with resuming.alone(scratch.with_name(f"{scratch.name}.lock"), "embedding"):
        resuming.check_writable(paths.FEATURES.parent, scratch)
        with resuming.unwritten(where):
            _embed(params, cache, want, scratch)


def _not_needed(model: config.Model) -> dict[str, Any]:
    """What there is in the place of features; it changes with the file a training begins with."""
    digest = weights_digest(model.weights)
    return {"needed": False} | ({"weights": digest} if digest else {})


def weights_digest(weights: str, directory: Path = Path()) -> str:
    """SHA-256 of the file `train.model.weights`; empty without one.

    Args:
        weights: the parameter. directory: that it is relative to.

    Raises:
        VtccError: when it cannot be read. Whether it has to be there is for others to say.
    """
    file = directory / weights
    try:
        return sha256(file) if weights and file.is_file() else ""
    except OSError as error:
        raise VtccError(f"train.model.weights: {file} cannot be read ({error.strerror})") from None


def have_weights(model: config.Model) -> None:
    """Has the weights of an encoder named in params.yaml on this machine.

    Raises:
        VtccError: when they are nowhere, or their licence has to be accepted first.
    """
    if model.encoder == "vit" or model.encoder.startswith("timm:"):
        return
    from vtcc import encoders

    weights = Path(model.weights) if model.weights else None
    encoders.resolve(model.encoder, weights=weights, may_download=True)


def wanted(params: config.Params, cache: Any) -> Wanted:
    """What the features of these parameters and images are.

    Args:
        cache: of `data.cache.open_cache`.

    Raises:
        VtccError: when the weights are not on this machine.
    """
    from vtcc.engine.features import Drawing, features_key
    from vtcc.engine.frozen import encoder_identity
    from vtcc.engine.normalization import normalization

    train = params.train
    mean, std = normalization(train.normalize, cache, train.model.encoder)
    drawing = Drawing(
        image_size=train.image_size,
        mean=mean,
        std=std,
        augment=train.augment,
        views=params.embed.views,
        seed=params.embed.seed,
    )
    encoder = encoder_identity(train.model)
    return Wanted(drawing, encoder, features_key(drawing, encoder, cache.digest))


def opened(want: Wanted) -> "Features":
    """The features in `data/features`, where they are those of these parameters and images.

    Raises:
        VtccError: when they are of others, missing or damaged.
    """
    from vtcc.engine.features import open_features

    info = present()
    if info is None or info.get("needed") is False:
        raise VtccError(
            f"{paths.FEATURES}: no features here, which train.model.frozen needs; run `vtcc embed`"
        )
    if info["key"] != want.key:
        raise VtccError(
            f"{paths.FEATURES}: of other images, weights, views or sizes than params.yaml and "
            f"{paths.CACHE} now have (there {info['key']}, here {want.key}); run `vtcc embed` "
            "(or `dvc repro -f embed`)"
        )
    return open_features(paths.FEATURES)


def present(directory: Path = paths.FEATURES) -> dict[str, Any] | None:
    """The content of `data/features/features.json`; None where there are no features.

    Raises:
        VtccError: when it is damaged.
    """
    file = directory / INFO
    try:
        info = json_file.checked(json_file.parsed(file), {})
        return info if info.get("needed") is False else json_file.checked(info, {"key": str})
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise VtccError(f"{file}: damaged ({error}); run `vtcc embed` again") from None


def of_model(
    info: dict[str, Any], digest: str, directory: Path = paths.FEATURES
) -> "Features | None":
    """The features of some images by a model's encoder, where `data/features` holds just these.

    Args:
        info: the model's `model.json`. digest: of the images; None is returned where the model,
            and so these features, belong to others. directory: of the features.
    """
    from vtcc.engine.features import open_features

    if info.get("dataset", {}).get("digest") != digest:
        return None
    key = info.get("features")
    stored = present(directory) if key else None
    if not stored or stored.get("key") != key:
        return None
    return open_features(directory)


def _embed(params: config.Params, cache: Any, want: Wanted, scratch: Path) -> None:
    from vtcc.engine import features, runtime

    started, encoder = time.monotonic(), want.encoder
    licence = f", licence {encoder['licence']}" if "licence" in encoder else ""
    note(f"encoder {encoder['name']}: {encoder['source']}{licence}")
    embedded = features.embed(
        scratch / "features",
        lambda start: cache.images[start:],
        len(cache.images),
        runtime=runtime.of_encoder(
            params.train, channels=cache.channels, kind=params.embed.runtime
        ),
        drawing=want.drawing,
        encoder=encoder,
        digest=cache.digest,
    )
    with atomic_directory(paths.FEATURES) as directory:
        for name in (features.FILE, features.INFO):
            _put(scratch / "features" / name, directory / name)
        sync_files(directory)
    resuming.finish(scratch)
    N, views, D = embedded.values.shape
    note(
        f"{paths.FEATURES}: {N} images, each as it is and in {several(views - 1, 'views')}, {D} "
        f"features ({time.monotonic() - started:.0f} s since this start)"
    )


def _put(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system has no such thing."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    remove(target)
    shutil.copyfile(source, target)
