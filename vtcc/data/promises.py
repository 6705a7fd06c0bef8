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
        said = (self.values.get("severity") or {}).get(what)
        return said if said in ("fail", "warn") else _SEVERITY[what]

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
        share = share_of(len(table))
        wanted = []
        promised = self.values.get("classes")
        if promised and classes is not None:
            counted = " with the images that the card promises of each"
            wanted.append(
                Wanted(
                    self.severity("classes"),
                    classes == promised,
                    f"{promised} classes"
                    + (counted if self.values.get("class_counts_checked") else ""),
                    f"{classes}, counted when the images came",
                )
            )
        if size := self.values.get("image_size"):
            allowed = int(self.values.get("size_exceptions") or 0)
            words = f"every image to be {size[0]} x {size[1]} pixels"
            if allowed:
                words += f", but for at most {allowed} as documented"
            odd = int(table["odd_size"].sum())
            wanted.append(
                Wanted(
                    self.severity("size"),
                    expect.ExpectColumnValuesToBeInSet(
                        column="odd_size",
                        value_set=[False],
                        mostly=at_least(allowed / max(len(table), 1)),
                    ),
                    words,
                    f"{share(odd)} of another size",
                    "size",
                )
            )
        if modes := self.values.get("modes"):
            odd = int(table["odd_mode"].sum())
            wanted.append(
                Wanted(
                    self.severity("mode"),
                    expect.ExpectColumnValuesToBeInSet(column="odd_mode", value_set=[False]),
                    f"every image to be of mode {' or '.join(modes)}",
                    f"{share(odd)} of another mode",
                    "mode",
                )
            )
        return wanted


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
