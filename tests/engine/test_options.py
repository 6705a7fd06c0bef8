"""The choices of the paper and those beyond it, each against its definition."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.engine.test_loop import IMAGES, StopAt, assert_same, fit, tiny, weights
from tests.fakes import stand_in
from vtcc import config
from vtcc.engine import checkpoint, loop, objective
from vtcc.engine.averaging import averaged
from vtcc.engine.centroids import unit_kmeans
from vtcc.engine.model import build
from vtcc.engine.predict import Predictor
from vtcc.engine.prior import FLOOR, MOMENTUM, Prior
from vtcc.engine.self_label import self_label_loss
from vtcc.errors import VtccError


def made(channels=1, **changes):
    params = tiny(**{f"train.model.{k}": v for k, v in changes.items()})
    torch.manual_seed(0)
    return build(params.model, params.num_clusters, image_size=16, channels=channels)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    """A training without cluster projectors."""
    params = tiny(**{"train.model.projectors": "instance"})
    return fit(tmp_path_factory.mktemp("instance"), params)


@pytest.fixture(scope="module")
def on_features(tmp_path_factory):
    """One with both projectors, whose clusters are those of the instance features."""
    return fit(tmp_path_factory.mktemp("features"), tiny(**{"train.model.assign": "instance"}))


def test_a_projector_that_is_left_out_leaves_its_loss_exactly_zero(tmp_path, instance):
    assert {row["cluster_loss"] for row in instance.curves} == {0.0}
    assert all(row["instance_loss"] > 0 for row in instance.curves)
    assert not len(instance.model.cluster_projectors)
    cluster = fit(tmp_path / "c", tiny(**{"train.model.projectors": "cluster"}))
    assert {row["instance_loss"] for row in cluster.curves} == {0.0}
    assert all(row["cluster_loss"] > 0 for row in cluster.curves)
    assert cluster.model.instance_projector is None
    assert {c["instance_loss"] for c in cluster.candidates} == {0.0}


def test_both_projectors_add_their_losses():
    model = made()
    z, p = model.project(torch.randn(8, model.encoder.embed_dim))
    assert z.shape == (8, tiny().model.feature_dim)
    assert p.shape == (tiny().model.num_cluster_heads, 8, 10)
    losses = objective.Losses(torch.tensor(3.0), torch.tensor([1.0, 3.0]), torch.tensor([4.0]), p)
    assert float(losses.total()) == 3.0 + 2.0 + 4.0


def test_without_cluster_projectors_clusters_are_kmeans_on_the_unit_embedding(instance):
    chosen = instance.candidates[-1]
    model = instance.choose(chosen["step"], chosen["head"])
    x = torch.rand(12, 1, 16, 16)
    with torch.no_grad():
        h = torch.nn.functional.normalize(model.embed(x), dim=1)
        p = model.assign(x)
    distance = torch.cdist(h, model.centroids)
    assert torch.equal(p.argmax(1), distance.argmin(1))
    assert torch.allclose(p.sum(1), torch.ones(12))
    assert torch.allclose(model.centroids.norm(dim=1), torch.ones(10), atol=1e-5)
    assert chosen["clusters_used"] >= 2


def test_kmeans_on_the_instance_features_assigns_where_asked(on_features):
    fitted = on_features
    assert len(fitted.model.cluster_projectors) == tiny().model.num_cluster_heads  # trained still
    assert {c["head"] for c in fitted.candidates} == {0}
    chosen = fitted.candidates[-1]
    model = fitted.choose(chosen["step"], chosen["head"])
    x = torch.rand(12, 1, 16, 16)
    with torch.no_grad():
        z, _ = model.project(model.embed(x))
        p = model.assign(x)
    assert model.centroids.shape == (10, tiny().model.feature_dim)
    assert torch.equal(p.argmax(1), torch.cdist(z, model.centroids).argmin(1))
    assert torch.allclose(p, (z @ model.centroids.T / 0.1).softmax(1), atol=1e-6)
    assert torch.allclose(model.centroids.norm(dim=1), torch.ones(10), atol=1e-5)


@pytest.mark.parametrize(
    ("trained", "option"),
    [
        ("instance", {"train.model.projectors": "instance"}),
        ("on_features", {"train.model.assign": "instance"}),
    ],
)
def test_a_saved_model_with_centroids_predicts_as_before(tmp_path, request, trained, option):
    params = tiny(**option)
    fitted = request.getfixturevalue(trained)
    model = fitted.choose(fitted.candidates[-1]["step"], 0)
    info = {
        "model": config.to_dict(params.model),
        "num_clusters": 10,
        "image_size": 16,
        "cache_size": 16,
        "channels": 1,
        "max_pixels": 1000,
        "mean": [0.5],
        "std": [0.3],
    }
    before = Predictor(model, info).predict(IMAGES[:20])
    checkpoint.save_model(tmp_path / "m", model, info)
    after = Predictor(*checkpoint.read_model(tmp_path / "m")).predict(IMAGES[:20])
    # Rounding apart: the training's attention kernel is the plain one, a loaded model's the fused.
    assert np.allclose(before.probabilities, after.probabilities, atol=1e-6)
    assert np.array_equal(before.cluster, after.cluster)


def test_unit_kmeans_finds_separate_directions_and_empty_data_does_no_harm():
    g = torch.Generator().manual_seed(0)
    centres = torch.eye(4)
    points = (centres.repeat_interleave(20, 0) + 0.05 * torch.randn(80, 4, generator=g)) * 7
    found = unit_kmeans(points, 4, seed=3)
    best = (found @ centres.T).amax(0)
    assert (best > 0.99).all()
    assert torch.equal(found, unit_kmeans(points, 4, seed=3))
    same = unit_kmeans(torch.ones(6, 3), 4)
    assert torch.isfinite(same).all()


def test_learned_positions_are_trained_and_not_decayed():
    from vtcc.engine.optim import make_optimizer

    fixed, learned = made(), made(positions="learned")
    assert "encoder.positions" not in dict(fixed.named_parameters())
    table = dict(learned.named_parameters())["encoder.positions"]
    assert table.shape == fixed.encoder.positions.shape
    assert 0.01 < float(table.std()) < 0.03
    _, exempt = make_optimizer(learned, tiny().optimizer).param_groups
    assert any(p is table for p in exempt["params"])


def test_the_average_follows_its_definition():
    model = torch.nn.Linear(2, 1, bias=False)
    average = averaged(model, 0.9)
    start = model.weight.detach().clone()
    average.update_parameters(model)  # the first call copies
    with torch.no_grad():
        model.weight += 1
    average.update_parameters(model)
    assert torch.allclose(average.module.weight, start + 0.1)
    assert averaged(model, 0.0) is None


@pytest.mark.parametrize(
    "options",
    [
        {"train.ema": 0.9, "train.restart_heads": True, "train.epochs": 4},
        {"train.model.projectors": "instance", "train.model.positions": "learned"},
        {"train.loss.prior": "estimated", "train.loss.prior_start": 0.0, "train.epochs": 4},
        {
            "train.self_label.epochs": 2,
            "train.self_label.threshold": 0.1,
            "train.model.overcluster_heads": 2,
        },
    ],
)
def test_every_option_resumes_to_the_same_bits(tmp_path, options):
    params = tiny(**options)
    whole = fit(tmp_path / "whole", params)
    with pytest.raises(loop.Interrupted):
        fit(tmp_path / "cut", params, callbacks=StopAt(epoch=2))
    resumed = fit(tmp_path / "cut", params)
    assert_same(weights(whole), weights(resumed))
    assert json.dumps(whole.candidates) == json.dumps(resumed.candidates)


def test_self_labelling_against_a_literal_transcription():
    g = torch.Generator().manual_seed(1)
    weak = torch.randn(9, 3, generator=g).mul(2).softmax(1)
    strong = torch.randn(9, 3, generator=g).softmax(1)
    threshold = 0.6
    sure = [i for i in range(9) if weak[i].max() >= threshold]
    classes = {int(weak[i].argmax()) for i in sure}
    expected = 0.0
    for k in classes:
        members = [i for i in sure if int(weak[i].argmax()) == k]
        expected += sum(-math.log(strong[i, k]) for i in members) / len(members) / len(classes)
    assert float(self_label_loss(weak, strong, threshold)) == pytest.approx(expected, rel=1e-5)
    assert float(self_label_loss(weak, strong, 1.0)) == 0.0


def test_self_labelling_trains_cluster_heads_after_the_contrastive_epochs(tmp_path):
    options = {"train.self_label.epochs": 2, "train.self_label.threshold": 0.1}
    fitted = fit(tmp_path, tiny(**options))
    assert [row["instance_loss"] > 0 for row in fitted.curves] == [True] * 3 + [False] * 2
    assert fitted.curves[-1]["cluster_loss"] > 0
    assert {c["epoch"] for c in fitted.candidates} == {5}
    plain = fit(tmp_path / "plain", tiny())
    moved = weights(fitted)["encoder.blocks.0.attn.qkv.weight"]
    assert not torch.equal(moved, weights(plain)["encoder.blocks.0.attn.qkv.weight"])


def test_the_estimated_prior_follows_the_sizes_with_a_floor():
    options = {"train.loss.prior": "estimated", "train.loss.prior_start": 0.5, "train.epochs": 4}
    prior = Prior(tiny(**options))
    heads = tiny().model.num_cluster_heads
    shares = torch.zeros(heads, 10)
    shares[:, 0] = 1.0
    prior.update(1, shares)
    assert prior.of(0) is None  # still uniform
    prior.update(2, shares)
    first = torch.full((10,), MOMENTUM / 10)
    first[0] += 1 - MOMENTUM
    assert torch.allclose(prior.of(0), first / first.sum())
    for epoch in range(3, 60):
        prior.update(epoch, shares)
    assert float(prior.of(0)[1]) == pytest.approx(FLOOR / 10, rel=0.2)
    assert float(prior.of(0).sum()) == pytest.approx(1)


def test_given_sizes_go_to_the_clusters_in_the_order_of_their_present_sizes():
    sizes = [1.0, 3.0, 2.0] + [0.5] * 7
    options = {
        "train.loss.prior": "given",
        "train.loss.prior_sizes": sizes,
        "train.loss.prior_start": 0.0,
    }
    prior = Prior(tiny(**options))
    shares = torch.linspace(0.01, 0.19, 10).repeat(tiny().model.num_cluster_heads, 1)
    prior.update(1, shares)
    expected = torch.tensor(sorted(sizes)) / sum(sizes)
    assert torch.allclose(prior.of(0), expected)


@pytest.mark.parametrize("kind", ["given", "estimated"])
def test_the_prior_of_heads_that_begin_afresh_is_uniform_until_the_next_epoch(kind):
    sizes = [float(k + 1) for k in range(10)] if kind == "given" else []
    options = {
        "train.loss.prior": kind,
        "train.loss.prior_sizes": sizes,
        "train.loss.prior_start": 0.0,
    }
    prior = Prior(tiny(**options))
    prior.restart(range(1, 2))
    assert prior.sizes is None
    rising = torch.linspace(0.01, 0.19, 10).repeat(tiny().model.num_cluster_heads, 1)
    prior.update(1, rising)
    before = prior.of(0).clone()
    first = prior.of(1).clone()
    prior.restart(range(1, 2))
    assert torch.equal(prior.of(0), before)
    assert torch.allclose(prior.of(1), torch.full((10,), 0.1))
    prior.update(2, rising.flip(1))  # the new head's clusters have another order
    assert torch.allclose(prior.of(1), first.flip(0))


def test_the_average_of_heads_that_begin_afresh_begins_afresh(tmp_path, monkeypatch):
    real, seen = loop.Training.restart_heads, []

    def recording(training, epoch):
        before = {k: v.clone() for k, v in training.average.module.state_dict().items()}
        real(training, epoch)
        model, average = training.model.state_dict(), training.average.module.state_dict()
        own, average = ({k: v.clone() for k, v in s.items()} for s in (model, average))
        seen.append((before, own, average))

    stand_in(monkeypatch, loop.Training, "restart_heads", recording)
    fit(tmp_path, tiny(**{"train.ema": 0.9, "train.restart_heads": True, "train.epochs": 4}))
    ((before, model, average),) = seen
    for name in average:
        fresh = name.startswith("cluster_projectors.1.")
        assert torch.equal(average[name], (model if fresh else before)[name]), name
    name = "cluster_projectors.1.0.weight"
    assert not torch.equal(average[name], before[name])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train.loss.prior": "given"}, "prior_sizes"),
        ({"train.loss.prior": "given", "train.loss.prior_sizes": [1.0, 2.0]}, "one per cluster"),
        ({"train.model.projectors": "instance", "train.self_label.epochs": 1}, "self-labelling"),
        ({"train.model.projectors": "instance", "train.model.overcluster_heads": 1}, "overcluster"),
        ({"train.model.assign": "instance", "train.self_label.epochs": 1}, "self-labelling"),
        ({"train.model.assign": "instance", "train.model.projectors": "cluster"}, "instance proj"),
        ({"train.model.encoder": "resnet18"}, "timm:NAME"),
        ({"train.model.weights": "x.pth"}, "only timm encoders"),
        ({"train.model.encoder": "timm:resnet18", "train.model.frozen": True}, "needs train.model"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(options, words):
    with pytest.raises(VtccError, match=words):
        tiny(**options)


def test_a_timm_encoder_takes_local_weights_and_stays_frozen(tmp_path):
    import timm

    torch.manual_seed(5)
    source = timm.create_model("resnet10t", in_chans=1)
    file = tmp_path / "w.safetensors"
    save_file(source.state_dict(), file)
    options = {
        "train.model.encoder": "timm:resnet10t",
        "train.model.weights": str(file),
        "train.model.frozen": True,
        "train.epochs": 1,
    }
    fitted = fit(tmp_path / "s", tiny(**options))
    encoder = fitted.model.encoder.model
    assert torch.equal(encoder.conv1[0].weight.cpu(), source.conv1[0].weight)
    assert torch.equal(encoder.bn1.running_mean.cpu(), source.bn1.running_mean)
    assert fitted.model.encoder.embed_dim == 512
    assert fitted.curves[0]["instance_loss"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": "timm:resnet81"}, "timm has no model 'resnet81'; did you mean"),
        (
            {"encoder": "timm:resnet10t", "weights": "gone.safetensors"},
            "no file 'gone.safetensors'",
        ),
    ],
)
def test_what_timm_cannot_make_is_named(options, words):
    params = tiny(**{f"train.model.{k}": v for k, v in options.items()})
    with pytest.raises(VtccError, match=words):
        build(params.model, 10, image_size=16, channels=1, pretrained=True)


def pretrained(file):
    params = tiny(**{"train.model.encoder": "timm:resnet10t", "train.model.weights": str(file)})
    return build(params.model, 10, image_size=16, channels=1, pretrained=True)


@pytest.mark.parametrize("content", [b"", b"some text", b"\x80\x04cos\nsystem\n"])
def test_weights_that_are_no_tensors_are_refused(tmp_path, content):
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(
        VtccError,
        match=r"weights\.pth: (empty|not a checkpoint|holds more than tensors .os\.system)",
    ):
        pretrained(file)


@pytest.mark.parametrize(
    "write",
    [
        lambda w, file: save_file(w, file),  # safetensors, whatever its name says
        lambda w, file: torch.save({"net": w}, file),
        lambda w, file: torch.save({f"module.{k}": v for k, v in w.items()}, file),
        lambda w, file: torch.save(
            {"state_dict": {k: torch.zeros_like(v) for k, v in w.items()}, "state_dict_ema": w},
            file,
        ),
    ],
)
def test_what_was_read_and_checked_is_what_the_encoder_gets(tmp_path, write):
    import timm

    torch.manual_seed(5)
    source = timm.create_model("resnet10t", in_chans=1).state_dict()
    write(source, tmp_path / "weights.pth")
    model = pretrained(tmp_path / "weights.pth").encoder.model
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, source[name]), name
    assert "state_dict" not in model.pretrained_cfg  # no second copy for as long as it lives


def test_averaged_weights_are_checked_too(tmp_path):
    import timm

    good = timm.create_model("resnet10t", in_chans=1).state_dict()
    bad = good | {"conv1.0.weight": good["conv1.0.weight"] * torch.nan}
    torch.save({"state_dict": good, "state_dict_ema": bad}, tmp_path / "weights.pth")
    with pytest.raises(VtccError, match=r"not finite: conv1\.0"):
        pretrained(tmp_path / "weights.pth")


@pytest.mark.parametrize("content", [[1, 2], {3: 4}, {}, torch.ones(3)])
def test_torch_files_of_other_things_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(VtccError, match=r"weights\.pth"):
        pretrained(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {"x": torch.ones(3)}, "without 1. of the 1. weights of timm's resnet10t: conv1"),
        (
            lambda w: {k: v for k, v in w.items() if "layer3" not in k},
            "without 3 of the 1. .*layer3",
        ),
        (lambda w: w | {"conv1.0.weight": w["conv1.0.weight"] * torch.nan}, "not finite: conv1.0"),
    ],
)
def test_weights_of_another_model_or_a_part_are_refused(tmp_path, change, words):
    import timm

    source = timm.create_model("resnet10t", in_chans=1).state_dict()
    save_file(change(source), tmp_path / "w.safetensors")
    with pytest.raises(VtccError, match=words):
        pretrained(tmp_path / "w.safetensors")


def test_an_encoder_that_cannot_take_the_image_size_is_named():
    params = tiny(**{"train.model.encoder": "timm:vgg11"})
    with pytest.raises(VtccError, match="timm's vgg11 does not take images of 8 pixels"):
        build(params.model, 10, image_size=8, channels=1)


def test_models_saved_before_an_option_existed_still_load(tmp_path):
    model = made()
    old = config.to_dict(tiny().model)
    for key in ("encoder", "weights", "frozen", "positions", "projectors", "overcluster_heads"):
        del old[key]
    info = {"model": old, "num_clusters": 10, "image_size": 16, "channels": 1, "cache_size": 16}
    checkpoint.save_model(tmp_path, model, info)
    again, _ = checkpoint.read_model(tmp_path)
    assert_same(dict(model.state_dict()), dict(again.state_dict()))
