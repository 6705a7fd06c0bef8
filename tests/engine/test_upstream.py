"""Checkpoints in the authors' layout, read into our model."""

import argparse
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from tests.engine import literal
from tests.test_zip_file import member
from vtcc import cli
from vtcc.config import to_dict
from vtcc.engine import checkpoint, predict
from vtcc.engine.upstream import read_upstream
from vtcc.errors import VtccError

D, DEPTH, HEADS, K, SIDE = 16, 2, 4, 5, 32


def weights(stem="conv", positions="fixed", seed=0):
    """Random weights under upstream's names; 2 x 2 tokens, patch 16."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=0.3, around=0.0):
        return around + scale * torch.randn(shape, generator=g)

    def norm(name, width):
        return {f"{name}.weight": draw(width, around=1.0), f"{name}.bias": draw(width)}

    def batchnorm(name, width):
        return norm(name, width) | {
            f"{name}.running_mean": draw(width),
            f"{name}.running_var": 1 + draw(width).abs(),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    def linear(name, out, width):
        return {f"{name}.weight": draw(out, width), f"{name}.bias": draw(out)}

    net = {"vtcc.cls_token": draw(1, 1, D)}
    table = literal.positions(SIDE // 16, D)[None].float()
    if positions == "fixed":
        net["vtcc.pos_embed"] = table
    elif positions == "learned":
        net["vtcc.pos_embed"] = table + draw(*table.shape)
    if stem == "conv":
        width = 3
        for i, out in enumerate((D // 8, D // 4, D // 2, D)):
            net[f"vtcc.patch_embed.proj.{3 * i}.weight"] = draw(out, width, 3, 3)
            net |= batchnorm(f"vtcc.patch_embed.proj.{3 * i + 1}", out)
            width = out
        net["vtcc.patch_embed.proj.12.weight"] = draw(D, D, 1, 1)
        net["vtcc.patch_embed.proj.12.bias"] = draw(D)
    else:
        net["vtcc.patch_embed.proj.weight"] = draw(D, 3, 16, 16, scale=0.03)
        net["vtcc.patch_embed.proj.bias"] = draw(D)
    for i in range(DEPTH):
        block = f"vtcc.blocks.{i}"
        net |= norm(f"{block}.norm1", D) | norm(f"{block}.norm2", D)
        net |= linear(f"{block}.attn.qkv", 3 * D, D) | linear(f"{block}.attn.proj", D, D)
        net |= linear(f"{block}.mlp.fc1", 4 * D, D) | linear(f"{block}.mlp.fc2", D, 4 * D)
    net |= norm("vtcc.norm", D)
    for name, out in (("instance_projector", 8), ("cluster_projector", K)):
        net |= linear(f"{name}.0", 4 * D, D) | batchnorm(f"{name}.1", 4 * D)
        net |= linear(f"{name}.3", 4 * D, 4 * D) | batchnorm(f"{name}.4", 4 * D)
        net |= linear(f"{name}.6", out, 4 * D)
    return net


def import_upstream(*given):
    return read_upstream(*given)[0]


def saved(path, net, **beside):
    torch.save({"net": net, "optimizer": {"state": {}}, "epoch": 3} | beside, path)
    return path


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stem", ["conv", "patchify"])
@pytest.mark.parametrize("positions", ["fixed", "learned", "absent"])
def test_outputs_are_those_of_the_checkpoint(tmp_path, training, stem, positions):
    net = weights(stem, positions)
    size = SIDE if positions == "absent" else None
    model = import_upstream(saved(tmp_path / "a.tar", net), HEADS, size).train(training)
    x_a, x_b = torch.rand(2, 6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    z_a, z_b, p_a, p_b = model(x_a, x_b)
    for x, z, p in ((x_a, z_a, p_a), (x_b, z_b, p_b)):
        expected_z, expected_p = literal.forward(net, x, HEADS, training=training)
        torch.testing.assert_close(z.double(), expected_z, rtol=0, atol=1e-5)
        torch.testing.assert_close(p[0].double(), expected_p, rtol=0, atol=1e-5)


def test_sizes_follow_from_the_tensors(tmp_path):
    model, facts = read_upstream(saved(tmp_path / "a.tar", weights()), HEADS)
    section = to_dict(facts.model)
    assert (
        section
        | {
            "stem": "conv",
            "patch_size": 16,
            "embed_dim": D,
            "depth": DEPTH,
            "num_heads": HEADS,
            "mlp_ratio": 4.0,
            "feature_dim": 8,
            "num_cluster_heads": 1,
        }
        == section
    )
    assert (facts.num_clusters, facts.image_size, facts.channels) == (K, SIDE, 3)
    assert not model.training
    assert int(model.instance_projector[1].num_batches_tracked) == 7


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: f"module.{key}",
        lambda key: key.replace("vtcc.", "vtcc.encoder."),
        lambda key: key.replace("vtcc.", "module.vtcc.encoder.", 1),
    ],
)
def test_prefixes_and_wrappers_do_not_matter(tmp_path, rename):
    net = weights()
    expected = import_upstream(saved(tmp_path / "a.tar", net), HEADS).state_dict()
    extra = {"vtcc.head.weight": torch.zeros(1000, D), "vtcc.head.bias": torch.zeros(1000)}
    renamed = {rename(k): v for k, v in (net | extra).items()}
    torch.save(renamed, tmp_path / "bare.pt")
    save_file({k: v.contiguous() for k, v in renamed.items()}, tmp_path / "b.safetensors")
    for file in (saved(tmp_path / "b.tar", renamed), tmp_path / "bare.pt", "b.safetensors"):
        found = import_upstream(tmp_path / file, HEADS).state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_fixed_positions_hold_at_any_size_and_learned_ones_at_one(tmp_path):
    fixed = saved(tmp_path / "fixed.tar", weights())
    assert import_upstream(fixed, HEADS, 64).encoder.positions.shape == (1, 17, D)
    learned = saved(tmp_path / "learned.tar", weights(positions="learned"))
    with pytest.raises(VtccError, match="hold at 32 pixels only"):
        import_upstream(learned, HEADS, 64)
    with pytest.raises(VtccError, match="40 is not a multiple of its patch, 16"):
        import_upstream(fixed, HEADS, 40)
    with pytest.raises(VtccError, match=r"--num-heads 12 does not divide .* d = 16; .* 1, 2, 4"):
        import_upstream(fixed)


def test_the_authors_grid_counts_rows_first(tmp_path):
    """Their table, by their formula: meshgrid(w, h) indexed "ij" makes w the row."""
    at = torch.arange(3, dtype=torch.float32)
    w, h = torch.meshgrid(at, at, indexing="ij")
    omega = 1 / 10000 ** (torch.arange(D // 4) / (D // 4))
    parts = [f(axis.flatten()[:, None] * omega) for axis in (w, h) for f in (torch.sin, torch.cos)]
    table = torch.cat([torch.zeros(1, D), torch.cat(parts, dim=1)])[None]
    file = saved(tmp_path / "a.tar", weights() | {"vtcc.pos_embed": table})
    grown = import_upstream(file, HEADS, 64).encoder.positions
    absent = import_upstream(saved(tmp_path / "b.tar", weights(positions="absent")), HEADS, 48)
    torch.testing.assert_close(absent.encoder.positions, table, rtol=0, atol=1e-6)
    torch.testing.assert_close(grown[0, 2], table[0, 2], rtol=0, atol=1e-6)  # row 0, column 1


def without(net, *names):
    return {k: v for k, v in net.items() if k not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: without(n, "vtcc.norm.bias"), r"1 missing: vtcc.norm.bias"),
        (
            lambda n: n | {f"vtcc.blocks.0.extra{i}": torch.ones(1) for i in range(5)},
            r"5 unexpected: vtcc.blocks.0.extra0, vtcc.blocks.0.extra1, \S+, \.\.\.",
        ),
        (
            lambda n: n | {"\x1b[2J\n" + 3000 * "x": torch.ones(1)},
            r"1 unexpected: \\x1b\[2J x{89}\.{3}\)$",
        ),
        (
            lambda n: n | {"\x1b" + 300 * "x" + ".cluster_projector.6.bias": torch.ones(1)},
            r": \\x1bx{93}\.\.\.: holds the same part twice$",
        ),
        (
            lambda n: n | {"cluster_projector.3.bias": torch.ones(3)},
            r"ill-shaped: cluster_projector.3.bias \(3,\), expected \(64,\)",
        ),
        (
            lambda n: {k.replace("blocks.1.", "blocks.7."): v for k, v in n.items()},
            r"12 missing: vtcc.blocks.1.norm1.weight.*12 unexpected: vtcc.blocks.7",
        ),
        (lambda n: without(n, "vtcc.cls_token"), "expected one encoder with a cls_token, found 0"),
        (lambda n: without(n, "cluster_projector.6.weight"), "without cluster_projector.6.weight"),
        (lambda n: n | {"vtcc.pos_embed": torch.ones(1, 4, D)}, "expected .1, 1 . a square numb"),
        (lambda n: n | {"vtcc.norm.bias": torch.full((D,), torch.nan)}, "not finite: vtcc.norm.b"),
        (lambda n: n | {"vtcc.norm.bias": torch.ones(D).long()}, "norm.bias: of type int64"),
        (lambda n: n | {"vtcc.norm.bias": torch.ones(D).cfloat()}, "norm.bias: of type complex64"),
        (
            lambda n: n | {"vtcc.patch_embed.proj.1.running_var": -torch.ones(D // 8)},
            "proj.1.running_var: a variance below zero",
        ),
        (lambda n: n | {"x": torch.ones(1).expand(10**12)}, "claim to be larger than the file"),
        (lambda n: n | {"vtcc.norm.bias": torch.ones(D).to_sparse()}, "not plain tensors"),
    ],
)
def test_weights_that_are_not_those_of_a_vtcc_are_named(tmp_path, change, message):
    file = saved(tmp_path / "a.tar", change(weights()))
    with pytest.raises(VtccError, match=message) as refused:
        import_upstream(file, HEADS)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)


def zipped(data, compression=zipfile.ZIP_DEFLATED, name="archive/data.pkl"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"just some text", "it is text"),
        (b"cposix\nsystem\n(S'echo ran'\ntR.\x00\x80", r"holds more than tensors \(posix.system"),
        (zipped(b"\0" * 10**8), "expands to 100,000,000 bytes"),
        (zipped(b"nothing", zipfile.ZIP_STORED), "not a checkpoint of tensors"),
        (zipped(b"nothing", zipfile.ZIP_STORED)[:-9], "cut short or damaged"),
        (member(zipped(b"nothing"), 6, 99), "damaged: zip file version"),
        (
            zipped(b"nothing").replace(b"PK\5\6", b"PK\6\7" + bytes(12) + b"\2\0\0\0PK\5\6"),
            "damaged: zipfiles that span multiple disks",
        ),
        (zipped(b"nothing", name="a/photo.png"), "a zip archive of other things"),
        (b"\x10\0\0\0\0\0\0\0{", "damaged safetensors"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path, content, message):
    file = tmp_path / "a.tar"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(VtccError, match=message) as refused:
        import_upstream(file, HEADS)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)


class Evil:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.mark.parametrize("beside", [argparse.Namespace(seed=1), np.float64(0.5), Evil()])
def test_no_code_is_run_and_the_user_learns_a_way(tmp_path, capsys, beside):
    file = saved(tmp_path / "a.tar", weights(), beside=beside)
    with pytest.raises(VtccError, match=r"holds more than tensors \(\S+\).*weights\.pt"):
        import_upstream(file, HEADS)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("positions", ["fixed", "learned"])
def test_an_imported_model_predicts(tmp_path, positions, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = weights(positions=positions)
    saved(tmp_path / "a.tar", net)
    run = CliRunner().invoke
    wanted = ["import-checkpoint", "a.tar", "--out", "model", "--num-heads", str(HEADS)]
    result = run(cli.app, wanted)
    assert result.exit_code == 0, result.output
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    files = ["0.png", "1.png", "2.png"]
    result = run(cli.app, ["predict", *files, "--model", "model", "--out", "out.csv"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.csv").read_text().count("\n") == 4

    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = torch.from_numpy((images / 255 - mean) / std).permute(0, 3, 1, 2)
    found = predict.load("model").predict(images)
    np.testing.assert_allclose(
        found.probabilities, literal.forward(net, x, HEADS, training=False)[1], atol=1e-5
    )
    model, info = checkpoint.read_model(tmp_path / "model")
    assert isinstance(model, nn.Module)
    assert info["imported"]["file"] == "a.tar"


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_the_file_to_import_is_never_deleted(tmp_path, monkeypatch, force):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ck").mkdir()
    file = saved(tmp_path / "ck" / "a.tar", weights())
    wanted = ["import-checkpoint", "ck/a.tar", "--out", "ck", "--num-heads", str(HEADS), *force]
    result = CliRunner().invoke(cli.app, wanted)
    assert result.exit_code != 0
    assert "holds ck/a.tar, which is to be imported" in str(result.exception)
    assert file.exists()


def test_only_a_vtcc_model_is_replaced_without_force(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.tar", weights())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.png").touch()

    def run(*options):
        arguments = ["import-checkpoint", "a.tar", "--num-heads", "4", *options]
        return CliRunner().invoke(cli.app, arguments).exception

    assert "not empty and no vtcc model" in str(run("--out", "photos"))
    assert "holds the current directory" in str(run("--out", ".", "--force"))
    assert "a.tar: a file" in str(run("--out", "a.tar"))
    assert (tmp_path / "photos/1.png").exists()
    assert run("--out", "photos", "--force") is None
    assert run("--out", "photos") is None
    assert sorted(p.name for p in (tmp_path / "photos").iterdir()) == [
        "DATA.md",
        "README.md",
        "model.json",
        "model.safetensors",
    ]
