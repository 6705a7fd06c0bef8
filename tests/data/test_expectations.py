import pandas as pd
import pytest

from tests.data.test_duplicates import photo, sketches
from vtcc.data.expectations import COLUMNS, Limits, check, complete, figures, sentence
from vtcc.data.promises import Card, at_least

# Great Expectations takes 10 s to import: one worker pays for all.

LIMITS = {"max_unreadable": 0.5, "max_duplicates": 0.5, "expected_images": None, "channels": 3}


def row(path, **changes):
    values = {
        "path": path,
        "bytes": 100,
        "sha256": path,
        "split": "train",
        "readable": True,
        "reason": "",
        "width": 8.0,
        "height": 8.0,
        "mode": "RGB",
        "mean": 0.5,
        "std": 0.2,
        "one_colour": False,
    }
    return values | changes


BROKEN = {
    "readable": False,
    "reason": "truncated",
    "width": None,
    "height": None,
    "mode": "",
    "mean": None,
    "std": None,
}


def table(*rows, **more):
    facts = pd.DataFrame(list(rows), columns=COLUMNS)
    numbers = dict.fromkeys(["width", "height", "mean", "std"], float)
    return complete(facts.astype(numbers | {"readable": bool, "one_colour": bool}), **more)


def unmet(images, **limits):
    return [
        (o.severity, sentence(o)) for o in check(images, Limits(**LIMITS | limits)) if not o.passed
    ]


GOOD = [row("a"), row("b"), row("c"), row("d", split="holdout")]


def test_good_images_meet_everything():
    assert unmet(table(*GOOD), expected_images=4) == []


