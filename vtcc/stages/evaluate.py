"""Stage `evaluate`: scores, baselines, pictures. The only stage that sees labels."""

import contextlib
import csv
import importlib.util
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc import config, paths, provenance
from vtcc.analysis.labels import Labels, read_labels
from vtcc.analysis.scores import SCORES
from vtcc.atomic import remove, sweep, write_text
from vtcc.data.spreadsheet import text_cell
from vtcc.errors import VtccError
from vtcc.grouping import assignments
from vtcc.grouping.clusters import Applied, decide
from vtcc.progress import note, report
from vtcc.stages import embed, resuming

if TYPE_CHECKING:
    from vtcc.data.cache import Cache
    from vtcc.engine.predict import Prediction, Predictor

_OUTPUTS = (
    *(paths.METRICS, paths.ASSIGNMENTS, paths.CONFUSION, paths.PLOTS, paths.GALLERY),
    paths.EVALUATED,
)
_CHUNK = 4096  # images between two lines of progress


def run() -> None:
    """Evaluates `models/model` on `data/cache` in the current directory.

    Writes reports/ and logs to the tracking store, where there is one. The same model and
    data give the same metrics.json.

    Raises:
        VtccError: when the model or the cache is missing or they do not fit together.
    """
    from vtcc.data.cache import open_cache
    from vtcc.grouping import clusters

    params = config.load()
    sweep(*_OUTPUTS)
    cache = open_cache(paths.CACHE)
    scored = provenance.model_digest(paths.MODEL)
    predictor = clusters.load_predictor(paths.MODEL)
    check_fit(str(paths.MODEL), cache, predictor, "run `vtcc train` (or `dvc repro evaluate`)")
    trained_on = predictor.info.get("dataset", {}).get("digest")
    if trained_on and trained_on != cache.digest:
        note(f"{paths.MODEL}: trained on other images than {paths.CACHE} holds now")
    if "DVC_STAGE" in os.environ:  # DVC starts this stage once it has noted the model
        resuming.forget()
    if params.evaluate.baselines and read_labels(paths.LABELS, cache.paths) is None:
        note("no labels: baselines are left out, as there is nothing to score them against")
    features = embed.of_model(predictor.info, cache.digest)
    plain = None if features is None else features.values[:, 0]

    def track(_: dict[str, Any]) -> None:
        _say_of_what(scored, cache, predictor.info.get("train"), params.evaluate)
        _track()

    remove(paths.EVALUATED)  # written last: reports without it are not whole
    write_reports(params.evaluate, cache, predictor, track, plain)


def write_reports(
    params: config.Evaluate,
    cache: "Cache",
    predictor: "Predictor",
    track: Callable[[dict[str, Any]], None],
    plain: np.ndarray | None = None,
    reports: Path = paths.REPORTS,
) -> None:
    """Scores a model on the cached images and writes all reports that are about them.

    Args:
        params: section `evaluate`.
        cache: images, decoded as the model wants them.
        predictor: of `clusters.load_predictor`.
        track: gets the metrics once everything is written.
        plain: (N, D) features of the images where they are known: nothing is embedded again.
        reports: where they are written; a training's curves are drawn where they lie there.

    Raises:
        VtccError: when no training image is in a cluster, or a file cannot be written.
    """
    labels = read_labels(paths.LABELS, cache.paths)
    names = params.baselines if labels is not None else ()
    steps = _Steps(["predict", *names, "pictures", "gallery", "tracking"])
    prediction = _predict(cache.images, predictor, params.batch_size, steps, plain)
    applied = decide(predictor, prediction)
    if not (applied.cluster[cache.rows("train")] >= 0).any():
        raise VtccError(
            f"{cache.name}: the model puts no training image into a cluster, all are excluded or "
            "belong nowhere; evaluate it on images of its kinds, or `vtcc refine` its clusters"
        )
    steps.done("predict")
    metrics = _scores(cache, labels, applied)
    metrics |= _baselines(names, params, cache, labels, predictor, prediction, steps, plain)
    with _writing(reports):
        _write(params, cache, labels, prediction.embedding, applied, metrics, steps, reports)
    track(metrics)
    steps.done("tracking")
    note(_summary(metrics, reports))


class _Steps:
    """Progress over the named steps of the stage."""

    def __init__(self, names: list[str]):
        self.names, self.started = names, time.monotonic()
        report("evaluate", 0, len(names), step=names[0])

    def within(self, step: str, **figures: Any) -> None:
        report("evaluate", self.names.index(step), len(self.names), step=step, **figures)

    def done(self, step: str) -> None:
        now = time.monotonic()
        seconds, self.started = round(now - self.started, 1), now
        report("evaluate", self.names.index(step) + 1, len(self.names), step=step, seconds=seconds)


