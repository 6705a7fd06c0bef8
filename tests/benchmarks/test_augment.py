import json
import sys

import pytest
import torch

from benchmarks import augment, augment_others


def test_quick_measures_each_contestant_and_says_who_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)  # importing it fails
    out = tmp_path / "deep" / "augment.json"
    augment.main(["--quick", "--sizes", "32", "--presets", "aerial", "--out", str(out)])

    record = json.loads(out.read_text())
    assert record["quick"] and record["machine"]["threads"] == 1
    assert record["machine"]["torch"] == torch.__version__
    rows = {row["contestant"]: row for row in record["rows"]}
    assert list(rows) == list(augment.CONTESTANTS)
    assert "not installed" in rows.pop("kornia")["missing"]
    for row in rows.values():
        for figure in ("wall", "cpu", "ratio_wall", "ratio_cpu"):
            one = row[figure]
            assert 0 < one["low"] <= one["median"] <= one["high"]
    assert rows["ours"]["ratio_cpu"]["high"] == 1
    shares = [operation["share"] for operation in record["profiles"]["aerial 32"]]
    assert 0 < sum(shares) <= 1 and shares == sorted(shares, reverse=True)
    printed = capsys.readouterr().out
    assert "torchvision-pil" in printed and "kornia is not installed" in printed


@pytest.mark.parametrize("pil", [True, False])
@pytest.mark.parametrize("name", ["aerial", "glyphs"])
def test_torchvision_makes_views_in_range_that_differ(name, pil):
    images = augment.photos(3, 1 if name == "glyphs" else 3, 20)
    make = augment_others.torchvision_views(images, augment.preset(name), pil=pil)
    x = make()
    assert x.shape == images.shape and x.dtype == torch.float32
    assert float(x.min()) >= 0 and 0.2 < float(x.max()) <= 1
    assert float((x - make()).abs().mean()) > 0.01


def test_the_same_operations_are_on():
    """What a preset switches off is not measured, what it switches on is."""
    names = [type(step).__name__ for step in augment_others.steps(augment.preset("natural"), 32, 3)]
    expected = ["RandomResizedCrop", "RandomHorizontalFlip", "RandomApply", "RandomGrayscale"]
    assert names[:5] == [*expected, "RandomApply"]
    aerial = [type(step).__name__ for step in augment_others.steps(augment.preset("aerial"), 32, 3)]
    assert {"RandomVerticalFlip", "RandomRotation"} <= set(aerial)
