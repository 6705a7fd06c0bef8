"""Several gloo processes for tests, and what they do; imported by them before they fork."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vtcc import config
from vtcc.engine import distributed, loop, objective
from vtcc.engine.distributed import ALONE
from vtcc.engine.kernels import Kernels
from vtcc.engine.model import build
from vtcc.engine.objective import Objective
from vtcc.engine.prior import Prior
from vtcc.engine.vit import VisionTransformer
from vtcc.errors import VtccError

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 1), dtype=np.uint8)
ROWS = np.arange(5, 70)
FP32 = Kernels("cpu", "fp32", False)


def seeds_of_sides(side):
    """What both views of a step are drawn with, where it does not matter."""
    return side


def tiny(**changes):
    values = config.override(
        config.read_yaml(config.PRESETS / "tiny.yaml"),
        {"train.epochs": 3, "train.batch_size": 15, **changes},
    )
    return config.from_dict(config.Params, values).train


def start(world, case, place, *args):
    """Starts `case(team, *args)` in `world` processes; `place` is a fresh directory of theirs."""
    context = multiprocessing.get_context("forkserver")
    # One process imports torch, all others are its forks.
    context.set_forkserver_preload(["tests.engine.team"])
    place.mkdir()
    team = [
        context.Process(target=_member, args=(rank, world, case, place, args))
        for rank in range(world)
    ]
    for process in team:
        process.start()
    return team, place


def outcomes(started, seconds=120):
    """What every process returned, or the error it ended with; fails where one hangs."""
    team, place = started
    for process in team:
        process.join(seconds)
    hung = [process for process in team if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung, f"{len(hung)} processes hang in {place}"
    files = [place / f"{rank}.pt" for rank in range(len(team))]
    return [torch.load(f, weights_only=False) if f.exists() else None for f in files]


def _member(rank, world, case, place, args):
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
        "GLOO_SOCKET_IFNAME": "lo",
        distributed.RENDEZVOUS: str(place / "meeting"),
    }
    try:
        with distributed.join("cpu") as team:
            result = case(team, *args)
    except loop.Interrupted as stop:
        result = "stopped", stop.signum
    except (Exception, SystemExit) as error:
        result = error
    torch.save(result, place / f"{rank}.pt")


# --- losses and their gradients, from given z and p

VARIANTS = {
    "paper": {},
    "given": {"train.loss.prior": "given", "train.loss.prior_sizes": [1.0] * 9 + [5.0]},
    "estimated": {"train.loss.prior": "estimated"},
    "over": {"train.model.overcluster_heads": 2, "train.model.overcluster_clusters": 7},
    "instance": {"train.model.projectors": "instance"},
    "cluster": {"train.model.projectors": "cluster"},
    "self_label": {"train.self_label.epochs": 1, "train.self_label.threshold": 0.5},
}
BATCHES = 11, 12


def given_outputs(team):
    """Per variant and batch size: loss, cluster losses, and the gradients of this share's rows."""
    return {(name, batch): _losses(team, name, batch) for name in VARIANTS for batch in BATCHES}


def _losses(team, name, batch):
    params = tiny(**VARIANTS[name], **{"train.batch_size": batch})
    model = build(params.model, params.num_clusters, image_size=16, channels=1)
    prior = Prior(params)
    heads, K = len(model.cluster_projectors), params.num_clusters
    if params.loss.prior != "uniform":
        shares = torch.rand(heads, K, generator=torch.Generator().manual_seed(5))
        prior.update(params.epochs, shares / shares.sum(dim=1, keepdim=True))
        assert prior.sizes is not None
    steps = Objective(model, params, FP32, (0.5,), (0.3,), prior, team)

    g = torch.Generator().manual_seed(batch)
    F, over = (0 if model.instance_projector is None else 8), len(model.overcluster_projectors)
    z = [torch.randn(batch, F, generator=g) for _ in range(2)]
    p = [(3 * torch.randn(heads, batch, K, generator=g)).softmax(dim=2) for _ in range(2)]
    o = [torch.randn(over, batch, 7, generator=g).softmax(dim=2) for _ in range(2)]
    own = team.share(batch)
    leaves = [t[own] for t in z] + [t[:, own] for t in p + o]
    leaves = [t.clone().requires_grad_() for t in leaves]
    x = torch.zeros(own.stop - own.start, 1, 16, 16, dtype=torch.uint8)
    if name == "self_label":
        model.project = lambda h: (None, leaves[2].detach())
        steps._exchanging = lambda *_: lambda _x: leaves[3]
        losses = steps.self_label(x, seeds_of_sides)
    else:
        steps._exchanging = lambda *_: lambda _a, _b: leaves
        losses = steps.contrast(x, seeds_of_sides)
    assert losses.p.shape == (heads, batch, K)
    losses.total().backward()
    grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves]
    return losses.total().detach(), losses.cluster.detach(), grads