def check_fit(model: str, cache: "Cache", predictor: "Predictor", remedy: str) -> None:
    """Refuses images that are not as the model reads them.

    Raises:
        VtccError: naming the `model`, both shapes and the `remedy`.
    """
    ours = (cache.image_size, cache.image_size, cache.channels)
    theirs = (predictor.cache_size, predictor.cache_size, predictor.channels)
    if ours != theirs:
        raise VtccError(
            f"{model}: takes images of shape {theirs}, but {paths.CACHE} holds {ours}; {remedy}"
        )


def _predict(
    images: np.ndarray,
    predictor: "Predictor",
    batch_size: int,
    steps: _Steps,
    plain: np.ndarray | None = None,
) -> "Prediction":
    """`Predictor.predict` of everything, with progress.

    Args:
        plain: (N, D) features of the images where they are known: nothing is embedded again.
    """
    from vtcc.engine.predict import Prediction

    # Whole batches, so that chunks change nothing.
    chunk = max(_CHUNK // batch_size, 1) * batch_size
    parts = []
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        if plain is None:
            parts.append(predictor.predict(images[part], batch_size=batch_size))
        else:
            parts.append(predictor.predict_features(plain[part]))
        steps.within("predict", images=min(start + chunk, len(images)), of=len(images))
    return Prediction(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.embedding for part in parts]),
    )


def _scores(cache: "Cache", labels: Labels | None, applied: Applied) -> dict[str, Any]:
    """Label-free figures and scores of the training rows, and of held-out ones as `holdout_*`.

    Images of excluded clusters are in no cluster, so they are in no figure.
    """
    from vtcc.analysis.metrics import clustering_scores, label_free

    metrics: dict[str, Any] = {"num_clusters": len(applied.names)}
    for split, prefix in (("train", ""), ("holdout", "holdout_")):
        rows = cache.rows(split)
        rows = rows[applied.cluster[rows] >= 0]
        if not len(rows):
            continue
        own = np.searchsorted(sorted(applied.names), applied.cluster[rows])
        figures: dict[str, Any] = {
            "images": len(rows),
            **label_free(applied.shares[rows], own, applied.confidence[rows]),
        }
        if labels is not None:
            scored = rows[labels.known[rows]]
            figures["labelled_images"] = len(scored)
            if len(scored):
                figures["classes"] = len({labels.label[i] for i in scored})
                true = [labels.label[i] for i in scored]
                figures |= clustering_scores(true, applied.cluster[scored])
            if figures.get("classes") == 1:
                which = "held-out images with a label" if prefix else "labelled images"
                note(f"no scores: all {len(scored):,} {which} are of one class")
        metrics |= {prefix + key: value for key, value in figures.items()}
    return metrics


def _baselines(
    names: Sequence[str],
    params: config.Evaluate,
    cache: "Cache",
    labels: Labels | None,
    predictor: "Predictor",
    prediction: "Prediction",
    steps: _Steps,
    plain: np.ndarray | None = None,
) -> dict[str, Any]:
    """`baseline_<name>_<score>`, and `..._images` where only a subsample was clustered."""
    from vtcc.analysis import baselines
    from vtcc.analysis.metrics import clustering_scores
    from vtcc.engine.predict import embed_untrained

    if labels is None:
        return {}
    rows = cache.rows("train")
    inputs = baselines.Inputs(
        images=cache.images,
        rows=rows,
        embedding=prediction.embedding[rows],
        untrained=lambda: embed_untrained(predictor.info, cache.images, params.seed)[rows],
        num_clusters=predictor.num_clusters,
        seed=params.seed,
        quadratic_limit=params.quadratic_limit,
        frozen=None if plain is None else plain[rows],
    )
    metrics: dict[str, Any] = {}
    for name in names:
        result = baselines.run(name, inputs)
        if result is None:
            note(f"{name}: left out, {baselines.missing(name, inputs)}")
        else:
            seen = rows[result.places]
            scored = labels.known[seen]
            if scored.any():
                true = [labels.label[i] for i in seen[scored]]
                for score, value in clustering_scores(true, result.clusters[scored]).items():
                    metrics[f"baseline_{name}_{score}"] = value
                if len(seen) < len(rows):
                    metrics[f"baseline_{name}_images"] = len(seen)
        steps.done(name)
    return metrics


