"""What a dataset's card says of its images, as expectations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pandas as pd

Severity = Literal["fail", "warn"]

# Where a card says nothing, and for images without a card.
_SEVERITY: dict[str, Severity] = {
    "count": "fail",
    "classes": "fail",
    "size": "warn",
    "mode": "warn",
    "exact_duplicates": "warn",
    "near_duplicates": "warn",
    "unreadable": "warn",
}


class Wanted(NamedTuple):
    """An expectation before it is held against the images.

    Attributes:
        severity: `fail` or `warn`.
        test: Great Expectations', or the verdict where it was reached elsewhere.
        expected: in words. found: likewise.
        detail: what to say of an image that does not meet it: reason, twin, size, mode.
    """

    severity: Severity
    test: Any
    expected: str
    found: str
    detail: str = "reason"


@dataclass(frozen=True)
class Card:
    """The key `card` of data/raw/dataset.json; whatever it does not say is not checked.

    Attributes:
        values: that mapping; empty for images without a card.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    def severity(self, what: str) -> Severity:
        """`fail` or `warn`, by the card or else as usual."""
        severity = (self.values.get("severity") or {}).get(what)
        return severity if severity in ("fail", "warn") else _SEVERITY[what]

    def known(self, what: str) -> int:
        """How many exceptions are documented, such as exact copies."""
        return int((self.values.get("known") or {}).get(what) or 0)

    def odd(self, table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        """Which readable images have another size, and other colours, than the card says."""
        never = pd.Series(False, index=table.index)
        size, modes = self.values.get("image_size"), self.values.get("modes")
        odd_size, odd_mode = never, never
        if size:
            same = (table["width"] == size[0]) & (table["height"] == size[1])
            odd_size = table["readable"] & ~same
        if modes:
            odd_mode = table["readable"] & ~table["mode"].isin(list(modes))
        return odd_size, odd_mode

    def wanted(self, expect: Any, table: pd.DataFrame, classes: int | None) -> list[Wanted]:
        """Expectations of classes, sizes and colours.

        Args:
            expect: Great Expectations' module of expectations.
            table: completed, a row per file.
            classes: how many there are; the labels themselves are not known here.
        """
        share, wanted = share_of(len(table)), []
        promised = self.values.get("classes")
        if promised and classes is not None:
            checked = self.values.get("class_counts_checked")
            counted = " with the images that the card promises of each" if checked else ""
            expected = f"{promised} classes{counted}"
            words = f"{classes}, counted when the images came"
            wanted.append(Wanted(self.severity("classes"), classes == promised, expected, words))
        if size := self.values.get("image_size"):
            allowed = int(self.values.get("size_exceptions") or 0)
            test = all_but(expect, "odd_size", allowed / max(len(table), 1))
            expected = f"every image to be {size[0]} x {size[1]} pixels"
            expected += f", but for at most {allowed} as documented" if allowed else ""
            words = f"{share(int(table['odd_size'].sum()))} of another size"
            wanted.append(Wanted(self.severity("size"), test, expected, words, "size"))
        if modes := self.values.get("modes"):
            expected = f"every image to be of mode {' or '.join(modes)}"
            words = f"{share(int(table['odd_mode'].sum()))} of another mode"
            test = all_but(expect, "odd_mode")
            wanted.append(Wanted(self.severity("mode"), test, expected, words, "mode"))
        return wanted


def all_but(expect: Any, column: str, exceptions: float = 0.0, *, value: bool = False) -> Any:
    """Great Expectations' test that a column of the table is `value`, but for a fraction 0-1."""
    return expect.ExpectColumnValuesToBeInSet(
        column=column, value_set=[value], mostly=at_least(exceptions)
    )


def share_of(files: int) -> Callable[[int], str]:
    """Says of a count what part of the files it is."""
    return lambda count: f"{count} of {files} ({percent(count / max(files, 1))})"


def percent(fraction: float) -> str:
    """A fraction in words, three digits."""
    return f"{100 * fraction:.3g} %"


def at_least(exceptions: float) -> float:
    """The fraction that must meet an expectation where `exceptions`, 0-1, need not."""
    # A hair less: 1 - 1 / 11 must not be above the 10 / 11 that do.
    return max(0.0, 1 - exceptions - 1e-9)
