"""Final clusters that an interrupted run kept are used again, if they are whole and fit."""

import json
import re

import numpy as np
import pytest

from tests.grouping.toy_results import TRUST
from tests.tracking import toy
from vtcc.engine import checkpoint, predict
from vtcc.grouping import kept
from vtcc.grouping.clusters import Clusters
from vtcc.grouping.count import Count
from vtcc.grouping.state import Judged, Learned
from vtcc.grouping.training import Material, Trained
from vtcc.grouping.trust import Trust

N, HOW = 12, {"value": "the trained head", "why": "as it is"}


@pytest.fixture
def judged(tmp_path):
    """Of twelve images, by a model that needs no training."""
    model, info = checkpoint.read_model(toy.model(tmp_path / "model"))
    found = predict.Predictor(model, info).predict(toy.images(N))
    p, h = found.probabilities, found.embedding
    heads = np.stack([p] * len(model.cluster_projectors))
    trained = Trained(model, info, h, h, heads, 0, {}, 1, 1.0, "a key")
    base, clusters = p.argmax(axis=1).astype(np.int32), Clusters.fit(p, h)
    looks = np.zeros((N, 6), np.float32)
    applied, first = clusters.apply(p, h, base), np.arange(N)
    return Judged(trained, clusters, base, applied, HOW, Trust(**TRUST), [], first, looks)


@pytest.fixture
def learned(judged, tmp_path):
    cache = toy.project(tmp_path / "project")
    of = judged.model
    return Learned(toy.K, of, of, Count(toy.K, 2, toy.K, [], []), Material(cache))


def test_they_are_read_back(judged, learned, tmp_path):
    kept.write(tmp_path / "kept", judged, "named")
    again = kept.read(tmp_path / "kept", learned, "named")
    assert again is not None
    for name in ("cluster", "confidence", "distance"):
        one, other = getattr(judged.applied, name), getattr(again.applied, name)
        np.testing.assert_array_equal(one, other)
    assert (again.how, again.trust, again.comparison) == (HOW, Trust(**TRUST), [])
    assert kept.read(tmp_path / "kept", learned, "other") is None


def arrays(file, **odd):
    with np.load(file) as saved:
        values = dict(saved)
    np.savez(file, **values | odd)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"h": np.zeros((N - 1, 16), np.float32)}, r"h: found float32 \(11, 16\), expected float"),
        ({"h": np.zeros((N, 3), np.float32)}, r"h: found float32 \(12, 3\), expected float"),
        ({"heads": np.zeros((2, N, 3), np.float32)}, r"expected float \(2, 12, 4\)"),
        ({"base": np.zeros(N, np.float32)}, r"base: found float32 \(12,\), expected int \(12\)"),
        ({"first": np.arange(N - 1)}, r"first: found int64 \(11,\), expected int \(12\)"),
        ({"looks": np.zeros((N, 5), np.float32)}, r"looks: found .*expected float \(12, 6\)"),
    ],
)
def test_arrays_that_do_not_fit_are_made_again(judged, learned, tmp_path, capsys, odd, reason):
    kept.write(tmp_path / "kept", judged, "named")
    arrays(tmp_path / "kept" / "judged.npz", **odd)
    assert kept.read(tmp_path / "kept", learned, "named") is None
    said = capsys.readouterr().out.strip()
    assert "\n" not in said and "so the clusters are made again" in said
    assert re.search(reason, said)


@pytest.mark.parametrize(
    "odd", [{"chosen": "0"}, {"chosen": 3}, {"how": []}, {"trust": None}, {"comparison": 1}]
)
def test_a_damaged_description_is_made_again(judged, learned, tmp_path, capsys, odd):
    kept.write(tmp_path / "kept", judged, "named")
    file = tmp_path / "kept" / "judged.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | odd))
    assert kept.read(tmp_path / "kept", learned, "named") is None
    assert "kept: damaged (" in capsys.readouterr().out
