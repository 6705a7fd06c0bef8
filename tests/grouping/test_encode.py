"""The sketches of files that come with a pretrained encoder's features."""

import numpy as np
import pytest
from PIL import Image

from tests.fakes import stand_in
from vtcc import config
from vtcc.config import compose
from vtcc.data import duplicates
from vtcc.data import images as decoder
from vtcc.engine import features, runtime
from vtcc.grouping import encode, intake

COUNT, SIZE = 40, 96
HOW = {"channels": 3, "max_pixels": 10**6}


def means(x):
    """Three numbers per image instead of an encoder."""
    return x.mean(dim=(2, 3)).numpy()


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """Embeds pictures of noise in one work directory, by a runtime instead of an encoder."""
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(COUNT):
        pixels = np.random.default_rng(i).integers(0, 256, (100, 100, 3), np.uint8)
        Image.fromarray(pixels * (i != 5)).save(root / f"{i:02d}.png")  # one is black
    found = intake.listed(root)
    cache, _, _ = intake.cached(found, tmp_path / "cache", name="a", size=64, **HOW)
    sizes = {"train.image_size": SIZE, "validate.image_size": SIZE, "embed.views": 1}
    params = config.override(compose.compose("folder", encoder="lite0"), sizes)
    monkeypatch.setattr(features, "_SECONDS", 0.0)  # every block is flushed

    def embed(compute=means):
        stand_in(monkeypatch, runtime, "of_encoder", lambda *_, **__: compute)
        return encode.encoded(list(found.files), cache, params, tmp_path)[1]

    return embed, np.stack(
        [duplicates.sketch(decoder.load(file, size=SIZE, **HOW)) for file in found.files]
    )


def test_sketches_are_of_the_pixels_that_the_model_reads(embedded):
    embed, expected = embedded
    np.testing.assert_array_equal(embed(), expected)


def test_sketches_survive_a_kill_and_lost_ones_are_made_again(embedded, tmp_path, monkeypatch):
    embed, expected = embedded
    calls = iter(range(1000))

    def stops(x):
        if next(calls) == 2:  # of the second block
            raise KeyboardInterrupt
        return means(x)

    with pytest.raises(KeyboardInterrupt):
        embed(stops)
    kept = tmp_path / encode._SKETCHES
    lost = np.load(kept, mmap_mode="r+")
    assert lost[:16].any(axis=(1, 2)).sum() == 15
    lost[3] = 0
    read = stand_in(monkeypatch, decoder, "decode", decoder.decode)
    np.testing.assert_array_equal(embed(), expected)
    again = [call.args[0].name for call in read.call_args_list]
    assert sorted(again) == [f"{i:02d}.png" for i in (3, 5, *range(16, COUNT))]
    kept.write_bytes(b"")
    np.testing.assert_array_equal(embed(), expected)
