"""The content of `model.json`: all that reading images and rebuilding a model needs, typed once."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vtcc.config import Model, Train, to_dict
from vtcc.encoders import encoder_record
from vtcc.engine import record
from vtcc.engine.kernels import Kernels

# A model with one cluster projector beside the instance projector.
_ONE_HEAD = {"num_cluster_heads": 1, "projectors": "both", "overcluster_heads": 0}
# The weights of an encoder that was trained here are the model's own.
_OWN_ENCODER = {"frozen": False, "weights": ""}


class Images(Protocol):
    """What a data cache tells of its images (`vtcc.data.cache.Cache`)."""

    @property
    def name(self) -> str:
        """Of the data set."""

    @property
    def digest(self) -> str:
        """Of pixels, paths and splits."""

    @property
    def split(self) -> Sequence[str]:
        """`train` or `holdout` of each image."""

    @property
    def image_size(self) -> int:
        """Side in pixels."""

    @property
    def channels(self) -> int:
        """C."""

    @property
    def decoding(self) -> Mapping[str, Any]:
        """Keywords of `vtcc.data.images.load`."""


def model_info(
    *,
    model: Model,
    num_clusters: int,
    image_size: int,
    cache_size: int,
    channels: int,
    max_pixels: int,
    mean: Sequence[float],
    std: Sequence[float],
    decoding: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `engine.predict.Predictor` and `engine.checkpoint.read_model` need.

    Args:
        model: the `train.model` section. num_clusters: K.
        image_size: side in pixels of the views the encoder sees.
        cache_size: side in pixels that files are decoded to. channels: C.
        max_pixels: of a file, above which it is refused.
        mean, std: C floats each, of pixels in range 0-1.
        decoding: further keywords of `vtcc.data.images.load`; None: by its defaults.
    """
    return {
        "model": to_dict(model),
        "num_clusters": num_clusters,
        "image_size": image_size,
        "cache_size": cache_size,
        "channels": channels,
        **(decoding or {}),
        "max_pixels": max_pixels,
        "mean": list(mean),
        "std": list(std),
    }


def reading_info(
    images: Images, train: Train, *, max_pixels: int, mean: Sequence[float], std: Sequence[float]
) -> dict[str, Any]:
    """`model_info` of a model that is trained here.

    Args:
        images: the cache. train: the `train` section. max_pixels, mean, std: as `model_info`.
    """
    return model_info(
        model=train.model,
        num_clusters=train.num_clusters,
        image_size=train.image_size,
        cache_size=images.image_size,
        channels=images.channels,
        max_pixels=max_pixels,
        mean=mean,
        std=std,
        decoding=images.decoding,
    )


def trained_info(
    images: Images,
    train: Train,
    *,
    max_pixels: int,
    mean: Sequence[float],
    std: Sequence[float],
    head: int,
    epoch: int,
    kernels: Kernels,
    processes: int,
    features: str | None = None,
) -> dict[str, Any]:
    """`reading_info` with what the model was trained on and how.

    Args:
        images, train, max_pixels, mean, std: as of `reading_info`.
        head, epoch: chosen without labels. kernels: what `auto` became. processes: that trained.
        features: key of those of a frozen encoder that were trained on (`engine.features`).
    """
    reading = reading_info(images, train, max_pixels=max_pixels, mean=mean, std=std)
    held_out = images.split.count("holdout")
    encoder = encoder_record(train.model.encoder, train.model.weights)
    return (
        reading
        | ({"encoder": encoder} if encoder else {})
        | ({"features": features} if features else {})
        | {
            "head": head,
            "epoch": epoch,
            "dataset": {
                "name": images.name,
                "digest": images.digest,
                "images": len(images.split) - held_out,
                **({"held_out": held_out} if held_out else {}),
            },
            "train": to_dict(train),
            "kernels": vars(kernels),
            "processes": processes,
            "versions": record.versions(),
        }
    )


def imported_info(reading: Mapping[str, Any], *, file: str, sha256: str) -> dict[str, Any]:
    """`model_info` of a model whose weights come from a file of other code.

    Args:
        reading: of `model_info`. file: its name. sha256: its digest in hex.
    """
    return {
        **reading,
        "head": 0,
        "imported": {"file": file, "sha256": sha256},
        "versions": record.versions(),
    }


def one_head_info(trained: Mapping[str, Any], num_clusters: int) -> dict[str, Any]:
    """A trained model's info once its projectors were replaced by one of `num_clusters`."""
    return {
        **trained,
        "head": 0,
        "num_clusters": num_clusters,
        "model": {
            **trained["model"],
            **_ONE_HEAD,
            **({} if trained["model"].get("frozen") else _OWN_ENCODER),
        },
    }
