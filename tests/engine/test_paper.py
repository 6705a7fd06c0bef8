"""Our losses, model and gradients against the paper's equations, written out in `literal`."""

import math

import pytest
import torch
import yaml

from tests.engine import literal
from tests.engine.test_upstream import HEADS, SIDE, K, import_upstream, saved, weights
from vtcc.config import PRESETS, Model, from_dict
from vtcc.engine.losses import cluster_loss, instance_loss
from vtcc.engine.model import build

N = 6
# The paper preset's model with fewer and narrower blocks.
SMALL: Model = from_dict(
    Model,
    yaml.safe_load((PRESETS / "paper.yaml").read_text())["train"]["model"]
    | {"embed_dim": 96, "depth": 2},
    "model",
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def compare(ours, theirs, variables):
    """The value and the gradients of a float32 function against a float64 one."""
    mine = [v.clone().requires_grad_() for v in variables]
    paper = [v.double().requires_grad_() for v in variables]
    loss, expected = ours(*mine), theirs(*paper)
    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(loss, mine), torch.autograd.grad(expected, paper)
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_instance_loss(temperature):
    compare(
        lambda a, b: instance_loss(a, b, temperature),
        lambda a, b: literal.instance_loss(a, b, temperature),
        [normal(N, 8, seed=1), normal(N, 8, seed=2)],
    )


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0])
def test_cluster_loss_over_columns_with_the_entropy_of_both_views(sharpness):
    compare(
        lambda a, b: cluster_loss(a.softmax(1), b.softmax(1)),
        lambda a, b: literal.cluster_loss(a.softmax(1), b.softmax(1)),
        [sharpness * normal(N, K, seed=3), sharpness * normal(N, K, seed=4)],
    )


def parameters(model):
    """Our parameters under upstream's names."""
    names = {
        "encoder.class_token": "vtcc.cls_token",
        "encoder.stem.": "vtcc.patch_embed.proj.",
        "encoder.": "vtcc.",
        "cluster_projectors.0.": "cluster_projector.",
    }
    found = {}
    for name, parameter in model.named_parameters():
        start = next((s for s in names if name.startswith(s)), "")
        found[names.get(start, "") + name.removeprefix(start)] = parameter
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_total_loss_and_its_gradient_of_every_parameter(tmp_path, seed):
    """Train mode: each view through the network with its own batch statistics.

    The network runs in float64, the losses in float32: rounded inputs would let single ReLUs
    fall on the other side of zero, where gradients jump.
    """
    net = weights(seed=seed)
    model = import_upstream(saved(tmp_path / "a.tar", net), HEADS).double().train()
    x_a, x_b = (normal(N, 3, SIDE, SIDE, seed=s).double() for s in (5, 6))

    z_a, z_b, p_a, p_b = model(x_a, x_b)
    loss = instance_loss(z_a, z_b) + cluster_loss(p_a[0], p_b[0])
    loss.backward()

    w = {k: v.double() for k, v in net.items()}
    ours = parameters(model)
    for name in ours:
        w[name] = w[name].requires_grad_()
    views = [literal.forward(w, x, HEADS, training=True) for x in (x_a, x_b)]
    (z_a, p_a), (z_b, p_b) = views
    expected = literal.instance_loss(z_a, z_b) + literal.cluster_loss(p_a, p_b)
    expected.backward()

    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=1e-5)
    assert set(ours) == {n for n in net if "running" not in n and "num_" not in n} - {
        "vtcc.pos_embed"
    }
    for name, parameter in ours.items():
        scale = max(1.0, float(w[name].grad.abs().max()))
        torch.testing.assert_close(
            parameter.grad.double() / scale, w[name].grad / scale, rtol=0, atol=1e-5, msg=name
        )


def test_running_statistics_move_a_tenth_towards_each_views_batch(tmp_path):
    net = weights()
    model = import_upstream(saved(tmp_path / "a.tar", net), HEADS).train()
    x_a, x_b = normal(N, 3, SIDE, SIDE, seed=5), normal(N, 3, SIDE, SIDE, seed=6)
    model(x_a, x_b)
    mean = net["vtcc.patch_embed.proj.1.running_mean"].double()
    variance = net["vtcc.patch_embed.proj.1.running_var"].double()
    for x in (x_a, x_b):
        kernel = net["vtcc.patch_embed.proj.0.weight"].double()
        y = literal.convolution(x.double(), kernel, stride=2).transpose(0, 1).flatten(1)
        mean = 0.9 * mean + 0.1 * y.mean(1)
        count = y.shape[1]
        variance = 0.9 * variance + 0.1 * ((y - y.mean(1)[:, None]) ** 2).sum(1) / (count - 1)
    norm = model.encoder.stem[1]
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), variance, rtol=0, atol=1e-5)
    assert int(norm.num_batches_tracked) == 7 + 2


def test_positions_are_the_literal_table():
    model = build(SMALL, 5, image_size=48, channels=3)
    table = literal.positions(3, SMALL.embed_dim)
    torch.testing.assert_close(model.encoder.positions[0].double(), table, rtol=0, atol=1e-6)
    assert "encoder.positions" not in dict(model.named_parameters())


def test_initial_weights():
    """Xavier-uniform linear layers, with q, k and v apart; zero biases; a class token of 1e-6."""
    torch.manual_seed(0)
    encoder = build(SMALL, 5, image_size=64, channels=3).encoder
    d = SMALL.embed_dim

    def is_uniform(weight, bound):
        weight = weight.detach()
        assert float(weight.abs().max()) <= bound
        assert float(weight.abs().max()) > 0.97 * bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)

    for block in encoder.blocks:
        for matrix in block.attn.qkv.weight.split(d):
            is_uniform(matrix, math.sqrt(6 / (d + d)))
        is_uniform(block.attn.proj.weight, math.sqrt(6 / (d + d)))
        is_uniform(block.mlp.fc1.weight, math.sqrt(6 / (d + 4 * d)))
        is_uniform(block.mlp.fc2.weight, math.sqrt(6 / (4 * d + d)))
        for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            assert not layer.bias.any()
        assert block.norm1.eps == block.norm2.eps == 1e-6
    assert float(encoder.class_token.detach().std()) == pytest.approx(1e-6, rel=0.25)
    assert float(encoder.class_token.detach().abs().max()) < 1e-5
    assert [m.bias is None for m in encoder.stem if isinstance(m, torch.nn.Conv2d)] == [
        *[True] * 4,
        False,
    ]
