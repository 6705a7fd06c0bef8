"""The model as MLflow serves it: image bytes in; cluster, name, confidence, probabilities out.

MLflow runs this file by itself when it loads the model ("models from code"); the package
`vtcc` is shipped beside it. Nothing is pickled. See `packaging.log_model`.
"""

import base64
import binascii
from typing import Any

import mlflow.models
import pandas as pd
from mlflow.pyfunc import PythonModel


class ClusterImages(PythonModel):
    """Sorts encoded images (PNG, JPEG, TIFF, ...) into the clusters of a trained model."""

    def load_context(self, context: Any) -> None:
        """Loads the weights; torch is imported here, not when the file is read."""
        from pathlib import Path

        from vtcc.grouping.clusters import load_predictor

        self.predictor = load_predictor(Path(context.artifacts["model"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predicts for a DataFrame with a column `image`.

        Args:
            context: MLflow's, unused.
            model_input: `image`: the bytes of an image file, or the same as base64 text.
            params: `batch_size`: images per forward pass, 512 unless told.

        Returns:
            A DataFrame with the rows of the input: `cluster` (int64; -1 for images of excluded
            clusters and those that belong nowhere), its `name`, `confidence` (float64, the
            probability of that cluster) and `probabilities` (list of K floats, by ascending
            cluster).

        Raises:
            MlflowException: naming the first row that is no readable image (HTTP 400).
        """
        import numpy as np

        from vtcc.data import images
        from vtcc.grouping.clusters import decide
        from vtcc.tracking import limits

        p = self.predictor
        try:
            batch_size = limits.batch_size(params)
        except ValueError as error:
            raise _bad(str(error)) from None
        if "image" not in model_input:
            raise _bad(f"expected a column 'image', found {', '.join(map(str, model_input))}")
        column = list(model_input["image"])
        pixels = np.empty((len(column), p.cache_size, p.cache_size, p.channels), np.uint8)
        for row, value in enumerate(column):
            try:
                pixels[row] = images.load(_as_bytes(value), **p.decoding)
            except images.UnreadableImage as error:
                raise _bad(f"row {row}: not a readable image ({error})") from error
            except (TypeError, binascii.Error) as error:
                raise _bad(f"row {row}: {error}") from error
        applied = decide(p, p.predict(pixels, batch_size=batch_size))
        return pd.DataFrame(
            {
                "cluster": np.maximum(applied.cluster, -1),
                "name": [applied.name(i) for i in range(len(column))],
                "confidence": applied.confidence.astype(np.float64),
                "probabilities": applied.shares.astype(np.float64).tolist(),
            },
            index=model_input.index,
        )


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return base64.b64decode(value, validate=True)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"expected the bytes of an image or base64 text, found {type(value).__name__}")


def _bad(message: str) -> Exception:
    from mlflow.exceptions import MlflowException

    return MlflowException.invalid_parameter_value(message)


mlflow.models.set_model(ClusterImages())
