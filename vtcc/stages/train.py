"""Stage `train`: the paper's method on the uint8 cache or on features, without labels.

Needs the engine's libraries only; without MLflow the run is not tracked.
"""

import contextlib
import csv
import importlib.util
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import config, paths
from vtcc.atomic import sweep, write_text
from vtcc.errors import VtccError
from vtcc.process import launch, stopping
from vtcc.process.stopping import Stopped
from vtcc.progress import note
from vtcc.stages import embed, resuming

if TYPE_CHECKING:
    from vtcc.engine.frozen import FrozenFeatures

_MEASURED = 5000  # training images that centres and limits of the clusters are taken from


def run(resume: Path | None = None, processes: int = 0) -> None:
    """Trains, chooses checkpoint and head without labels, saves the model.

    On `data/cache`, or, where the encoder is frozen, on `data/features`.

    Args:
        resume: a checkpoint to go on from, instead of what scratch holds.
        processes: on this machine; 0: as the variable VTCC_PROCESSES says, else 1. Within
            torchrun or `accelerate launch` it is theirs to say.

    Raises:
        VtccError: on a user's mistake, a training that diverged, or a disk that is full.
        SystemExit: with 128 + signal number after SIGINT, SIGTERM or SIGHUP, or with the status
            of the processes that were started.
    """
    params = config.load()
    from vtcc.data.cache import open_cache

    stopping.follow_launcher()
    embed.have_weights(params.train.model)
    if (count := launch.wanted(processes)) > 1:
        # What a user may have to mend is said before anything is started.
        cache = open_cache(paths.CACHE)
        _check_cache(params, cache)
        if params.train.model.reads_features:
            embed.opened(embed.wanted(params, cache))
        launch.check_batch(params.train.batch_size, count)
        again = ["--resume", str(resume)] if resume else []
        launch.run([sys.executable, "-m", "vtcc", "train", *again], count)
    from vtcc.engine import distributed
    from vtcc.engine.kernels import resolve_device

    with distributed.join(resolve_device(params.train.device)) as team:
        _in_team(params, resume, team)
    if not team.main:
        sys.exit()  # rank 0 has the last word


def _in_team(params: config.Params, resume: Path | None, team: Any) -> None:
    """One process's part: each holds the data, rank 0 the checkpoints and the results."""
    from vtcc.data.cache import open_cache

    cache = open_cache(paths.CACHE)
    _check_cache(params, cache)
    features, encoder = _features(params, cache)
    key = _key(params.train, cache, features)
    lock = paths.scratch() / f"{key}.lock"
    taken = resuming.alone(lock, "training") if team.main else contextlib.nullcontext()
    with resuming.unwritten("the last checkpoint"), taken:
        if team.main:
            if "DVC_STAGE" in os.environ:  # DVC starts this stage once it has noted the features
                resuming.forget("features-*")
            sweep(paths.MODEL, paths.RUN, paths.CURVES, paths.TRAINING)
            resuming.check_writable(paths.MODEL.parent, paths.REPORTS, paths.scratch() / key)
        tracker = _tracker(params, cache, encoder, main=team.main)
        _train(params, cache, features, tracker, paths.scratch() / key, resume, team)


def standing(params: config.Params) -> int | None:
    """Epochs that a training which has not ended has kept; None where `run` would begin afresh.

    Raises:
        VtccError: when images, features or weights that the training needs are missing.
    """
    from vtcc.data.cache import open_cache
    from vtcc.engine import checkpoint
    from vtcc.engine.scratch import STATE

    cache = open_cache(paths.CACHE)
    features, _ = _features(params, cache)
    directory = paths.scratch() / _key(params.train, cache, features)
    state = checkpoint.load_state(directory / STATE)
    return len(state["curves"]) if state else None


def _key(train: config.Train, cache: Any, features: "FrozenFeatures | None") -> str:
    """Names the training in scratch, however many processes train."""
    from vtcc.engine import checkpoint
    from vtcc.engine.kernels import resolve

    digest = features.digest if features else cache.digest
    return checkpoint.training_key(config.to_dict(train), digest, vars(resolve(train)))


def _features(
    params: config.Params, cache: Any
) -> tuple["FrozenFeatures | None", dict[str, Any] | None]:
    """What a frozen encoder has made of the images, or None; and a pretrained encoder's record.

    Raises:
        VtccError: when the features are missing or of other parameters.
    """
    from vtcc import encoders
    from vtcc.engine.frozen import FrozenFeatures

    model = params.train.model
    if not model.reads_features:
        return None, encoders.encoder_record(model.encoder, model.weights)
    want = embed.wanted(params, cache)
    values, rows = embed.opened(want).values, cache.rows("train")
    features = FrozenFeatures.of(values, want.key, rows=rows, components=model.components)
    return features, want.encoder


