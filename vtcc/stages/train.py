"""Stage `train`: the paper's method on the uint8 cache, without labels.

Needs the engine's libraries only; without MLflow the run is not tracked.
"""

import contextlib
import csv
import importlib.util
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vtcc import config, launch, paths
from vtcc.atomic import sweep, write_text
from vtcc.errors import VtccError
from vtcc.progress import note
from vtcc.stopping import Stopped

_FINISHED = "finished"
_MEASURED = 5000  # training images that centres and limits of the clusters are taken from


def run(resume: Path | None = None, processes: int = 0) -> None:
    """Trains on `data/cache`, chooses checkpoint and head without labels, saves the model.

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

    launch.follow_launcher()
    _prepare_encoder(params.train.model)
    if (count := launch.wanted(processes)) > 1:
        # What a user may have to mend is said before anything is started.
        _check_cache(params, open_cache(paths.CACHE))
        if params.train.batch_size < 2 * count:
            raise VtccError(
                f"train.batch_size: {params.train.batch_size} images for {count} processes; "
                f"BatchNorm needs two in each, so use at most {params.train.batch_size // 2}"
            )
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
    from vtcc.engine import checkpoint
    from vtcc.engine.kernels import resolve

    train = params.train
    cache = open_cache(paths.CACHE)
    _check_cache(params, cache)
    kernels = vars(resolve(train))
    # How many processes train is left out: another number goes on from the same checkpoints.
    key = checkpoint.training_key(config.to_dict(train), cache.digest, kernels)
    lock = paths.scratch() / f"{key}.lock"
    with _unwritten(), _alone(lock) if team.main else contextlib.nullcontext():
        if team.main:
            sweep(paths.MODEL, paths.RUN, paths.CURVES, paths.TRAINING)
            _check_writable(paths.MODEL.parent, paths.REPORTS, paths.scratch() / key)
        _train(params, cache, paths.scratch() / key, resume, team)


def _train(
    params: config.Params, cache: Any, scratch: Path, resume: Path | None, team: Any
) -> None:
    from vtcc.analysis.selection import Candidate, choose
    from vtcc.engine import checkpoint, loop, plan
    from vtcc.engine.model_info import trained_info
    from vtcc.engine.normalization import normalization

    train = params.train
    mean, std = normalization(train.normalize, cache, train.model.encoder)
    if team.world == 1:
        plan.refuse_large_batch(cache.images, cache.rows("train"), train, mean=mean, std=std)
    tracker = _tracker(params, cache) if team.main else _Untracked()
    started = time.monotonic()
    status, artifacts = "FAILED", [paths.PARAMS]
    try:
        fitted = loop.fit(
            cache.images,
            cache.rows("train"),
            train,
            mean=mean,
            std=std,
            scratch=scratch,
            callbacks=tracker,
            digest=cache.digest,
            resume_from=resume,
            known_kernels=paths.kernels(),
            team=team,
        )
        if not team.main:
            return
        chosen = choose([Candidate(**c) for c in fitted.candidates])
        model = fitted.choose(chosen.step, chosen.head)
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
        )
        checkpoint.save_model(paths.MODEL, model, info)
        _know_clusters(model, info, cache)
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
    if "DVC_STAGE" in os.environ:
        # DVC has yet to note the outs, and deletes them if it is killed before: see `forget`.
        write_text(scratch / _FINISHED, str(Path.cwd()))
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    note(
        f"trained; kept epoch {chosen.epoch}, head {chosen.head}: {paths.MODEL} "
        f"({time.monotonic() - started:.0f} s since this start)"
    )


def _know_clusters(model: Any, info: dict[str, Any], cache: Any) -> None:
    """Notes names, centres and limits of the clusters beside the weights, by training images."""
    import numpy as np

    from vtcc.clusters import Clusters
    from vtcc.engine.predict import Predictor

    rows = cache.rows("train")
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MEASURED])
    predictor = Predictor(model, info)
    parts = [predictor.predict(cache.images[rows[i : i + 256]]) for i in range(0, len(rows), 256)]
    Clusters.fit(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.embedding for part in parts]),
    ).write(paths.MODEL)


def forget() -> None:
    """Deletes the checkpoints of trainings that were finished here, once DVC has their models."""
    for mark in paths.scratch().glob(f"*/{_FINISHED}"):
        if mark.read_text(encoding="utf-8") == str(Path.cwd()):
            shutil.rmtree(mark.parent, ignore_errors=True)


@contextlib.contextmanager
def _unwritten() -> Iterator[None]:
    """A full disk or a lack of permissions as one line; the last checkpoint stands."""
    try:
        yield
    except OSError as error:
        raise VtccError(
            f"could not write: {error}; free space or permissions, then run the stage again: it "
            "goes on from the last checkpoint"
        ) from error


def _check_writable(*directories: Path) -> None:
    """Finds out before the training, not after it."""
    for directory in directories:
        probe = directory / f".{os.getpid()}.building"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise VtccError(
                f"{directory}: cannot be written to ({error.strerror}); free space or "
                "permissions, then run the stage again"
            ) from None


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits while another process runs this very training: they share their checkpoints."""
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        note(f"the same training runs in another process; waiting for it ({lock})")
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _prepare_encoder(model: config.Model) -> None:
    """Has the weights of an encoder named in params.yaml here before any process needs them."""
    if model.encoder == "vit" or model.encoder.startswith("timm:"):
        return
    from vtcc import encoders

    weights = Path(model.weights) if model.weights else None
    encoders.resolve(model.encoder, weights=weights, may_download=True)


def _check_cache(params: config.Params, cache: Any) -> None:
    if cache.image_size < params.train.image_size:
        raise VtccError(
            f"{paths.CACHE}: images are cached at {cache.image_size} pixels, below "
            f"train.image_size ({params.train.image_size}); raise validate.image_size "
            "and run `vtcc validate`"
        )


class _Untracked:
    """Stands in where MLflow is not installed, and in all processes but one."""

    def on_start(self, info: dict[str, Any]) -> str | None:
        return None

    def on_epoch(self, epoch: int, figures: dict[str, float]) -> None:
        pass

    def on_warning(self, warned: Any) -> None:
        pass

    def on_end(self, status: str, artifacts: list, model_dir: Any) -> None:
        pass

    def record(self) -> dict[str, None]:
        return {"run_id": None, "tracking_uri": None, "experiment": None}


def _tracker(params: config.Params, cache: Any) -> Any:
    if not _installed("mlflow"):
        note("MLflow is not installed: this run is not tracked")
        return _Untracked()
    from vtcc.tracking.runs import TrainingRun

    return TrainingRun(params=params, cache=cache)


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
