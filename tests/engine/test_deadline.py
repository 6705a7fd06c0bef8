"""A training that has to end by a time drops epochs, and a resume keeps to what was dropped."""

import time

import numpy as np
import pytest
import torch

from tests.engine.test_loop import IMAGES as MANY
from tests.engine.test_loop import StopAt, tiny
from tests.fakes import stand_in
from vtcc.engine import loop
from vtcc.engine.kernels import resolve
from vtcc.engine.scratch import Scratch
from vtcc.engine.totals import Clock

IMAGES = MANY[:48]


def fit(scratch, epochs=40, changes=None, **options):
    params = tiny(**{"train.epochs": epochs, "train.batch_size": 16, **(changes or {})})
    rows = np.arange(48)
    return loop.fit(IMAGES, rows, params, mean=(0.5,), std=(0.3,), scratch=scratch, **options)


def test_a_deadline_that_has_passed_ends_after_one_epoch(tmp_path):
    fitted = fit(tmp_path, deadline=time.monotonic())
    assert [row["epoch"] for row in fitted.curves] == [1]
    # The last epoch is scored, whichever it turns out to be.
    assert {candidate["epoch"] for candidate in fitted.candidates} == {1}


def test_a_slow_machine_drops_epochs_and_the_rate_still_falls_to_zero(tmp_path, monkeypatch):
    take_step = loop.Training.take_step

    def slow(run):
        time.sleep(0.02)
        take_step(run)

    stand_in(monkeypatch, loop.Training, "take_step", slow)
    began = time.monotonic()
    fitted = fit(tmp_path, deadline=began + 1.2)
    assert 1 < len(fitted.curves) < 40
    assert time.monotonic() - began < 2 * 1.2
    rates = [row["learning_rate"] for row in fitted.curves]
    assert rates[-1] < 0.3 * max(rates)
    assert fitted.candidates[-1]["epoch"] == len(fitted.curves)


def test_enough_time_changes_nothing(tmp_path):
    free = fit(tmp_path / "free", epochs=4)
    bound = fit(tmp_path / "bound", epochs=4, deadline=time.monotonic() + 3600)
    assert len(bound.curves) == 4
    for a, b in zip(free.curves, bound.curves, strict=True):
        assert a["cluster_loss"] == pytest.approx(b["cluster_loss"], abs=0)


@pytest.fixture
def slow_from(monkeypatch):
    """Makes epochs of one step take 100 seconds by the clock, from one on, and no time before."""

    def of(epoch):
        def rate(clock):
            return 0.01 if clock._done >= epoch else 1e6

        stand_in(monkeypatch, Clock, "rate", rate)

    return of


@pytest.fixture
def restarts(monkeypatch):
    """The epochs after which heads began afresh, none of which was scored with these heads."""
    real, epochs = loop.Training.restart_heads, []
    score = loop.Training.add_candidates

    def recording(run, epoch):
        epochs.append(epoch)
        real(run, epoch)

    def scored(run, epoch):
        assert epoch not in epochs
        score(run, epoch)

    stand_in(monkeypatch, loop.Training, "add_candidates", scored)

    stand_in(monkeypatch, loop.Training, "restart_heads", recording)
    return epochs


AFRESH = {"train.restart_heads": True, "train.batch_size": 48}


@pytest.mark.parametrize(
    ("slow", "left", "expected"),
    [
        (4, 3, [4]),  # half of 7 is over
        (3, 4, [3]),
        (3, 6, [4]),  # half of 9
        (4, 0, []),  # no epoch is left
        (6, 2, [5]),  # half of 10 was, half of 8 is over
        (5, 1, []),  # too few of 6 are left, though 5 is half of 10
    ],
)
def test_heads_begin_afresh_once_where_epochs_are_dropped(
    tmp_path, slow_from, restarts, slow, left, expected
):
    slow_from(slow)
    deadline = time.monotonic() + 100 * left + 50
    fitted = fit(tmp_path, 10, AFRESH, deadline=deadline)
    assert len(fitted.curves) == slow + left
    assert restarts == expected


@pytest.mark.parametrize(("left", "expected", "scored"), [(3, [9], {9, 10, 12}), (2, [], {10, 11})])
def test_heads_begin_afresh_where_a_quarter_of_the_epochs_is_left(
    tmp_path, slow_from, restarts, left, expected, scored
):
    slow_from(9)
    changes = AFRESH | {"train.selection.points": 4}
    fitted = fit(tmp_path, 20, changes, deadline=time.monotonic() + 100 * left + 50)
    assert (len(fitted.curves), restarts) == (9 + left, expected)
    assert {candidate["epoch"] for candidate in fitted.candidates} == scored


