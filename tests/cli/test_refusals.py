"""Simple mistakes are answered at once: before torch and the like are imported, which take long."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.grouping import toy_results
from vtcc.grouping import result

# Runs lines of arguments where none of the heavy packages can be imported.
CODE = """
import json, sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "timm", "numba", "sklearn", "umap")))
from typer.testing import CliRunner
from vtcc.cli import app
for line in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, line)
    print(json.dumps([line, done.exit_code, str(done.exception)]))
"""
MISTAKES = {
    "cluster": [
        ("none", "none: no such file or directory"),
        ("none.zip photos", "none.zip: no such file or directory"),
        ("empty", "no image in "),
        ("few", "3 images in "),
        ("photos -k 1", "-k: found '1'; allowed: a number from 2"),
        ("photos -k 60", "-k 60: for 18 images; allowed: at most 9"),
        ("photos --minutes 0", "--minutes: found 0; allowed: a number above 0"),
        ("photos --sample 3", "--sample: found 3; allowed: at least 10, or 0 for all"),
        ("photos --set train.epoch=2", "train.epoch: unknown parameter; did you mean"),
        ("photos --params none.yaml", "--params none.yaml: no such file; RESULTS/pa"),
        ("photos --encoder lite9", "encoder 'lite9': unknown; did you mean"),
        ("photos --encoder timm:x", "--encoder timm:x: needs --weights"),
        ("photos --encoder lite2 --weights none", "--weights none: no such file"),
        ("photos --out none/out", "--out: the folder "),
        ("photos --out photos/out", "lies inside the images' folder"),
        ("photos --out photos", "photos holds photos, which is only read; name a place"),
        ("photos --out edits.json", "edits.json is a file; name a folder"),
        ("photos --out few", "few holds other files; name a new folder"),
        ("photos --out results", "results: there are results already; look at "),
        ("photos --out /proc/out", "/proc: cannot be written to ("),
    ],
    "refine": [
        ("results --edits none.json", "none.json: no such file or directory"),
        (
            "none --edits edits.json",
            "none: no such folder; give one of `vtcc cluster`, with report.html",
        ),
        (
            "photos --edits edits.json",
            "photos: no results of `vtcc cluster` (summary.json expected)",
        ),
        ("results --edits edits.json --out photos", "--out: photos is there already; name a new"),
        ("results --edits edits.json --out /proc/out", "/proc: cannot be written to ("),
    ],
    "demo": [
        ("--no-open --out edits.json", "--out: edits.json holds something else; name a new"),
        ("--no-open --out edits.json/x/y", "--out: edits.json/x/y cannot be written to (Not a dir"),
        ("--no-open --out photos", "--out: photos holds something else; name a new folder"),
        ("--no-open --out /proc/demo", "--out: /proc/demo cannot be written to (No such file"),
        ("--no-open --out half", "--out: half/clusters holds other files; name a new"),
    ],
    "add": [
        ("results none", "none: no such file or directory"),
        ("none photos", "none: no such folder; give one of `vtcc cluster`, with report.html"),
        ("photos photos", "photos: no results of `vtcc cluster` (summary.json expected)"),
        ("results photos --out few", "--out: few is there already; name a new folder"),
        ("results photos --out /proc/out", "/proc: cannot be written to ("),
        ("moved empty", "away: none of the results' images is there; if the folder was moved, "),
        ("results photos --root none", "none: no such folder; give one with images in it"),
        ("results empty", "no image in empty; images are known by "),
        ("results photos --root empty", "--root empty: none of the results' images is there"),
    ],
    "export": [
        ("none --to coco --out x.json", "none: no such folder; give one of `vtcc cluster`"),
        ("results --to cocoa --out x.json", "--to: found 'cocoa'; allowed: fiftyone, "),
        ("results --to coco --out x.txt", "--out: found 'x.txt'; allowed for coco: a name that"),
        (
            "results --to imagefolder --out photos",
            "photos holds the images' folder; name a new",
        ),
        ("moved --to coco --out x.json", "away: without 18 of its 18 images: '0-00.png', "),
        ("moved --to fiftyone --out x --root none", "none: no such folder; give one with images"),
        ("moved --to fiftyone --out x --root few", "few: without 15 of its 18 images: '0-01.png'"),
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of 18, three and no images, results of the first, once as if it had been moved, and
    edits of these."""
    place = tmp_path_factory.mktemp("mistakes")
    toy_results.folder_of(place / "photos", 6)
    toy_results.folder_of(place / "few", 1)
    (place / "empty").mkdir()
    (place / "half" / "clusters").mkdir(parents=True)
    (place / "half" / "clusters" / "mine.txt").touch()
    toy_results.write(place / "photos", place / "results")
    shutil.copytree(place / "results", place / "moved")
    summary = json.loads((place / "moved" / "summary.json").read_text())
    elsewhere = json.dumps(summary | {"root": str(place / "away")})
    (place / "moved" / "summary.json").write_text(elsewhere)
    rename = {"do": "rename", "cluster": 0, "name": "boats"}
    edits = {"format": 1, "model": result.digest(place / "results/model"), "edits": [rename]}
    (place / "edits.json").write_text(json.dumps(edits))
    return place


@pytest.mark.parametrize("verb", MISTAKES)
def test_a_simple_mistake_is_told_before_torch_is_imported(verb, place):
    lines = [[verb, *words.split()] for words, _ in MISTAKES[verb]]
    before = sorted(place.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(lines)],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line, _, _ in answers] == lines, done.stderr
    for (_, message), (line, status, told) in zip(MISTAKES[verb], answers, strict=True):
        assert message in told and status == 1, (line, told)
    assert sorted(place.rglob("*")) == before
