"""The one checker of values that people write: params.yaml, cards, study and sweep files.

A section is a frozen dataclass. Types and `parameter` say what a field takes; `build` makes the
dataclass from what was read, or says in one line which key is wrong, what was found and what is
allowed. Standard library only: a training node has no pydantic.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from vtcc.errors import VtccError, shown

MAX_SEED = 2**32 - 1  # numpy, scikit-learn and torch's CPU generator take no more
T = TypeVar("T")

_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_JSON_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
_NO_LIMITS: Mapping[str, Any] = dict.fromkeys(("low", "high", "above", "fits")) | {"choices": ()}


def parameter(
    why: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    fits: Callable[[Any], bool] | None = None,
    words: str = "",
    default: Any = dataclasses.MISSING,
) -> Any:
    """Declares a field: its reason and the values allowed.

    Args:
        why: it has the value it has.
        low, high: inclusive. above: exclusive. choices: of texts. All hold for items of a list.
        fits: whether a value of the right type will do, where the others cannot say it.
        words: what `fits` expects.
        default: of a field that may be left out (see `build`).
    """
    limits = {"low": low, "high": high, "above": above, "choices": choices}
    metadata = {"why": why, **limits, "fits": fits, "words": words}
    return dataclasses.field(default=default, metadata=metadata)


def build(
    cls: type[T],
    values: Any,
    where: str = "",
    *,
    noun: str = "key",
    file: str = "",
) -> T:
    """Makes dataclass `cls` of nested mappings.

    Args:
        where: dotted key of the section; empty at the top.
        noun: what a key is called in messages. file: what is read, likewise.

    Raises:
        VtccError: on an unknown, missing or ill-typed key or a value out of range; the message
            names the key, what was found and what is allowed.
    """
    if not isinstance(values, dict):
        kind = "a section" if noun == "parameter" else "keys and values"
        subject = where or file
        raise VtccError(f"{subject}{': ' if subject else ''}expected {kind}, found {values!r:.200}")
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise VtccError(f"{shown(join(where, key))}: unknown {noun}; {nearest(key, known)}")
    hints = typing.get_type_hints(cls)
    built = {}
    for name, f in known.items():
        key = join(where, name)
        if name in values:
            limits = {**_NO_LIMITS, **f.metadata}
            built[name] = value(hints[name], values[name], limits, key, noun=noun, file=file)
        elif f.default is dataclasses.MISSING:
            lacking = f" from {file}" if file else ""
            hint = f.metadata.get("why") or f.metadata.get("words") or _kind_in_words(hints[name])
            raise VtccError(f"{key}: missing{lacking} ({hint})")
    return cls(**built)


def value(hint: Any, given: Any, limits: Mapping[str, Any], key: str, **how: Any) -> Any:
    """Checks one value against its type and limits.

    Args:
        hint: the type. given: the value. limits: metadata of `parameter`. key: for messages.
        how: of `build`, for sections inside.

    Returns:
        The value, numbers and tuples of the right type.

    Raises:
        VtccError: naming the key, what was found and what is allowed.
    """
    if isinstance(hint, types.UnionType):
        if given is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if limits["fits"] and not limits["fits"](given):
        raise VtccError(f"{key}: expected {limits['words']}, found {given!r:.200}")
    if hint is Any:
        return given
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), given, key, **how)
    origin = typing.get_origin(hint) or hint
    if origin in (tuple, list):
        return _sequence(hint, given, limits, key, **how)
    if origin is dict:
        if not isinstance(given, dict):
            raise VtccError(f"{key}: expected keys and values, found {given!r:.200}")
        return given
    return _scalar(hint, given, limits, key)


def _sequence(hint: Any, given: Any, limits: Mapping[str, Any], key: str, **how: Any) -> Any:
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if not isinstance(given, list | tuple):
        raise VtccError(f"{key}: expected a list, found {given!r:.200}")
    each = {**limits, "fits": None}
    if kind is tuple and inner[-1] is not Ellipsis:
        numbers = all(map(_is_number, given))
        if len(inner) == 2 and (len(given) != 2 or not numbers or given[0] > given[1]):
            raise VtccError(f"{key}: expected [low, high] with low <= high, found {given!r:.200}")
        if len(given) != len(inner):
            raise VtccError(f"{key}: expected {len(inner)} numbers, found {given!r:.200}")
    items = [value(inner[0], v, each, f"{key}[{i}]", **how) for i, v in enumerate(given)]
    if kind is list:
        return items
    if inner[-1] is Ellipsis and inner[0] is not float and len(set(items)) != len(items):
        what = "name" if inner[0] is str else "number"
        raise VtccError(f"{key}: found a {what} twice in {items}")
    return tuple(items)


def _scalar(hint: Any, given: Any, limits: Mapping[str, Any], key: str) -> Any:
    if hint is float and _is_number(given):
        given = float(given)
    if hint is str and isinstance(given, dict) and len(given) == 1:
        name = next(iter(given))
        raise VtccError(
            f"{key}: expected text, found {given!r:.200}; quote what has a colon: '{name}:'"
        )
    right = isinstance(given, hint) and not (hint is int and isinstance(given, bool))
    if not right or (hint is float and not math.isfinite(given)):
        found = f"{given!r:.200}"
        if hint in (int, float) and isinstance(given, str) and _parses(given, hint):
            found += f" (text, for its quotes; write {hint(given)!r:.200})"
        raise VtccError(f"{key}: expected {_TYPE_NAMES[hint]}, found {found}")
    if limits["choices"] and given not in limits["choices"]:
        raise VtccError(f"{key}: found {given!r:.200}; allowed: {', '.join(limits['choices'])}")
    low, high, above = limits["low"], limits["high"], limits["above"]
    if (
        (low is not None and given < low)
        or (high is not None and given > high)
        or (above is not None and given <= above)
    ):
        raise VtccError(f"{key}: found {given!r:.200}; allowed: {allowed(limits)}")
    return given


def join(where: str, key: object) -> str:
    """The dotted key of a field of a section."""
    return f"{where}.{key}" if where else str(key)


def nearest(name: object, known: Iterable[str], otherwise: str = "") -> str:
    """A hint for a name that is not known: the nearest that is, else `otherwise`, else all."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise or f"known: {', '.join(known)}"


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)