def test_a_resume_after_epochs_were_dropped_begins_no_head_afresh_again(
    tmp_path, slow_from, restarts
):
    slow_from(4)
    deadline = time.monotonic() + 350
    for stop in (4, 5):
        with pytest.raises(loop.Interrupted):
            fit(tmp_path, 10, AFRESH, deadline=deadline, callbacks=StopAt(epoch=stop))
    fitted = fit(tmp_path, 10, AFRESH)
    assert (len(fitted.curves), restarts) == (7, [4])


def test_a_resume_after_epochs_were_dropped_warns_as_if_there_was_none(tmp_path, monkeypatch):
    """Rows of before epochs were dropped are judged by the warm-up of all epochs, as they were."""
    params = tiny(**{"train.batch_size": 2, "train.epochs": 100, "train.optimizer.warmup": 0.1})

    def training():
        rows, scratch = np.arange(48), Scratch(tmp_path)
        return loop.Training(IMAGES, rows, params, resolve(params), (0.5,), (0.3,), scratch)

    whole, clock = training(), Clock(1)
    stand_in(monkeypatch, Clock, "rate", lambda clock: 0.24)  # an epoch of 24 steps in 100 s
    collapsed = {"clusters_used": 1.0, "instance_loss": 1.0, "cluster_loss": 1.0}
    for epoch in range(1, 10):
        whole.curves.append({"epoch": epoch, **collapsed})
        whole.guard.watch(whole.curves[-1])
        if epoch == 8:
            whole.deadline = time.monotonic() + 450
            assert whole.shorten(epoch, clock)
    whole.save()
    resumed = training()
    resumed.resume()
    assert (resumed.epochs, resumed.guard.params.epochs) == (12, 12)
    assert vars(resumed.guard) == vars(whole.guard)
    assert whole.guard.warnings == []
    for run in (whole, resumed):
        for _ in range(2):
            run.guard.watch(collapsed)
        assert [(warned.kind, warned.epoch) for warned in run.guard.warnings] == [("clusters", 11)]


def test_dropped_epochs_are_said_where_they_are_many(tmp_path, monkeypatch, capsys):
    params = tiny(**{"train.batch_size": 48, "train.epochs": 100})
    rows = np.arange(48)
    run = loop.Training(IMAGES, rows, params, resolve(params), (0.5,), (0.3,), Scratch(tmp_path))
    clock = Clock(100)
    stand_in(monkeypatch, Clock, "rate", lambda clock: 0.01)  # an epoch in 100 s
    for left in (99, 96, 95, 91, 90, 50, 48):
        run.deadline = time.monotonic() + 100 * left + 50
        assert run.shorten(0, clock)
        assert run.epochs == left
    said = [line for line in capsys.readouterr().out.splitlines() if "slower" in line]
    slower = "the machine is slower than measured: "
    assert [line.partition(slower)[2] for line in said] == [
        "95 epochs instead of 100",
        "90 epochs instead of 95",
        "50 epochs instead of 90",
    ]


def test_prior_and_guard_count_the_epochs_that_are_left(tmp_path):
    changes = {
        "train.batch_size": 2,  # 24 steps an epoch
        "train.epochs": 100,
        "train.optimizer.warmup": 0.1,
        "train.loss.prior": "estimated",
        "train.loss.prior_start": 0.5,
    }
    params = tiny(**changes)
    rows = np.arange(48)
    run = loop.Training(IMAGES, rows, params, resolve(params), (0.5,), (0.3,), Scratch(tmp_path))
    shares = torch.full((params.model.num_cluster_heads, params.num_clusters), 0.1)
    collapsed = {"clusters_used": 1.0, "instance_loss": 1.0, "cluster_loss": 1.0}
    run.prior.update(5, shares)
    assert run.prior.sizes is None
    run.plan_epochs(10)
    run.prior.update(5, shares)
    assert run.prior.sizes is not None
    for _ in range(8):
        run.guard.watch(collapsed)
    # The warm-up ends after one epoch and its grace after six, the third of which speaks.
    assert [(warned.kind, warned.epoch) for warned in run.guard.warnings] == [("clusters", 8)]