def _train(
    params: config.Params,
    cache: Any,
    features: "FrozenFeatures | None",
    tracker: Any,
    scratch: Path,
    resume: Path | None,
    team: Any,
) -> None:
    from vtcc.analysis.selection import Candidate, choose
    from vtcc.engine import checkpoint, loop, plan
    from vtcc.engine.model import with_frozen_encoder
    from vtcc.engine.model_info import trained_info
    from vtcc.engine.normalization import normalization

    train = params.train
    mean, std = normalization(train.normalize, cache, train.model.encoder)
    values = features.reduced if features else cache.images
    if team.world == 1:
        plan.refuse_large_batch(values, cache.rows("train"), train, mean=mean, std=std)
    started = time.monotonic()
    status, artifacts = "FAILED", [paths.PARAMS]
    try:
        fitted = loop.fit(
            values,
            cache.rows("train"),
            train,
            mean=mean,
            std=std,
            scratch=scratch,
            callbacks=tracker,
            digest=features.digest if features else cache.digest,
            resume_from=resume,
            team=team,
        )
        if not team.main:
            return
        chosen = choose([Candidate(**c) for c in fitted.candidates])
        model = fitted.choose(chosen.step, chosen.head)
        if features:
            model = with_frozen_encoder(
                model,
                train.model,
                features.reduction,
                image_size=train.image_size,
                channels=cache.channels,
            )
        info = trained_info(
            cache,
            train,
            max_pixels=params.validate.max_pixels,
            mean=mean,
            std=std,
            head=chosen.head,
            epoch=chosen.epoch,
            kernels=fitted.kernels,
            processes=team.world,
            features=features.digest if features else None,
        )
        checkpoint.save_model(paths.MODEL, model, info)
        _know_clusters(model, info, cache, features)
        _write_curves(fitted.curves)
        summary = _summary(fitted, chosen)
        _write_json(paths.TRAINING, summary)
        artifacts += [paths.CURVES, paths.TRAINING, paths.CACHE / "cache.json"]
        status = "FINISHED"
    except loop.Interrupted as stop:
        status = "KILLED"
        note(f"{stop}; run the stage again to go on from {scratch}")
        sys.exit(128 + stop.signum)
    except (Stopped, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        done = status == "FINISHED"
        tracker.on_end(status, artifacts if done else [], paths.MODEL if done else None)
    _write_json(paths.RUN, tracker.record())
    resuming.finish(scratch)
    note(
        f"trained; kept epoch {chosen.epoch}, head {chosen.head}: {paths.MODEL} "
        f"({time.monotonic() - started:.0f} s since this start)"
    )


def _know_clusters(
    model: Any, info: dict[str, Any], cache: Any, features: "FrozenFeatures | None"
) -> None:
    """Notes names, centres and limits of the clusters beside the weights, by training images."""
    import numpy as np

    from vtcc.engine.predict import Predictor
    from vtcc.grouping.clusters import Clusters

    rows = cache.rows("train")
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MEASURED])
    predictor = Predictor(model, info)
    blocks = [rows[i : i + 256] for i in range(0, len(rows), 256)]
    if features is None:
        parts = [predictor.predict(cache.images[block]) for block in blocks]
    else:
        parts = [predictor.predict_features(features.values[block, 0]) for block in blocks]
    Clusters.fit(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.embedding for part in parts]),
    ).write(paths.MODEL)


def _check_cache(params: config.Params, cache: Any) -> None:
    if cache.image_size < params.train.image_size:
        raise VtccError(
            f"{paths.CACHE}: images are cached at {cache.image_size} pixels, below "
            f"train.image_size ({params.train.image_size}); raise validate.image_size "
            "and run `vtcc validate`"
        )


def _tracker(
    params: config.Params, cache: Any, encoder: dict[str, Any] | None, *, main: bool
) -> Any:
    """Callbacks of the training: an MLflow run, in one process, where MLflow is installed."""
    from vtcc.engine.loop import Silent

    if not main:
        return Silent()
    if not _installed("mlflow"):
        note("MLflow is not installed: this run is not tracked")
        return Silent()
    from vtcc.tracking.runs import TrainingRun

    return TrainingRun(params=params, cache=cache, encoder=encoder)


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # blocked by None in sys.modules
        return False


def _summary(fitted: Any, chosen: Any) -> dict[str, Any]:
    return {
        "epoch": chosen.epoch,
        "head": chosen.head,
        "cluster_loss": chosen.cluster_loss,
        "instance_loss": chosen.instance_loss,
        "entropy": chosen.entropy,
        "smallest_cluster": chosen.smallest_cluster,
        "clusters_used": chosen.clusters_used,
        "confidence": chosen.confidence,
        "parameters": fitted.parameters,
        "warnings": [warned.to_dict() for warned in fitted.warnings],
        "candidates": fitted.candidates,
    }


def _write_json(path: Any, values: dict) -> None:
    write_text(path, json.dumps(values, indent=2) + "\n")


def _write_curves(curves: list[dict[str, float]]) -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(curves[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: round(v, 6) for k, v in row.items()} for row in curves)
    write_text(paths.CURVES, file.getvalue())
