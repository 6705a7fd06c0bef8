"""A user's typed script against the wheel: mypy knows vtcc's types, and finds mistakes."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.imports import TOP

RIGHT = """
from pathlib import Path

import numpy as np

import vtcc
from vtcc import ImageClusterer
from vtcc.errors import VtccError


def sort(images: np.ndarray, more: Path) -> np.ndarray:
    model = ImageClusterer(n_clusters=(2, 9), minutes=1.0, params={"train.epochs": 20}, output=more)
    try:
        model = model.fit(images)
    except VtccError as error:
        raise SystemExit(f"{error.status}: {error}") from error
    reveal_type(model)
    reveal_type(model.n_clusters_)
    reveal_type(model.names_)
    return model.predict(more)


print(vtcc.__version__.upper(), sort(np.zeros((9, 8, 8), np.uint8), Path("more")).shape)
"""
WRONG = """
from vtcc import ImageClusterer
from vtcc.errors import VtccError

ImageClusterer(n_clusters=[2, 9])
ImageClusterer(10, minuts=1.0)
labels: str = ImageClusterer(10).predict("more")
status: str = VtccError("no").status
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site-packages of an environment that holds the wheel, and numpy beside it."""
    place = tmp_path_factory.mktemp("typed")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, source)
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TOP / "vtcc", source / "vtcc", ignore=unwanted)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(place)!r}))"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True
    )
    made = [sys.executable, "-m", "venv", "--without-pip", str(place / "environment")]
    subprocess.run(made, check=True)
    (packages,) = (place / "environment").glob("lib/python*/site-packages")
    with zipfile.ZipFile(place / built.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(packages)
    (packages / "numpy").symlink_to(Path(np.__file__).parent)
    return packages


@pytest.fixture(scope="module")
def said(site, tmp_path_factory):
    """What mypy says of both scripts, outside the tree, line by line; one process for both."""
    place = tmp_path_factory.mktemp("scripts")
    (place / "right.py").write_text(RIGHT)
    (place / "wrong.py").write_text(WRONG)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--python-executable", str(site.parents[2] / "bin/python"), "right.py", "wrong.py"),
        ],
        cwd=place,
        env={name: value for name, value in os.environ.items() if name != "MYPYPATH"},
        capture_output=True,
        text=True,
    )
    assert not ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_typed_script_of_a_user_passes(site, said):
    assert (site / "vtcc/py.typed").is_file()
    assert [line for line in said if line.startswith("right.py")] == [
        'right.py:17: note: Revealed type is "vtcc.grouping.estimator.ImageClusterer"',
        'right.py:18: note: Revealed type is "int"',
        'right.py:19: note: Revealed type is "dict[int, str]"',
    ]


@pytest.mark.slow
def test_mistakes_of_a_user_are_seen(said):
    lines = [line for line in said if line.startswith("wrong.py")]
    assert [line.split(":")[1] for line in lines if ": error: " in line] == ["5", "6", "7", "8"]
    assert 'Unexpected keyword argument "minuts" for "ImageClusterer"' in "\n".join(lines)
