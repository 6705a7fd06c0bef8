"""A trained model as ONNX: pixels in; cluster, confidence, probabilities and embedding out.

Needs the extra `vtcc[onnx]`.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vtcc import extras
from vtcc.atomic import atomic_file
from vtcc.engine.predict import Predictor
from vtcc.errors import VtccError
from vtcc.version import __version__

OPSET = 18
OUTPUTS = ("cluster", "confidence", "probabilities", "embedding")
TOLERANCE = 1e-4  # of probabilities, and of the embedding relative to its largest number
_BATCHES = (1, 3, 16)


class Pixels(nn.Module):
    """What `Predictor.predict` does, as one graph.

    Args:
        predictor: the model, and how it reads images.
    """

    def __init__(self, predictor: Predictor):
        super().__init__()
        info, C = predictor.info, predictor.channels
        S, s = predictor.cache_size, info["image_size"]
        self.model = predictor.model
        self.head = int(predictor.model.selected_head)
        self.register_buffer("resize", None if s == S else _weights(S, s))
        self.register_buffer("mean", torch.tensor(info["mean"]).view(1, C, 1, 1))
        self.register_buffer("std", torch.tensor(info["std"]).view(1, C, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """image: (N, S, S, C) uint8 -> (N,) int64, (N,), (N, K) and (N, d) float32."""
        x = image.permute(0, 3, 1, 2).float() / 255
        if self.resize is not None:
            x = self.resize @ x @ self.resize.T  # type: ignore[operator]
        h = self.model.embed((x - self.mean) / self.std)  # type: ignore[operator]
        if not self.model.has_centroids:  # by number: a graph has no head to look up
            p = self.model.cluster_projectors[self.head](h).float().softmax(dim=1)
        else:
            p = self.model.assign_embedding(h)
        confidence, cluster = p.max(dim=1)
        return cluster, confidence, p, h


def _weights(S: int, s: int) -> Tensor:
    """(s, S): torch's antialiased resize of S numbers to s, which is a linear map.

    Runtimes differ in how they resize; in how they multiply matrices they do not.
    """
    eye = torch.eye(S)[None, None]
    return nn.functional.interpolate(eye, (s, S), mode="bilinear", antialias=True)[0, 0]


def write(predictor: Predictor, out: Path) -> dict[str, float]:
    """Writes a model and compares it, in onnxruntime, with what torch computes.

    Args:
        predictor: on the CPU.
        out: the file; it appears whole and checked or not at all.

    Returns:
        The largest differences found, `probabilities` and `embedding` (relative).

    Raises:
        VtccError: when a package is missing, the model cannot be expressed, the two differ by
            more than 1e-4, or the file cannot be written.
    """
    extras.need("`vtcc export --onnx`", *extras.PACKAGES["onnx"])
    try:
        with atomic_file(out) as building:
            _export(predictor, building)
            return _check(predictor, building)
    except OSError as error:
        raise VtccError(f"{out}: cannot be written ({error.strerror or error})") from None


def _export(predictor: Predictor, out: Path) -> None:
    import onnx

    S, C = predictor.cache_size, predictor.channels
    example = torch.zeros(2, S, S, C, dtype=torch.uint8)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                Pixels(predictor).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=list(OUTPUTS),
                dynamic_shapes={"image": {0: torch.export.Dim("N")}},
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever an encoder of timm's is made of
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise VtccError(f"this model cannot be expressed in ONNX: {line[:200]}") from error
    assert program is not None
    made = program.model_proto
    made.producer_name, made.producer_version = "vtcc", __version__
    del made.metadata_props[:]
    for part in (*made.graph.node, *made.graph.value_info, *made.graph.input, *made.graph.output):
        del part.metadata_props[:]  # where in our source it comes from
    facts = {key: predictor.info.get(key) for key in ("num_clusters", "image_size", "dataset")}
    decoding = {k: v for k, v in predictor.decoding.items() if k != "max_pixels"}
    onnx.helper.set_model_props(
        made, {"vtcc": json.dumps({k: v for k, v in facts.items() if v is not None} | decoding)}
    )
    onnx.save_model(made, str(out))


def _check(predictor: Predictor, file: Path) -> dict[str, float]:
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(file))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    S, C = predictor.cache_size, predictor.channels
    rng, gaps = np.random.default_rng(0), {"probabilities": 0.0, "embedding": 0.0}
    for N in _BATCHES:
        images = rng.integers(0, 256, (N, S, S, C), np.uint8)
        expected = predictor.predict(images)
        found: dict[str, Any] = dict(
            zip(OUTPUTS, session.run(None, {"image": images}), strict=True)
        )
        largest = float(np.abs(expected.embedding).max())
        for name, scale in (("probabilities", 1.0), ("embedding", max(largest, 1e-9))):
            gap = float(np.abs(found[name] - getattr(expected, name)).max()) / scale
            gaps[name] = max(gaps[name], gap)
    worst = max(gaps.values())
    if not worst <= TOLERANCE:  # a NaN is not, either
        raise VtccError(
            f"the exported model differs from the trained one by {worst:.2g}, allowed {TOLERANCE:g}"
        )
    return gaps


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks of its own passes; errors come as exceptions."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
