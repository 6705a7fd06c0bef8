"""Columns that came with the images, as compact arrays by which a page filters."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

FEW = 30  # distinct values that one chooses from; of more a range, or a text to search for
LARGEST = 2 << 20  # bytes of all columns in a page
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def fields(
    columns: Mapping[str, Mapping[str, Any]], files: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """What a page filters by.

    Args:
        columns: name -> name of an image -> value. files: N names of images.

    Returns:
        A field for each column that says something of them: `name`, `kind` and `at`, N entries. Of
        kind `few` (a choice of at most `FEW`), `day` (they begin with one) and `text`, `at` are
        places in `values`, -1 for none; of kind `number` the numbers themselves, or None. And
        the names of columns left out, as they would make the page large.
    """
    shown: list[dict[str, Any]] = []
    left_out, room = [], LARGEST
    for name, of in columns.items():
        values = [_plain(of.get(file)) for file in files]
        if all(value is None for value in values):
            continue
        field = {"name": name} | _field(values)
        size = len(json.dumps(field, ensure_ascii=False, separators=(",", ":")).encode())
        if size > room:
            left_out.append(name)
            continue
        room -= size
        shown.append(field)
    return shown, left_out


def _field(values: Sequence[Any]) -> dict[str, Any]:
    distinct = {value for value in values if value is not None}
    numbers = {value: number for value in distinct if (number := _number(value)) is not None}
    if len(distinct) > FEW and len(numbers) == len(distinct):
        return {"kind": "number", "at": [None if v is None else numbers[v] for v in values]}
    order = sorted(distinct, key=lambda value: (numbers.get(value, math.inf), value))
    place = {value: i for i, value in enumerate(order)}
    kind = "few" if len(order) <= FEW else "day" if all(map(_DAY.match, order)) else "text"
    return {"kind": kind, "values": order, "at": [place.get(value, -1) for value in values]}


def _plain(value: Any) -> str | None:
    """A value as text; None where it says nothing."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)


def _number(text: str) -> float | int | None:
    """The number that a text is, or None; plain digits alone, so that codes stay texts."""
    if not re.fullmatch(r"-?(0|[1-9]\d{0,14})(\.\d+)?(e[-+]?\d{1,3})?", text):
        return None
    number = float(text)
    if not math.isfinite(number):  # such as 1e999, which JSON has no number for
        return None
    return int(number) if number.is_integer() else number
