import resource
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engine.test_loop import tiny
from tests.fakes import stand_in
from vtcc.engine import memory, plan
from vtcc.engine.flops import flops_per_image
from vtcc.engine.memory import Footprint, Tracker, cgroup_room, readable
from vtcc.errors import VtccError

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 1), dtype=np.uint8)
ROWS = np.arange(300)
STATS = {"mean": (0.5,), "std": (0.3,)}


def test_the_tracker_counts_what_lives_and_its_peak():
    kept = torch.zeros(1000)
    with Tracker() as tracker:
        tracker.add(kept)
        assert tracker.live == 4000
        a = torch.ones(500)
        view = a[10:20]  # the same memory
        b = a + 1
        assert tracker.live == 4000 + 2000 + 2000
        del a, b
        assert tracker.live == 4000 + 2000
        del view
    assert tracker.live == 4000
    assert tracker.peak == 8000


def test_the_tracker_sees_what_the_backward_pass_needs():
    weight = torch.zeros(100, 100, requires_grad=True)
    x = torch.zeros(50, 100)
    with Tracker() as tracker:
        tracker.add(weight)
        tracker.add(x)
        (x @ weight).relu().sum().backward()
    assert tracker.peak >= 4 * (100 * 100 * 2 + 50 * 100 * 2)  # weight, gradient, x, activations
    assert tracker.live == 4 * (100 * 100 * 2 + 50 * 100)


def test_a_line_through_two_batches():
    line = Footprint.through((8, 1000 + 8 * 50 + 48 * 64), (32, 1000 + 32 * 50 + 48 * 1024))
    assert (line.fixed, line.per_image) == (1000, 50)
    assert line.bytes(100) == round(1.1 * (1000 + 5000 + 48 * 10_000))
    largest = line.largest(10_000_000)
    assert line.bytes(largest) <= 10_000_000 < line.bytes(largest + 1)
    assert line.largest(500) == 0


def test_small_batches_foretell_the_memory_of_a_large_one():
    params = tiny(**{"train.batch_size": 256, "train.model.embed_dim": 32})
    rehearsal = plan.Rehearsal(IMAGES, ROWS, params, **STATS)
    foretold = rehearsal.footprint().bytes(256) / memory.MARGIN
    assert rehearsal._peak(256) == pytest.approx(foretold, rel=0.1)


def test_a_batch_beyond_the_memory_is_refused_before_it_is_tried(monkeypatch):
    params = tiny(**{"train.batch_size": 300})
    stand_in(monkeypatch, plan, "available_memory", lambda device: 4 * 2**20)
    taken, real = [], plan.Rehearsal.take

    def take(self, batch):
        taken.append(batch)
        return real(self, batch)

    stand_in(monkeypatch, plan.Rehearsal, "take", take)
    message = r"train\.batch_size: a step with 300 images needs about [\d.]+ MiB, but 4 MiB of "
    for measure in (plan.rehearse, plan.refuse_large_batch):
        with pytest.raises(VtccError, match=message) as refused:
            measure(IMAGES, ROWS, params, **STATS)
        largest = int(str(refused.value).rsplit(" ", 1)[1])
        assert 2 <= largest < 300
        plan.refuse_large_batch(IMAGES, ROWS, replace(params, batch_size=largest), **STATS)
    assert max(taken) <= 32


def test_where_not_even_two_images_fit():
    with pytest.raises(VtccError, match="no batch fits"):
        Footprint(1e9, 1e6).refuse(8, 10**6, "cpu")


def test_finding_out_is_left_where_it_is_slow(monkeypatch):
    stand_in(monkeypatch, plan, "available_memory", lambda device: 1)
    plan.refuse_large_batch(IMAGES, ROWS, tiny(), **STATS, limit=0)
    with pytest.raises(VtccError, match="no batch fits"):
        plan.refuse_large_batch(IMAGES, ROWS, tiny(), **STATS)


def test_flops_are_those_of_the_products():
    """One block and a patch stem, counted by hand; the last block computes one token."""
    params = tiny(**{"train.model.stem": "patchify", "train.model.num_cluster_heads": 1})
    m, K = params.model, params.num_clusters
    d, T = m.embed_dim, 17
    stem = 16 * 16 * d
    block = d * d + 2 * T * d * d + 2 * T * d + d * d + 2 * 4 * d * d
    heads = 2 * (4 * d * d + 16 * d * d) + 4 * d * (m.feature_dim + K)
    forward = 2 * (stem + block + heads)
    # Twice that backward, but for the stem, whose input needs no gradient.
    expected = 2 * (3 * forward - 2 * stem)
    assert flops_per_image(params, channels=1) == pytest.approx(expected, rel=0.02)


def test_a_plan_adds_up_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = tiny(**{"train.epochs": 50, "train.self_label.epochs": 2})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    made = plan.rehearse(IMAGES, ROWS, params, **STATS, seconds=0.4)
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    assert spent < 20
    assert list(tmp_path.iterdir()) == []
    assert (made.images, made.batch, made.steps_per_epoch, made.epochs) == (300, 16, 18, 52)
    assert made.step.batch == 16
    assert made.seconds["steps"] == pytest.approx(made.step.mean * 18 * 50)
    assert 0 < made.seconds["self_labelling"] < made.seconds["steps"]
    assert made.images_per_second == pytest.approx(16 / made.step.mean)
    assert made.step.low <= made.step.high
    assert made.total == pytest.approx(sum(made.seconds.values()))
    assert made.to_dict()["training_seconds"] == made.total
    assert made.parameters == made.trainable > 10_000


def test_without_cluster_projectors_placing_centroids_is_planned():
    params = tiny(**{"train.model.projectors": "instance"})
    assert plan.rehearse(IMAGES, ROWS, params, **STATS, seconds=0.1).seconds["scoring"] > 0


def test_a_control_group_limits_what_is_free(tmp_path):
    assert cgroup_room(tmp_path) == 2**63 - 1
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert cgroup_room(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup_room(tmp_path) == 2**63 - 1


def test_sizes_and_times_are_readable():
    assert [readable(n) for n in (10, 1536, 3 * 2**30)] == ["10 B", "1.5 KiB", "3 GiB"]
    assert [plan.rounds(s) for s in (4.26, 88, 300, 8000, 90_000, 400_000)] == [
        "4.3 s",
        "88 s",
        "5 min",
        "2.2 h",
        "25 h",
        "5 days",
    ]
