"""The training loop: data -> two views -> encoder -> projectors -> losses -> step -> checkpoint."""

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from vtcc import progress
from vtcc.config import Train
from vtcc.engine.averaging import averaged
from vtcc.engine.callbacks import Callbacks, Silent
from vtcc.engine.distributed import ALONE, Team
from vtcc.engine.frozen import FeatureInput
from vtcc.engine.guard import Guard, Warned
from vtcc.engine.kernels import Kernels, begun_with
from vtcc.engine.model import VTCC, build, parameter_count, with_projectors
from vtcc.engine.objective import Losses, Objective
from vtcc.engine.optim import learning_rate, make_optimizer, set_learning_rate
from vtcc.engine.pixels import Pixels
from vtcc.engine.prior import Prior
from vtcc.engine.record import describe, generators, restore_generators
from vtcc.engine.schedule import (
    RESTART,
    batch,
    check_fits,
    restart_epoch,
    saved_epochs,
    selection_epochs,
    stream,
    view_seeds,
)
from vtcc.engine.scoring import place_centroids, score_heads
from vtcc.engine.scratch import Scratch
from vtcc.engine.signals import Interrupted, stop_signals
from vtcc.engine.totals import Clock, Totals
from vtcc.engine.views import FeatureViews, PixelViews, Views
from vtcc.errors import VtccError
from vtcc.progress import several

__all__ = ["Callbacks", "Fitted", "Interrupted", "Silent", "Totals", "fit"]

SHOWN = {"instance_loss", "cluster_loss", "smallest_cluster", "confidence", "images_per_second"}


@dataclass
class Fitted:
    """A finished training, before a checkpoint and a head are chosen.

    Attributes:
        curves: one row per epoch.
        candidates: label-free figures per (checkpoint, head): step, epoch, head, losses, ...
        kernels: what `auto` became.
        parameters: trainable parameters.
        scratch: holds the candidates' weights.
        warnings: what the guard said, in order.
    """

    curves: list[dict[str, float]]
    candidates: list[dict[str, Any]]
    kernels: Kernels
    parameters: int
    scratch: Scratch
    model: VTCC = field(repr=False)
    warnings: list[Warned] = field(default_factory=list)

    def choose(self, step: int, head: int) -> VTCC:
        """The model as it was at `step`, on the CPU in eval mode, with `head` selected.

        After a training on features its encoder is a `FeatureInput`, which the caller replaces.
        """
        self.model.load_state_dict(self.scratch.weights(step))
        self.model.selected_head.fill_(head)
        return self.model.cpu().eval()


def fit(
    images: np.ndarray,
    rows: np.ndarray,
    params: Train,
    *,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    scratch: Path,
    callbacks: Callbacks | None = None,
    digest: str = "",
    resume_from: Path | None = None,
    team: Team = ALONE,
    deadline: float | None = None,
    remedies: bool = True,
) -> Fitted:
    """Trains VTCC, resuming from `scratch` when it holds a checkpoint of the same training.

    Args:
        images: (M, S, S, C) uint8, or (M, V, d) floating-point features of V views of every image
            by a frozen encoder. rows: (N,) int64, those training may see.
        params: the `train` section.
        mean, std: C floats each, of the pixels in range 0-1; features need none.
        scratch: directory for checkpoints, named by `checkpoint.training_key`.
        callbacks: told about the start and every epoch, in rank 0.
        digest: of the data, kept in the checkpoints.
        resume_from: a checkpoint to go on from, whatever `scratch` holds.
        team: of processes that train together; scratch and candidates are rank 0's.
        deadline: on `time.monotonic`'s clock; where the machine turns out too slow for it, epochs
            are dropped and the learning rate falls accordingly. None: all epochs, however long.
        remedies: as of `Guard`.

    Raises:
        VtccError: when K or the batch does not fit the images, the loss is not finite, the
            training has collapsed and `train.collapse` is abort, or `resume_from` is of another
            training.
        Interrupted: after SIGINT, SIGTERM or SIGHUP, with the checkpoint written.
        OSError: when a checkpoint cannot be written; those written before stand.
    """
    callbacks = callbacks if callbacks and team.main else Silent()
    if threads := team.threads(params.threads):
        torch.set_num_threads(threads)
    check_fits(params, len(rows))
    team.check_fits(params.batch_size)
    room = Scratch(scratch)
    kernels = team.once(lambda: begun_with(room.kernels(resume_from), params))
    run = Training(images, rows, params, kernels, mean, std, room, team)
    run.deadline = deadline
    run.guard.remedies = remedies
    run.record = describe(params, digest, kernels)
    if resume_from:
        team.once(lambda: run.scratch.adopt(resume_from, run.record))
    run.resume()
    known_run = run.run_id
    run.run_id = callbacks.on_start(
        {
            "parameters": parameter_count(run.model),
            "kernels": vars(kernels),
            "resumed_run_id": run.run_id,
            "curves": run.curves,
        }
    )
    if not run.step or run.run_id != known_run:
        # What a kill in the first minute leaves: the id; and a full disk shows now.
        run.save(again=True)
    run.train(callbacks)
    return Fitted(
        run.curves,
        run.candidates,
        kernels,
        parameter_count(run.model),
        run.scratch,
        run.model,
        run.guard.warnings,
    )


