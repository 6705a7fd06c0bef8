"""What `vtcc add` is for: digits are clustered without the sevens, which come later."""

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from vtcc.grouping import assignments, result
from vtcc.grouping import run as cluster
from vtcc.grouping.options import Options
from vtcc.verbs import add, predict, refine

LATE, OTHERS = 7, 100


def table(results: Path) -> dict[str, assignments.Row]:
    return {row.file: row for row in assignments.read(results / "assignments.parquet")}


def draw(folder: Path, rows: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir()
    for row in rows:
        picture = np.kron(images[row], np.ones((2, 2))) * 255 / 16
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{labels[row]}-{row:04d}.png")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sevens_that_come_later_become_a_cluster(tmp_path, capsys):
    digits = load_digits()
    images, labels = digits.images, digits.target
    late = np.flatnonzero(labels == LATE)
    rest = np.random.default_rng(0).permutation(np.flatnonzero(labels != LATE))
    held, first = rest[:OTHERS], rest[OTHERS:]
    half = len(late) // 2
    draw(tmp_path / "digits", first, images, labels)
    draw(tmp_path / "more", np.concatenate([late[:half], held]), images, labels)
    draw(tmp_path / "later", late[half:], images, labels)
    began = time.monotonic()
    results = cluster.run(Options(tmp_path / "digits", clusters=9, minutes=6))
    clustering = time.monotonic() - began
    before = table(results)
    began = time.monotonic()
    add.run(results, [tmp_path / "more", tmp_path / "later"])
    adding = time.monotonic() - began
    after, summary = table(results), json.loads((results / "summary.json").read_text())
    proposals = summary["proposals"]
    sevens = [sum(f"/{LATE}-" in file for file in p["files"]) for p in proposals]
    best = proposals[int(np.argmax(sevens))]
    with capsys.disabled():
        print(
            f"\n{clustering:.0f} s, {adding:.1f} s; sevens {max(sevens)} of {len(late)} in one of "
            f"{[len(p['files']) for p in proposals]}",
            summary["additions"][-1]["drift"]["verdict"],
        )
    assert max(sevens) >= 0.8 * len(late)
    assert max(sevens) >= 0.9 * len(best["files"])
    assert {file: after[file] for file in before} == before
    assert adding <= clustering / 10
    edit = {"do": "new", "cluster": best["id"], "name": "sevens", "files": best["files"]}
    content = {"format": 1, "model": result.digest(results / "model"), "edits": [edit]}
    (tmp_path / "edits.json").write_text(json.dumps(content))
    refine.run(results, tmp_path / "edits.json")
    refined = table(results)
    assert {f: refined[f].cluster for f in before} == {f: r.cluster for f, r in before.items()}
    predict.run([tmp_path], str(results / "model"), out=tmp_path / "p.parquet")
    spoken = Counter(
        (Path(row.file).name.startswith(f"{LATE}-"), row.name == "sevens")
        for row in assignments.read(tmp_path / "p.parquet")
        if "-clusters/" not in row.file
    )
    with capsys.disabled():
        print({f"seven {a}, spoken {b}": n for (a, b), n in spoken.items()})
    assert spoken[True, True] >= 0.8 * len(late)
    assert spoken[False, True] <= 0.02 * len(rest)
