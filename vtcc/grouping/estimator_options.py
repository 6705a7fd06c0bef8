"""The parameters of `vtcc.ImageClusterer`, checked, as the options of `vtcc cluster`."""

import os
import secrets
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc.errors import VtccError
from vtcc.grouping.means import AT_MOST
from vtcc.grouping.options import Options, parse_clusters

if TYPE_CHECKING:
    from vtcc.grouping.estimator import ImageClusterer

_PATH = (str, os.PathLike, NoneType)
# What a parameter may be, and that in words; values are looked at where they are used.
_TYPES: dict[str, tuple[Any, str]] = {
    "minutes": (Real, "a number above 0"),
    "encoder": (str, "'auto', 'none' or a name that `vtcc encoders` lists"),
    "weights": (_PATH, "a path, or None"),
    "params": ((Mapping, NoneType), "a dictionary of dotted names, or None"),
    "unclustered": ((Real, np.bool_), "True, False or a share between 0 and 1"),
    "output": (_PATH, "a path, or None"),
    "sample": (Integral, "a whole number, or 0 for all images"),
}


def of(given: "ImageClusterer") -> Options:
    """The options without folder and place of the results, which depend on the images.

    Raises:
        VtccError: on a parameter that cannot be.
    """
    for name, (allowed, words) in _TYPES.items():
        value = getattr(given, name)
        no_switch = isinstance(value, bool) and name != "unclustered"  # True is a number, too
        if no_switch or not isinstance(value, allowed):
            raise VtccError(f"{name}: found {value!r}; give {words}")
    seed = given.random_state
    if seed is None:
        seed = secrets.randbelow(2**31)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise VtccError(f"random_state: found {seed!r}; give an integer from 0, or None")
    share = AT_MOST if isinstance(given.unclustered, bool | np.bool_) else float(given.unclustered)
    if not 0 < share < 1:
        raise VtccError(f"unclustered: found {share:g}; give True, or a share between 0 and 1")
    return Options(
        folder=Path(),
        clusters=_number(given.n_clusters),
        minutes=float(given.minutes),
        encoder=given.encoder,
        weights=Path(given.weights) if given.weights else None,
        seed=int(seed),
        overrides={str(key): value for key, value in (given.params or {}).items()},
        unclustered=bool(given.unclustered),
        unclustered_at_most=share,
        sample=int(given.sample),
    )


def _number(n: Any) -> int | tuple[int, int]:
    if isinstance(n, tuple | list) and len(n) == 2:
        return parse_clusters(f"{n[0]}-{n[1]}")
    return parse_clusters(str(n))
