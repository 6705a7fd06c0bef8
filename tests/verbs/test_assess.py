"""`vtcc assess`, but for what it computes, which is the stage's."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.fakes import stand_in
from vtcc import config, paths
from vtcc.data.cache import CacheWriter
from vtcc.stages import evaluate
from vtcc.verbs import assess, predict


@pytest.fixture
def assessed(tmp_path, monkeypatch):
    """Assesses a model trained on images of a digest; `write_reports` is told, and does nothing."""
    monkeypatch.chdir(tmp_path)
    paths.PARAMS.write_text((config.PRESETS / "tiny.yaml").read_text())
    written = stand_in(monkeypatch, evaluate, "write_reports")

    def of(trained_on, held_out):
        with CacheWriter(paths.CACHE, name="toys", image_size=8, channels=1) as writer:
            for i in range(4):
                split = "holdout" if i < held_out else "train"
                writer.add(f"{i}.png", split, np.zeros((8, 8, 1), np.uint8))
            cache = writer.finish()
        info = {"dataset": {"digest": trained_on or cache.digest}}
        model = SimpleNamespace(info=info, cache_size=8, channels=1)
        stand_in(monkeypatch, predict, "load", lambda *given: model)
        assess.run("models:/vtcc-toys/3")
        return written

    return of


def test_images_that_the_model_may_have_seen_are_not_called_held_out_without_a_word(
    assessed, capsys
):
    """One image more or less draws another hold-out: the model's own is in the training images."""
    assessed("of another time", held_out=1)
    said = capsys.readouterr().out
    assert "models:/vtcc-toys/3: not trained on the images of data/cache as they are now" in said
    assessed(None, held_out=1)  # the same images, so the same hold-out
    assessed("of another time", held_out=0)
    assert "held out" not in capsys.readouterr().out


def test_reports_of_the_pipeline_stay(assessed):
    assert assessed(None, held_out=0).call_args.kwargs["reports"] == paths.REPORTS / "assess"
