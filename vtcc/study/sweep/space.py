"""What is searched: a range or choices per parameter, checked against `params.yaml`'s own rules."""

import json
import random
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from vtcc import config, schema
from vtcc.errors import VtccError


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What may be said of a dimension; low and high are of the parameter's type."""

    low: Any = None
    high: Any = None
    log: bool = False
    step: Any = None
    choices: Any = None


# Why a key cannot be searched; the longest that fits says it. Everything else below `train` can.
_SAME_IMAGES = "trials compare on the same images only"
_SPEED = "it says how a training runs here, not how good it is"
_FIXED = {
    "dataset": _SAME_IMAGES,
    "download": _SAME_IMAGES,
    "validate": _SAME_IMAGES,
    "embed.seed": "it draws the views, the same to all trials",
    "embed.runtime": _SPEED,
    "evaluate": "it comes after the training",
    "train.seed": "the key `seed` gives it, the same to all trials",
    "train.epochs": "the key `epochs` gives it: trials of different length do not compare",
    "train.num_clusters": "fewer clusters are the more stable ones, so different K do not compare",
    "train.selection": "it says what is kept of a training",
    "train.collapse": "the key `pruning` says what becomes of a collapsed trial",
    "train.device": _SPEED,
    "train.precision": _SPEED,
    "train.attention": _SPEED,
    "train.compile": _SPEED,
    "train.threads": _SPEED,
    "train.checkpoint_minutes": _SPEED,
}