def _parses(text: str, kind: Any) -> bool:
    try:
        return math.isfinite(kind(text))
    except ValueError:
        return False


def allowed(limits: Mapping[str, Any]) -> str:
    """The values a field takes, in words; empty when any of its type will do."""
    if limits["choices"]:
        return " | ".join(limits["choices"])
    parts = []
    if limits["low"] is not None:
        parts.append(f"at least {limits['low']:.10g}")
    if limits["above"] is not None:
        parts.append(f"above {limits['above']:.10g}")
    if limits["high"] is not None:
        parts.append(f"at most {limits['high']:.10g}")
    return ", ".join(parts)


def _kind_in_words(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(
            "null" if part is types.NoneType else _kind_in_words(part)
            for part in typing.get_args(hint)
        )
    origin = typing.get_origin(hint) or hint
    if origin is tuple and typing.get_args(hint)[-1] is not Ellipsis:
        return "[low, high]"
    return {list: "list", tuple: "list"}.get(origin) or _TYPE_NAMES.get(hint, "keys and values")


@dataclass(frozen=True)
class Explained:
    """One field, as `vtcc params --explain` shows it."""

    key: str
    kind: str
    allowed: str
    why: str


def leaves(cls: type, where: str = "") -> list[tuple[str, Any, Mapping[str, Any]]]:
    """Dotted key, type and limits of every field that is no section, in order."""
    hints, rows = typing.get_type_hints(cls), []
    for f in fields(cls):
        key, hint = join(where, f.name), hints[f.name]
        if dataclasses.is_dataclass(hint):
            rows += leaves(typing.cast(type, hint), key)
        else:
            rows.append((key, hint, {**_NO_LIMITS, **f.metadata}))
    return rows


def explain(cls: type) -> list[Explained]:
    """Every field with its type, allowed values and reason, in order."""
    return [
        Explained(key, _kind_in_words(hint), allowed(limits), limits["why"])
        for key, hint, limits in leaves(cls)
    ]


def json_schema(cls: type) -> dict[str, Any]:
    """JSON schema of `{"train.epochs": 2, ...}`: every dotted key, no other."""
    properties = {
        key: {"title": key, "description": limits["why"], **_json_kind(hint, limits)}
        for key, hint, limits in leaves(cls)
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _json_kind(hint: Any, limits: Mapping[str, Any]) -> dict[str, Any]:
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        schema: dict[str, Any] = {"type": "array", "items": _json_kind(inner[0], limits)}
        if inner[-1] is Ellipsis:
            return schema | {"uniqueItems": True}
        return schema | {"minItems": len(inner), "maxItems": len(inner)}
    schema = {"type": _JSON_TYPES[hint]}
    if limits["choices"]:
        schema["enum"] = list(limits["choices"])
    names = (("low", "minimum"), ("high", "maximum"), ("above", "exclusiveMinimum"))
    return schema | {name: limits[k] for k, name in names if limits[k] is not None}
