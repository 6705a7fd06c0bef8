"""The walks of docs/contributing.md, taken in a copy of the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[1]

LOADER = '''

@source("stripes")
def stripes(card: Card, places: Places) -> ImageSet:
    """Horizontal and vertical stripes."""
    across = np.tile(np.uint8([[0], [255]]), (4, 8))
    images = [across + np.uint8(i) if i % 2 else across.T + np.uint8(i) for i in range(12)]
    return ImageSet(
        paths=[f"{i:02d}.png" for i in range(12)],
        read=lambda i: png(images[i]),
        labels=[i % 2 for i in range(12)],
        class_names=["upright", "lying"],
    )
'''
FLOW = '''"""The deployment `vtcc/count`."""

from pathlib import Path

from prefect import flow

from flows import session
from flows.parameters import Folder


@flow(**session.OPTIONS)
def count(folder: Folder) -> int:
    """How many files a folder has.

    Args:
        folder: relative to the project.
    """
    return sum(1 for _ in Path(folder).iterdir())
'''


@pytest.fixture
def copy(tmp_path):
    """A copy of what the walks touch and need."""
    for name in ("vtcc", "flows", "data/catalog"):
        shutil.copytree(TOP / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "prefect.yaml"):
        shutil.copy(TOP / name, tmp_path)
    return tmp_path


def run(copy, code):
    """The lines that Python code prints in the copy."""
    environment = os.environ | {"PYTHONPATH": str(copy), "VTCC_HOME": str(copy)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_another_data_set_is_a_card_and_a_loader(copy):
    card = yaml.safe_load((copy / "data/catalog/digits.yaml").read_text())
    card |= {"name": "stripes", "loader": "stripes", "images": 12, "classes": 2}
    card |= {"class_counts": {"upright": 6, "lying": 6}}
    (copy / "data/catalog/stripes.yaml").write_text(yaml.safe_dump(card))
    arrays = copy / "vtcc/data/sources/arrays.py"
    arrays.write_text(arrays.read_text() + LOADER)
    lines = run(
        copy,
        "import vtcc; print(vtcc.__file__)\n"
        "from vtcc.verbs import datasets, use\n"
        "datasets.run('stripes')\n"
        "use.run('tiny', dataset='stripes', assignments=[])\n"
        "from vtcc.stages import download; download.run()",
    )
    assert lines[0] == str(copy / "vtcc/__init__.py")
    assert {"images: 12", "classes: 2"} <= set(lines)
    assert "stripes: 12 images in data/raw" in lines[-1]
    labels = (copy / "data/labels/labels.csv").read_text().splitlines()
    assert labels[:3] == [
        '"path","label","class_name"',
        '"00.png",0,"upright"',
        '"01.png",1,"lying"',
    ]
    assert len(list((copy / "data/raw/images").iterdir())) == 12


def test_another_column_of_the_results_is_a_figure_and_its_name(copy):
    metrics = copy / "vtcc/analysis/metrics.py"
    text, first = metrics.read_text(), '    return {\n        "acc": '
    assert text.count(first) == 1
    more = '"vm": float(metrics.v_measure_score(y_true, y_pred)),'
    metrics.write_text(text.replace(first, first.replace('"acc"', f'{more} "acc"')))
    scores = copy / "vtcc/analysis/scores.py"
    text, listed = scores.read_text(), '("acc", "nmi", "ari")'
    assert text.count(listed) == 1
    scores.write_text(text.replace(listed, '("acc", "nmi", "ari", "vm")'))
    lines = run(
        copy,
        "from types import SimpleNamespace\n"
        "from vtcc.analysis.metrics import clustering_scores\n"
        "from vtcc.study import plan, records, results, summary\n"
        "made = clustering_scores([0, 0, 1], [2, 2, 1])\n"
        "print(made['vm'], plan._score('vm'))\n"
        "print(summary.columns([SimpleNamespace(runs={0: {'metrics': made}})]))\n"
        "print(records.methods({'baseline_ward_vm'}), results.COMPARED[-1])\n",
    )
    assert lines == [
        "1.0 vm",
        "['acc', 'nmi', 'ari', 'vm']",
        "{'ward': 'baseline_ward_'} vm",
    ]


def test_another_deployment_is_a_flow_and_an_entry_of_prefect_yaml(copy):
    (copy / "flows/count.py").write_text(FLOW)
    listed = copy / "prefect.yaml"
    listed.write_text(
        listed.read_text() + "  - name: count\n    description: files of a folder\n"
        "    entrypoint: flows/count.py:count\n    work_pool: *pool\n"
    )
    lines = run(
        copy,
        "from flows import deployments\n"
        "for known in deployments.known():\n"
        "    parameters = list(known.flow.parameters.properties)\n"
        "    print(known.name, known.flow.name, known.trains, parameters, known.description)",
    )
    assert lines[-1] == "count vtcc False ['folder'] files of a folder"
    assert [line.split()[0] for line in lines] == [
        "train", "evaluate", "study", "sweep", "assign", "add", "count",
    ]  # fmt: skip