def _write(
    params: config.Evaluate,
    cache: "Cache",
    labels: Labels | None,
    embedding: np.ndarray,
    applied: Applied,
    metrics: dict[str, Any],
    steps: _Steps,
    reports: Path,
) -> None:
    """Everything below `reports` that this stage answers for; each file whole or not at all."""
    from vtcc.analysis import features, plots
    from vtcc.atomic import atomic_directory
    from vtcc.pages import gallery

    cluster, confidence, ids = applied.cluster, applied.confidence, sorted(applied.names)
    sorted_rows = np.flatnonzero(cluster >= 0)  # without images of excluded clusters
    rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in metrics.items()}
    write_text(reports / paths.METRICS.name, json.dumps(rounded, indent=2, sort_keys=True) + "\n")
    answers = zip(cache.paths, cluster.tolist(), confidence.tolist(), cache.split, strict=True)
    with assignments.writing(reports / paths.ASSIGNMENTS.name, assignments.EVALUATED) as table:
        table.write(
            [
                assignments.Row(p, None if k < 0 else k, c, "", split=split)
                for p, k, c, split in answers
            ]
        )

    classes = labels.class_name if labels is not None else None
    pairs: list[tuple[str, int]] = []
    if labels is not None and classes is not None:
        known = sorted_rows[labels.known[sorted_rows]]
        pairs = [(text_cell(classes[i]), int(cluster[i])) for i in known]
    write_text(reports / paths.CONFUSION.name, _csv(("class", "cluster"), pairs))

    shown = features.subsample(len(sorted_rows), params.plot_points, params.seed)
    drawn = sorted_rows[shown]
    points = plots.project(embedding[drawn], params.seed, params.projection)
    curves = reports / paths.CURVES.name
    with atomic_directory(reports / paths.PLOTS.name) as directory:
        sizes = [int((cluster == k).sum()) for k in ids]
        plots.sizes(directory / "sizes.png", sizes, ids)
        plots.embedding(
            directory / "embedding.png",
            points,
            cluster[drawn],
            max(ids) + 1,
            None if classes is None else [classes[i] for i in drawn],
        )
        if pairs:
            names, numbers = zip(*pairs, strict=True)
            plots.confusion(directory / "confusion.png", names, numbers, ids)
        if curves.is_file():
            plots.curves(directory / "curves.png", curves)
        elif curves == paths.CURVES:
            note(f"{curves}: no such file; no picture of the losses")
    steps.done("pictures")

    page = gallery.Gallery(
        name=cache.name,
        images=cache.images[sorted_rows] if len(sorted_rows) < len(cluster) else cache.images,
        paths=[cache.paths[i] for i in sorted_rows],
        clusters=cluster[sorted_rows],
        confidence=confidence[sorted_rows],
        ids=ids,
        metrics=rounded,
        classes=None if classes is None else [classes[i] for i in sorted_rows],
        shown=params.gallery_images,
        point_rows=shown,
        points=points,
    )
    write_text(reports / paths.GALLERY.name, gallery.render(page))
    steps.done("gallery")


@contextlib.contextmanager
def _writing(reports: Path) -> Iterator[None]:
    """What cannot be written is one clear line."""
    try:
        yield
    except OSError as error:
        raise VtccError(
            f"{reports}: could not write ({error}); free space or permissions, then re-run"
        ) from error


def _say_of_what(
    model: str, cache: "Cache", train: dict[str, Any] | None, params: config.Evaluate
) -> None:
    """Keeps what reports/ are of, for `vtcc register` and `vtcc show`, which run later.

    Args:
        model: its digest. train: the parameters that it was trained with, where they are known.
    """
    what = {
        "model": model,
        "images": cache.digest,
        "evaluate": config.to_dict(params),
        "dataset": cache.name,
        "train": train,
    }
    with _writing(paths.REPORTS):
        write_text(paths.EVALUATED, json.dumps(what, indent=2) + "\n")


def _track() -> None:
    """Logs to the tracking store; where that fails the reports stand, and it is said.

    `vtcc register` logs what is missing, also after DVC restored this stage from its cache.
    """
    if importlib.util.find_spec("mlflow") is None:
        note("mlflow is not installed: nothing is logged")
        return
    from vtcc.tracking import evaluations

    try:
        evaluations.log_current()
    except VtccError as error:
        note(f"not logged: {error}; then `vtcc register` logs it")


def _summary(metrics: dict[str, Any], reports: Path) -> str:
    used = f"{metrics['clusters_used']} of {metrics['num_clusters']} clusters used"
    parts = [used, f"confidence {metrics['confidence']:.3f}"]
    if "acc" in metrics:
        parts = [f"{s.upper()} {metrics[s]:.3f}" for s in SCORES] + parts
    if "holdout_acc" in metrics:
        parts.append(f"held-out ACC {metrics['holdout_acc']:.3f}")
    return f"{', '.join(parts)}; look at {reports / paths.GALLERY.name}"


def _csv(header: tuple[str, ...], rows: Iterable[tuple]) -> str:
    text = io.StringIO(newline="")
    # The default line end, "\r\n", makes the writer quote line breaks of any kind in names.
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
