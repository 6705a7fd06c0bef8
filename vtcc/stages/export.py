"""`vtcc export`: a model for programs without torch."""

import tempfile
from pathlib import Path

from vtcc.errors import VtccError
from vtcc.progress import note
from vtcc.stages.predict import load


def run(model: str, onnx: Path) -> None:
    """Writes a model as ONNX.

    Args:
        model: as `vtcc predict` takes it. onnx: the file, which ends with .onnx.

    Raises:
        VtccError: when there is no such model or it cannot be written; nothing is left then.
    """
    if onnx.suffix.lower() != ".onnx":
        raise VtccError(f"--onnx: {onnx}: the name has to end with .onnx")
    with tempfile.TemporaryDirectory() as room:
        predictor = load(model, Path(room), device="cpu")
    from vtcc.export.onnx import write

    note("exporting; then the file is compared with the model")
    gaps = write(predictor, onnx)
    S, C = predictor.cache_size, predictor.channels
    note(
        f"{onnx}: image (N, {S}, {S}, {C}) uint8 -> cluster, confidence, probabilities "
        f"(N, {predictor.num_clusters}), embedding; differs by at most {max(gaps.values()):.1g}"
    )
