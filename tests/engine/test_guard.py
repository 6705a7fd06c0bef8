import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.test_loop import tiny
from vtcc import config
from vtcc.engine import checkpoint, guard, loop
from vtcc.engine.scratch import STATE
from vtcc.errors import VtccError

CURVES = Path(__file__).parent / "curves"
HEALTHY = {
    "instance_loss": 2.5,
    "cluster_loss": 2.0,
    "entropy": 0.99,
    "smallest_cluster": 0.05,
    "largest_cluster": 0.2,
    "confidence": 0.6,
    "clusters_used": 10,
    "spread": 0.98,
    "agreement": 0.6,
}


def watched(*rows, steps_per_epoch=100, **changes):
    """The warnings over rows of figures; each is HEALTHY with changes."""
    watching = guard.Guard(tiny(**{"train.epochs": 50, **changes}), steps_per_epoch)
    for row in rows:
        watching.watch(HEALTHY | row)
    return watching.warnings


def test_spread_and_agreement_are_mean_cosines():
    rng = np.random.default_rng(0)
    u_a, u_b = rng.normal(1, 1, (7, 5)), rng.normal(1, 1, (7, 5))
    a = u_a / np.linalg.norm(u_a, axis=1, keepdims=True)
    b = u_b / np.linalg.norm(u_b, axis=1, keepdims=True)
    pairs = [a[i] @ a[j] for i in range(7) for j in range(7) if i != j]
    found = guard.spread_and_agreement(torch.tensor(u_a), torch.tensor(u_b))
    assert found[0] == pytest.approx(1 - np.mean(pairs), abs=1e-6)
    assert found[1] == pytest.approx(np.mean((a * b).sum(1)), abs=1e-6)
    same = torch.ones(4, 3)
    assert guard.spread_and_agreement(same, same).tolist() == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "preset", "changes", "images", "expected"),
    [
        ("ucmerced", "folder", {"train.num_clusters": 21, "train.epochs": 95}, 2100, []),
        (
            "digits-constant-rate",
            "digits",
            {"train.epochs": 30, "train.optimizer.warmup": 0.0},
            1797,
            [],
        ),
        ("imbalanced-uniform-prior", "digits", {}, 700, []),
        # Two clusters emptied soon after the prior began to follow the sizes.
        (
            "imbalanced-estimated-prior",
            "digits",
            {"train.loss.prior": "estimated"},
            700,
            [("clusters", 35)],
        ),
    ],
)
def test_recorded_trainings(name, preset, changes, images, expected):
    values = config.override(config.read_yaml(config.PRESETS / f"{preset}.yaml"), changes)
    params = config.from_dict(config.Params, values).train
    watching = guard.Guard(params, images // params.batch_size)
    with (CURVES / f"{name}.csv").open() as file:
        for row in csv.DictReader(file):
            figures = {k: float(v) for k, v in row.items()}
            empty = figures["smallest_cluster"] == 0
            watching.watch(figures | {"clusters_used": params.num_clusters - empty})
    assert [(w.kind, w.epoch) for w in watching.warnings] == expected
    assert watching.collapsed is None
    assert all("prior: estimated" in w.text for w in watching.warnings)


def test_of_parameters_that_nobody_chose_only_a_collapse_is_told():
    params = tiny(**{"train.epochs": 50})
    told = {}
    for used in (8, 2):
        watching = guard.Guard(params, 100)
        watching.remedies = False
        for _ in range(9):
            watching.watch(HEALTHY | {"clusters_used": used})
        told[used] = [(w.kind, w.epoch, w.text) for w in watching.warnings]
        assert watching.collapsed == (None if used == 8 else told[2][0][2])
    said = "2 of 10 clusters in use, the others are empty"
    assert told == {8: [], 2: [("clusters", 6, said)]}


@pytest.mark.parametrize(
    ("kind", "collapsed", "figures", "changes", "says"),
    [
        ("clusters", False, {"clusters_used": 8}, {}, ("8 of 10 clusters", "train.num_clusters")),
        (
            "clusters",
            False,
            {"clusters_used": 8},
            {"train.loss.entropy_weight": 0.0},
            ("entropy_weight is 0,", "set it to 1"),
        ),
        ("clusters", True, {"clusters_used": 2}, {"train.batch_size": 64}, ("2 of 10",)),
        (
            "balance",
            True,
            {"largest_cluster": 0.97, "entropy": 0.1, "clusters_used": 9},
            {},
            ("97%", "0.10 of 1.00"),
        ),
        ("undecided", True, {"confidence": 0.12}, {}, ("0.120", "learning_rate (0.001)")),
        ("embedding", True, {"spread": 0.01, "agreement": 0.99}, {}, ("0.0100", "warmup")),
        ("chance", True, {"instance_loss": 3.43}, {}, ("3.43", "augment-preview")),
        ("agreement", False, {"agreement": 0.995}, {}, ("0.995", "stronger preset")),
    ],
)
def test_each_state_is_told_once_with_its_figures(kind, collapsed, figures, changes, says):
    (warned,) = watched(*[{}] * 5, *[figures] * 20, **changes)
    assert (warned.kind, warned.epoch, warned.collapsed) == (kind, 8, collapsed)
    for words in says:
        assert words in warned.text
    assert str(warned).startswith("warning, epoch 8: ")
    assert json.loads(json.dumps(warned.to_dict()))["kind"] == kind


def test_a_rising_loss_is_told_by_what_had_been_won():
    falling = [{"instance_loss": 3.4 - 0.1 * i} for i in range(10)]
    rising = [{"instance_loss": 2.5 + 0.3 * i} for i in range(3)]
    (warned,) = watched(*falling, *[{"instance_loss": 2.9}] * 3)
    assert (warned.kind, warned.collapsed) == ("rising", False)
    assert "4.900, from 4.500 at epoch 10" in warned.text
    assert watched(*falling, *rising[:2], *[{"instance_loss": 2.5}] * 9) == []


def test_worse_is_told_again_and_a_short_dip_not_at_all():
    down = [{"clusters_used": n} for n in (9, 9, 9, 9, 8, 8, 8, 7, 7, 7, 7)]
    assert [w.text[:7] for w in watched(*[{}] * 5, *down)] == ["9 of 10", "7 of 10"]
    dip = [{"clusters_used": 5}] * 2
    assert watched(*[{}] * 5, *dip, {}, *dip, {}) == []


def test_an_untrained_model_is_not_judged():
    bad = {"instance_loss": 3.43, "clusters_used": 3, "spread": 0.01, "confidence": 0.1}
    assert watched(*[bad] * 10, steps_per_epoch=9) == []  # 90 steps, and the warm-up
    warmed = {"train.optimizer.warmup": 0.5}
    assert watched(*[bad] * 25, steps_per_epoch=4, **warmed) == []


def test_unequal_sizes_that_were_asked_for_are_no_imbalance():
    sizes = {"train.loss.prior": "given", "train.loss.prior_sizes": [90, 2, 1, 1, 1, 1, 1, 1, 1, 1]}
    uneven = {"largest_cluster": 0.9, "entropy": 0.25}
    assert watched(*[uneven] * 20, **sizes) == []
    assert [w.kind for w in watched(*[uneven] * 20)] == ["balance"]


def test_what_is_not_known_is_not_judged():
    unknown = dict.fromkeys(
        ("entropy", "confidence", "clusters_used", "largest_cluster", "smallest_cluster"), np.nan
    )
    assert watched(*[unknown] * 20, **{"train.model.projectors": "instance"}) == []


def stripes(count=160):
    """Four kinds of patterns with noise, (count, 16, 16, 1) uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:16, 0:16]
    waves = [np.sin(1.2 * x), np.sin(1.2 * y), np.sin(0.8 * (x + y)), np.sin(x) * np.sin(y)]
    pixels = np.stack([waves[i % 4] for i in range(count)]) * 60 + 128
    pixels = pixels + rng.normal(0, 20, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)[..., None]


class Hears(loop.Silent):
    def __init__(self):
        self.heard = []

    def on_warning(self, warned):
        self.heard.append(warned)


def trained(scratch, callbacks, **changes):
    params = tiny(**{"train.num_clusters": 4, "train.epochs": 9, **changes})
    images = stripes()
    return loop.fit(
        images,
        np.arange(len(images)),
        params,
        mean=(0.5,),
        std=(0.25,),
        scratch=scratch,
        callbacks=callbacks,
    )


def test_a_healthy_training_does_not_warn_and_has_the_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "GRACE_STEPS", 40)
    fitted = trained(tmp_path, ears := Hears())
    assert fitted.warnings == ears.heard == []
    for row in fitted.curves:
        assert row["clusters_used"] == 4
        assert 0.25 <= row["largest_cluster"] < 0.6
        assert 0.3 < row["spread"] < 1.1
        assert 0.2 < row["agreement"] < 0.9


COLLAPSES = {"train.optimizer.learning_rate": 0.2}


def test_a_collapsing_training_warns_and_stops_only_where_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(guard, "GRACE_STEPS", 40)
    abort = COLLAPSES | {"train.collapse": "abort"}
    with pytest.raises(VtccError, match=r"collapsed at epoch \d of 9: all images have nearly") as e:
        trained(tmp_path, first := Hears(), **abort)
    assert "Set train.collapse: warn" in str(e.value)
    (warned,) = first.heard
    assert warned.kind == "embedding"
    assert "learning_rate (0.2)" in warned.text
    assert str(warned) in capsys.readouterr().out
    state = checkpoint.load_state(tmp_path / STATE)
    assert state["step"] == 10 * warned.epoch

    with pytest.raises(VtccError, match=f"collapsed at epoch {warned.epoch} of 9"):
        trained(tmp_path, second := Hears(), **abort)  # not one step further
    assert second.heard == []
    assert checkpoint.load_state(tmp_path / STATE)["step"] == state["step"]

    # Goes on from there, as the policy changes no weight.
    fitted = trained(tmp_path, third := Hears(), **COLLAPSES, **{"train.collapse": "off"})
    assert len(fitted.curves) == 9
    assert third.heard == []
    assert fitted.warnings[0] == warned
