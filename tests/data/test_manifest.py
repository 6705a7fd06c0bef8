import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtcc.data.manifest import choose, digest, read_labels, read_manifest, write_table
from vtcc.errors import VtccError


@given(
    count=st.integers(2, 300),
    limit=st.integers(0, 400),
    holdout=st.floats(0, 0.9),
    seed=st.integers(0, 2**32),
)
def test_choice_has_the_sizes_asked_for(count, limit, holdout, seed):
    kept, split = choose(count, limit=limit, holdout=holdout, seed=seed)
    size = min(limit, count) if limit else count
    assert len(set(kept.tolist())) == size == len(split)
    assert (np.diff(kept) > 0).all() and kept[0] >= 0 and kept[-1] < count
    assert split.count("holdout") == min(round(holdout * size), max(size - 2, 0))


def test_choice_is_seeded_and_nested():
    first = choose(1000, limit=100, holdout=0.2, seed=3)
    again = choose(1000, limit=100, holdout=0.2, seed=3)
    assert first[0].tolist() == again[0].tolist() and first[1] == again[1]
    assert set(first[0]) < set(choose(1000, limit=200, holdout=0.2, seed=3)[0])
    assert first[0].tolist() != choose(1000, limit=100, holdout=0.2, seed=4)[0].tolist()


def test_choice_is_spread_evenly():
    kept, split = choose(10_000, limit=2000, holdout=0.5, seed=0)
    assert abs(kept.mean() - 5000) < 200
    held = kept[np.array(split) == "holdout"]
    assert len(held) == 1000 and abs(held.mean() - 5000) < 300


def test_digest_depends_on_names_hashes_and_order():
    base = digest(["a", "b"], ["1", "2"])
    assert base == digest(["a", "b"], ["1", "2"]) and len(base) == 64
    others = [(["a", "c"], ["1", "2"]), (["a", "b"], ["1", "3"]), (["b", "a"], ["2", "1"])]
    assert len({base, *(digest(*o) for o in others)}) == 4


# Any name a Linux file can have that is text.
NAMES = st.text(
    st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1
).filter(lambda name: name not in {".", ".."})


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=5))
def test_any_name_survives_the_tables(tmp_path_factory, names):
    directory = tmp_path_factory.mktemp("t")
    rows = {"path": names, "bytes": 1, "sha256": "f", "split": "train"}
    write_table(directory / "manifest.csv", pd.DataFrame(rows))
    table = read_manifest(directory / "manifest.csv")
    assert table["path"].tolist() == names and table["bytes"].dtype == np.int64
    write_table(
        directory / "labels.csv", pd.DataFrame({"path": names, "label": 3, "class_name": names})
    )
    labels = read_labels(directory / "labels.csv")
    assert labels["class_name"].tolist() == names and labels["label"].tolist() == [3] * len(names)


def test_missing_and_foreign_tables(tmp_path):
    with pytest.raises(VtccError, match=r"manifest\.csv: no such file; run `vtcc download`"):
        read_manifest(tmp_path / "manifest.csv")
    (tmp_path / "a.csv").write_text("path,label\n")
    with pytest.raises(VtccError, match="expected the columns path, label, class_name, found"):
        read_labels(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(VtccError, match="not a readable table"):
        read_labels(tmp_path / "a.csv")


ROW = "path,bytes,sha256,split\n{},{},ab,{}\n"
HOSTILE = {
    "outside": (ROW.format("../../secret.png", 1, "train"), "no path below the images"),
    "absolute": (ROW.format("/etc/secret.png", 1, "train"), "no path below the images"),
    "no name": (ROW.format('"."', 1, "train"), "no path below the images"),
    "words": (ROW.format("a.png", "many", "train"), "bytes: found 'many', not a whole number"),
    "a large number": (ROW.format("a.png", "9" * 5000, "train"), "not a whole number"),
    "another split": (ROW.format("a.png", 1, "test"), "split: found 'test'; allowed: train"),
    "more cells": ("path,bytes,sha256,split\na\na,b,c,d,e\n", "not a readable table"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_refused_in_one_line(tmp_path, name):
    text, words = HOSTILE[name]
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(VtccError) as caught:
        read_manifest(tmp_path / "manifest.csv")
    assert words in str(caught.value) and "vtcc download" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_labels_that_are_no_numbers_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label,class_name\na.png,-1,cat\n")
    with pytest.raises(VtccError, match="label: found '-1', not a whole number"):
        read_labels(tmp_path / "labels.csv")
