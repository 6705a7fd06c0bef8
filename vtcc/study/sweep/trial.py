"""One trial: a training in a worktree, judged at its end and, where pruning asks, on its way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vtcc import config, paths, zip_file
from vtcc.atomic import atomic_file
from vtcc.data.cache import Cache
from vtcc.progress import note, several
from vtcc.stages import embed, resuming
from vtcc.study.sweep import objective
from vtcc.study.sweep.draws import Draws
from vtcc.study.sweep.objective import Yardstick

SHARES = (1 / 3, 2 / 3)  # of a training, after which it is judged


class Rungs:
    """Judges a training in progress by the checkpoints it leaves; called with its progress.

    Only states that every training of that many epochs saves are taken, so that all trials are
    judged after the same epochs.

    Attributes:
        pruned: why the training should end, or None.
        scratch: the directory of its checkpoints.
    """

    def __init__(
        self,
        trials: Draws,
        number: int,
        params: dict[str, Any],
        cache: Cache,
        yardstick: Yardstick,
        home: Path,
        reported: Callable[[], None] = lambda: None,
    ) -> None:
        """Finds out where the checkpoints will lie.

        Args:
            trials: those to compare with.
            number: of this one.
            params: its complete parameters, nested.
            cache: the images.
            yardstick: of the sweep.
            home: the main checkout, which all worktrees share.
            reported: called after each judgement that `trials` has heard of.
        """
        from vtcc.engine import checkpoint, kernels, schedule

        self._trials, self._number, self._yardstick = trials, number, yardstick
        self._params = config.from_dict(config.Params, params)
        self._cache = cache
        train = self._params.train
        resolved = vars(kernels.resolve(train))
        frozen = train.model.reads_features
        digest = embed.wanted(self._params, cache).key if frozen else cache.digest
        key = checkpoint.training_key(config.to_dict(train), digest, resolved)
        self.scratch = home / ".vtcc" / "scratch" / key
        self.pruned: str | None = None
        saved = [e for e in sorted(schedule.saved_epochs(train)) if e < train.epochs]
        at = (min((e for e in saved if e >= s * train.epochs), default=0) for s in SHARES)
        self._waiting = list(enumerate(sorted(set(at) - {0}), 1))
        known = trials.trials[number].get("intermediate", {})  # of a trial that was cut off
        self._waiting = [(rung, epoch) for rung, epoch in self._waiting if str(rung) not in known]
        self._reported = reported
        # Centroids are found at the end only; until then such a model assigns nothing. A training
        # on features is over sooner than its checkpoints, which lack the encoder, are judged.
        unjudged = frozen or train.model.projectors == "instance"
        if trials.sweep.pruning in ("none", "collapse") or unjudged:
            self._waiting = []

    def __call__(self, progress: dict[str, Any]) -> None:
        """Looks at the checkpoint of a rung once the epoch after it is over."""
        if self.pruned or not self._waiting or progress.get("done", 0) <= self._waiting[0][1]:
            return
        rung, epoch = self._waiting[0]
        state = self.state(epoch)
        if state is None:
            return
        self._waiting.pop(0)
        if len(state["curves"]) != epoch:
            return  # cut off after that epoch, before it was judged: a later state is no measure
        value = objective.of_checkpoint(self._yardstick, state, self._info())
        prune = self._trials.report(self._number, rung, value)
        self._reported()
        if prune:
            after = several(epoch, "epochs")
            self.pruned = f"objective {value:.4f} after {after}, behind other trials"

    def state(self, epoch: int = 0) -> dict[str, Any] | None:
        """The earliest of the kept states after at least so many epochs."""
        from vtcc.engine import checkpoint, scratch

        states = []
        for name in (scratch.PREVIOUS, scratch.STATE):
            state = checkpoint.load_state(self.scratch / name)
            if state is not None and len(state["curves"]) >= epoch:
                states.append(state)
        return min(states, key=lambda s: s["step"], default=None)

    def run_id(self) -> str | None:
        """The MLflow run of the training, which its checkpoint names."""
        return (self.state() or {}).get("run_id")

    def forget(self) -> None:
        """Deletes the checkpoints of a training that will not go on; not an equal trial's."""
        resuming.drop(self.scratch)

    def _info(self) -> dict[str, Any]:
        from vtcc.engine.model_info import reading_info
        from vtcc.engine.normalization import normalization

        train = self._params.train
        mean, std = normalization(train.normalize, self._cache, train.model.encoder)
        most = self._params.validate.max_pixels
        return reading_info(self._cache, train, max_pixels=most, mean=mean, std=std)


def judge(directory: Path, yardstick: Yardstick, keep: Path) -> dict[str, float]:
    """The figures of a finished training; keeps what it makes of every image.

    Args:
        directory: the worktree.
        yardstick: of the sweep.
        keep: an npz file to write: `cluster` (N,) of every cached image, for scores later.
    """
    from vtcc.data.cache import open_cache
    from vtcc.engine import predict

    predictor = predict.load(directory / paths.MODEL)
    figures = yardstick.score(predictor)
    cache = open_cache(directory / paths.CACHE)
    if known := embed.of_model(predictor.info, cache.digest, directory / paths.FEATURES):
        cluster = predictor.predict_features(known.values[:, 0]).cluster
    else:
        cluster = predictor.predict(cache.images).cluster
    with atomic_file(keep) as building, building.open("wb") as file:
        np.savez_compressed(file, cluster=cluster.astype(np.uint16))
    return {k: round(v, 6) for k, v in figures.items()}


def scores(directory: Path, kept: dict[int, Path]) -> dict[int, dict[str, float]]:
    """Scores of finished trials against labels: for people, after everything is decided.

    Args:
        directory: a worktree with images and labels.
        kept: what `judge` kept, by trial.

    Returns:
        acc, nmi, ari and fmi of the training images by trial; empty where the labels are not of
        two classes at least.
    """
    from vtcc.analysis.labels import read_labels
    from vtcc.analysis.metrics import clustering_scores
    from vtcc.data.cache import open_cache

    cache = open_cache(directory / paths.CACHE)
    labels = read_labels(directory / paths.LABELS, cache.paths)
    if labels is None:
        return {}
    rows = cache.rows("train")
    rows = rows[labels.known[rows]]
    true = [labels.label[i] for i in rows]
    if len(set(true)) < 2:
        return {}
    by_trial, N = {}, len(cache.paths)
    for number, file in kept.items():
        try:
            cluster = zip_file.arrays(file, {"cluster": "int N"}, N=N)["cluster"]
        except ValueError as error:
            note(f"{file}: damaged ({error}), so trial {number} has no scores")
            continue
        scored = clustering_scores(true, cluster[rows])
        by_trial[number] = {k: round(v, 6) for k, v in scored.items()}
    return by_trial
