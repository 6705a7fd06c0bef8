"""Where the marks of the plots on a page lie, in pixels; `plots.html` draws them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LANE_WIDTH, LANE_LEFT, LANE_HEIGHT = 760, 190, 26
WIDTH, HEIGHT = 340, 200  # of a scatter plot
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 30


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on a line from pixel `start` to pixel `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "Axis":
        """An axis with all values on it and a little room beside them."""
        low, high = min(values), max(values)
        pad = (high - low or abs(high) or 1.0) * 0.08
        return cls(low - pad, high + pad, start, end)

    def at(self, value: float) -> float:
        """The pixel of a value; of one beyond the axis, that of the axis's end."""
        inside = min(max(value, self.low), self.high)
        share = (inside - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * share, 1)

    def ticks(self, most: int, text: Callable[[float], str]) -> list["Tick"]:
        """A few round numbers on the axis."""
        step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
        step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (step * m) <= most)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        values = [round(k * step, 10) for k in range(first, last + 1)]
        return [Tick(self.at(value), text(value)) for value in values]


@dataclass(frozen=True)
class Tick:
    """A mark of an axis, in pixels along it."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A value in a plot, in pixels; `best` is drawn larger."""

    x: float
    y: float
    title: str
    best: bool = False


@dataclass(frozen=True)
class Lane:
    """A named line of dots; `low` to `high` is mean ± standard deviation, in pixels."""

    name: str
    y: int
    dots: list[Dot]
    mean: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Lanes:
    """A lane per name, one below the other, on one axis."""

    title: str
    lanes: list[Lane]
    ticks: list[Tick]
    width: int
    left: int
    height: int


@dataclass(frozen=True)
class Scatter:
    """Dots over two axes; `line` are points of a polyline, "" for none."""

    title: str
    dots: list[Dot]
    across: list[Tick]
    up: list[Tick]
    line: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    floor: int = HEIGHT - BOTTOM


def lanes(
    title: str,
    values: Mapping[str, Mapping[int, float]],
    spread: Mapping[str, tuple[float, float] | None],
) -> Lanes | None:
    """Every seed as a dot, the mean as a line; None where there is no value.

    Args:
        values: name of a lane -> seed -> value.
        spread: name of a lane -> mean and standard deviation, NaN for one value alone.
    """
    every = [value for seeds in values.values() for value in seeds.values()]
    if not every:
        return None
    axis = Axis.around(every, LANE_LEFT, LANE_WIDTH - 20)
    drawn = []
    for i, (name, seeds) in enumerate(values.items()):
        y = 20 + LANE_HEIGHT * i
        dots = [Dot(axis.at(v), y, f"seed {seed}: {v:.4f}") for seed, v in seeds.items()]
        mean, std = spread[name] or (axis.low, 0.0)
        std = 0.0 if math.isnan(std) else std
        middle = axis.at(mean) if spread[name] else None
        drawn.append(Lane(name, y, dots, middle, axis.at(mean - std), axis.at(mean + std)))
    height = LANE_HEIGHT * len(drawn) + 40
    ticks = axis.ticks(8, lambda value: f"{value:.4g}")
    return Lanes(title, drawn, ticks, LANE_WIDTH, LANE_LEFT, height)


def scatter(
    title: str,
    points: Sequence[tuple[float, float, str, bool]],
    *,
    log: bool = False,
    names: Sequence[str] = (),
    line: Sequence[tuple[float, float]] = (),
) -> Scatter | None:
    """Values over values; None where there are none.

    Args:
        points: across, up, what it is, and whether it is the best.
        log: the axis across is logarithmic. names: of the numbers 0, 1, ... across.
        line: points of a line through the plot.
    """
    if not points:
        return None
    scale: Callable[[float], float] = math.log10 if log else float
    end = WIDTH - RIGHT
    across = Axis.around([scale(x) for x, *_ in points], LEFT, end)
    if names:
        across = Axis(-0.5, len(names) - 0.5, LEFT, end)
        ticks = [Tick(across.at(i), name) for i, name in enumerate(names)]
    else:
        ticks = across.ticks(6, lambda x: f"{10**x:.2g}" if log else f"{x:.4g}")
    up = Axis.around([y for _, y, *_ in points], HEIGHT - BOTTOM, TOP)
    return Scatter(
        title,
        [Dot(across.at(scale(x)), up.at(y), text, best) for x, y, text, best in points],
        ticks,
        up.ticks(6, lambda y: f"{y:.3g}"),
        " ".join(f"{across.at(x)},{up.at(y)}" for x, y in line),
    )
