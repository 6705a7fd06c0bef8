"""Pretrained encoders by name: what each is, and where its weights come from.

Of vtcc it imports `errors`, `atomic`, `progress` and `quiet` only, and torch, timm, safetensors
and huggingface_hub where they are used, so that a name can be checked without them.
"""

from vtcc.encoders.catalog import EncoderCard, card, names
from vtcc.encoders.weights import (
    LicenceNotAccepted,
    ResolvedWeights,
    WeightsMissing,
    available,
    encoder_record,
    resolve,
)

__all__ = [
    "EncoderCard",
    "LicenceNotAccepted",
    "ResolvedWeights",
    "WeightsMissing",
    "available",
    "card",
    "encoder_record",
    "names",
    "resolve",
]
