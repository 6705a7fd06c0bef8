"""The trained model as an MLflow model: code, weights as safetensors, signature, requirements."""

import contextlib
import importlib.metadata
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vtcc import json_file

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo
    from PIL import Image

# What serving imports, and nothing else: explicit, so that MLflow does not guess.
_REQUIREMENTS = (
    "mlflow",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pandas",
    "pillow",
    "tifffile",
    "imagecodecs",
    "PyYAML",
    "safetensors",
)
_PACKAGE = Path(__file__).resolve().parent.parent


def log_model(run_id: str, model_dir: Path, step: int = 0) -> "ModelInfo":
    """Logs `model_dir` as the pyfunc model `model` of a run of the current store.

    Args:
        run_id: a run of the store that `store.client()` opened.
        model_dir: holds model.safetensors and model.json.
        step: the epoch whose figures become the logged model's.

    Returns:
        MLflow's `ModelInfo`.

    Raises:
        VtccError: when `model_dir` holds no model.
    """
    import mlflow
    from mlflow.models import Model

    info = model_info(model_dir)
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    # Made here because MLflow would put it in its default experiment (and its files in
    # ./mlruns): there is no active run, which would also record the user's name.
    model = client.create_logged_model(
        run.info.experiment_id, name="model", source_run_id=run_id, params=run.data.params
    )
    path, writes = list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        return Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=model.model_id,
            step=step,
            python_model=str(_PACKAGE / "tracking" / "serving.py"),
            code_paths=[str(_PACKAGE)],
            artifacts={"model": str(Path(model_dir).resolve())},
            signature=signature(),
            input_example=_example(info),
            pip_requirements=requirements(info),
        )
    finally:
        # MLflow tries the model in this process, where bytecode would go into the artifacts, and
        # leaves the copy's code on the path.
        sys.path[:], sys.dont_write_bytecode = path, writes


def model_info(model_dir: Path) -> dict:
    """The content of `model.json`.

    Raises:
        VtccError: when it is missing or not JSON.
    """
    return json_file.read(model_dir / "model.json", "run `dvc repro train` (or `dvc pull`)")


def signature() -> "ModelSignature":
    """Image bytes -> cluster, name, confidence, probabilities; `batch_size` as a parameter."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema(
            [
                ColSpec(DataType.long, "cluster"),
                ColSpec(DataType.string, "name"),
                ColSpec(DataType.double, "confidence"),
                ColSpec(Array(DataType.double), "probabilities"),
            ]
        ),
        params=ParamSchema([ParamSpec("batch_size", DataType.long, 512)]),
    )


def requirements(info: dict) -> list[str]:
    """`name==version` of what serving needs, without build tags such as `+cpu`.

    Args:
        info: the model's `model.json`, which may refer to an encoder that a package brings.
    """
    from vtcc import encoders

    lines = [f"{name}=={_version(name)}" for name in _REQUIREMENTS]
    name = info.get("encoder", {}).get("name")
    if name and (package := encoders.card(name).package):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # weights of elsewhere
            lines.append(f"{package.distribution}=={_version(package.distribution)}")
    return lines


def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution).split("+")[0]


def _example(info: dict) -> "pd.DataFrame":
    """One tiny image of the model's kind, as the DataFrame that `predict` takes."""
    import pandas as pd
    from PIL import Image

    channels, bands = info.get("channels", 3), info.get("bands") or []
    size = int(info.get("cache_size", 16))
    ramp = Image.linear_gradient("L").resize((size, size))
    file = io.BytesIO()
    if bands or channels not in (1, 3):
        _write_tiff(file, ramp, max([channels, *bands]))
    else:
        ramp.convert("L" if channels == 1 else "RGB").save(file, "PNG")
    return pd.DataFrame({"image": [file.getvalue()]})


def _write_tiff(file: io.BytesIO, grey: "Image.Image", bands: int) -> None:
    """The same picture in every band; a PNG has four at most."""
    import numpy as np
    import tifffile

    pixels = np.repeat(np.asarray(grey)[..., np.newaxis], bands, axis=2)
    tifffile.imwrite(file, pixels, photometric="minisblack", planarconfig="contig")
