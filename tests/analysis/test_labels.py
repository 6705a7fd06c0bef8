import pytest

from vtcc.analysis.labels import read_labels
from vtcc.errors import VtccError


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_labels_are_joined_by_path(tmp_path):
    file = write(tmp_path / "l.csv", "path,label,class_name\nb,1,dog\nc,2,\ngone,0,cat\n")
    found = read_labels(file, ["a", "b", "c"])
    assert found.known.tolist() == [False, True, True]
    assert found.label == ["", "1", "2"]
    assert found.class_name == ["", "dog", "2"]


def test_no_labels(tmp_path, capsys):
    assert read_labels(tmp_path / "l.csv", ["a"]) is None
    assert "no such file" in capsys.readouterr().out
    assert read_labels(write(tmp_path / "l.csv", "path,label,class_name\n"), ["a"]) is None
    assert capsys.readouterr().out == ""
    assert read_labels(write(tmp_path / "l.csv", "path,label,class_name\na,,\n"), ["a"]) is None
    assert read_labels(write(tmp_path / "l.csv", "path,label,class_name\nb,0,\n"), ["a"]) is None
    assert "none of its 1 labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found none; run"),
        ("file,class\na,b\n", "found file,class; run"),
        ("path,label,class_name\na,0,\na,1,\n", "'a' is listed twice"),
    ],
)
def test_errors(tmp_path, text, message):
    with pytest.raises(VtccError, match=message):
        read_labels(write(tmp_path / "l.csv", text), ["a"])


def test_bytes_that_are_not_text(tmp_path):
    (tmp_path / "l.csv").write_bytes(b"path,label\n\xff\xfe,1\n")
    with pytest.raises(VtccError, match="not readable"):
        read_labels(tmp_path / "l.csv", ["a"])
