"""A frozen encoder: its principal components, its views, what computes it, trainings on it."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.test_loop import StopAt, tiny
from vtcc import config
from vtcc.engine import loop, runtime, views
from vtcc.engine.frozen import FeatureInput, FrozenEncoder, fit_reduction
from vtcc.engine.predict import Predictor
from vtcc.errors import VtccError

N, V, D = 60, 3, 12
FEATURES = np.random.default_rng(1).standard_normal((N, V, D)).astype(np.float16)
FEATURES += np.random.default_rng(2).standard_normal((N, 1, D)).astype(np.float16) * 2


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Linear(nn.Module):
    """A backbone of D features for images of 2 x 2 pixels."""

    embed_dim = D

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(12, D)

    def forward(self, x):
        return self.map(x.flatten(1))


def test_the_reduction_is_scikit_learns_pca_of_the_images_mean_unit_features():
    from sklearn.decomposition import PCA

    rows = np.arange(0, N, 2)
    found = fit_reduction(FEATURES, rows, 4)
    means = unit(unit(FEATURES.astype(np.float64)).mean(axis=1))[rows]
    pca = PCA(4, svd_solver="full").fit(means)
    overlap = np.abs(np.sum(found.axes.numpy() * pca.components_.T, axis=0))
    assert np.allclose(overlap, 1, atol=1e-5)
    assert np.allclose(found.center, means.mean(axis=0), atol=1e-6)
    expected = pca.transform(unit(FEATURES.astype(np.float64)).reshape(-1, D))
    got = found(FEATURES).numpy()
    assert got.shape == (N, V, 4) and got.dtype == np.float32
    signs = np.sign(np.sum(found.axes.numpy() * pca.components_.T, axis=0))
    assert np.allclose(got.reshape(-1, 4), expected * signs * float(found.scale), atol=1e-4)
    spread = float(found.scale) * (means - means.mean(axis=0)) @ found.axes.numpy()
    assert np.mean(spread.var(axis=0)) == pytest.approx(1, rel=1e-4)


def test_of_few_images_the_axes_that_nothing_tells_are_zero():
    found = fit_reduction(FEATURES, np.arange(3), 8)
    norms = found.axes.norm(dim=0)
    assert torch.allclose(norms[:2], torch.ones(2), atol=1e-5)
    assert float(norms[2:].abs().max()) == 0
    assert bool(torch.isfinite(found(FEATURES)).all())
    alone = fit_reduction(FEATURES, np.arange(1), 8)
    assert float(alone(FEATURES).abs().max()) == 0


def test_an_encoder_reduces_as_its_features_were_reduced():
    encoder = FrozenEncoder(Linear(), 4)
    reduction = fit_reduction(FEATURES, np.arange(N), 4)
    encoder.set_reduction(reduction)
    x = torch.rand(5, 3, 2, 2)
    features = encoder.backbone(x).detach()
    assert torch.allclose(encoder(x), reduction(features.numpy()), atol=1e-5)
    assert encoder.embed_dim == 4
    with pytest.raises(VtccError, match="13 of features of length 12; use at most 12"):
        FrozenEncoder(Linear(), 13)


def test_neighbours_are_those_of_brute_force_and_never_the_image_itself(monkeypatch):
    h = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(views, "_BLOCK", 16)
    found = views.nearest(h, 5)
    similarity = torch.nn.functional.normalize(h, dim=1)
    similarity = similarity @ similarity.T
    similarity.fill_diagonal_(-2)
    assert torch.equal(found, similarity.argsort(dim=1, descending=True)[:, :5])
    monkeypatch.setattr(views, "NEIGHBOUR_IMAGES", 10)
    some = views.nearest(h, 5)
    assert some.shape == (50, 5) and bool((some % 5 == 0).all())
    assert not bool((some == torch.arange(50)[:, None]).any())
    assert torch.equal(views.nearest(h[:2], 1), torch.tensor([[1], [0]]))


def drawn(params, seed=0, second=True, count=2000):
    """Which row and view each drawn view is of, by features that say so."""
    marks = torch.arange(N)[:, None, None] * 10.0 + torch.arange(V)[None, :, None] + 1
    neighbours = views.nearest(torch.from_numpy(FEATURES.astype(np.float32)).mean(1), 2)
    made = views.FeatureViews(marks, params, neighbours=neighbours)
    rows = torch.arange(count) % N
    x = made.view(rows, torch.Generator().manual_seed(seed), second=second)
    return rows, neighbours, x[:, 0]


def test_a_second_view_is_a_neighbours_in_the_share_asked_for():
    params = config.Positives(neighbours=2, neighbour_share=0.3, dropout=0.0)
    rows, neighbours, x = drawn(params)
    row = ((x - 1) // 10).long()
    other = row != rows
    assert 0.25 < float(other.float().mean()) < 0.35
    assert bool((neighbours[rows[other]] == row[other, None]).any(dim=1).all())
    assert set(((x - 1) % 10).long().tolist()) == {0, 1, 2}
    rows, _, x = drawn(params, second=False)
    assert torch.equal(((x - 1) // 10).long(), rows)
    rows, _, x = drawn(dataclasses.replace(params, neighbour_share=0.0))
    assert torch.equal(((x - 1) // 10).long(), rows)


def test_draws_are_a_function_of_the_generator_and_dropout_keeps_the_mean():
    params = config.Positives(neighbours=2, neighbour_share=0.5, dropout=0.25)
    assert torch.equal(drawn(params)[2], drawn(params)[2])
    assert not torch.equal(drawn(params)[2], drawn(params, seed=1)[2])
    zeros = drawn(params, second=False)[2] == 0
    assert 0.2 < float(zeros.float().mean()) < 0.3
    kept = views.FeatureViews(torch.ones(N, V, 400), params)
    x = kept.view(torch.arange(N), torch.Generator().manual_seed(0), second=False)
    assert x.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert float(x.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(kept.plain(torch.tensor([3, 1])), torch.ones(2, 400))


def features_params(**changes):
    small = {"train.batch_size": 16, "train.num_clusters": 4, "train.selection.points": 2}
    return tiny(**(small | changes))


def fit(scratch, params, callbacks=None):
    return loop.fit(
        FEATURES.astype(np.float32),
        np.arange(48),
        params,
        scratch=scratch,
        callbacks=callbacks,
        digest="features",
    )


@pytest.mark.parametrize("self_label", [0, 2])
def test_a_training_on_features_resumes_to_the_bit(tmp_path, self_label):
    changes = {"train.epochs": 4, "train.self_label.epochs": self_label}
    params = features_params(**changes)
    whole = fit(tmp_path / "whole", params)
    with pytest.raises(loop.Interrupted):
        fit(tmp_path / "cut", params, StopAt(2))
    again = fit(tmp_path / "cut", params)
    assert [c["cluster_loss"] for c in again.candidates] == [
        c["cluster_loss"] for c in whole.candidates
    ]
    step = whole.candidates[-1]["step"]
    ours, theirs = whole.choose(step, 0).state_dict(), again.choose(step, 0).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert isinstance(again.model.encoder, FeatureInput)
    assert whole.curves[-1]["epoch"] == 4 + self_label


def test_a_training_on_features_reads_the_rows_it_may_see(tmp_path):
    params = features_params(**{"train.epochs": 1})
    fitted = fit(tmp_path / "a", params)
    others = FEATURES.astype(np.float32).copy()
    others[48:] = 0
    same = loop.fit(others, np.arange(48), params, scratch=tmp_path / "b", digest="features")
    assert fitted.candidates == same.candidates


def test_predicting_by_features_is_predicting_by_pixels():
    params = features_params()
    encoder = FrozenEncoder(Linear(), 4)
    encoder.set_reduction(fit_reduction(FEATURES, np.arange(N), 4))
    torch.manual_seed(0)
    from vtcc.engine.model import with_projectors

    model = with_projectors(encoder, params.model, 4).eval()
    info = {
        "num_clusters": 4,
        "image_size": 2,
        "cache_size": 2,
        "channels": 3,
        "max_pixels": 100,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    predictor = Predictor(model, info, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (30, 2, 2, 3), dtype=np.uint8)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    features = encoder.backbone(x).detach().numpy()
    by_pixels, by_features = predictor.predict(images), predictor.predict_features(features, 7)
    assert np.allclose(by_pixels.probabilities, by_features.probabilities, atol=1e-5)
    assert np.allclose(by_pixels.embedding, by_features.embedding, atol=1e-5)


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


def made(encoder, kind="auto"):
    return runtime.runtime(encoder, image_size=16, channels=3, device="cpu", kind=kind)


X = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_onnxruntime_agrees_with_torch():
    pytest.importorskip("onnxruntime")
    encoder = convolutional()
    converted, plain = made(encoder, "onnxruntime"), made(encoder, "torch")
    assert converted.__qualname__ != plain.__qualname__
    assert converted(X).shape == (5, 8)
    assert np.abs(converted(X) - plain(X)).max() < 1e-5
    assert np.abs(converted(X[:1]) - plain(X)[:1]).max() < 1e-5
    assert plain(X).dtype == converted(X).dtype == np.float32


class Refused(nn.Module):
    """An encoder without an ONNX form."""

    def forward(self, x):
        if torch.onnx.is_in_onnx_export():
            raise RuntimeError("no such operator")
        return x.flatten(1)[:, :4]


class Different(nn.Module):
    """An encoder whose converted form computes something else."""

    def forward(self, x):
        return x.flatten(1)[:, :4] * (2.0 if torch.onnx.is_in_onnx_export() else 1.0) + 1


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (Refused(), "features by torch: this encoder has no ONNX form (no such operator)"),
        (Different(), "features by torch: the encoder's ONNX form differs by"),
    ],
)
def test_what_cannot_be_converted_is_left_to_torch(encoder, said, capsys):
    pytest.importorskip("onnxruntime")
    plain = made(encoder.eval())
    assert said in capsys.readouterr().out
    assert np.array_equal(plain(X), encoder(X).numpy())


def test_without_onnxruntime_it_is_torch_and_says_so_where_asked_for(monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name)
    )
    assert made(convolutional()).__qualname__.startswith("_torch")
    assert capsys.readouterr().out == ""
    assert made(convolutional(), "onnxruntime").__qualname__.startswith("_torch")
    assert "onnxruntime is not installed" in capsys.readouterr().out
