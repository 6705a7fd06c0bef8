"""One YAML for vtcc and DVC: what one reads, the other reads too."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from vtcc import config, yaml_file
from vtcc.errors import VtccError


def by_dvc(text):
    """As `dvc.utils.serialize` parses params.yaml."""
    return YAML(typ="safe").load(text)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("042", 42),
        ("-010", -10),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("1e-05", 1e-05),
        ("1E3", 1000.0),
        ("+.5", 0.5),
        ("5.", 5.0),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("no", "no"),
        ("On", "On"),
        ("y", "y"),
        ("TRUE", True),
        ("~", None),
        ("0.1.0", "0.1.0"),
        ("08", 8),
        ("1e5x", "1e5x"),
    ],
)
def test_plain_values_are_read_as_dvc_reads_them(written, value):
    ours, theirs = yaml_file.parse(f"a: {written}")["a"], by_dvc(f"a: {written}")["a"]
    assert (ours, type(ours)) == (value, type(value))
    assert (theirs, type(theirs)) == (value, type(value))


@given(st.text("0123456789_.eE+-:xobnaylsfitru~<", min_size=1, max_size=7))
def test_any_plain_value_is_read_as_dvc_reads_it(written):
    try:
        theirs = by_dvc(f"a: {written}")
    except Exception:
        return  # DVC stops there by itself
    try:
        ours = yaml_file.parse(f"a: {written}")
    except Exception as error:
        pytest.fail(f"{written!r}: DVC reads {theirs!r}, vtcc says {error}")
    assert repr(ours) == repr(theirs)


@settings(max_examples=40)
@given(st.text(max_size=12), st.floats(allow_nan=False, allow_infinity=False), st.integers())
def test_what_is_written_is_read_back_by_both(text, number, whole):
    values = {"text": text, "number": number, "whole": whole, "list": [text, number]}
    written = yaml_file.dump(values)
    assert yaml_file.parse(written) == values
    assert by_dvc(written) == values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b: &b {x: 1, y: 2}\na:\n  <<: *b\n  y: 3\n", {"x": 1, "y": 3}),
        ("a:\n  <<: {x: 1}\n", {"x": 1}),
        ("b: &b {x: 1}\nc: &c {x: 2, z: 4}\na: {<<: [*b, *c], y: 3}\n", {"x": 1, "z": 4, "y": 3}),
    ],
)
def test_merge_keys_are_merged_as_by_dvc(text, expected):
    assert yaml_file.parse(text)["a"] == by_dvc(text)["a"] == expected


def test_a_key_written_twice_is_refused_beside_a_merge(tmp_path):
    (tmp_path / "p.yaml").write_text("a:\n  <<: {x: 1}\n  y: 1\n  y: 2\n")
    with pytest.raises(VtccError, match="'y' is written twice"):
        yaml_file.read(tmp_path / "p.yaml")


def test_a_replaced_value_leaves_what_an_anchor_gives_to_others():
    text = "a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  z: 2\n"
    changed = yaml_file.parse(text)
    changed["b"] = {"x": 7}
    assert yaml_file.parse(yaml_file.replace(text, {"b.x": 7}, changed)) == {
        "a": {"x": 1},
        "b": {"x": 7},
        "c": {"x": 1, "z": 2},
    }


def test_params_yaml_takes_what_dvc_writes(tmp_path, monkeypatch):
    """`dvc exp run -S` writes small numbers as 1e-05."""
    from dvc.utils.serialize import modify_yaml

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((config.PRESETS / "tiny.yaml").read_text())
    with modify_yaml("params.yaml") as values:
        values["train"]["optimizer"]["learning_rate"] = 0.00001
    assert "1e-05" in (tmp_path / "params.yaml").read_text()
    assert config.load().train.optimizer.learning_rate == 1e-05


def doubled(pair):
    """Forty lines, each of which holds the one before twice."""
    return "a0: &a0 {x: 1}\n" + "".join(
        f"a{i + 1}: &a{i + 1} {pair.format(i)}\n" for i in range(40)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 400 + "]" * 400, "not valid YAML: nested too deeply"),
        ("\n".join(" " * i + "a:" for i in range(400)), "not valid YAML: nested too deeply"),
        ("a: " + "9" * 5000, "line 1, column 4: '9{39}: a number of 5000 digits; allowed: 100"),
        ("a: 0x" + "f" * 5000, "line 1, column 4: '0xf{37}: a number of 5002 digits"),
        ("a: 1\nb: 9999-99-99", "line 2, column 4: '9999-99-99': month must be in 1..12"),
        ("a: !!int x", "line 1, column 4: 'x': invalid literal for int"),
        ("a: &a [*a]", "line 1: an alias inside of what it stands for"),
        (doubled("[*a{0}, *a{0}]"), "more than 100000 values, with those that aliases repeat"),
        (doubled("{{<<: [*a{0}, *a{0}]}}"), "more than 100000 values, with those that aliases"),
    ],
)
def test_values_that_cannot_be_are_one_line(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(VtccError, match=message) as caught:
        yaml_file.read(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_what_is_no_file_is_one_line(tmp_path):
    with pytest.raises(VtccError, match=r"cannot be read \(Is a directory\)"):
        yaml_file.read(tmp_path)


def test_bytes_that_are_no_utf8_are_told_by_their_line(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_bytes(b"dataset:\n  source: /photos-\xe9\n")
    with pytest.raises(VtccError) as refused:
        yaml_file.read(file)
    assert str(refused.value) == (
        f"{file}: not valid YAML: line 2 is not UTF-8; save it as UTF-8, and for a path that is "
        "not, make a link with a plain name"
    )


@pytest.mark.parametrize("name", [os.fsdecode(b"photos-\xe9"), "photos-\a"])
def test_a_path_that_yaml_cannot_hold_is_told_with_a_way_out(name):
    with pytest.raises(VtccError) as refused:
        yaml_file.assignments([f"dataset.source=/{name}"])
    assert str(refused.value) == (
        f"--set dataset.source: {f'/{name}'!r} has a control character or a byte that is not "
        "UTF-8, which params.yaml cannot hold; of a path, rename it, or make a link to it with a "
        "plain name"
    )


def test_a_training_node_needs_no_other_library():
    """The checker and the reader import PyYAML and the standard library alone."""
    code = (
        "import sys, vtcc.config; "
        "print(sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'pydantic', 'ruamel', 'torch', 'numpy', 'dvc', 'rich', 'typer'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