# --- gradients of the weights

PHASES = "contrast", "self_label", "with a weight that takes no part"


def weight_gradients(team):
    """Per phase: loss, and the gradient of every weight, of one batch of 11 plain images."""
    return {phase: _weight_gradients(team, phase) for phase in PHASES}


def _weight_gradients(team, phase):
    changes = {"train.self_label.epochs": 1, "train.self_label.threshold": 0.1}
    params = tiny(**VARIANTS["over"], **changes, **{"train.batch_size": 11})
    torch.manual_seed(3 + team.rank)  # rank 0's weights must become everybody's
    model = build(params.model, params.num_clusters, image_size=16, channels=1)
    if phase == PHASES[2]:
        model.encoder.head = nn.Linear(3, 3)
        model.encoder.__class__ = type(
            "Other", (nn.Module,), {"forward": VisionTransformer.forward}
        )
    # Fixed statistics and fixed views: the only draws and couplings that are left are the losses'.
    model.eval()
    model.train = lambda _mode=True: model
    steps = Objective(model, params, FP32, (0.5,), (0.3,), Prior(params), team)
    steps._view = lambda x, _seeds, side: (x.float() / 255 - 0.5) * (0.5 if side else 1)
    x = torch.from_numpy(IMAGES[:11]).permute(0, 3, 1, 2)[team.share(11)]
    step = steps.self_label if phase == "self_label" else steps.contrast
    loss = steps.backward(step(x, seeds_of_sides))
    return loss, {k: v.grad for k, v in model.named_parameters() if v.grad is not None}


# --- whole trainings

WHOLE = {
    "train.self_label.epochs": 2,
    "train.self_label.threshold": 0.1,
    "train.model.overcluster_heads": 1,
    "train.ema": 0.9,
}


def training(team, scratch, trouble=None):
    """Trains; `trouble` is (rank, step, what) and happens in the middle of that step."""
    real, steps = objective.Objective._view, []

    def view(self, x, seeds, side):
        if not side:
            steps.append(1)
            if trouble and team.rank == trouble[0] and len(steps) == trouble[1]:
                _happen(trouble[2])
        return real(self, x, seeds, side)

    objective.Objective._view = view
    callbacks = Told()
    try:
        fitted = loop.fit(
            IMAGES,
            ROWS,
            tiny(**WHOLE),
            mean=(0.5,),
            std=(0.3,),
            scratch=Path(scratch),
            callbacks=callbacks,
            team=team,
        )
    finally:
        objective.Objective._view = real
    return {
        "weights": {k: v.detach() for k, v in fitted.model.named_parameters()},
        "curves": [
            {k: v for k, v in row.items() if k != "images_per_second"} for row in fitted.curves
        ],
        "candidates": fitted.candidates,
        "told": callbacks.told,
    }


def _happen(what):
    if what == "error":
        raise VtccError("this process met a full disk")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    signal.raise_signal(what)


class Told(loop.Silent):
    """Counts what the loop tells."""

    def __init__(self):
        self.told = 0

    def on_start(self, info):
        self.told += 1
        return "run-7"

    def on_epoch(self, epoch, figures):
        self.told += 1


def alone(case, *args):
    return case(ALONE, *args)
