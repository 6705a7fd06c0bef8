import pandas as pd
import pytest

from vtcc.data.expectations import COLUMNS, Limits, check, complete, figures, sentence

# Great Expectations takes 10 s to import: one worker pays for all.
pytestmark = pytest.mark.xdist_group("great_expectations")

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


def table(*rows):
    facts = pd.DataFrame(list(rows), columns=COLUMNS)
    numbers = dict.fromkeys(["width", "height", "mean", "std"], float)
    return complete(facts.astype(numbers | {"readable": bool, "one_colour": bool}))


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


def test_nothing_but_the_result_is_printed(capfd):
    check(table(*GOOD), Limits(**LIMITS))
    assert capfd.readouterr() == ("", "")
