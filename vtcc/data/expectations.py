"""What a data set must be like to train on it: a Great Expectations suite, told in words."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from vtcc import quiet

# Column order of the table of facts; `facts` fills it from one decoded image each.
COLUMNS = [
    "path",
    "bytes",
    "sha256",
    "split",
    "readable",
    "reason",
    "width",
    "height",
    "mode",
    "mean",
    "std",
    "one_colour",
]
_EXAMPLES = 3
_MAX_ASPECT = 3
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is asked of the images.

    Attributes:
        max_unreadable: fraction of files, 0-1.
        max_duplicates: fraction of files that are exact copies of an earlier one, 0-1.
        expected_images: how many the dataset's card promises; None when nobody knows.
        channels: 1 when images are made grey, 3 when not.
    """

    max_unreadable: float
    max_duplicates: float
    expected_images: int | None
    channels: int


@dataclass(frozen=True)
class Outcome:
    """One expectation, held against the images.

    Attributes:
        severity: `fail` stops the pipeline, `warn` does not.
        passed: whether it was met.
        expected: what is expected, in words.
        found: what was found, in words; to be read after `expected` or alone.
        paths: images that do not meet it, as many as there are.
    """

    severity: Literal["fail", "warn"]
    passed: bool
    expected: str
    found: str
    paths: list[str]


def complete(facts: pd.DataFrame) -> pd.DataFrame:
    """Adds what follows from the facts: duplicate, trainable, colour, aspect.

    Args:
        facts: a row per file, columns `COLUMNS`; width to std are missing where not readable.

    Returns:
        A new table; a duplicate is a readable file with the bytes of an earlier one.
    """
    table = facts.copy()
    table["duplicate"] = table["sha256"].duplicated() & table["readable"]
    table["trainable"] = (table["readable"] & (table["split"] == "train")).astype(int)
    grey = table["mode"].isin(_GREY_MODES) | table["mode"].str.startswith("I;16")
    table["colour"] = table["readable"] & ~grey
    sides = table[["width", "height"]].astype(float)
    table["aspect"] = sides.max(axis=1) / sides.min(axis=1)
    return table


def figures(table: pd.DataFrame) -> dict[str, Any]:
    """The numbers of the verdict, flat, from a completed table."""
    read = table[table["readable"]]
    files = len(table)

    def of(column: str, function: str) -> float | None:
        return round(float(getattr(read[column], function)()), 6) if len(read) else None

    unreadable, duplicates = files - len(read), int(table["duplicate"].sum())
    return {
        "images": files,
        "readable": len(read),
        "unreadable": unreadable,
        "unreadable_fraction": round(unreadable / max(files, 1), 6),
        "duplicates": duplicates,
        "duplicate_fraction": round(duplicates / max(files, 1), 6),
        "one_colour": int(table["one_colour"].sum()),
        "train_images": int(table["trainable"].sum()),
        "holdout_images": len(read) - int(table["trainable"].sum()),
        "bytes": int(table["bytes"].sum()),
        "width_min": of("width", "min"),
        "width_median": of("width", "median"),
        "width_max": of("width", "max"),
        "height_min": of("height", "min"),
        "height_median": of("height", "median"),
        "height_max": of("height", "max"),
        "brightness": of("mean", "mean"),
        "contrast": of("std", "mean"),
    }


def check(table: pd.DataFrame, limits: Limits) -> list[Outcome]:
    """Holds the expectations against a completed table.

    Importing Great Expectations takes 10 seconds or more, so it happens here.
    """
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    batch = (
        context.data_sources.add_pandas("vtcc")
        .add_dataframe_asset("images")
        .add_batch_definition_whole_dataframe("all")
        .get_batch({"dataframe": table})
    )
    severity = {"fail": "critical", "warn": "warning"}
    wanted = _wanted(gx.expectations, table, limits)
    suite = gx.ExpectationSuite(name="images")
    for i, (level, expectation, _, _) in enumerate(wanted):
        expectation.severity = severity[level]
        expectation.meta = {"number": i}
        suite.add_expectation(expectation)
    report = batch.validate(
        suite,
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]},
    )
    outcomes: list[Outcome | None] = [None] * len(wanted)
    for result in report.results:
        raised = result.exception_info
        if raised.get("raised_exception"):
            raise RuntimeError(f"Great Expectations: {raised}")
        number = result.expectation_config.meta["number"]
        level, _, expected, found = wanted[number]
        rows = result.result.get("unexpected_index_list") or []
        outcomes[number] = Outcome(
            level, bool(result.success), expected, found, [row["path"] for row in rows]
        )
    assert None not in outcomes
    return [_with_examples(outcome, table) for outcome in outcomes if outcome]


def sentence(outcome: Outcome) -> str:
    """An unmet expectation for a person: what was expected, what was found."""
    return f"expected {outcome.expected}; found {outcome.found}"