def is_features(images: np.ndarray) -> bool:
    """Whether a training's data are features of a frozen encoder instead of pixels."""
    return images.ndim == 3


class Training:
    """One training: everything that moves, how it is saved, and the steps."""

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        params: Train,
        kernels: Kernels,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        scratch: Scratch,
        team: Team = ALONE,
    ):
        self.team = team
        self.params, self.kernels, self.scratch = params, kernels, scratch
        self.data: Pixels | FeatureViews
        self.views: Views
        if is_features(images):
            self.data = self.views = FeatureViews(images[rows], params.positives, kernels.device)
        else:
            self.data = Pixels(images, rows, kernels.device)
            self.views = PixelViews(params, mean, std, kernels.device)
        self.steps_per_epoch = len(rows) // params.batch_size

        torch.manual_seed(params.seed)
        if isinstance(self.data, FeatureViews):
            encoder = FeatureInput(self.data.features)
            model = with_projectors(encoder, params.model, params.num_clusters)
        else:
            model = build(
                params.model,
                params.num_clusters,
                image_size=params.image_size,
                channels=images.shape[-1],
                fused_attention=kernels.fused_attention,
                pretrained=True,
            )
        self.model = kernels.placed(model)
        team.prepare(self.model, kernels.device)
        self.optimizer = make_optimizer(self.model, params.optimizer)
        self.average = averaged(self.model, params.ema)
        self.prior = Prior(params)
        self.objective = Objective(
            self.model, params, kernels, mean, std, self.prior, team, views=self.views
        )
        self.totals = Totals.zero(params)
        self.guard = Guard(params, self.steps_per_epoch)
        self.plan_epochs(params.epochs)
        self.epochs_said = self.epochs  # last, of how many there are
        self.loss = torch.zeros(())
        self.step = 0
        self.curves: list[dict[str, float]] = []
        self.candidates: list[dict[str, Any]] = []
        self.run_id: str | None = None
        self.deadline: float | None = None
        self.dropped: dict[int, int] = {}  # epoch -> how many there are in all since then
        self.record: dict[str, Any] = {}

    def plan_epochs(self, epochs: int) -> None:
        """Sets how many contrastive epochs there are, and all that follows from it."""
        self.params = self.prior.params = self.guard.params = replace(self.params, epochs=epochs)
        self.epochs = epochs + self.params.self_label.epochs
        self.steps = self.steps_per_epoch * self.epochs
        self.contrastive_steps = self.steps_per_epoch * epochs

    def shorten(self, epoch: int, clock: Clock) -> bool:
        """Drops epochs that the deadline has no time for, after `epoch`; whether it did."""
        if self.deadline is None or self.params.self_label.epochs or epoch >= self.epochs:
            return False
        per_epoch = self.steps_per_epoch / clock.rate()
        affordable = epoch + int(max(self.deadline - time.monotonic(), 0) / per_epoch)
        if affordable >= self.epochs:
            return False
        if 20 * affordable <= 19 * self.epochs_said:  # fewer are not worth a line each time
            progress.note(
                "the machine is slower than measured: "
                f"{several(affordable, 'epochs')} instead of "
                f"{self.epochs_said}"
            )
            self.epochs_said = affordable
        self.plan_epochs(affordable)
        self.dropped[epoch] = affordable
        clock.shorten(self.steps - self.step)
        return True

    def resume(self) -> None:
        """Goes back to the last checkpoint in scratch, if there is one."""
        state = self.team.once(self.scratch.resume)
        if not state:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.run_id = state["step"], state["run_id"]
        self.dropped = state.get("dropped", {})
        self.curves, self.candidates = state["curves"], state["candidates"]
        self.totals = Totals(**state["totals"])
        self.prior.sizes = state["prior"]
        if self.average:
            self.average.load_state_dict(state["average"])
        for epoch, row in enumerate(self.curves, 1):  # each among the epochs there were then
            self.guard.watch(row)
            self.plan_epochs(self.dropped.get(epoch, self.params.epochs))
        self.plan_epochs(state.get("epochs", self.params.epochs))
        restore_generators(state["generators"])
        progress.note(f"resuming at step {self.step} of {self.steps} from {self.scratch.source}")
        if (before := state.get("processes", 1)) != self.team.world:
            progress.note(
                f"{self.team.world} processes go on where there were {before}: as good, "
                "but not the same bits as without the change"
            )

    def save(self, *, again: bool = False) -> None:
        """Writes the checkpoint; the last one stays when the losses since are not finite."""
        self.check_finite(self.loss, self.totals.instance, self.totals.cluster)
        if not self.team.main:
            return
        self.scratch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "epochs": self.params.epochs,
                "dropped": self.dropped,
                "curves": self.curves,
                "candidates": self.candidates,
                "totals": vars(self.totals),
                "prior": self.prior.sizes,
                "average": self.average.state_dict() if self.average else None,
                "run_id": self.run_id,
                "processes": self.team.world,
                "generators": generators(self.kernels.device),
                **self.record,
            },
            again=again,
        )

    def check_finite(self, *losses: torch.Tensor) -> None:
        """Raises VtccError unless all are finite."""
        if all(bool(torch.isfinite(loss).all()) for loss in losses):
            return
        raise VtccError(
            f"the loss is not finite at step {self.step} of {self.steps}; lower "
            "train.optimizer.learning_rate or set train.precision: fp32, which starts afresh "
            f"(what was good before stays in {self.scratch.directory})"
        )

    def check_collapse(self) -> None:
        """Raises VtccError after a collapse that `train.collapse` does not allow, and saves."""
        if self.params.collapse != "abort" or not self.guard.collapsed:
            return
        self.save()
        raise VtccError(
            f"the training has collapsed at epoch {len(self.curves)} of {self.epochs}: "
            f"{self.guard.collapsed}. Set train.collapse: warn to go on regardless from "
            f"{self.scratch.directory}"
        )

    def train(self, callbacks: Callbacks) -> None:
        """All steps that are left."""
        params, kernels = self.params, self.kernels
        self.epochs_said = self.epochs
        progress.note(
            f"training on {kernels.device}, {kernels.precision}, {self.team.described()}"
            f"{several(torch.get_num_threads(), 'threads')}: {several(self.epochs, 'epochs')} of "
            f"{several(self.steps_per_epoch, 'steps')}, {parameter_count(self.model):,} parameters"
        )
        self.check_collapse()
        at_points, at_saves = selection_epochs(params), saved_epochs(params)
        saved_at = time.monotonic()
        clock = Clock(self.steps - self.step)
        with stop_signals() as stop:
            self.model.train()
            while self.step < self.steps:
                self.take_step()
                self.step += 1
                clock.tick()
                if self.step % self.steps_per_epoch == 0:
                    epoch = self.step // self.steps_per_epoch
                    self.end_epoch(epoch, clock, callbacks)
                    restart = restart_epoch(self.params)
                    if self.shorten(epoch, clock):
                        at_points = selection_epochs(self.params)
                        at_saves = saved_epochs(self.params)
                    if epoch in at_points:
                        self.add_candidates(epoch)
                    # Now, too, where epochs were dropped and half of those in all is over already.
                    if restart_epoch(self.params) <= epoch <= restart and self.enough_left(epoch):
                        self.restart_heads(epoch)
                    if epoch in at_saves:
                        self.save()
                        saved_at = time.monotonic()
                    self.check_collapse()
                if signum := self.team.agree(stop.signum):
                    self.save()
                    raise Interrupted(signum)
                if time.monotonic() - saved_at > 60 * params.checkpoint_minutes:
                    self.save()
                    saved_at = time.monotonic()

    def take_step(self) -> None:
        """One batch: losses, gradients, new weights."""
        params, step = self.params, self.step
        # Every draw is a function of seed and step: a resume needs no generator state.
        images, share = len(self.data), self.team.share(params.batch_size)
        now, then = (batch(images, params, s)[share] for s in (step, step + 1))
        x = self.data.take(now, then)
        if step == self.contrastive_steps:
            self.optimizer = make_optimizer(self.model, params.optimizer)
        contrasting = step < self.contrastive_steps
        rate = learning_rate(params.optimizer, step, self.contrastive_steps)
        set_learning_rate(self.optimizer, rate if contrasting else params.self_label.learning_rate)

        objective = self.objective.contrast if contrasting else self.objective.self_label
        losses = objective(x, view_seeds(params.seed, step, self.team.rank))
        self.optimizer.zero_grad(set_to_none=True)
        self.loss = self.objective.backward(losses)
        self.count(losses)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)

    def count(self, losses: Losses) -> None:
        """Adds a step to the figures of the epoch."""
        instance, cluster, p = (t.detach() for t in (losses.instance, losses.cluster, losses.p))
        self.totals.add(instance, cluster, p, losses.health())

    def end_epoch(self, epoch: int, clock: Clock, callbacks: Callbacks) -> None:
        """Curves, the prior and progress, after `epoch` (from 1)."""
        self.check_finite(self.loss, self.totals.instance, self.totals.cluster)
        figures = self.totals.figures() | {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": clock.rate() * self.params.batch_size,
        }
        self.curves.append({"epoch": epoch, **figures})
        if epoch <= self.params.epochs and self.totals.counts.numel():
            self.prior.update(epoch, self.totals.shares())
        self.totals = Totals.zero(self.params)
        callbacks.on_epoch(epoch, figures)
        for warned in self.guard.watch(figures):
            if self.params.collapse != "off":
                progress.note(str(warned))
                callbacks.on_warning(warned)
        shown = {k: round(v, 4) for k, v in figures.items() if k in SHOWN and not math.isnan(v)}
        progress.report("train", epoch, self.epochs, **shown, seconds_left=round(clock.left()))

    def enough_left(self, epoch: int) -> bool:
        """Whether heads that begin afresh after `epoch` still learn: in a quarter of all epochs."""
        return 4 * (self.params.epochs - epoch) >= self.params.epochs

    def restart_heads(self, epoch: int) -> None:
        """Half of the cluster heads begin afresh, and all that remembers the former ones."""
        seed = stream(self.params.seed, RESTART, epoch)
        for weight in self.model.restart_heads(seed):
            self.optimizer.state.pop(weight, None)
        self.prior.restart(self.model.second_half)
        if self.average:  # the same draws: an average over both would be no network at all
            cast(VTCC, self.average.module).restart_heads(seed)

    def add_candidates(self, epoch: int) -> None:
        """Scores every head of the model as it is, and keeps its weights."""
        if not self.team.main:
            return
        kept = cast(VTCC, self.average.module) if self.average else self.model
        params, data, views = self.params, self.data, self.views
        place_centroids(kept, data, views, params)
        self.candidates += [
            {"step": self.step, "epoch": epoch, **head}
            for head in score_heads(kept, data, views, params, self.kernels, self.prior)
        ]
        self.scratch.keep(self.step, kept.state_dict())