@dataclass(frozen=True)
class Dimension:
    """One parameter that is searched: a range, or choices.

    Attributes:
        key: dotted, as in `params.yaml`.
        whole: a range of whole numbers.
        low: first value of a range.
        high: last value of a range.
        log: a range searched by its logarithm.
        step: distance of a range's values, or None.
        choices: values instead of a range; lists for pairs such as `train.augment.crop_scale`.
    """

    key: str
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    def encoded(self, value: Any) -> Any:
        """A value as Optuna stores it: a list becomes its JSON, a float of steps has all digits."""
        if self.step and not self.whole:
            return self._at(
                min(max(round((value - self.low) / self.step), 0), self._last(self.step))
            )
        return json.dumps(value) if isinstance(value, list) else value

    def _at(self, i: int) -> float:
        """Value i of a range of floats with a step, computed in decimals as Optuna does."""
        return float(Decimal(str(self.low)) + i * Decimal(str(self.step)))

    def _last(self, step: float) -> int:
        return int((self.high - self.low) / step + 1e-9)

    def decoded(self, stored: Any) -> Any:
        """The value for `params.yaml`; floats with six digits, which people can read."""
        if self.choices:
            return next(c for c in self.choices if self.encoded(c) == stored)
        return int(stored) if self.whole else float(f"{stored:.6g}")

    def holds(self, value: Any) -> bool:
        """Whether the dimension has this value."""
        if self.choices:
            return any(c == value and type(c) is type(value) for c in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-9

    def values(self) -> list[Any] | None:
        """All values, in order; None for a range without an end of them."""
        if self.choices:
            return list(self.choices)
        step = self.step or (1 if self.whole else None)
        if step is None:
            return None
        return [self.decoded(self.low + i * step) for i in range(self._last(step) + 1)]

    def drawn(self, rng: random.Random) -> Any:
        """A random value; how likely each is does not matter here."""
        known = self.values()
        return rng.choice(known) if known else self.decoded(rng.uniform(self.low, self.high))

    def distribution(self) -> Any:
        """The same for Optuna."""
        from optuna import distributions as d

        if self.choices:
            return d.CategoricalDistribution([self.encoded(c) for c in self.choices])
        if self.whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return d.IntDistribution(low, high, log=self.log, step=step)
        last = self._at(self._last(self.step)) if self.step else self.high
        return d.FloatDistribution(self.low, last, log=self.log, step=self.step)

    def described(self) -> dict[str, Any]:
        """As a file says it."""
        if self.choices:
            return {"choices": list(self.choices)}
        bounds = {"low": self.low, "high": self.high}
        described: dict[str, Any] = {k: int(v) if self.whole else v for k, v in bounds.items()}
        return (
            described
            | ({"log": True} if self.log else {})
            | ({"step": self.step} if self.step else {})
        )


def parse(values: Any) -> tuple[Dimension, ...]:
    """The section `space` of a sweep file, checked.

    Raises:
        VtccError: naming the key, what was found and what is allowed.
    """
    if not isinstance(values, dict) or not values:
        raise VtccError(
            "space: expected parameters with their ranges, such as "
            "train.optimizer.learning_rate: {low: 0.0001, high: 0.01, log: true}"
        )
    return tuple(_dimension(str(key), bounds) for key, bounds in values.items())


def _dimension(key: str, bounds: Any) -> Dimension:
    where = f"space.{key}"
    kinds = {row.key: row.kind for row in config.explain(config.Params)}
    if key not in kinds:
        hint = schema.nearest(
            key, (k for k in kinds if not fixed(k)), "see `vtcc params --explain`"
        )
        raise VtccError(f"{where}: unknown parameter; {hint}")
    kind = kinds[key]
    if reason := fixed(key):
        raise VtccError(f"{where}: cannot be searched: {reason}")
    schema.build(Bounds, bounds, where)
    if "choices" in bounds:
        return _choices(key, bounds, where)
    if kind not in ("a number", "a whole number"):
        raise VtccError(f"{where}: takes {kind}, so list `choices`")
    return _range(key, bounds, where, whole=kind == "a whole number")


def fixed(key: str) -> str:
    """Why a parameter cannot be searched; empty when it can."""
    parts = key.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((_FIXED[p] for p in prefixes if p in _FIXED), "")


def _choices(key: str, bounds: dict[str, Any], where: str) -> Dimension:
    if len(bounds) > 1:
        raise VtccError(f"{where}: either choices, or low and high")
    choices = bounds["choices"]
    if not isinstance(choices, list) or len(choices) < 2:
        raise VtccError(f"{where}.choices: expected a list of at least two, found {choices!r}")
    if len({json.dumps(c) for c in choices}) < len(choices):
        raise VtccError(f"{where}.choices: a value comes twice in {choices!r}")
    for choice in choices:
        _check(key, choice, where)
    return Dimension(key, choices=tuple(choices))


def _range(key: str, bounds: dict[str, Any], where: str, whole: bool) -> Dimension:
    for name in ("low", "high"):
        if name not in bounds:
            raise VtccError(f"{where}: {name} is missing; a range has low and high")
        _check(key, bounds[name], f"{where}.{name}")
    low, high, step, log = (
        bounds["low"],
        bounds["high"],
        bounds.get("step"),
        bounds.get("log", False),
    )
    if low >= high:
        raise VtccError(f"{where}: low ({low}) must be below high ({high})")
    if step is not None:
        number = isinstance(step, int if whole else int | float) and not isinstance(step, bool)
        if not number or not 0 < step <= high - low:
            expected = "a whole number" if whole else "a number"
            raise VtccError(
                f"{where}.step: expected {expected} above 0, at most high - low, found {step!r}"
            )
        if log:
            raise VtccError(f"{where}: either log or step")
    if log and low <= 0:
        raise VtccError(f"{where}: low must be above 0 where log is true, found {low}")
    if step and not Dimension(key, whole, low, high, step=step).holds(high):
        raise VtccError(f"{where}: steps of {step} from {low} do not reach {high}")
    return Dimension(key, whole, float(low), float(high), log, step)


def _check(key: str, value: Any, where: str) -> None:
    try:
        config.check(key, value)
    except VtccError as error:
        raise VtccError(f"{where}: {str(error).removeprefix(f'{key}: ')}") from None
