"""JSON of the pipeline and of others."""

import json
import re
from pathlib import Path

import pytest

from vtcc import json_file
from vtcc.errors import VtccError


@pytest.mark.parametrize("text", ["{", "[" * 51 + "]" * 51, "\udcff"])
def test_what_is_no_json_is_one_line_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    file = tmp_path / "metrics.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    expected = f"{re.escape(str(file))}: not readable as JSON \\(.+\\); run `dvc repro`"
    with pytest.raises(VtccError, match=expected):
        json_file.read(file, "run `dvc repro`")


def test_a_file_that_is_not_there_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(VtccError, match=r"no\.json: no such file; run `dvc repro`"):
        json_file.read(tmp_path / "no.json", "run `dvc repro`")
    (tmp_path / "a.json").write_text('{"a": [1, 0.5, null]}', encoding="utf-8")
    assert json_file.read(tmp_path / "a.json", "") == {"a": [1, 0.5, None]}


TYPES = {"name": str, "images": int | None, "model": dict | None, "model.size": int}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1], r"found \[1\], expected named values"),
        ("text", "found 'text', expected named values"),
        ({}, "without name"),
        ({"name": None}, "name: found None"),
        ({"name": "a", "images": "12"}, "images: found '12'"),
        ({"name": "a", "model": []}, r"model: found \[\]"),
        ({"name": "a", "model": {}}, "without model.size"),
        ({"name": "a", "model": {"size": {}}}, r"model.size: found {}"),
    ],
)
def test_other_values_than_a_reader_needs_are_one_line(
    tmp_path: Path, values: object, words: str
) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(VtccError, match=f"a\\.json: {words}; run `dvc repro`$"):
        json_file.read(file, "run `dvc repro`", TYPES)
    model = {"size": 1}
    for more in ({}, {"images": 3, "model": model, "others": []}):
        assert json_file.checked({"name": "a", **more}, TYPES) == {"name": "a", **more}
