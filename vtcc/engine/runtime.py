"""What computes a pretrained encoder's features: onnxruntime or torch on a CPU, torch on a GPU.

For `embed` (`features`) and for every reader of a saved model (`predict`).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtcc.config import Train
from vtcc.engine import cpus, onnx_graph
from vtcc.engine.kernels import resolve_device
from vtcc.engine.model import build_encoder
from vtcc.errors import VtccError, in_one_line
from vtcc.progress import note

# Largest difference of unit features by which a converted encoder may depart from torch's.
TOLERANCE = 1e-3

Runtime = Callable[[Tensor], np.ndarray]


def of_encoder(
    train: Train, *, channels: int, kind: str, pretrained: bool = True, threads: int = 0
) -> Runtime:
    """What computes a pretrained encoder's features here.

    Args:
        train: the section. channels: of the images. kind: `embed.runtime`.
        pretrained: False: random weights, which take as long.
        threads: of the processor; 0: all, which an encoder is large enough to keep busy.

    Raises:
        VtccError: when the weights are not on this machine or do not fit, or the features have
            fewer numbers than `train.model.components` asks for.
    """
    number = min(threads or cpus.usable(), cpus.usable())
    components = train.model.components
    section = replace(train.model, components=0)
    if not pretrained and section.encoder.startswith("timm:"):
        section = replace(section, weights="")
    encoder = build_encoder(
        section, image_size=train.image_size, channels=channels, pretrained=pretrained
    )
    if components > (D := int(encoder.embed_dim)):  # type: ignore[arg-type]
        raise VtccError(
            f"train.model.components: {components} of features of length {D}; use at most {D}"
        )
    with cpus.kept_threads(number):
        compute = runtime(
            encoder.eval(),
            image_size=train.image_size,
            channels=channels,
            device=resolve_device(train.device),
            kind=kind,
        )

    def features(x: Tensor) -> np.ndarray:
        with cpus.kept_threads(number):
            return compute(x)

    return features


def runtime(
    encoder: nn.Module,
    *,
    image_size: int,
    channels: int,
    device: str,
    kind: str = "auto",
    half: bool = True,
) -> Runtime:
    """A function from normalised images (n, C, S, S) float32 to features (n, D) float32.

    On a CPU without 16-bit instructions onnxruntime computes convolutional encoders about twice
    as fast as torch (docs/performance.md); what cannot be converted, or comes out differently, is
    left to torch.

    Args:
        encoder: in eval mode. image_size: S. channels: C. device: "cpu" or "cuda".
        kind: `embed.runtime`. half: bf16 on a GPU, where torch computes.
    """
    if device == "cpu" and kind != "torch":
        if package := onnx_graph.missing():
            if kind == "onnxruntime":
                note(f"embed.runtime: {package} is not installed (pip install {package}); torch")
        elif converted := _converted(encoder, image_size, channels):
            return converted
    return _torch(encoder, device, half)


def _torch(encoder: nn.Module, device: str, half: bool) -> Runtime:
    on_device = encoder.to(device).to(memory_format=torch.channels_last)

    def features(x: Tensor) -> np.ndarray:
        x = x.to(device, memory_format=torch.channels_last)
        precision = torch.autocast(device, dtype=torch.bfloat16, enabled=half and device == "cuda")
        with torch.inference_mode(), precision:
            return np.asarray(on_device(x).float().cpu())

    return features


def _converted(encoder: nn.Module, image_size: int, channels: int) -> Runtime | None:
    """The encoder in onnxruntime; None where it cannot be expressed or differs."""
    x = torch.rand(2, channels, image_size, image_size, generator=torch.Generator().manual_seed(0))
    x = (x - 0.5) / 0.25
    try:
        graph = onnx_graph.export(encoder.cpu(), x, takes="x", gives=["h"])
        with torch.inference_mode():
            expected = encoder(x).float().numpy()
        session = onnx_graph.session(graph)
        features = session.run(None, {"x": x.numpy()})[0]
    except Exception as error:  # whatever an encoder of timm's is made of
        note(f"features by torch: this encoder has no ONNX form ({in_one_line(error)})")
        return None
    ours, theirs = (F.normalize(torch.from_numpy(h), dim=1) for h in (features, expected))
    gap = float((ours - theirs).abs().max())
    if not gap <= TOLERANCE:  # a NaN is not, either
        note(f"features by torch: the encoder's ONNX form differs by {gap:.2g}")
        return None
    return lambda x: session.run(None, {"x": x.numpy()})[0]
