"""Results below folders of any name: libraries that open paths by themselves take few of them."""

import ast
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.grouping import toy_results
from vtcc.cli import app
from vtcc.grouping import assignments, columns, result

CODE = Path(__file__).parents[2]
TABLE = "file:x-atlas.parquet"
# Which argument is the file; `save_file` of safetensors takes any path.
_FIRST = ("ParquetFile", "ParquetWriter", "ParquetDataset", "read_table", "read_schema")
PLACE = dict.fromkeys(("load_file", "safe_open", *(f"pq.{name}" for name in _FIRST)), 0)
PLACE["pq.write_table"] = 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder whose path is no UTF-8; images, and results whose name begins like an address."""
    place = tmp_path_factory.mktemp("odd") / os.fsdecode(b"caf\xe9")
    root = place / "photos"
    toy_results.folder_of(root, 6)
    toy_results.write(root, place / "trip: 2024", more={"count": {"0-00.png": 3}})
    return place


@pytest.mark.parametrize("above", [True, False])
def test_each_verb_takes_paths_of_any_name(place, above, monkeypatch):
    """By an absolute path, whose bytes are no UTF-8, and by one that begins like an address."""
    monkeypatch.chdir(place)
    before = place if above else Path()
    results, refined = before / "trip: 2024", before / f"s3:refined-{above}"

    def vtcc(*line):
        done = CliRunner().invoke(app, [str(part) for part in line])
        assert (done.exit_code, done.exception) == (0, None), line

    clusters = {row.file: row.cluster for row in assignments.read(results / "assignments.parquet")}
    table = before / "file:x.parquet"
    for _ in range(2):  # the second time it is known as a table that may be replaced
        vtcc("predict", "photos", "--model", results / "model", "--out", table)
    assert {Path(row.file).name: row.cluster for row in assignments.read(table)} == clusters
    rename = {"do": "rename", "cluster": 0, "name": "boats"}
    edits = {"format": 1, "model": result.digest(results / "model"), "edits": [rename]}
    (place / "edits.json").write_text(json.dumps(edits))
    vtcc("refine", results, "--edits", before / "edits.json", "--out", refined)
    assert columns.read(refined)[0] == {"count": {"0-00.png": 3}}
    names = {row.file: row.name for row in assignments.read(refined / "assignments.parquet")}
    assert {file[0] for file in names if names[file] == "boats"} == {"0"}
    for kind, name in {"coco": "x.json", "imagefolder": "hf:x", "embedding-atlas": TABLE}.items():
        for _ in range(2):
            line = ("export", refined, "--to", kind, "--out", before / name, "--overwrite")
            vtcc(*line, "--root", before / "photos")
    for file in (before / TABLE, before / "hf:x" / "metadata.parquet"):
        with file.open("rb") as opened:
            assert pq.read_table(opened)["name"].to_pylist() == list(names.values())
    whole = before / "hf:whole"
    vtcc("export", "--model", results / "model", "--with-encoder", whole)
    again = before / "https:again.parquet"
    vtcc("predict", "photos", "--model", whole, "--out", again)
    assert assignments.read(again) == assignments.read(table)


def opened(function):
    """What a function calls the files that it opens, as text."""
    for node in ast.walk(function):
        if isinstance(node, ast.withitem) and node.optional_vars:
            call, name = node.context_expr, node.optional_vars
        elif isinstance(node, ast.Assign):
            call, name = node.value, node.targets[0]
        else:
            continue
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("open", "plain_name")):
            yield ast.unparse(name)


def test_no_library_opens_a_path_by_itself():
    found = []
    for file in (*(CODE / "vtcc").rglob("*.py"), *(CODE / "flows").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        tree = ast.walk(ast.parse(text)) if any(f"{name}(" in text for name in PLACE) else ()
        for function in (node for node in tree if isinstance(node, ast.FunctionDef)):
            names = set(opened(function))
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                at = PLACE.get(ast.unparse(call.func), len(call.args))
                if not {ast.unparse(argument) for argument in call.args[at : at + 1]} <= names:
                    found.append(f"{file.relative_to(CODE)}: {ast.unparse(call)}")
    assert found == []
