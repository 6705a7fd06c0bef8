"""Folders by cluster, and what refine works from."""

import csv
import json

import numpy as np

from vtcc.grouping import assignments, intake, outputs
from vtcc.grouping.clusters import Applied


def assigned(names, clusters, titles):
    N = len(names)
    applied = Applied(
        cluster=np.array(clusters),
        confidence=np.full(N, 0.5, np.float32),
        second=np.full(N, -1),
        distance=np.zeros(N, np.float32),
        outlier=np.zeros(N, bool),
        novel=np.zeros(N, bool),
        novelty=np.zeros(N, np.float32),
        names=titles,
        shares=np.full((N, len(titles)), 1 / len(titles), np.float32),
    )
    row = {name: i for i, name in enumerate(names)}
    return outputs.Assigned(files=names, row=row, applied=applied, errors={})


def test_a_name_with_an_endless_suffix_is_cut_like_any_other():
    signed = f"img.jpg?sig={'k' * 210}"
    taken: set[str] = set()
    names = [outputs.unused_name(signed, taken) for _ in range(2)]
    assert names == ["k" * outputs.LONGEST_NAME, f"{'k' * outputs.LONGEST_NAME} (2)"]
    # A suffix of the longest kind, each character of four bytes, leaves room for a stem.
    suffix = "\N{CAMERA WITH FLASH}" * outputs.LONGEST_SUFFIX
    (name,) = (outputs.unused_name(f"{'x' * 300}.{suffix}", set()),)
    assert name == f"{'x' * (outputs.LONGEST_NAME - 41)}.{suffix}"
    assert outputs.unused_name("." + "y" * 300, set()) == "y" * outputs.LONGEST_NAME


def test_a_csv_holds_no_formulas_and_its_paths_name_the_same_files(tmp_path):
    beginnings = ["=", "+", "-", "@", "\t", "\r", "\n"]
    names = [f"{c}a,1.png" for c in beginnings] + ["plain.png", "a/=b.png", "./c.png"]
    titles = {k: f"{c}HYPERLINK(1)" for k, c in enumerate(beginnings)} | {7: "a=b"}
    clusters = [*range(7), 7, 7, 7]
    outputs.tables(tmp_path, assigned(names, clusters, titles), files=len(names))
    with (tmp_path / "assignments.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in table] == [f"./{n}" for n in names[:7]] + names[7:]
    assert [row["name"] for row in table] == [f"'{titles[k]}" for k in range(7)] + ["a=b"] * 3
    cells = [cell for row in table for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(tuple(beginnings))]
    for suffix in assignments.SUFFIXES:
        read = assignments.read(tmp_path / f"assignments{suffix}")
        assert [row.file for row in read] == names, suffix
        assert [row.cluster for row in read] == clusters
    plain = json.loads((tmp_path / "assignments.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in plain] == [titles[k] for k in clusters]


def test_an_earlier_listing_is_found_again(odd_images, tmp_path):
    assert intake.located(tmp_path / "images", list(odd_images)) == odd_images


def test_names_of_clusters_make_different_folders():
    names = {0: "a/b", 1: "A_B", 2: "a_b (1)", 3: "", 4: "..", 5: "a:b"}
    folders = outputs.folder_names(names)
    assert folders[0] == "a_b"
    assert folders[1] == "A_B (1)"
    assert folders[3] == "cluster 3"
    assert len({folder.casefold() for folder in folders.values()}) == 6


def embedding():
    rng = np.random.default_rng(0)
    p = rng.random((5, 3)).astype(np.float32)
    p[0] = [0.33334, 0.33333, 0.33333]  # level in half precision
    return outputs.Embedding(
        h=rng.normal(size=(5, 4)).astype(np.float32),
        p=p,
        base=p.argmax(axis=1),
        map=np.zeros((5, 2), np.float32),
        tile=np.arange(5),
        first=np.arange(5),
        looks=np.zeros((5, 6), np.float32),
        known=np.ones(5, bool),
        paths=["a", "\N{CAMERA}", "c", "d", "e"],
    )


def test_the_embedding_is_read_back_as_it_was(tmp_path):
    kept = embedding()
    kept.save(tmp_path)
    read = outputs.Embedding.load(tmp_path)
    assert read.paths == kept.paths
    assert read.base is not None
    assert read.base.dtype == np.int32
    assert read.base.tolist() == kept.base.tolist()
    np.testing.assert_array_equal(read.p, kept.p)
    np.testing.assert_allclose(read.h, kept.h, rtol=1e-6)


def test_older_results_have_no_assignment(tmp_path):
    embedding().save(tmp_path)
    file = tmp_path / outputs.EMBEDDING
    with np.load(file) as saved:
        older = {name: saved[name] for name in saved.files if name != "base"}
    older["p"], older["h"] = older["p"].astype(np.float16), older["h"].astype(np.float16)
    np.savez_compressed(file, **older)
    read = outputs.Embedding.load(tmp_path)
    assert read.base is None
    assert read.p.dtype == np.float32
    np.testing.assert_allclose(read.p, embedding().p, atol=1e-3)


def test_folders_of_long_letters_fit_a_file_system():
    called = outputs.folder_names({0: "\U00020000" * 90, 1: "\U00020000" * 90})
    assert called == {0: "\U00020000" * 50, 1: "\U00020000" * 50 + " (1)"}
