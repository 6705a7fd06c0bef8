"""A sweep file, read and checked as a whole before anything runs (docs/sweeps.md)."""

import dataclasses
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import compose, config
from vtcc.errors import VtccError
from vtcc.study import plan
from vtcc.study.sweep import space
from vtcc.study.sweep.space import Dimension

SAMPLERS = ("tpe", "random", "grid")
PRUNING = ("none", "collapse", "median", "halving")
KEYS = (
    *("name", "title", "question", *plan.PRESETS, "overrides"),
    *("space", "trials", "epochs", "seed", "sampler", "pruning"),
)
MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        file: it, relative to the project where it lies in it.
        name: of the sweep; storage, record, page and MLflow run are named by it.
        title: one line.
        question: one paragraph.
        preset: the run preset, or None for `params.yaml`.
        params: complete nested parameters, those of a full training.
        space: what is searched.
        trials: how many there are in the end.
        epochs: of every trial.
        seed: `train.seed` of every trial; the sampler draws by it too.
        sampler: tpe, random or grid.
        pruning: none, collapse, median or halving.
    """

    file: Path
    name: str
    title: str
    question: str
    preset: str | None
    params: dict[str, Any]
    space: tuple[Dimension, ...]
    trials: int
    epochs: int
    seed: int
    sampler: str
    pruning: str

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
    wanted = _whole({"--trials": trials}, "--trials", 1, MOST_TRIALS)
    return _capped(dataclasses.replace(sweep, trials=wanted))


def _capped(sweep: Sweep) -> Sweep:
    """A grid cannot have more trials than combinations that are allowed."""
    if sweep.sampler != "grid":
        return sweep
    allowed = itertools.islice(filter(sweep.allowed, sweep.grid()), sweep.trials)
    return dataclasses.replace(sweep, trials=sum(1 for _ in allowed))


def _sweep(values: dict[str, Any], file: Path, project: Path) -> Sweep:
    plan.check_keys(values, KEYS, "")
    name = plan.check_name(values.get("name"), "name")
    presets = plan.chosen_presets(values)
    overrides = plan.section(values.get("overrides"), "overrides")
    params = compose.compose(overrides=overrides, project=project, **presets)
    compose.check_encoder(params)
    if "train.seed" in overrides:
        raise VtccError("overrides.train.seed: the key `seed` gives it")
    dimensions = space.parse(values.get("space"))
    sampler = _chosen(values, "sampler", SAMPLERS, "tpe")
    if sampler == "grid":
        for dimension in dimensions:
            if dimension.values() is None:
                raise VtccError(f"space.{dimension.key}: a grid needs a step, or choices")
    sweep = Sweep(
        file=file,
        name=name,
        title=plan.text(values, "title") or name,
        question=plan.text(values, "question"),
        preset=presets["preset"],
        params=params,
        space=dimensions,
        trials=_whole(values, "trials", 1, MOST_TRIALS),
        epochs=_whole(values, "epochs", 1, 10**6),
        seed=_whole(values, "seed", 0, config.MAX_SEED, default=0),
        sampler=sampler,
        pruning=_chosen(values, "pruning", PRUNING, "median"),
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


def _whole(
    values: dict[str, Any], key: str, low: int, high: int, default: int | None = None
) -> int:
    value = values.get(key, default)
    if value is None:
        raise VtccError(f"{key}: missing; a whole number of at least {low}")
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise VtccError(f"{key}: expected a whole number from {low} to {high}, found {value!r}")
    return value


def _chosen(values: dict[str, Any], key: str, known: tuple[str, ...], default: str) -> str:
    value = values.get(key, default)
    if value not in known:
        raise VtccError(f"{key}: found {value!r}; allowed: {', '.join(known)}")
    return value
