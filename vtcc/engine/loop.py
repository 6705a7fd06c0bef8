"""The training loop: data -> two views -> encoder -> projectors -> losses -> step -> checkpoint."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from vtcc import progress
from vtcc.config import Train
from vtcc.engine import checkpoint
from vtcc.engine.augment import normalize, plain, view
from vtcc.engine.averaging import averaged
from vtcc.engine.kernels import Kernels, resolve
from vtcc.engine.losses import cluster_loss, instance_loss
from vtcc.engine.model import VTCC, build
from vtcc.engine.optim import learning_rate, make_optimizer, set_learning_rate
from vtcc.engine.pixels import Pixels
from vtcc.engine.prior import Prior
from vtcc.engine.scoring import place_centroids, score_heads
from vtcc.engine.self_label import self_label_loss
from vtcc.engine.signals import Interrupted, stop_signals
from vtcc.engine.totals import Clock, Totals
from vtcc.errors import VtccError

STATE = "last.pt"
__all__ = ["Callbacks", "Fitted", "Interrupted", "Silent", "Totals", "fit"]


class Callbacks(Protocol):
    """What the loop tells the world; tracking implements it, a training runs without."""

    def on_start(self, info: dict[str, Any]) -> str | None:
        """Called once with `parameters` (their number) and `resumed_run_id` (None at first).

        Returns an id that is kept in the checkpoints and handed back at a resume.
        """

    def on_epoch(self, epoch: int, figures: dict[str, float]) -> None:
        """Called after every epoch (from 1) with the row that goes to curves.csv."""


class Silent:
    """Callbacks that do nothing."""

    def on_start(self, info: dict[str, Any]) -> str | None:
        """Keeps no id."""
        return None

    def on_epoch(self, epoch: int, figures: dict[str, float]) -> None:
        """Keeps nothing."""


@dataclass
class Fitted:
    """A finished training, before a checkpoint and a head are chosen.

    Attributes:
        curves: one row per epoch.
        candidates: label-free figures per (checkpoint, head): step, epoch, head, losses, ...
        kernels: what `auto` became.
        parameters: trainable parameters.
        scratch: the directory that holds the candidates' weights.
    """

    curves: list[dict[str, float]]
    candidates: list[dict[str, Any]]
    kernels: Kernels
    parameters: int
    scratch: Path
    model: VTCC = field(repr=False)

    def choose(self, step: int, head: int) -> VTCC:
        """The model as it was at `step`, on the CPU in eval mode, with `head` selected."""
        file = self.scratch / f"candidate-{step}.pt"
        state = checkpoint.load_state(file)
        if state is None:
            raise VtccError(f"{file}: gone or damaged since the training wrote it; train again")
        self.model.load_state_dict(state)
        self.model.selected_head.fill_(head)
        return self.model.cpu().eval()


def fit(
    images: np.ndarray,
    rows: np.ndarray,
    params: Train,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    scratch: Path,
    callbacks: Callbacks | None = None,
) -> Fitted:
    """Trains VTCC, resuming from `scratch` when it holds a checkpoint of the same training.

    Args:
        images: (M, S, S, C) uint8. rows: (N,) int64, those training may see.
        params: the `train` section.
        mean, std: C floats each, of the pixels in range 0-1.
        scratch: directory for checkpoints, named by `checkpoint.training_key`.
        callbacks: told about the start and every epoch.

    Raises:
        VtccError: when K or the batch does not fit the images, or the loss is not finite.
        Interrupted: after SIGINT or SIGTERM, with the checkpoint written.
    """
    callbacks = callbacks or Silent()
    kernels = resolve(params)
    if params.threads:
        torch.set_num_threads(params.threads)
    check_fits(params, len(rows))
    steps_per_epoch = len(rows) // params.batch_size
    contrastive_steps = steps_per_epoch * params.epochs
    epochs = params.epochs + params.self_label.epochs
    steps = steps_per_epoch * epochs
    pixels = Pixels(images, rows, kernels.device)

    torch.manual_seed(params.seed)
    model = build(
        params.model,
        params.num_clusters,
        image_size=params.image_size,
        channels=images.shape[-1],
        fused_attention=kernels.fused_attention,
        pretrained=True,
    ).to(kernels.device)
    optimizer = make_optimizer(model, params.optimizer)
    average = averaged(model, params.ema)
    prior = Prior(params)
    generator = torch.Generator(kernels.device)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)

    state = resumable(scratch)
    step, curves, candidates = 0, [], []
    totals = Totals.zero(params)
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, curves, candidates = state["step"], state["curves"], state["candidates"]
        totals = Totals(**state["totals"])
        prior.sizes = state["prior"]
        if average:
            average.load_state_dict(state["average"])
        progress.note(f"resuming at step {step} of {steps} from {scratch / STATE}")
    run_id = callbacks.on_start({"parameters": parameters, "resumed_run_id": state.get("run_id")})

    def save() -> None:
        if not torch.isfinite(loss):
            raise diverged(step)
        checkpoint.save_state(
            scratch / STATE,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "curves": curves,
                "candidates": candidates,
                "totals": vars(totals),
                "prior": prior.sizes,
                "average": average.state_dict() if average else None,
                "run_id": run_id,
            },
        )

    def diverged(step: int) -> VtccError:
        return VtccError(
            f"the loss is not finite at step {step} of {steps}; lower "
            "train.optimizer.learning_rate or set train.precision: fp32, which starts afresh "
            f"(what was good before stays in {scratch})"
        )

    def two_views(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = pixels.take(index)
        x_a = view(x, params.augment, params.image_size, generator)
        x_b = view(x, params.augment, params.image_size, generator, second=True)
        return normalize(x_a, mean, std), normalize(x_b, mean, std)

    def contrast(index: torch.Tensor) -> Losses:
        x_a, x_b = two_views(index)
        with kernels.autocast():
            h_a, h_b = model.encoder(x_a), model.encoder(x_b)
            (z_a, p_a), (z_b, p_b) = model.project(h_a), model.project(h_b)
            o_a, o_b = model.overcluster(h_a), model.overcluster(h_b)
        instance = p_a.new_zeros(())
        if model.instance_projector is not None:
            instance = instance_loss(z_a, z_b, params.loss.instance_temperature)
        temperature, weight = params.loss.cluster_temperature, params.loss.entropy_weight
        pairs = enumerate(zip(p_a, p_b, strict=True))
        cluster = [
            cluster_loss(a, b, temperature, weight, prior.of(head)) for head, (a, b) in pairs
        ]
        over = [cluster_loss(a, b, temperature, weight) for a, b in zip(o_a, o_b, strict=True)]
        return Losses(instance, _stack(cluster, instance), _stack(over, instance), p_a)

    def self_label(index: torch.Tensor) -> Losses:
        x = pixels.take(index)
        x_a = normalize(view(x, params.augment, params.image_size, generator), mean, std)
        model.eval()
        # A context of its own: autocast would hand weights cast here, without gradient, to below.
        with kernels.autocast(), torch.no_grad():
            _, p = model.project(model.encoder(normalize(plain(x, params.image_size), mean, std)))
        model.train()
        with kernels.autocast():
            _, p_a = model.project(model.encoder(x_a))
        threshold = params.self_label.threshold
        cluster = [self_label_loss(w, s, threshold) for w, s in zip(p, p_a, strict=True)]
        instance = p_a.new_zeros(())
        return Losses(instance, _stack(cluster, instance), _stack([], instance), p_a)

    progress.note(
        f"training on {kernels.device}, {kernels.precision}, {torch.get_num_threads()} threads: "
        f"{epochs} epochs of {steps_per_epoch} steps, {parameters:,} parameters"
    )
    at_points = selection_epochs(params)
    saved_at = time.monotonic()
    clock = Clock(steps - step)
    with stop_signals() as stop:
        model.train()
        while step < steps:
            epoch, at = divmod(step, steps_per_epoch)
            # Every draw is a function of seed and step: a resume needs no generator state.
            index = epoch_order(len(pixels), params.seed, epoch)
            index = index[at * params.batch_size : (at + 1) * params.batch_size]
            generator.manual_seed(stream(params.seed, VIEWS, step))
            if step == contrastive_steps:
                optimizer = make_optimizer(model, params.optimizer)
            contrasting = step < contrastive_steps
            rate = learning_rate(params.optimizer, step, contrastive_steps)
            set_learning_rate(optimizer, rate if contrasting else params.self_label.learning_rate)

            losses = contrast(index) if contrasting else self_label(index)
            loss = losses.total()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if average:
                average.update_parameters(model)
            totals.add(losses.instance.detach(), losses.cluster.detach(), losses.p.detach())
            step += 1
            clock.tick()

            if step % steps_per_epoch == 0:
                figures = totals.figures() | {
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "images_per_second": clock.rate() * params.batch_size,
                }
                if not math.isfinite(figures["instance_loss"] + figures["cluster_loss"]):
                    raise diverged(step)
                curves.append({"epoch": epoch + 1, **figures})
                if contrasting and totals.counts.numel():
                    prior.update(epoch + 1, totals.shares())
                totals = Totals.zero(params)
                callbacks.on_epoch(epoch + 1, figures)
                shown = {k: round(v, 4) for k, v in figures.items() if k in SHOWN and v == v}
                left = round(clock.left())
                progress.report("train", epoch + 1, epochs, **shown, seconds_left=left)
                if epoch + 1 in at_points:
                    kept = cast(VTCC, average.module) if average else model
                    place_centroids(kept, pixels, params, mean, std)
                    candidates += [
                        {"step": step, "epoch": epoch + 1, **head}
                        for head in score_heads(kept, pixels, params, kernels, mean, std, prior)
                    ]
                    checkpoint.save_state(scratch / f"candidate-{step}.pt", kept.state_dict())
                    save()
                    saved_at = time.monotonic()
            if stop.signum:
                save()
                raise Interrupted(stop.signum)
            if time.monotonic() - saved_at > 60 * params.checkpoint_minutes:
                save()
                saved_at = time.monotonic()
    return Fitted(curves, candidates, kernels, parameters, scratch, model)


@dataclass(frozen=True)
class Losses:
    """Of one step: instance (), cluster (heads,), over (overcluster heads,), p (heads, N, K)."""

    instance: torch.Tensor
    cluster: torch.Tensor
    over: torch.Tensor
    p: torch.Tensor

    def total(self) -> torch.Tensor:
        """Their sum, heads averaged; what a projector that is left out would add is 0."""
        loss = self.instance
        for heads in (self.cluster, self.over):
            if len(heads):
                loss = loss + heads.mean()
        return loss


def _stack(losses: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    return torch.stack(losses) if losses else like.new_zeros(0)


def resumable(scratch: Path) -> dict[str, Any]:
    """The state to go on from, empty when there is none or a part of it is missing."""
    state = checkpoint.load_state(scratch / STATE) or {}
    needed = {c["step"] for c in state.get("candidates", [])}
    missing = [n for n in needed if not (scratch / f"candidate-{n}.pt").is_file()]
    if missing:
        progress.note(f"{scratch}: incomplete, without candidate-{missing[0]}.pt; starting afresh")
        return {}
    return state


SHOWN = {"instance_loss", "cluster_loss", "smallest_cluster", "confidence", "images_per_second"}


def check_fits(params: Train, images: int) -> None:
    """Refuses a K or a batch size that the number of training images does not allow."""
    if params.num_clusters > images:
        raise VtccError(
            f"train.num_clusters: {params.num_clusters} clusters for {images} training images; "
            f"use at most {images}"
        )
    if params.batch_size > images:
        raise VtccError(
            f"train.batch_size: {params.batch_size} is more than the {images} training images; "
            f"try {max(2, min(32, images // 2))}"
        )


def selection_epochs(params: Train) -> set[int]:
    """Epochs (from 1) whose checkpoints are compared: evenly over the last half, and the last.

    With self-labelling it is its last epoch alone: losses of two phases do not compare.
    """
    if params.self_label.epochs:
        return {params.epochs + params.self_label.epochs}
    points = params.selection.points
    return {max(1, round(params.epochs * (0.5 + 0.5 * (i + 1) / points))) for i in range(points)}


def epoch_order(images: int, seed: int, epoch: int) -> torch.Tensor:
    """The shuffled rows of one epoch, (images,) int64, a function of seed and epoch."""
    generator = torch.Generator().manual_seed(stream(seed, ORDER, epoch))
    return torch.randperm(images, generator=generator)


ORDER, VIEWS = 0, 1  # kinds of streams


def stream(seed: int, kind: int, number: int) -> int:
    """A generator seed of its own for every (training seed, kind of draw, epoch or step).

    Hashed to 32 bits, since torch's CPU generator ignores all higher ones.
    """
    return int(np.random.SeedSequence([seed, kind, number]).generate_state(1, np.uint32)[0])
