"""A sweep file, read and checked as a whole before anything runs (docs/sweeps.md)."""

import dataclasses
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import config, schema
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.schema import parameter
from vtcc.study import plan
from vtcc.study.sweep import space
from vtcc.study.sweep.space import Dimension

SAMPLERS = ("tpe", "random", "grid")
PRUNING = ("none", "collapse", "median", "halving")
MOST_TRIALS = 10_000


@dataclass(frozen=True, kw_only=True)
class SweepKeys(plan.FileKeys):
    """What a sweep file may hold."""

    space: Any = None
    trials: int = parameter("how many in the end", low=1, high=MOST_TRIALS)
    epochs: int = parameter("of every trial", low=1, high=10**6)
    seed: int = parameter(low=0, high=config.MAX_SEED, default=0)
    sampler: str = parameter(choices=SAMPLERS, default="tpe")
    pruning: str = parameter(choices=PRUNING, default="median")


@dataclass(frozen=True, kw_only=True)
class Sweep(plan.Plan):
    """A sweep file: a study whose settings are drawn from a space, one after the other.

    Attributes:
        params: complete nested parameters, those of a full training.
        space: what is searched.
        trials: how many there are in the end.
        epochs: of every trial.
        seed: `train.seed` of every trial; the sampler draws by it too.
        sampler: tpe, random or grid.
        pruning: none, collapse, median or halving.
    """

    params: dict[str, Any]
    space: tuple[Dimension, ...]
    trials: int
    epochs: int
    seed: int
    sampler: str
    pruning: str

    def setting(self, number: int, values: dict[str, Any]) -> plan.Setting:
        """A trial as a setting of a study."""
        return plan.Setting(
            name=f"trial {number}",
            record=record_name(number),
            note="",
            overrides=values,
            params=self.trial(values),
        )

    def trial(self, values: dict[str, Any]) -> dict[str, Any]:
        """The complete parameters of one trial.

        Args:
            values: a value per dimension, by key.

        Raises:
            VtccError: when they do not go together.
        """
        budget = {"train.epochs": self.epochs, "train.seed": self.seed}
        return config.override(self.params, budget | values)

    def full(self, values: dict[str, Any]) -> dict[str, Any]:
        """The same for a full training: epochs and seed are those of the preset."""
        return config.override(self.params, values)

    def allowed(self, values: dict[str, Any]) -> bool:
        """Whether the values go together."""
        try:
            self.trial(values)
        except VtccError:
            return False
        return True

    def start(self) -> dict[str, Any] | None:
        """The preset's own values, which the first trial has; None where the space lacks them."""
        flat = config.flatten(self.params)
        values = {d.key: flat[d.key] for d in self.space}
        return values if all(d.holds(values[d.key]) for d in self.space) else None

    def grid(self) -> Iterator[dict[str, Any]]:
        """All combinations, the first dimension slowest."""
        for combination in itertools.product(*(d.values() or [] for d in self.space)):
            yield {d.key: v for d, v in zip(self.space, combination, strict=True)}


def record_name(number: int) -> str:
    """The directory of a trial's record."""
    return f"trial{number:04d}"


def read(file: Path, project: Path | None = None) -> Sweep:
    """Reads a sweep file and checks all of it.

    Args:
        file: the YAML file.
        project: directory of `params.yaml`; default: the one around the working directory.

    Raises:
        VtccError: on anything that would fail later, in one line that says where.
    """
    return plan.read_file(file, project, "sweep", _sweep)


def resized(sweep: Sweep, trials: int) -> Sweep:
    """The sweep with another number of trials.

    Raises:
        VtccError: when that is none.
    """
    if not 1 <= trials <= MOST_TRIALS:
        raise VtccError(f"--trials: found {trials}; allowed: at least 1, at most {MOST_TRIALS}")
    return _capped(dataclasses.replace(sweep, trials=trials))


def _capped(sweep: Sweep) -> Sweep:
    """A grid cannot have more trials than combinations that are allowed."""
    if sweep.sampler != "grid":
        return sweep
    allowed = itertools.islice(filter(sweep.allowed, sweep.grid()), sweep.trials)
    return dataclasses.replace(sweep, trials=sum(1 for _ in allowed))


def _sweep(values: dict[str, Any], file: Path, project: Path) -> Sweep:
    keys: SweepKeys = schema.build(SweepKeys, values)
    overrides = keys.overrides or {}
    presets = {k: getattr(keys, k) for k in plan.PRESETS}
    params = compose.compose(overrides=overrides, project=project, **presets)
    compose.check_encoder(params)
    if "train.seed" in overrides:
        raise VtccError("overrides.train.seed: the key `seed` gives it")
    dimensions = space.parse(keys.space)
    if keys.sampler == "grid":
        for dimension in dimensions:
            if dimension.values() is None:
                raise VtccError(f"space.{dimension.key}: a grid needs a step, or choices")
    sweep = Sweep(
        **plan.heading(keys, file),
        params=params,
        space=dimensions,
        trials=keys.trials,
        epochs=keys.epochs,
        seed=keys.seed,
        sampler=keys.sampler,
        pruning=keys.pruning,
    )
    _check_together(sweep)
    return _capped(sweep)


def _check_together(sweep: Sweep) -> None:
    """Finds out whether any combination is allowed; some may well not be."""
    rng, refused = random.Random(0), VtccError("")
    for _ in range(50):
        try:
            sweep.trial({d.key: d.drawn(rng) for d in sweep.space})
            return
        except VtccError as error:
            refused = error
    raise VtccError(f"space: no combination is allowed, such as: {refused}")
