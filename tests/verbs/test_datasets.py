import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.data import layouts
from tests.data.project import ROOT, make_project
from vtcc.cli import app
from vtcc.errors import VtccError
from vtcc.verbs import datasets


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("VTCC_MIRROR", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    home = make_project(tmp_path / "project")
    (home / "data").mkdir()
    (home / "data/catalog").symlink_to(ROOT / "data/catalog")
    monkeypatch.chdir(home)
    return home


def test_the_table_has_every_dataset(capsys):
    datasets.run()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.strip()} >= set(layouts.NAMES)
    (uc,) = [line for line in lines if "ucmerced" in line]
    for part in ("2,100", "21", "256 x 256", "3", "public domain", "download", "aerial", "-"):
        assert part in uc


def test_json_says_what_is_here(tmp_path, monkeypatch, project):
    layouts.write({"mirror/uc-merced.zip": b"x"}, tmp_path)
    layouts.write({"MNIST/raw/train-images-idx3-ubyte": b"x"}, tmp_path / "torch/datasets")
    layouts.write({"data/raw/dataset.json": b'{"source": "data/catalog/dtd.yaml"}'}, project)
    monkeypatch.setenv("VTCC_MIRROR", str(tmp_path / "mirror"))
    result = CliRunner().invoke(app, ["datasets", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["ucmerced"]["present"] == [f"mirror: {tmp_path / 'mirror/uc-merced.zip'}"]
    assert rows["mnist"]["present"] == [str(tmp_path / "torch/datasets/MNIST")]
    assert rows["dtd"]["present"] == ["data/raw"]
    assert rows["aid"]["present"] == [] and rows["aid"]["obtained"] == "by hand"


def test_one_card_in_full(capsys):
    datasets.run("UC_Merced")
    text = capsys.readouterr().out
    for part in ("Newsam", "06c539ef", "url_checksums", "size_exceptions: 44", "river: 100"):
        assert part in text
    datasets.run("aid")
    assert "captain-whu.com" in capsys.readouterr().out
    assert datasets.run("aid")["class_counts"]["Pond"] == 420


def test_an_unknown_one_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(VtccError, match=r"no dataset 'cifar' in .*; did you mean 'cifar10'"):
        datasets.run("cifar")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VtccError, match="holds no dataset card; run this in a clone of vtcc"):
        datasets.run()


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from vtcc.verbs import datasets; datasets.run();"
        "heavy = {'torch', 'numpy', 'pandas', 'requests', 'PIL'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
