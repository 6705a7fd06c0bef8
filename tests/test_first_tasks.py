"""Ten first tasks, typed as README.md and docs/commands.md show them, by somebody new to vtcc.

Every command runs in a shell, in a folder and with a home that nothing of vtcc has been in. What is
added to a command of the pages makes it small enough for a test.
"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.imports import TOP
from vtcc.errors import BELOW, ERROR, USAGE
from vtcc.version import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGES = "".join(
    (TOP / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/commands.md", "docs/pipeline.md")
)
SMALL = "-k 3 --encoder none --minutes 0.5 --set train.epochs=5"
IMAGES, NEW = 90, 6


class Newcomer:
    """A shell in a folder with `photos` (digits 0, 1 and 2) and `more` of them."""

    def __init__(self, place: Path) -> None:
        from sklearn.datasets import load_digits

        self.place = place
        digits = load_digits()
        chosen = digits.images[digits.target < 3][: IMAGES + NEW]
        for folder, part in (("photos", chosen[:IMAGES]), ("more", chosen[IMAGES:])):
            (place / folder).mkdir()
            for i, image in enumerate(part):
                Image.fromarray((image * 15).astype("uint8")).save(place / folder / f"{i:02d}.png")
        (place / "home").mkdir()
        unwanted = ("VTCC_", "MLFLOW_", "PREFECT_", "XDG_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)} | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(TOP),
            "HOME": str(place / "home"),
            "OMP_NUM_THREADS": "1",
        }

    def __call__(self, shown: str, more: str = "", *, status: int = 0) -> str:
        """Types a command that a page shows, and something more; what it says."""
        assert re.search(rf"{re.escape(shown)}(?![\w-])", PAGES), f"no page shows `{shown}`"
        return self.typed(f"{shown} {more}", status)

    def typed(self, command: str, status: int = 0) -> str:
        ended = subprocess.run(
            command, shell=True, cwd=self.place, env=self.env, capture_output=True, text=True
        )
        said = ended.stdout + ended.stderr
        assert ended.returncode == status, f"{command}\n{said}"
        assert "Traceback" not in said
        return said

    def rows(self, file: str) -> list[dict[str, str]]:
        with (self.place / file).open(encoding="utf-8", newline="") as table:
            return list(csv.DictReader(table))


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    return Newcomer(tmp_path_factory.mktemp("newcomer"))


@pytest.fixture(scope="module")
def clustered(newcomer):
    newcomer("vtcc cluster photos", SMALL)
    return newcomer


def test_see_whether_it_is_installed(newcomer):
    assert newcomer("vtcc --version").startswith(f"vtcc {__version__}")
    assert __version__ in newcomer("vtcc doctor")
    assert json.loads(newcomer("vtcc doctor", "--json"))


def test_ask_for_help(newcomer):
    listed = newcomer("vtcc --help")
    start = re.search(r"(?s)\n## Start\n.*?```sh\n(.*?)```", PAGES)
    verbs = set(re.findall(r"(?m)^vtcc (\w+)", start[1])) | {"refine", "export"}
    assert verbs == {"demo", "cluster", "check", "predict", "add", "refine", "export"}
    for verb in sorted(verbs):
        assert re.search(rf"(?m)^  {verb} ", listed)
        assert f"Usage: vtcc {verb} " in newcomer.typed(f"vtcc {verb} --help")


def test_mistype(newcomer):
    assert "cluster" in newcomer.typed("vtcc clutser photos", status=USAGE)
    said = newcomer.typed("vtcc cluster fotos", status=ERROR)
    assert said == "error: fotos: no such file or directory\n"
    assert not (newcomer.place / "fotos-clusters").exists()


def test_try_the_demo(newcomer):
    said = newcomer("vtcc demo", "--no-open")
    (summary,) = newcomer.place.glob("*/clusters/summary.json")
    (page,) = newcomer.place.glob("*/clusters/report.html")
    assert len(newcomer.rows(str(summary.with_name("assignments.csv")))) == 140
    assert page.stat().st_size > 50_000
    assert "report.html in a browser" in said


def test_cluster_a_folder(clustered):
    results = clustered.place / "photos-clusters"
    names = {file.name for file in results.iterdir()}
    assert names >= {
        "report.html", "assignments.csv", "assignments.parquet", "assignments.json", "model",
        "params.yaml",
    }  # fmt: skip
    before = (results / "assignments.csv").read_bytes()
    said = clustered("vtcc cluster photos", SMALL, status=ERROR)
    assert said.startswith("error: ") and said.count("\n") == 1
    assert "--overwrite" in said
    assert (results / "assignments.csv").read_bytes() == before


def test_look_at_the_table(clustered):
    rows = clustered.rows("photos-clusters/assignments.csv")
    photos = {f"{i:02d}.png" for i in range(IMAGES)}
    assert {Path(row["file"]).name for row in rows} >= photos
    assert {row["cluster"] for row in rows} == {"0", "1", "2"}
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    results = clustered.place / "photos-clusters"
    level = json.loads((results / "summary.json").read_text())["trust"]["level"]
    status = 0 if level in ("clear", "weak") else BELOW
    clustered("vtcc check photos-clusters --require weak", status=status)


def test_rename_a_cluster(clustered):
    from vtcc.grouping.result import digest

    results = clustered.place / "photos-clusters"
    edits = [{"do": "rename", "cluster": 0, "name": "my first group"}]
    state = {"format": 1, "model": digest(results / "model"), "edits": edits}  # as the page does
    (clustered.place / "edits.json").write_text(json.dumps(state))
    clustered("vtcc refine photos-clusters --edits edits.json")
    for row in clustered.rows("photos-clusters/assignments.csv"):
        assert (row["name"] == "my first group") == (row["cluster"] == "0")
    assert "my first group" in (results / "report.html").read_text(encoding="utf-8")
    said = clustered("vtcc refine photos-clusters --edits edits.json", status=ERROR)
    assert said.startswith("error: ") and said.count("\n") == 1


def test_let_the_folder_grow(clustered):
    table = "photos-clusters/assignments.csv"
    before = clustered.rows(table)
    clustered.typed("for f in more/*; do cp $f photos/new-$(basename $f); done")
    clustered("vtcc add photos-clusters photos")
    after = {
        row["file"]: row["cluster"] for row in clustered.rows("photos-clusters/assignments.csv")
    }
    assert len(after) == len(before) + NEW
    assert all(after[row["file"]] == row["cluster"] for row in before)


def test_sort_more(clustered):
    clustered("vtcc predict more --model photos-clusters/model --out more.csv")
    rows = clustered.rows("more.csv")
    assert [Path(row["file"]).name for row in rows] == [f"{i:02d}.png" for i in range(NEW)]
    assert {row["cluster"] for row in rows} <= {"0", "1", "2"}


def test_export_the_model(clustered):
    import onnxruntime

    clustered("vtcc export --model photos-clusters/model --onnx model.onnx")
    session = onnxruntime.InferenceSession(
        str(clustered.place / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    shape = session.get_inputs()[0].shape
    image = np.zeros((2, *shape[1:]), np.uint8)
    cluster, _, p, _ = session.run(None, {"image": image})
    assert cluster.shape == (2,)
    assert p.shape == (2, 3)


def test_take_a_preset(newcomer):
    shown = (
        "vtcc use folder --set dataset.name=holiday --set dataset.source=/path/to/photos "
        "--set train.num_clusters=12"
    )
    assert shown in PAGES
    photos = shlex.quote(str(newcomer.place / "photos"))
    assert "no clone of vtcc" in newcomer.typed(shown.replace("/path/to/photos", photos), ERROR)
    shutil.copy(TOP / "dvc.yaml", newcomer.place)  # what tells a clone
    newcomer.typed(shown.replace("/path/to/photos", photos))
    assert "folder" in newcomer("vtcc presets")
    text = newcomer.typed("vtcc params")
    assert "\ntrain.num_clusters: 12\n" in text
    assert "train.num_clusters" in newcomer("vtcc params --explain")
    params = newcomer.place / "params.yaml"
    params.write_text(params.read_text().replace("num_clusters: 12", "num_clusters: twelve"))
    said = newcomer.typed("vtcc params", ERROR)
    assert said.startswith("error: ") and "train.num_clusters" in said and said.count("\n") == 1
