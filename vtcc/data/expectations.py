"""What a data set must be like to train on it: a Great Expectations suite, told in words."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from vtcc import quiet
from vtcc.data import duplicates
from vtcc.data.promises import Card, Severity, Wanted, all_but, percent, share_of

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
SKETCH = (8, 9)  # of `duplicates.sketch`
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
        channels: 1 when images are made grey.
        card: what the dataset's card says of the images, beside their number.
        classes: how many there are, where that is known.
    """

    max_unreadable: float
    max_duplicates: float
    expected_images: int | None
    channels: int
    card: Card = field(default_factory=Card)
    classes: int | None = None


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

    severity: Severity
    passed: bool
    expected: str
    found: str
    paths: list[str]


def complete(
    measured: pd.DataFrame,
    sketches: np.ndarray | None = None,
    *,
    near_duplicates: int = -1,
    card: Card = Card(),
) -> pd.DataFrame:
    """Adds what follows from the facts.

    Args:
        measured: a row per file, columns `COLUMNS`; width to std are missing where not readable.
        sketches: (N, 8, 9) float32 of `duplicates.sketch`, a row per file.
        near_duplicates: bits by which hashes of images that look alike may differ; -1 for none.
        card: sizes and modes that images are held against.

    Returns:
        A new table. `duplicate`: a readable file with the bytes of an earlier one, `copy_of`
        its path; `near`: looks like the earlier image `looks_like`; `straddles`: such a twin is
        on the other side of the holdout split; `trainable`, `colour`, `aspect`, `odd_size`,
        `odd_mode`.
    """
    table = measured.copy()
    table["duplicate"] = table["sha256"].duplicated() & table["readable"]
    originals = table.drop_duplicates("sha256").set_index("sha256")["path"]
    table["copy_of"] = table["sha256"].map(originals).where(table["duplicate"], "").astype(object)
    table["looks_like"] = _looks_like(table, sketches, near_duplicates)
    table["near"] = table["looks_like"] != ""
    split = dict(zip(table["path"], table["split"], strict=True))
    twin = table["copy_of"].where(table["duplicate"], table["looks_like"])
    table["straddles"] = (twin != "") & (twin.map(split) != table["split"])
    table["trainable"] = (table["readable"] & (table["split"] == "train")).astype(int)
    grey = table["mode"].isin(_GREY_MODES) | table["mode"].str.startswith(("I;16", "1 x "))
    table["colour"] = table["readable"] & ~grey
    sides = table[["width", "height"]].astype(float)
    table["aspect"] = sides.max(axis=1) / sides.min(axis=1)
    table["odd_size"], table["odd_mode"] = card.odd(table)
    return table


def _looks_like(table: pd.DataFrame, sketches: np.ndarray | None, distance: int) -> pd.Series:
    names = pd.Series("", index=table.index, dtype=object)
    if sketches is None or distance < 0:
        return names
    # Exact copies are told as such, and all images of one colour look alike.
    chosen = table["readable"] & ~table["duplicate"] & ~table["one_colour"]
    rows = np.flatnonzero(chosen)
    earlier = duplicates.nearest_earlier(sketches[rows], distance)
    alike = np.flatnonzero(earlier >= 0)
    paths = table["path"].to_numpy()
    names.iloc[rows[alike]] = paths[rows[earlier[alike]]]
    return names


def figures(table: pd.DataFrame) -> dict[str, Any]:
    """The numbers of the verdict, flat, from a completed table."""
    read = table[table["readable"]]
    files = len(table)

    def of(column: str, function: str) -> float | None:
        return round(float(getattr(read[column], function)()), 6) if len(read) else None

    unreadable, copies = files - len(read), int(table["duplicate"].sum())
    return {
        "images": files,
        "readable": len(read),
        "unreadable": unreadable,
        "unreadable_fraction": round(unreadable / max(files, 1), 6),
        "duplicates": copies,
        "duplicate_fraction": round(copies / max(files, 1), 6),
        "duplicate_groups": int(table.loc[table["duplicate"], "copy_of"].nunique()),
        "near_duplicates": int(table["near"].sum()),
        "near_duplicate_groups": _groups(table),
        "split_twins": int(table["straddles"].sum()),
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


def _groups(table: pd.DataFrame) -> int:
    """Groups of images that look alike, chains of them counted once."""
    number = {path: row for row, path in enumerate(table["path"])}
    earlier = table["looks_like"].map(number).fillna(-1).to_numpy(dtype=np.int64)
    first = duplicates.groups(earlier)
    return len(set(first[earlier >= 0].tolist()))


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
    for i, want in enumerate(wanted):
        if isinstance(want.test, bool):
            continue
        want.test.severity = severity[want.severity]
        want.test.meta = {"number": i}
        suite.add_expectation(want.test)
    report = batch.validate(
        suite,
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]},
    )
    results = {}
    for result in report.results:
        raised = result.exception_info
        if raised.get("raised_exception"):
            raise RuntimeError(f"Great Expectations: {raised}")
        results[result.expectation_config.meta["number"]] = result
    rows = {path: row for row, path in enumerate(table["path"])}
    return [_outcome(want, results.get(i), table, rows) for i, want in enumerate(wanted)]


def _outcome(want: Wanted, result: Any, table: pd.DataFrame, rows: Mapping[str, int]) -> Outcome:
    if result is None:
        return Outcome(want.severity, want.test, want.expected, want.found, [])
    passed, words = bool(result.success), want.found
    bad = [row["path"] for row in result.result.get("unexpected_index_list") or []]
    if bad and not passed:
        shown = [_example(want.detail, table.iloc[rows[path]]) for path in bad[:_EXAMPLES]]
        words += f": {', '.join(shown)}" + (", ..." if len(bad) > _EXAMPLES else "")
    return Outcome(want.severity, passed, want.expected, words, bad)