def _great_expectations() -> Any:
    quiet.apply()
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx

    return gx


_Wanted = tuple[Literal["fail", "warn"], Any, str, str]


def _wanted(expect: Any, table: pd.DataFrame, limits: Limits) -> list[_Wanted]:
    """Severity, expectation, what it expects and what there is, both in words."""
    files = len(table)
    share = _share_of(files)
    unreadable = int((~table["readable"]).sum())
    duplicates, flat = int(table["duplicate"].sum()), int(table["one_colour"].sum())
    trainable = int(table["trainable"].sum())
    long = int((table["aspect"] > _MAX_ASPECT).sum())
    colour = int(table["colour"].sum())
    wanted: list[_Wanted] = [
        (
            "fail",
            expect.ExpectTableRowCountToBeBetween(min_value=2),
            "at least 2 images",
            f"{files}",
        ),
        (
            "fail",
            expect.ExpectColumnValuesToBeUnique(column="path"),
            "every path once in the manifest",
            f"{files - table['path'].nunique()} repeated",
        ),
        (
            "fail",
            expect.ExpectColumnValuesToBeInSet(column="split", value_set=["train", "holdout"]),
            "the split of every image to be train or holdout",
            ", ".join(sorted(map(repr, table["split"].unique()))),
        ),
        (
            "fail",
            expect.ExpectColumnValuesToBeInSet(
                column="readable", value_set=[True], mostly=_at_least(limits.max_unreadable)
            ),
            f"at most {_percent(limits.max_unreadable)} of the files to be unreadable "
            "(validate.max_unreadable)",
            f"{share(unreadable)}",
        ),
        (
            "fail",
            expect.ExpectColumnSumToBeBetween(column="trainable", min_value=2),
            "at least 2 readable images to train on",
            f"{trainable}",
        ),
        (
            "fail",
            expect.ExpectColumnValuesToBeBetween(column="width", min_value=1),
            "every image to be at least 1 pixel wide",
            "others",
        ),
        (
            "fail",
            expect.ExpectColumnValuesToBeBetween(column="height", min_value=1),
            "every image to be at least 1 pixel high",
            "others",
        ),
        (
            "fail",
            expect.ExpectColumnValuesToBeInSet(
                column="duplicate", value_set=[False], mostly=_at_least(limits.max_duplicates)
            ),
            f"at most {_percent(limits.max_duplicates)} of the files to be exact copies of "
            "another (validate.max_duplicates)",
            f"{share(duplicates)}",
        ),
        (
            "warn",
            expect.ExpectColumnValuesToBeInSet(column="readable", value_set=[True]),
            "every file to be readable",
            f"{share(unreadable)} that are not, and were set aside",
        ),
        (
            "warn",
            expect.ExpectColumnValuesToBeInSet(column="duplicate", value_set=[False]),
            "no file to be an exact copy of another",
            f"{share(duplicates)}",
        ),
        (
            "warn",
            expect.ExpectColumnValuesToBeInSet(column="one_colour", value_set=[False]),
            "no image to be all one colour",
            f"{share(flat)}",
        ),
        (
            "warn",
            expect.ExpectColumnValuesToBeBetween(
                column="aspect", max_value=_MAX_ASPECT, mostly=0.9
            ),
            f"most images to be less than {_MAX_ASPECT} times as long as wide, since they are "
            "squeezed into a square",
            f"{share(long)} longer than that",
        ),
    ]
    if limits.expected_images is not None:
        wanted.append(
            (
                "fail",
                expect.ExpectTableRowCountToEqual(value=limits.expected_images),
                f"the {limits.expected_images} images that the dataset's card promises",
                f"{files}",
            )
        )
    if limits.channels == 1:
        wanted.append(
            (
                "warn",
                expect.ExpectColumnValuesToBeInSet(column="colour", value_set=[False], mostly=0.5),
                "mostly grey images, since dataset.channels is 1 and colour is dropped",
                f"{share(colour)} in colour",
            )
        )
    return wanted


def _with_examples(outcome: Outcome, table: pd.DataFrame) -> Outcome:
    if outcome.passed or not outcome.paths:
        return outcome
    reasons = dict(zip(table["path"], table["reason"], strict=True))
    shown = [
        f"{path!r} ({reasons[path]})" if reasons[path] else repr(path)
        for path in outcome.paths[:_EXAMPLES]
    ]
    more = ", ..." if len(outcome.paths) > _EXAMPLES else ""
    found = f"{outcome.found}: {', '.join(shown)}{more}"
    return Outcome(outcome.severity, False, outcome.expected, found, outcome.paths)


def _share_of(files: int) -> Any:
    return lambda count: f"{count} of {files} ({_percent(count / max(files, 1))})"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _at_least(fraction: float) -> float:
    # 1 - 0.9 is 0.09999..., and 9 unreadable of 10 must pass a limit of 0.9.
    return float(np.round(1 - fraction, 12))
