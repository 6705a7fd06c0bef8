"""Five bands of 16 bits through the whole pipeline, from a folder to a table of clusters."""

import csv
import json
import sys

import numpy as np
import pytest
import tifffile
import yaml

from vtcc import config
from vtcc.data.cache import open_cache
from vtcc.errors import VtccError
from vtcc.stages import download, evaluate, train, validate
from vtcc.verbs import predict

BANDS, SIDE, KINDS, EACH = 6, 16, 2, 24


def scene(kind: int, number: int) -> np.ndarray:
    """(SIDE, SIDE, BANDS) uint16 of 12 bits: kind 0 is bright on the left, kind 1 at the top."""
    rng = np.random.default_rng(100 * kind + number)
    values = rng.integers(0, 800, (SIDE, SIDE, BANDS))
    half = values[:, : SIDE // 2] if kind == 0 else values[: SIDE // 2]
    half += 2500
    values[..., 3] = 4095 - values[..., 3]  # a band that goes the other way
    return values.astype(np.uint16)


def write(directory):
    for kind in range(KINDS):
        (directory / f"kind{kind}").mkdir(parents=True)
        for number in range(EACH):
            tifffile.imwrite(
                directory / f"kind{kind}" / f"{number:02d}.tif",
                scene(kind, number),
                photometric="minisblack",
                planarconfig="contig",
                compression="lzw",
            )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    home = tmp_path_factory.mktemp("bands")
    write(home / "in")
    values = yaml.safe_load((config.PRESETS / "tiny.yaml").read_text())
    changes = {
        "dataset.name": "bands",
        "dataset.source": str(home / "in"),
        "dataset.channels": 5,
        "dataset.limit": 0,
        "validate.bands": [6, 4, 3, 2, 1],
        "validate.stretch": "fixed",
        "validate.stretch_range": [0, 4095],
        "train.num_clusters": KINDS,
        "train.batch_size": 16,
        "train.augment.hue": 0.1,
        "train.augment.grey": 0.5,
        "evaluate.baselines": ["kmeans_pixels", "kmeans_untrained"],
        "evaluate.projection": "pca",
    }
    (home / "params.yaml").write_text(yaml.safe_dump(config.override(values, changes)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("VTCC_HOME", str(home))
        patch.setitem(sys.modules, "mlflow", None)
        for stage in (download, validate, train, evaluate):
            stage.run()
        predict.run([home / "in"], out=home / "out.csv")
    return home


def expected(kind, number):
    chosen = scene(kind, number)[..., [5, 3, 2, 1, 0]]
    return np.rint(chosen / 4095 * 255)


def test_the_cache_holds_the_bands_asked_for(project):
    cache = open_cache(project / "data/cache")
    assert cache.images.shape == (KINDS * EACH, SIDE, SIDE, 5)
    assert (cache.images[0] == expected(0, 0)).all()
    assert (cache.images[-1] == expected(1, EACH - 1)).all()
    decoding = {"bands": [6, 4, 3, 2, 1], "stretch": "fixed", "stretch_range": [0.0, 4095.0]}
    assert cache.decoding == decoding
    assert len(cache.mean) == len(cache.std) == 5
    info = json.loads((project / "models/model/model.json").read_text())
    assert {key: info[key] for key in decoding} == decoding
    assert info["channels"] == 5
    verdict = json.loads((project / "reports/validation.json").read_text())
    assert verdict["success"] and verdict["unreadable"] == 0
    page = (project / "reports/validation.html").read_text()
    assert "from bands 6, 4, 3, 2, 1; stretch fixed" in page and "6 x uint16" in page


def test_scores_pictures_and_predictions(project):
    metrics = json.loads((project / "reports/metrics.json").read_text())
    # Training rows; the held-out ones are scored by themselves.
    assert metrics["images"] + metrics["holdout_images"] == KINDS * EACH
    assert metrics["baseline_kmeans_pixels_acc"] == 1.0
    assert "data:image/webp;base64," in (project / "reports/gallery.html").read_text()
    with (project / "out.csv").open(newline="") as file:
        predicted = [row["cluster"] for row in csv.DictReader(file)]
    with (project / "reports/assignments.csv").open(newline="") as file:
        assigned = [row["cluster"] for row in csv.DictReader(file)]
    assert predicted == assigned


def test_a_file_with_too_few_bands_is_told_by_band(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    few = tmp_path / "few.tif"
    tifffile.imwrite(few, scene(0, 0)[..., :5], photometric="minisblack", planarconfig="contig")
    with pytest.raises(VtccError, match=r"no band 6 \(validate.bands\): the image has 5 bands"):
        predict.run([few], out=tmp_path / "out.csv")