def _example(detail: str, row: pd.Series) -> str:
    """One image that does not meet an expectation, and why."""
    path = repr(row["path"])
    if detail == "twin" and row["copy_of"]:
        return f"{path} is a copy of {row['copy_of']!r}"
    if detail == "twin" and row["looks_like"]:
        return f"{path} looks like {row['looks_like']!r}"
    if detail == "size":
        return f"{path} ({row['width']:.0f} x {row['height']:.0f})"
    if detail == "mode":
        return f"{path} ({row['mode']})"
    return f"{path} ({row['reason']})" if row["reason"] else path


def sentence(outcome: Outcome) -> str:
    """An unmet expectation for a person: what was expected, what was found."""
    return f"expected {outcome.expected}; found {outcome.found}"


def _great_expectations() -> Any:
    quiet.apply()
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx

    return gx


def _wanted(expect: Any, table: pd.DataFrame, limits: Limits) -> list[Wanted]:
    wanted = _of_any(expect, table, limits) + _of_twins(expect, table, limits)
    if (promised := limits.expected_images) is not None:
        test = expect.ExpectTableRowCountToEqual(value=promised)
        expected = f"the {promised} images that the dataset's card promises"
        wanted.append(Wanted(limits.card.severity("count"), test, expected, f"{len(table)}"))
    if limits.channels == 1:
        test = all_but(expect, "colour", 0.5)
        expected = "mostly grey images, since dataset.channels is 1 and colour is dropped"
        words = f"{share_of(len(table))(int(table['colour'].sum()))} in colour"
        wanted.append(Wanted("warn", test, expected, words))
    return wanted + limits.card.wanted(expect, table, limits.classes)


def _of_any(expect: Any, table: pd.DataFrame, limits: Limits) -> list[Wanted]:
    """What is asked of any images."""
    files = len(table)
    share = share_of(files)
    unreadable = int((~table["readable"]).sum())
    flat, trainable = int(table["one_colour"].sum()), int(table["trainable"].sum())
    long = int((table["aspect"] > _MAX_ASPECT).sum())
    known = limits.card.known("unreadable")
    between = expect.ExpectColumnValuesToBeBetween
    return [
        Wanted(
            "fail",
            expect.ExpectTableRowCountToBeBetween(min_value=2),
            "at least 2 images",
            f"{files}",
        ),
        Wanted(
            "fail",
            expect.ExpectColumnValuesToBeUnique(column="path"),
            "every path once in the manifest",
            f"{files - table['path'].nunique()} repeated",
        ),
        Wanted(
            "fail",
            expect.ExpectColumnValuesToBeInSet(column="split", value_set=["train", "holdout"]),
            "the split of every image to be train or holdout",
            ", ".join(sorted(map(repr, table["split"].unique()))),
        ),
        Wanted(
            "fail",
            all_but(expect, "readable", limits.max_unreadable, value=True),
            f"at most {percent(limits.max_unreadable)} of the files to be unreadable "
            "(validate.max_unreadable)",
            share(unreadable),
        ),
        Wanted(
            "fail",
            expect.ExpectColumnSumToBeBetween(column="trainable", min_value=2),
            "at least 2 readable images to train on",
            f"{trainable}",
        ),
        *(
            Wanted(
                "fail",
                between(column=side, min_value=1),
                f"every image to be at least 1 pixel {word}",
                _range(table[side]),
            )
            for side, word in (("width", "wide"), ("height", "high"))
        ),
        Wanted(
            limits.card.severity("unreadable"),
            all_but(expect, "readable", known / max(files, 1), value=True),
            "every file to be readable" + _but_for(known),
            f"{share(unreadable)} that are not, and were set aside"
            if unreadable
            else f"all {files}",
        ),
        Wanted("warn", all_but(expect, "one_colour"), "no image to be all one colour", share(flat)),
        Wanted(
            "warn",
            between(column="aspect", max_value=_MAX_ASPECT, mostly=0.9),
            f"most images to be less than {_MAX_ASPECT} times as long as wide, since they are "
            "squeezed into a square",
            f"{share(long)} longer than that",
        ),
    ]


def _of_twins(expect: Any, table: pd.DataFrame, limits: Limits) -> list[Wanted]:
    """What is asked of copies and of images that look alike."""
    files = len(table)
    share = share_of(files)
    wanted = [
        Wanted(
            "fail",
            all_but(expect, "duplicate", limits.max_duplicates),
            f"at most {percent(limits.max_duplicates)} of the files to be exact copies of "
            "another (validate.max_duplicates)",
            share(int(table["duplicate"].sum())),
            "twin",
        )
    ]
    copies = table.loc[table["duplicate"], "copy_of"].nunique()
    for key, column, groups, expected in (
        ("exact_duplicates", "duplicate", copies, "no file to be an exact copy of another"),
        ("near_duplicates", "near", _groups(table), "no image to look like another"),
    ):
        count, known = int(table[column].sum()), limits.card.known(key)
        test = all_but(expect, column, known / max(files, 1))
        words = share(count) + (f" in {groups} group{'s' if groups > 1 else ''}" if count else "")
        severity = limits.card.severity(key)
        wanted.append(Wanted(severity, test, expected + _but_for(known), words, "twin"))
    if (table["split"] == "holdout").any():
        expected = "no held-out image to be, or to look like, one that is trained on"
        words = share(int(table["straddles"].sum()))
        wanted.append(Wanted("warn", all_but(expect, "straddles"), expected, words, "twin"))
    return wanted


def _but_for(known: int) -> str:
    return f", but for {known} known" if known else ""


def _range(sides: pd.Series) -> str:
    return f"{sides.min():.0f} to {sides.max():.0f} pixels" if sides.notna().any() else "none"
