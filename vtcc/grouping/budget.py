"""The time that the trainings of one folder get, measured and divided once for all of them."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcc import config
from vtcc.engine import cpus, plan
from vtcc.engine.normalization import normalization
from vtcc.grouping.choices import epochs_for
from vtcc.grouping.options import LEAST_TRAINING, Options, after_trainings
from vtcc.grouping.training import Material
from vtcc.grouping.workdir import read_json, write_json
from vtcc.progress import note

_FILE = "budget.json"
_TOO_SHORT = 1.2  # times the limit from which it is said that it cannot be kept


@dataclass(frozen=True)
class Budget:
    """Seconds of training, and what they buy.

    Attributes:
        seconds: for all trainings. step_seconds: of one step. steps_per_epoch: of a training.
        frozen: projectors alone are trained.
    """

    seconds: float
    step_seconds: float
    steps_per_epoch: int
    frozen: bool

    def epochs(self, share: float) -> int:
        """Of a training that gets a share of the seconds: never fewer than make sense."""
        return epochs_for(
            self.seconds * share, self.step_seconds, self.steps_per_epoch, frozen=self.frozen
        )

    def limit(self, share: float) -> float:
        """Seconds after which such a training ends early: those it needs, where they are more."""
        needed = self.epochs(share) * self.steps_per_epoch * self.step_seconds
        return max(self.seconds * share, needed)


def divide(
    material: Material,
    params: dict[str, Any],
    shares: list[float],
    options: Options,
    work: Path,
    *,
    deadline: float,
) -> Budget:
    """Measures a step and says, once, when the limit is too short for any result.

    An interrupted run of the same limit goes on with what was measured then, so that it trains what
    was begun.

    Args:
        material: what is trained on. params: nested. shares: of the trainings.
        work: the directory of this run. deadline: of all of it, on `time.monotonic`'s clock.
    """
    section = config.from_dict(config.Params, config.override(params, {"train.epochs": 10})).train
    steps_per_epoch = len(material.cache.rows("train")) // section.batch_size
    frozen = material.features is not None
    known = read_json(work / _FILE) or {}
    kept, step_seconds = known.get("seconds"), known.get("step_seconds")
    same = known.get("minutes") == options.minutes
    if same and isinstance(kept, int | float) and isinstance(step_seconds, int | float):
        return Budget(float(kept), float(step_seconds), steps_per_epoch, frozen)
    step_seconds = _timed(material, section)
    after = after_trainings(len(material.cache.paths))
    left = deadline - time.monotonic()
    budget = Budget(max(left - after, LEAST_TRAINING), step_seconds, steps_per_epoch, frozen)
    needed = 60 * options.minutes - left + sum(map(budget.limit, shares)) + after
    said = frozen and left < 0  # while the features were made
    if needed > 60 * options.minutes * _TOO_SHORT and not said:
        note(
            f"--minutes {options.minutes:g} is too short for these {len(material.cache.paths)} "
            f"images: all of it takes about {needed / 60:.1f} minutes with the shortest trainings "
            "that make sense, which are done now"
        )
    values = {"seconds": budget.seconds, "step_seconds": step_seconds, "minutes": options.minutes}
    write_json(work / _FILE, values)
    return budget


def _timed(material: Material, section: config.Train) -> float:
    """Seconds of a training step, over a few of them."""
    cache = material.cache
    mean, std = normalization(section.normalize, cache, section.model.encoder)
    with cpus.kept_threads():
        rehearsal = plan.Rehearsal(material.inputs, cache.rows("train"), section, mean, std)
        timing = rehearsal.steps(4.0 if material.features is None else 1.0)
    return timing.mean * section.batch_size / timing.batch
