import math
from unittest.mock import create_autospec

import pytest
import torch

from vtcc.config import Model
from vtcc.engine.frozen import FeatureInput
from vtcc.engine.model import VTCC, build, parameter_count, projector
from vtcc.engine.vit import VisionTransformer, class_token_of, conv_stem, sincos_positions

SIZES = Model(
    stem="conv",
    patch_size=4,
    embed_dim=16,
    depth=2,
    num_heads=4,
    mlp_ratio=4.0,
    feature_dim=8,
    num_cluster_heads=3,
)


@pytest.mark.parametrize(
    ("d", "depth", "expected"), [(192, 4, 3_634_541), (384, 8, 21_364_037), (768, 12, 113_224_181)]
)
def test_parameter_counts_are_the_papers(d, depth, expected):
    with torch.device("meta"):
        encoder = VisionTransformer(
            image_size=224,
            channels=3,
            stem="conv",
            patch_size=16,
            embed_dim=d,
            depth=depth,
            num_heads=12,
        )
        assert parameter_count(VTCC(encoder, num_clusters=21)) == expected


def test_conv_stem_of_patch_16_has_the_papers_channels():
    convolutions = [m for m in conv_stem(3, 384, 16) if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [48, 96, 192, 384, 384]
    assert [c.kernel_size for c in convolutions] == [(3, 3)] * 4 + [(1, 1)]
    assert [c.bias is None for c in convolutions] == [True] * 4 + [False]


def test_positions_are_ordered_sin_w_cos_w_sin_h_cos_h():
    positions = sincos_positions(grid=3, embed_dim=8)
    assert positions.shape == (1, 10, 8)
    assert torch.equal(positions[0, 0], torch.zeros(8))
    row, column = 2, 1
    omega = [1.0, 10000 ** (-1 / 2)]
    expected = (
        [math.sin(row * o) for o in omega]  # the sources' w counts rows
        + [math.cos(row * o) for o in omega]
        + [math.sin(column * o) for o in omega]
        + [math.cos(column * o) for o in omega]
    )
    token = positions[0, 1 + row * 3 + column]
    torch.testing.assert_close(token, torch.tensor(expected), rtol=1e-6, atol=1e-6)


def test_initial_weights_treat_q_k_and_v_as_separate_xavier_matrices():
    encoder = build(SIZES, 5, image_size=16, channels=1).encoder
    qkv = encoder.blocks[0].attn.qkv
    bound = math.sqrt(6 / (16 + 16))
    assert 0.9 * bound < float(qkv.weight.detach().abs().max()) <= bound
    assert float(qkv.bias.detach().abs().max()) == 0
    assert float(encoder.class_token.detach().abs().max()) < 1e-4
    assert encoder.norm.eps == encoder.blocks[0].norm1.eps == 1e-6


@pytest.mark.parametrize("stem", ["conv", "patchify"])
def test_forward_gives_unit_features_and_distributions_of_every_head(stem):
    from dataclasses import replace

    torch.manual_seed(0)
    model = build(replace(SIZES, stem=stem), 5, image_size=16, channels=1)
    x = torch.rand(6, 1, 16, 16)
    z_a, z_b, p_a, p_b = model(x, x.flip(3))
    assert z_a.shape == z_b.shape == (6, 8)
    assert p_a.shape == p_b.shape == (3, 6, 5)
    torch.testing.assert_close(z_a.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(p_b.sum(dim=2), torch.ones(3, 6))


def test_forward_is_two_passes_so_each_view_has_its_own_batch_statistics():
    torch.manual_seed(0)
    model = build(SIZES, 5, image_size=16, channels=1)
    x_a, x_b = torch.rand(6, 1, 16, 16), torch.rand(6, 1, 16, 16) * 0.1
    z_a, _, p_a, _ = model(x_a, x_b)
    alone_z, alone_p = model.project(model.encoder(x_a))
    torch.testing.assert_close(z_a, alone_z)
    torch.testing.assert_close(p_a, alone_p)


def test_assign_uses_the_selected_head():
    torch.manual_seed(0)
    model = build(SIZES, 5, image_size=16, channels=1).eval()
    x = torch.rand(4, 1, 16, 16)
    _, p = model.project(model.encoder(x))
    model.selected_head.fill_(2)
    torch.testing.assert_close(model.assign(x), p[2])
    assert model.embed(x).shape == (4, 16)


def test_attention_kernels_agree():
    torch.manual_seed(0)
    model = build(SIZES, 5, image_size=16, channels=1).eval()
    x = torch.rand(4, 1, 16, 16)
    fused = model.embed(x)
    model.encoder.use_fused_attention(False)
    torch.testing.assert_close(model.embed(x), fused, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_the_last_blocks_shortcut_is_the_block(fused):
    torch.manual_seed(0)
    encoder = build(SIZES, 5, image_size=16, channels=1).encoder
    encoder.use_fused_attention(fused)
    for p in encoder.parameters():  # biases and norms that are not trivial
        torch.nn.init.normal_(p, std=0.3)
    block = encoder.blocks[-1]
    tokens = torch.randn(3, 17, 16, requires_grad=True)
    short, whole = class_token_of(block, tokens), block(tokens)[:, 0]
    torch.testing.assert_close(short, whole, rtol=1e-5, atol=1e-5)
    weights = [tokens, *block.parameters()]
    for a, b in zip(
        torch.autograd.grad(short.square().sum(), weights),
        torch.autograd.grad(whole.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_new_heads_leave_the_generators_of_torch_as_they_were(monkeypatch):
    """`torch.manual_seed` seeds the GPUs' generators too, and nothing would put those back."""
    seeded = create_autospec(torch.cuda.manual_seed_all)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    model = VTCC(FeatureInput(4), 3, 8, num_cluster_heads=4)
    before = [p.detach().clone() for p in model.cluster_projectors.parameters()]
    state = torch.get_rng_state()
    weights = model.restart_heads(5)
    assert torch.equal(torch.get_rng_state(), state)
    seeded.assert_not_called()
    after = list(model.cluster_projectors.parameters())
    half = len(after) // 2
    assert all(torch.equal(a, b) for a, b in zip(before[:half], after[:half], strict=True))
    assert all(a is b for a, b in zip(after[half:], weights, strict=True))
    drawn = [head[0].weight.detach().clone() for head in list(model.cluster_projectors)[2:]]
    torch.manual_seed(5)
    expected = [projector(4, 3) for _ in range(2)]  # the weights that this seed has always given
    assert all(torch.equal(d, e[0].weight) for d, e in zip(drawn, expected, strict=True))
