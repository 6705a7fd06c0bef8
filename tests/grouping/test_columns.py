"""Columns that came with the images, in the tables of results."""

import json
from pathlib import Path

import pytest

from vtcc.data import inputs
from vtcc.errors import VtccError
from vtcc.grouping import assignments, columns


def test_columns_of_ours_are_refused():
    for name in ("cluster", "level_1", "level_12"):
        with pytest.raises(VtccError, match=f"column '{name}' .* the results have one of that"):
            columns.check([name])
    with pytest.raises(VtccError, match="camera"):
        columns.check(["camera"], ["camera"])
    columns.check(["level_of_water", "level_", "camera"])


def test_columns_of_several_inputs_have_one_type_each():
    parts = [
        inputs.Part("a", "", Path("a"), Path("a"), ["x", "y"], {"n": [1, 2], "s": ["u", None]}),
        inputs.Part("b", "", Path("b"), Path("b")),
        inputs.Part("c", "", Path("c"), Path("c"), ["z"], {"n": ["3"], "m": [0.5]}),
    ]
    typed, kinds = columns.typed(parts)
    assert [part.columns for part in typed] == [
        {"n": ["1", "2"], "s": ["u", None]}, {}, {"n": ["3"], "m": [0.5]},
    ]  # fmt: skip
    assert {name: str(kind) for name, kind in kinds.items()} == {
        "n": "string", "s": "string", "m": "double",
    }  # fmt: skip
    assert [part.names for part in typed] == [part.names for part in parts]
    assert [dict(e.more) for e in typed[0].entries()] == [
        {"n": "1", "s": "u"},
        {"n": "2", "s": None},
    ]


def test_any_values_are_written_and_read_again(tmp_path):
    values = {
        "level_of_water": {"a.png": "high", "b.png": "low"},
        "hash": {"a.png": 2**64 - 1, "b.png": 3},
        "large": {"a.png": 2**60 + 1, "b.png": 0.5},
        "odd": {"a.png": float("nan"), "b.png": float("inf")},
    }
    columns.write(tmp_path, values)
    known, kinds = columns.read(tmp_path)
    assert known["hash"] == {"a.png": str(2**64 - 1), "b.png": "3"}
    assert known["level_of_water"] == values["level_of_water"]
    rows = [
        assignments.Row(f, 0, 1.0, "", name="x", more={n: known[n][f] for n in known})
        for f in ("a.png", "b.png")
    ]
    for suffix in assignments.SUFFIXES:
        out = tmp_path / f"assignments{suffix}"
        with assignments.writing(out, assignments.named(0), kinds) as table:
            table.write(rows)
        again = assignments.read(out)
        assert [(row.file, row.cluster, row.levels) for row in again] == [
            ("a.png", 0, ()),
            ("b.png", 0, ()),
        ]
    strict = json.loads(
        (tmp_path / "assignments.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )
    assert [row["odd"] for row in strict] == [None, None]


def test_numbers_that_came_keep_their_digits(tmp_path):
    import pyarrow as pa

    kinds = dict.fromkeys(("dose", "id", "none"), pa.float64())
    row = assignments.Row(
        "a.png", 0, 1 / 3, "", more={"dose": 3e-8, "id": 1234567812.5, "none": float("nan")}
    )
    for suffix in (".csv", ".json"):
        with assignments.writing(
            tmp_path / f"a{suffix}", ("file", "cluster", "confidence", "error"), kinds
        ) as table:
            table.write([row])
    line = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[1]
    assert line == "a.png,0,0.333333,,3e-08,1234567812.5,"
    (record,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert record == {
        "file": "a.png",
        "cluster": 0,
        "confidence": 0.333333,
        "error": "",
        "dose": 3e-8,
        "id": 1234567812.5,
        "none": None,
    }


def test_small_negative_numbers_are_no_text_in_csv():
    for number in ("-1.2e-05", "-1e-07", "+3E10", "-2,5"):
        assert assignments._cell("ndvi", number) == number
    assert assignments._cell("ndvi", "-1e-5+cmd") == "'-1e-5+cmd"
