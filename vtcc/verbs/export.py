"""`vtcc export`: a model for programs without torch, or for machines without its encoder."""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from vtcc.atomic import atomic_directory, sole_writer
from vtcc.errors import VtccError
from vtcc.progress import note
from vtcc.verbs.import_checkpoint import check_out
from vtcc.verbs.predict import directory_of


def run(model: str, *, onnx: Path | None = None, with_encoder: Path | None = None) -> None:
    """Writes a model as ONNX, as a directory with its frozen encoder inside, or both.

    Args:
        model: as `vtcc predict` takes it. onnx: the file, which ends with .onnx.
        with_encoder: the directory; a vtcc model in it is replaced.

    Raises:
        VtccError: when there is no such model or it cannot be written; nothing is left then.
    """
    from vtcc.grouping.clusters import load_predictor

    if onnx is None and with_encoder is None:
        raise VtccError("nothing to write; give --onnx FILE.onnx or --with-encoder DIR")
    if onnx is not None and onnx.suffix.lower() != ".onnx":
        raise VtccError(f"--onnx: {onnx}: the name has to end with .onnx")
    with contextlib.ExitStack() as held:
        if with_encoder is not None:
            check_out("--with-encoder", with_encoder, {"the model": Path(model)})
            busy = f"--with-encoder: another process is writing {with_encoder}; wait for it"
            try:
                held.enter_context(sole_writer(with_encoder, busy))
            except OSError as error:
                raise VtccError(
                    f"--with-encoder: {with_encoder.parent} cannot be written to "
                    f"({error.strerror or error}); name another place"
                ) from None
        room = held.enter_context(tempfile.TemporaryDirectory())
        directory = directory_of(model, Path(room))
        predictor = load_predictor(directory, "cpu")
        if with_encoder is not None:
            _write_whole(predictor, directory, with_encoder)
    if onnx is not None:
        _write_onnx(predictor, onnx)


def _write_whole(predictor: Any, directory: Path, out: Path) -> None:
    """The model of a directory with all weights in it, its clusters and its cards."""
    from vtcc.engine import checkpoint, model_card

    try:
        with atomic_directory(out) as fresh:
            checkpoint.write_model(fresh, predictor.model, predictor.info, with_encoder=True)
            if predictor.clusters is not None:
                predictor.clusters.write(fresh)
            for card in model_card.CARDS:  # older models have none
                if (directory / card).is_file():
                    shutil.copyfile(directory / card, fresh / card)
    except OSError as error:
        raise VtccError(f"{out}: cannot be written ({error.strerror or error})") from None
    size = (out / checkpoint.WEIGHTS).stat().st_size
    note(f"{out}: the model with its encoder, {size / 1e6:.1f} MB; it needs no other weights")


def _write_onnx(predictor: Any, onnx: Path) -> None:
    from vtcc.export.onnx import write

    note("exporting; then the file is compared with the model")
    gaps = write(predictor, onnx)
    S, C = predictor.cache_size, predictor.channels
    note(
        f"{onnx}: image (N, {S}, {S}, {C}) uint8 -> cluster, confidence, probabilities "
        f"(N, {predictor.num_clusters}), embedding; differs by at most {max(gaps.values()):.1g}"
    )
