"""A module as an ONNX graph, and onnxruntime that computes it: the one way to either."""

import importlib.util
import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 18
PACKAGES = ("onnx", "onnxruntime")


def missing() -> str:
    """The first of the packages that is not installed; empty where none is missing."""
    return next((name for name in PACKAGES if importlib.util.find_spec(name) is None), "")


def export(module: nn.Module, x: Tensor, *, takes: str, gives: Sequence[str]) -> bytes:
    """The graph of a module for any number of rows.

    By tracing: 2 s for an encoder of which torch.export takes 20 s and gives the same graph.

    Args:
        module: on the CPU, in eval mode. x: two rows or more of what it takes.
        takes, gives: names of the graph's input and outputs, whose first dimension is free.

    Raises:
        Exception: of any kind, where the module has no ONNX form.
    """
    file = BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            file,  # type: ignore[arg-type]  # without dynamo it takes one
            dynamo=False,
            opset_version=OPSET,
            input_names=[takes],
            output_names=list(gives),
            dynamic_axes={name: {0: "N"} for name in (takes, *gives)},
        )
    return file.getvalue()


def session(graph: bytes) -> Any:
    """An `onnxruntime.InferenceSession` of a graph, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
