"""`vtcc assess MODEL`: what stage `evaluate` does, for a model that was trained elsewhere.

Not a stage of the pipeline: it scores a registered model on the images that are cached here,
usually in a worktree of the deployment `vtcc/evaluate`. The model is neither registered nor do
its training's scores change, nor the reports of the pipeline's own model.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import config, paths
from vtcc.progress import note
from vtcc.stages import evaluate
from vtcc.verbs import predict

if TYPE_CHECKING:
    from vtcc.data.cache import Cache


def run(model: str) -> None:
    """Writes reports/assess/ as `evaluate` does reports/, and logs an MLflow run of its own.

    Args:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/ID/model`, or a local model
            directory.

    Raises:
        VtccError: when there is no such model or cache, or they do not fit together.
    """
    from vtcc.data.cache import open_cache

    params = config.load().evaluate
    cache = open_cache(paths.CACHE)
    with tempfile.TemporaryDirectory() as room:
        predictor = predict.load(model, Path(room))
    remedy = (
        f"set validate.image_size: {predictor.cache_size} and dataset.channels: "
        f"{predictor.channels} in params.yaml and run `dvc repro validate`"
    )
    evaluate.check_fit(model, cache, predictor, remedy)
    trained_on = predictor.info.get("dataset", {}).get("digest")
    if trained_on != cache.digest and len(cache.rows("holdout")):
        note(
            f"{model}: not trained on the images of {paths.CACHE} as they are now; where some were "
            "among its own, it may have trained on images that are held out here: one image more "
            "or less draws other ones"
        )
    evaluate.write_reports(
        params,
        cache,
        predictor,
        lambda metrics: _track(model, cache, metrics),
        reports=paths.ASSESSED,
    )


def _track(model: str, cache: "Cache", metrics: dict[str, Any]) -> None:
    if importlib.util.find_spec("mlflow") is None:
        note("MLflow is not installed: nothing is logged")
        return
    from vtcc.tracking import evaluations

    files = evaluations.report_files(paths.ASSESSED)
    run_id = evaluations.log_assessment(model, cache.name, cache.digest, metrics, files)
    note(f"MLflow run {run_id}")