READABLE = "expected every file to be readable; found "
FEW = "expected at least 2 readable images to train on; found "
CASES = {
    "one image": (
        [row("a")],
        {},
        [("fail", "expected at least 2 images; found 1"), ("fail", FEW + "1")],
    ),
    "none": (
        [],
        {},
        [("fail", "expected at least 2 images; found 0"), ("fail", FEW + "0")],
    ),
    "a limit is inclusive": (
        [*GOOD, *(row(str(i), **BROKEN) for i in range(4))],
        {"max_unreadable": 0.5},
        [
            (
                "warn",
                READABLE + "4 of 8 (50 %) that are not, and were set aside: '0' (truncated), "
                "'1' (truncated), '2' (truncated), ...",
            )
        ],
    ),
    "a limit without exact binary digits": (
        [row(str(i), **(BROKEN if i < 9 else {}), split="train") for i in range(11)],
        {"max_unreadable": 9 / 11},
        [
            (
                "warn",
                READABLE + "9 of 11 (81.8 %) that are not, and were set aside: '0' (truncated), "
                "'1' (truncated), '2' (truncated), ...",
            )
        ],
    ),
    "too many unreadable": (
        [*GOOD, row("x\n", **BROKEN)],
        {"max_unreadable": 0.1},
        [
            (
                "fail",
                "expected at most 10 % of the files to be unreadable (validate.max_unreadable); "
                "found 1 of 5 (20 %): 'x\\n' (truncated)",
            ),
            (
                "warn",
                READABLE + "1 of 5 (20 %) that are not, and were set aside: 'x\\n' (truncated)",
            ),
        ],
    ),
    "held-out images do not count for training": (
        [row("a"), row("b", split="holdout"), row("c", split="holdout")],
        {},
        [("fail", FEW + "1")],
    ),
    "a duplicate": (
        [*GOOD, row("e", sha256="a")],
        {},
        [
            (
                "warn",
                "expected no file to be an exact copy of another; found 1 of 5 (20 %) in 1 group: "
                "'e' is a copy of 'a'",
            )
        ],
    ),
    "too many duplicates": (
        [*GOOD, row("e", sha256="a"), row("f", sha256="a")],
        {"max_duplicates": 0.3},
        [
            (
                "fail",
                "expected at most 30 % of the files to be exact copies of another "
                "(validate.max_duplicates); found 2 of 6 (33.3 %): 'e' is a copy of 'a', 'f' is a "
                "copy of 'a'",
            ),
            (
                "warn",
                "expected no file to be an exact copy of another; found 2 of 6 (33.3 %) in 1 "
                "group: 'e' is a copy of 'a', 'f' is a copy of 'a'",
            ),
        ],
    ),
    "one colour": (
        [*GOOD, row("e", one_colour=True)],
        {},
        [("warn", "expected no image to be all one colour; found 1 of 5 (20 %): 'e'")],
    ),
    "a path twice": (
        [*GOOD, row("a", sha256="z")],
        {},
        [("fail", "expected every path once in the manifest; found 1 repeated: 'a', 'a'")],
    ),
    "an unknown split": (
        [*GOOD, row("e", split="test")],
        {},
        [
            (
                "fail",
                "expected the split of every image to be train or holdout; found 'holdout', "
                "'test', 'train': 'e'",
            )
        ],
    ),
    "fewer than the card promises": (
        GOOD,
        {"expected_images": 5},
        [("fail", "expected the 5 images that the dataset's card promises; found 4")],
    ),
    "very long images": (
        [*GOOD, row("e", width=25.0)],
        {},
        [
            (
                "warn",
                "expected most images to be less than 3 times as long as wide, since they are "
                "squeezed into a square; found 1 of 5 (20 %) longer than that: 'e'",
            )
        ],
    ),
    "colour dropped": (
        GOOD,
        {"channels": 1},
        [
            (
                "warn",
                "expected mostly grey images, since dataset.channels is 1 and colour is dropped; "
                "found 4 of 4 (100 %) in colour: 'a', 'b', 'c', ...",
            )
        ],
    ),
    "grey is grey in any depth": (
        [row(m, mode=m) for m in ("1", "L", "LA", "I;16", "F", "RGB")],
        {"channels": 1},
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_met_is_told_in_words(name):
    rows, limits, expected = CASES[name]
    assert unmet(table(*rows), **limits) == expected


def test_damaged_copies_are_no_duplicates():
    images = table(row("a", sha256="x", **BROKEN), row("b", sha256="x", **BROKEN), row("c"))
    assert images["duplicate"].tolist() == [False] * 3


def test_figures():
    images = table(
        row("a", width=4.0, height=2.0),
        row("b", sha256="a", split="holdout"),
        row("c", one_colour=True, mean=0.8, std=0.0),
        row("d", **BROKEN),
    )
    assert figures(images) == {
        "images": 4,
        "readable": 3,
        "unreadable": 1,
        "unreadable_fraction": 0.25,
        "duplicates": 1,
        "duplicate_fraction": 0.25,
        "duplicate_groups": 1,
        "near_duplicates": 0,
        "near_duplicate_groups": 0,
        "split_twins": 1,
        "one_colour": 1,
        "train_images": 2,
        "holdout_images": 1,
        "bytes": 400,
        "width_min": 4.0,
        "width_median": 8.0,
        "width_max": 8.0,
        "height_min": 2.0,
        "height_median": 8.0,
        "height_max": 8.0,
        "brightness": 0.6,
        "contrast": pytest.approx(0.133333),
    }
    assert figures(table(row("a", **BROKEN)))["width_min"] is None


CARD = {
    "images": 5,
    "classes": 3,
    "class_counts_checked": True,
    "image_size": [8, 8],
    "size_exceptions": 1,
    "modes": ["RGB"],
    "severity": {"size": "fail", "mode": "warn", "exact_duplicates": "fail", "count": "warn"},
    "known": {"exact_duplicates": 1},
    "whole": True,
}


def promised(*rows, classes=3, **changes):
    card = Card(CARD | changes)
    limits = Limits(**LIMITS | {"expected_images": 5}, card=card, classes=classes)
    return check(table(*rows, card=card), limits)


def test_a_card_with_documented_exceptions_is_met():
    odd = row("e", sha256="a", width=7.0)
    outcomes = promised(*GOOD, odd)
    assert all(o.passed for o in outcomes)
    said = {o.expected: o.found for o in outcomes}
    assert (
        said["no file to be an exact copy of another, but for 1 known"]
        == "1 of 5 (20 %) in 1 group"
    )
    assert said["every image to be 8 x 8 pixels, but for at most 1 as documented"] == (
        "1 of 5 (20 %) of another size"
    )
    assert said["3 classes with the images that the card promises of each"] == (
        "3, counted when the images came"
    )
    assert said["every image to be of mode RGB"] == "0 of 5 (0 %) of another mode"


def test_what_a_card_promises_is_held_with_its_severity():
    odd = [
        row("e", sha256="a", width=7.0, mode="L"),
        row("f", sha256="a", height=9.0),
        row("g", **BROKEN),
    ]
    found = [(o.severity, sentence(o)) for o in promised(*GOOD, *odd, classes=2) if not o.passed]
    assert found == [
        (
            "warn",
            "expected every file to be readable; found 1 of 7 (14.3 %) that are not, and were set "
            "aside: 'g' (truncated)",
        ),
        (
            "fail",
            "expected no file to be an exact copy of another, but for 1 known; found 2 of 7 "
            "(28.6 %) in 1 group: 'e' is a copy of 'a', 'f' is a copy of 'a'",
        ),
        ("warn", "expected the 5 images that the dataset's card promises; found 7"),
        (
            "fail",
            "expected 3 classes with the images that the card promises of each; found 2, counted "
            "when the images came",
        ),
        (
            "fail",
            "expected every image to be 8 x 8 pixels, but for at most 1 as documented; found 2 of "
            "7 (28.6 %) of another size: 'e' (7 x 8), 'f' (8 x 9)",
        ),
        (
            "warn",
            "expected every image to be of mode RGB; found 1 of 7 (14.3 %) of another mode: 'e' "
            "(L)",
        ),
    ]


def test_a_card_that_says_little_asks_little():
    for values in ({}, {"image_size": None, "modes": None, "severity": None, "known": None}):
        card = Card(values)
        limits = Limits(**LIMITS, card=card, classes=9)
        assert all(o.passed for o in check(table(*GOOD, card=card), limits))


def test_images_that_look_alike_and_twins_across_the_split():
    a, b = photo(0), photo(1)
    rows = [row("a"), row("b"), row("c", split="holdout"), row("d", sha256="b"), row("e", **BROKEN)]
    images = table(*rows, sketches=sketches(a, b, a // 2 + 60, b, a), near_duplicates=4)
    assert images["looks_like"].tolist() == ["", "", "a", "", ""]
    assert images["copy_of"].tolist() == ["", "", "", "b", ""]
    assert images["straddles"].tolist() == [False, False, True, False, False]
    found = figures(images)
    assert (found["near_duplicates"], found["near_duplicate_groups"]) == (1, 1)
    told = [text for _, text in unmet(images)]
    assert (
        "expected no image to look like another; found 1 of 5 (20 %) in 1 group: 'c' looks "
        in (told[2])
    )
    assert told[3] == (
        "expected no held-out image to be, or to look like, one that is trained on; found 1 of 5 "
        "(20 %): 'c' looks like 'a'"
    )
    off = table(*rows, sketches=sketches(a, b, a, b, a), near_duplicates=-1)
    assert not off["near"].any()


def test_nothing_but_the_result_is_printed(capfd):
    check(table(*GOOD), Limits(**LIMITS))
    assert capfd.readouterr() == ("", "")


def test_exceptions_are_counted_exactly_whatever_the_number_of_images():
    for files in range(2, 400):
        for bad in {1, min(3, files), files // 3} - {0}:
            met = (files - bad) / files
            assert at_least(bad / files) <= met < at_least((bad - 1) / files)
