"""Copies of addresses: one that lies below another keeps what is its own."""

from pathlib import PurePosixPath

import pytest

from tests.data.web import serve_directory
from vtcc.data import inputs

RESULTS = {"r/summary.json", "r/report.html", "r/embedding.npz", "r/report/s0.jpg"}


def state(place):
    return {
        file.relative_to(place).as_posix(): file.stat().st_mtime_ns
        for file in place.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("below", ["r/folders/c", ".h/x", "r/folders/c/a.png"])
def test_what_an_address_leaves_out_stays_as_the_copy_of_another(tmp_path, below, capsys):
    photos, place = tmp_path / "photos", tmp_path / "p"
    for name in {"0.png", "a/1.png", "r/folders/c/a.png", ".h/x/b.png", *RESULTS}:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(name.encode())
    with serve_directory(tmp_path) as address:
        both = [f"{address}/photos/{below}", f"{address}/photos"]
        inputs.parts(both, place)
        before = state(place)
        assert {PurePosixPath(name).name for name in before} == {
            *("0.png", "1.png"),
            "b.png" if ".h" in below else "a.png",
        }
        (photos / "a" / "1.png").unlink()
        inputs.parts(both, place)
        inputs.parts(both[1:], place)  # as of a later command
        after = state(place)
        assert after == {name: time for name, time in before.items() if "1.png" not in name}
        said = capsys.readouterr().out
        assert [line for line in said.splitlines() if "gone there" in line] == [
            f"{address}/photos: 1 file of an earlier copy deleted, as gone there"
        ]


def test_an_address_with_a_query_does_not_delete_the_copy_of_one_below_it(tmp_path):
    photos, place = tmp_path / "photos", tmp_path / "p"
    (photos / "r").mkdir(parents=True)
    (photos / "r" / "b.png").write_bytes(b"b")
    (photos / "a.png").write_bytes(b"a")
    (photos / "index.html").write_text('<a href="a.png">of two, the other is not linked</a>')
    with serve_directory(tmp_path) as address:
        inputs.parts([f"{address}/photos?sorted=by-name-of-file", f"{address}/photos/r"], place)
    assert {name.rpartition("photos/")[2] for name in state(place)} == {"a.png", "r/b.png"}
