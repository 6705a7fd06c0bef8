import json
from dataclasses import replace

import numpy as np
import pytest

from tests.tracking import toy
from vtcc.engine import onnx_graph, predict
from vtcc.errors import VtccError
from vtcc.export import onnx as export
from vtcc.grouping import clusters
from vtcc.verbs import export as stage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model that halves the size of its images, exported."""
    room = tmp_path_factory.mktemp("onnx")
    model = toy.model(room / "model", 3, cache_size=32)
    stage.run(str(model), onnx=room / "model.onnx")
    return model, room / "model.onnx"


def session(file):
    import onnxruntime

    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_any_batch_gives_what_torch_gives(made, batch):
    model, file = made
    images = np.random.default_rng(batch).integers(0, 256, (batch, 32, 32, 1), np.uint8)
    expected = predict.load(model, "cpu").predict(images)
    cluster, confidence, p, h = session(file).run(None, {"image": images})
    assert np.abs(p - expected.probabilities).max() < 1e-4
    assert np.abs(h - expected.embedding).max() < 1e-4 * np.abs(expected.embedding).max()
    assert np.abs(confidence - expected.confidence).max() < 1e-4
    assert cluster.dtype == np.int64
    assert cluster.tolist() == expected.cluster.tolist()


def test_the_file_says_how_images_are_read(made):
    found = session(made[1])
    (image,) = found.get_inputs()
    assert (image.name, image.shape[1:], image.type) == ("image", [32, 32, 1], "tensor(uint8)")
    assert isinstance(image.shape[0], str)
    assert [o.name for o in found.get_outputs()] == list(export.OUTPUTS)
    told = json.loads(found.get_modelmeta().custom_metadata_map["vtcc"])
    assert (told["num_clusters"], told["size"], told["channels"]) == (4, 32, 1)
    text = made[1].read_bytes()
    assert b".py" not in text  # nothing of the machine it was made on


@pytest.mark.parametrize("key", ["train.model.projectors", "train.model.assign"])
def test_centroids_assign(tmp_path, key):
    import torch

    from vtcc import config
    from vtcc.engine.model import build

    params = config.override(config.to_dict(toy.params()), {key: "instance"})
    chosen = config.from_dict(config.Params, params).train.model
    torch.manual_seed(0)
    net = build(chosen, 4, image_size=16, channels=3).eval()
    net.centroids.copy_(torch.nn.functional.normalize(torch.randn_like(net.centroids), dim=1))
    info = {
        "num_clusters": 4,
        "image_size": 16,
        "cache_size": 16,
        "channels": 3,
        "max_pixels": 10**6,
        "mean": [0.5] * 3,
        "std": [0.2, 0.3, 0.4],
    }
    gaps = export.write(predict.Predictor(net, info, "cpu"), tmp_path / "c.onnx")
    assert max(gaps.values()) < 1e-4


def test_a_model_that_differs_is_not_left_behind(made, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(VtccError, match="differs from the trained one by"):
        export.write(predict.load(made[0], "cpu"), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line(made, tmp_path, monkeypatch):
    with pytest.raises(VtccError, match=r"has to end with \.onnx"):
        stage.run(str(made[0]), onnx=tmp_path / "m.pt")
    (tmp_path / "link.onnx").symlink_to(made[1])
    with pytest.raises(VtccError, match=rf"^--onnx: .* is a link; name .* to, {made[1]}$"):
        stage.run(str(tmp_path / "none"), onnx=tmp_path / "link.onnx")
    with pytest.raises(VtccError, match="no such model; give --model RESULTS/model"):
        stage.run(str(tmp_path / "none"), onnx=tmp_path / "m.onnx")
    (tmp_path / "file").write_text("")
    with pytest.raises(VtccError, match="cannot be written"):
        export.write(predict.load(made[0], "cpu"), tmp_path / "file" / "m.onnx")
    monkeypatch.setattr(onnx_graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VtccError, match="onnx is not installed; run: pip install onnx"):
        export.write(predict.load(made[0], "cpu"), tmp_path / "m.onnx")


def test_what_edits_made_of_the_clusters_is_said_not_to_be_in_the_file(made, tmp_path, capsys):
    predictor = predict.load(made[0], "cpu")
    K = predictor.num_clusters
    p, h = np.eye(K, dtype=np.float32), np.eye(K, 8, dtype=np.float32)
    known = clusters.Clusters.fit(p, h)
    assert stage._edited(known) == stage._edited(None) == []
    halves = clusters.Split((K, K + 1), h[:2])
    edited = replace(known, of_base=(0, 0, clusters.EXCLUDED, *range(3, K)), splits={3: halves})
    assert stage._edited(edited) == ["1 is in 0", "2 is excluded", f"3 is split in {K}, {K + 1}"]
    predictor.clusters = edited
    stage._write_onnx(predictor, tmp_path / "m.onnx")
    told = capsys.readouterr().out
    assert "m.onnx: its clusters are the model's own, before edits: 1 is in 0, 2 is excl" in told
