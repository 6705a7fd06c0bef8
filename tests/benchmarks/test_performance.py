import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gemm, limits, per_image, performance, scaling, step, timing
from tests.engine.test_loop import tiny
from vtcc import config

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_records_give(monkeypatch):
    monkeypatch.chdir(ROOT)
    performance.main(["--check"])


def test_check_notices_an_edited_page_and_missing_records_are_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("")
    performance.main([])
    page = tmp_path / "docs" / "performance.md"
    text = page.read_text()
    for name in performance.SECTIONS:
        assert f"Not measured: `python -m benchmarks.{name}`" in text
    performance.main(["--check"])
    page.write_text(text + "faster\n")
    with pytest.raises(SystemExit, match=r"run `python -m benchmarks\.performance`"):
        performance.main(["--check"])


class Counted:
    """A turn that only says what it is told to do."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def start(self):
        self.log.append(f"start {self.name}")

    def step(self):
        self.log.append(self.name)
        return 4

    def stop(self):
        self.log.append(f"stop {self.name}")


def test_turns_alternate_and_their_first_step_does_not_count(monkeypatch):
    log, clock = [], iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    turns = {name: Counted(log, name) for name in "ab"}
    rates = timing.interleaved(turns, rounds=2, seconds=0.5)
    once = ["start a", "a", "a", "stop a", "start b", "b", "b", "stop b"]
    assert log == once * 2
    # began at 0, nothing done yet at 1, enough at 2, the end at 3
    assert rates == {"a": [4 / 3, 4 / 3], "b": [4 / 3, 4 / 3]}
    assert timing.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == {"median": 2, "low": 1, "high": 3}


def test_the_products_of_a_step_are_all_found():
    x, layer = torch.randn(8, 3), torch.nn.Linear(3, 5)
    products, flops = gemm.recorded(lambda: layer(x).sum().backward())
    # 8x3 by 3x5 forward, and 5x8 by 8x3 for the weight: x needs no gradient
    assert sum(products.values()) == 2
    assert sum(n * gemm._flops(key) for (_, key), n in products.items()) == 2 * 2 * 8 * 3 * 5
    assert flops == 2 * 2 * 8 * 3 * 5
    rate, seconds = gemm.ceiling(products, "cpu", seconds=0.001)
    assert rate == pytest.approx(flops / seconds)


def test_the_baselines_shortcut_free_encoder_gives_the_same_token():
    from benchmarks.trial import Trial
    from vtcc.engine.kernels import resolve

    params = tiny(**{"train.precision": "fp32", "train.device": "cpu"})
    encoder = Trial(params, resolve(params), 1).model.encoder.eval()
    x = torch.rand(2, 1, 16, 16)
    assert torch.allclose(per_image.all_tokens(encoder, x), encoder(x), atol=1e-5)


@pytest.mark.parametrize("preset", ["natural", "glyphs", "aerial", "paper"])
def test_views_per_image_are_images_in_the_range_of_their_normalisation(preset):
    file = config.PRESETS / "augment" / f"{preset}.yaml"
    p = config.from_dict(config.Augment, config.read_yaml(file), preset)
    channels = 1 if preset == "glyphs" else 3
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 20, channels), np.uint8)
    a, b = next(iter(per_image.loader(images, p, 16, 4, workers=0)))
    assert a.shape == b.shape == (4, channels, 16, 16)
    assert a.dtype == torch.float32
    assert not torch.equal(a, b)
    assert a.std() > 0.05
    if not p.noise:
        assert a.abs().max() <= 1


def test_the_warp_without_strength_is_the_identity():
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    warped = per_image.warp(Image.fromarray(pixels), 0.0, 4)
    assert np.abs(np.asarray(warped).astype(int) - pixels).max() <= 1


@pytest.mark.slow
def test_the_benchmarks_run_and_the_page_shows_them(tmp_path, monkeypatch):
    records = tmp_path / "benchmarks/records/performance"
    step.main(["--quick", "--shapes", "digits", "--workers", "0", "--out", f"{records}/step.json"])
    limits.main(["--quick", "--shapes", "digits", "--out", f"{records}/limits.json"])
    scaling.main(["--quick", "--sweeps", "clusters", "--out", f"{records}/scaling.json"])
    text = performance.render(tmp_path)
    found = json.loads((records / "step.json").read_text())["shapes"]["digits"]
    ratio = performance.spread(found["ratios"]["ours / per image fp32"], "{:.2f}")
    assert f"| ours / per image fp32 | {ratio} |" in text
    assert "| clusters | 100 |" in text
    assert text.count("Not measured") == 2
