"""Running a sweep, with the stages faked: resume, failures, pruning, what is written."""

import io
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes import stand_in
from tests.study.sweep.conftest import RATE, SWEEP, World, quality
from vtcc import config
from vtcc.atomic import remove
from vtcc.data import cache as caches
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.runner.dvc import StageError
from vtcc.stages import embed
from vtcc.study import records, sweep
from vtcc.study.sweep import draws, objective
from vtcc.study.sweep.trial import Rungs
from vtcc.tracking import registry
from vtcc.verbs import sweep as stage


def trials(project: Path) -> list[dict[str, Any]]:
    return draws.load(project / "benchmarks/records/sweeps/rates")


def test_a_sweep_finds_the_best_of_its_trials(file: Path, project: Path, world: World) -> None:
    outcome = sweep.run(file)
    assert (outcome.done, outcome.failed, len(world.trained)) == (6, {}, 6)
    found = trials(project)
    assert [t["number"] for t in outcome.trials] == [t["number"] for t in found] == list(range(6))
    for t in found:
        rate, stem = t["overrides"][RATE], t["overrides"]["train.model.stem"]
        train = {"optimizer": {"learning_rate": rate}, "model": {"stem": stem}}
        assert (t["state"], t["metrics"]["objective"], t["run_id"]) == (
            "complete",
            quality(train),
            "r",
        )
    # The preset's own values come first; here nothing is better.
    assert found[0]["overrides"] == {RATE: 0.004, "train.model.stem": "conv"}
    assert outcome.best and outcome.best["number"] == 0
    assert list((project / ".vtcc" / "worktrees").iterdir()) == []
    # Labels are read once, after everything is decided.
    assert world.events.count("labels") == 1 and world.events[-1] == "labels"
    assert found[3]["scores"]["acc"] == 0.97
    # Nothing is left to do.
    assert sweep.run(file).done == 6 and len(world.trained) == 6


def test_the_winners_parameters_are_complete(file: Path, project: Path, world: World) -> None:
    file.write_text(SWEEP.replace("preset: digits", "preset: digits\noverrides: {train.ema: 0.9}"))
    before = (project / "params.yaml").read_text()
    outcome = sweep.run(file, trials=3)
    assert outcome.params == project / "reports/sweep/rates.params.yaml"
    written = config.load(outcome.params)
    assert (written.train.epochs, written.train.seed, written.train.ema) == (75, 0, 0.9)
    assert written.train.optimizer.learning_rate == outcome.best["overrides"][RATE]  # type: ignore[index]
    assert (project / "params.yaml").read_text() == before
    (project / "params.yaml").write_text(before.replace("epochs: 75", "epochs: 77"))
    outcome = sweep.run(file, trials=3, write=Path("params.yaml"))
    assert config.load(project / "params.yaml") == written
    kept = list((project / ".vtcc/params").glob("*.yaml"))
    assert len(kept) == 1 and "epochs: 77" in kept[0].read_text()


def test_params_yaml_is_kept_however_it_is_spelled(file: Path, project: Path, world: World) -> None:
    before = (project / "params.yaml").read_text() + "# mine\n"
    (project / "params.yaml").write_text(before)
    outcome = sweep.run(file, trials=1, write=Path(f"../{project.name}/params.yaml"))
    assert outcome.params == project / "params.yaml" and not outcome.params.is_symlink()
    assert [kept.read_text() for kept in (project / ".vtcc/params").iterdir()] == [before]
    assert outcome.params.read_text().startswith("# Trial 0 of ")


def test_only_what_a_sweep_wrote_is_replaced(file: Path, project: Path, world: World) -> None:
    other = project / "other.yaml"
    other.write_text("stages: {}\n")
    for name in ("other.yaml", file.name):
        before = Path(name).read_text()
        with pytest.raises(VtccError, match=f"--write {name}: this file is there already and is"):
            sweep.run(file, trials=1, write=Path(name))
        assert Path(name).read_text() == before
    assert world.events == []
    first = sweep.run(file, trials=1, write=Path("best.yaml")).params
    assert first == project / "best.yaml"
    assert sweep.run(file, trials=2, write=Path("best.yaml")).params == first


@pytest.mark.parametrize("target", ["nowhere/params.yaml", ".", "params.json"])
def test_a_target_that_cannot_be_is_refused_first(
    file: Path, project: Path, world: World, target: str
) -> None:
    with pytest.raises(VtccError, match=f"--write {target}: "):
        sweep.run(file, write=Path(target))
    assert world.events == []


def test_an_interrupted_sweep_goes_on_with_the_same_trial(
    file: Path, project: Path, world: World, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(train: dict[str, Any]) -> None:
        if len(world.trained) == 3:
            signal.raise_signal(signal.SIGINT)  # reaches the main thread, which asks us to end
            time.sleep(1.5)
            raise KeyboardInterrupt

    world.on_train = interrupt
    with pytest.raises(SystemExit, match="130"):
        stage.start(file)
    said = "interrupted; what is found is kept, the same command goes on\n"
    assert capsys.readouterr().err.endswith(said)
    assert [t["state"] for t in trials(project)] == ["complete", "complete", "running"]
    cut, world.on_train = world.trained[-1], lambda train: None
    stage.start(file)
    assert world.trained[3] == cut  # whose training goes on from its checkpoint
    assert [t["state"] for t in trials(project)] == ["complete"] * 6
    assert len({t["overrides"][RATE] for t in trials(project)}) == 6
    assert "ACC of the chosen trial 1.000, best 1.000, median 0.975" in capsys.readouterr().out


def test_a_sweep_outlives_its_log(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(SWEEP.replace("Which rate", "Welche Größe"), encoding="utf-8")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    stage.start(file, trials=2)
    said = stdout.buffer.getvalue()  # type: ignore[attr-defined]
    assert b"\nWelche Gr\\xf6\\xdfe\n" in said and b"\nlook at reports" in said


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_draws_do_not_depend_on_interruptions(
    file: Path, project: Path, world: World, sampler: str
) -> None:
    file.write_text(SWEEP.replace("sampler: random", f"sampler: {sampler}"))
    sweep.run(file)
    whole = list(world.trained)
    sweep.run(file, again=True, trials=2)
    for wanted in (3, 6):
        sweep.run(file, trials=wanted)
    assert world.trained == whole * 2


def test_two_at_a_time(file: Path, project: Path, world: World) -> None:
    meet = threading.Barrier(2, timeout=20)
    world.on_train = lambda train: meet.wait()
    assert sweep.run(file, jobs=2).done == 6
    assert len(set(world.trained)) == 6


def test_tpe_learns(file: Path, project: Path, world: World) -> None:
    file.write_text(
        SWEEP.replace("sampler: random", "sampler: tpe").replace("low: 0.00001", "low: 0.01")
    )
    sweep.run(file, trials=18)
    rates = [rate for rate, _ in world.trained]
    # The best rate lies at the lower end; what is drawn blindly has its mean at 0.03.
    assert sum(rates[-6:]) / 6 < 0.02 < sum(rates[:5]) / 5


def test_a_grid_is_searched_once(file: Path, project: Path, world: World) -> None:
    grid = SWEEP.replace("{low: 0.00001, high: 0.1, log: true}", "{choices: [0.001, 0.01]}")
    file.write_text(grid.replace("sampler: random", "sampler: grid"))
    outcome = sweep.run(file)
    rates = [(0.001, "conv"), (0.001, "patchify"), (0.01, "conv"), (0.01, "patchify")]
    assert world.trained == rates and outcome.done == 4
    assert outcome.params is not None


def test_the_presets_own_values_are_tried_again_where_they_failed(
    file: Path, project: Path, world: World
) -> None:
    def fail(train: dict[str, Any]) -> None:
        raise StageError("train", 1, "the disk is full", explained=True)

    world.on_train = fail
    for _ in range(2):
        with pytest.raises(VtccError, match="trials failed"):
            stage.start(file, trials=2)
    own = world.trained[0]
    calls = len(world.trained) // 2
    assert [rate == own for rate in world.trained] == [True, *[False] * (calls - 1)] * 2
    world.on_train = lambda train: None
    stage.start(file, trials=3)
    assert [rate == own for rate in world.trained[2 * calls :]] == [True, False, False]


def test_a_failed_trial_is_told_and_replaced(file: Path, project: Path, world: World) -> None:
    def fail(train: dict[str, Any]) -> None:
        if len(world.trained) in (2, 4):
            raise StageError("train", 1, "the loss is not finite", explained=True)

    world.on_train = fail
    with pytest.raises(
        VtccError, match="2 trials failed, such as trial 1: stage 'train' failed: the lo"
    ):
        stage.start(file)
    assert [t["state"] for t in trials(project)].count("failed") == 2
    world.on_train = lambda train: None
    stage.start(file)
    states = [t["state"] for t in trials(project)]
    assert (states.count("failed"), states.count("complete")) == (2, 6)
    assert len(set(world.trained)) == 8


def test_three_failures_in_a_row_end_it(file: Path, project: Path, world: World) -> None:
    def fail(train: dict[str, Any]) -> None:
        raise StageError("train", 1, "no space left", explained=True)

    world.on_train = fail
    with pytest.raises(VtccError, match=r"3 trials in a row failed, such as 2: .* no space left"):
        sweep.run(file)
    assert len(world.trained) == 3


def intermediate(monkeypatch: pytest.MonkeyPatch, forgotten: list[Path]) -> None:
    """A checkpoint tells a quality that is the final one's already."""

    def state(self: Rungs, epoch: int = 0) -> dict[str, Any]:
        train = config.to_dict(self._params.train)
        return {"train": train, "run_id": "cut off", "curves": [{}] * epoch}

    stand_in(monkeypatch, Rungs, "state", state)
    stand_in(monkeypatch, Rungs, "forget", lambda self: forgotten.append(self.scratch))
    stand_in(
        monkeypatch, objective, "of_checkpoint", lambda _, state, info: quality(state["train"])
    )


def test_what_lies_behind_is_pruned(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[Path] = []
    intermediate(monkeypatch, forgotten)
    file.write_text(SWEEP.replace("pruning: none", "pruning: median"))
    outcome = sweep.run(file, trials=12)
    found = trials(project)
    pruned = [t for t in found if t["state"] == "pruned"]
    assert outcome.done == 12 and 2 <= len(pruned) <= 8
    assert len(forgotten) == 12  # nobody resumes a trial that has ended
    assert all(t["number"] >= 4 for t in pruned)  # the first have nothing to be compared with
    # A third of the epochs, and the one after, whose end tells that the checkpoint is written.
    assert min(world.epochs) == 13 and world.epochs.count(30) == 12 - len(pruned)
    complete = [t for t in found if t["state"] == "complete"]
    assert (
        max(complete, key=lambda t: t["metrics"]["objective"])["number"] == outcome.best["number"]
    )  # type: ignore[index]
    for t in pruned:
        assert t["reason"].endswith("after 12 epochs, behind other trials")
        assert (
            t["run_id"] == "cut off"
            and t["intermediate"]["1"] < outcome.best["metrics"]["objective"]
        )  # type: ignore[index]


@pytest.mark.parametrize("pruning", ["median", "halving"])
def test_records_tell_optuna_what_was_pruned(file: Path, project: Path, pruning: str) -> None:
    file.write_text(SWEEP.replace("pruning: none", f"pruning: {pruning}"))
    root = project / "records"

    def judged(drawn: draws.Draws, rung: float) -> bool:
        """A trial with a figure at the first rung, recorded; whether it was to be pruned."""
        number, setting = drawn.next() or (0, None)
        assert setting is not None
        pruned = drawn.report(number, 1, rung)
        state = "pruned" if pruned else "complete"
        record = {"seed": 0, "overrides": setting.overrides} | drawn.noted(number)
        record |= {"reason": "x"} if pruned else {"metrics": {"objective": rung}}
        drawn.end(number, state, record)
        record = {key: kind() for key, kind in records.NEEDED.items()} | record
        records.write(setting.record, record, root, state)
        return pruned

    figures = [0.5, 0.6, 0.7, 0.8, 0.1, 0.9, 0.2, 0.65, 0.85, 0.3]
    at_once = draws.Draws(sweep.read(file), project / "none")
    whole = [judged(at_once, value) for value in figures]
    remove(root)
    pieces = [judged(draws.Draws(sweep.read(file), root), value) for value in figures]
    assert pieces == whole and True in whole and False in whole


def test_a_trial_that_was_cut_off_is_judged_once_and_at_the_same_epochs(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    intermediate(monkeypatch, [])
    file.write_text(SWEEP.replace("pruning: none", "pruning: median"))

    def cut(train: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(1.5)
        raise KeyboardInterrupt

    world.on_train = cut
    with pytest.raises(SystemExit, match="130"):
        stage.start(file)
    (cut_off,) = trials(project)
    assert cut_off["state"] == "running" and list(cut_off["intermediate"]) == ["1", "2"]
    # Its checkpoints are later now; other figures would show that it was judged again.
    judged: list[int] = []

    def of_checkpoint(_: Any, state: dict[str, Any], info: Any) -> float:
        judged.append(len(state["curves"]))
        return 0.0

    stand_in(monkeypatch, objective, "of_checkpoint", of_checkpoint)
    world.on_train = lambda train: None
    sweep.run(file, trials=1)
    (done,) = trials(project)
    assert done["intermediate"] == cut_off["intermediate"] and judged == []


def test_a_later_state_is_not_taken_for_that_of_a_rung(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training was cut off after the rung's epoch, before that was judged."""
    intermediate(monkeypatch, [])
    state = Rungs.state

    def later(self: Rungs, epoch: int = 0) -> dict[str, Any]:
        return state(self, epoch) | {"curves": [{}] * (epoch + (epoch == 12))}  # type: ignore[operator]

    stand_in(monkeypatch, Rungs, "state", later)
    file.write_text(SWEEP.replace("pruning: none", "pruning: median"))
    sweep.run(file, trials=1)
    assert list(trials(project)[0]["intermediate"]) == ["2"]


def test_a_collapsed_trial_is_pruned_by_the_guard(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collapse(train: dict[str, Any]) -> None:
        assert train["collapse"] == "abort"
        if len(world.trained) == 2:
            told = "the training has collapsed at epoch 9 of 30: 1 of 10 clusters in use"
            raise StageError("train", 1, told, explained=True)

    world.on_train = collapse
    intermediate(monkeypatch, [])
    file.write_text(SWEEP.replace("pruning: none", "pruning: collapse"))
    outcome = sweep.run(file)
    assert (outcome.done, outcome.failed) == (6, {})
    assert [t["state"] for t in trials(project)].count("pruned") == 1
    assert trials(project)[1]["reason"].startswith(
        "collapsed: the training has collapsed at epoch 9"
    )


def test_the_checkpoints_that_an_equal_trial_goes_on_from_are_kept(
    file: Path, project: Path, world: World
) -> None:
    """Both share a directory; the one that waited has its lock once the other has ended."""
    given = sweep.read(file, project)
    drawn = draws.Draws(given, project / "none")
    number, setting = drawn.next()  # type: ignore[misc]
    cache = caches.open_cache(project)
    rungs = Rungs(drawn, number, setting.seeded(0), cache, objective.Yardstick(project), project)
    rungs.scratch.mkdir(parents=True)
    with locks.exclusive(rungs.scratch.with_name(f"{rungs.scratch.name}.lock")):
        rungs.forget()
        assert rungs.scratch.is_dir()
    rungs.forget()
    assert not rungs.scratch.exists()
    rungs.forget()  # of a training that has left nothing


def test_what_was_searched_otherwise_does_not_mix(file: Path, project: Path, world: World) -> None:
    sweep.run(file, trials=2)
    file.write_text(SWEEP.replace("epochs: 30", "epochs: 20"))
    with pytest.raises(
        VtccError, match=r"sweeps/rates: recorded with train.epochs 30 \(now 20\); give the sweep"
    ):
        sweep.run(file)
    file.write_text(SWEEP + "seed: 3\n")
    with pytest.raises(VtccError, match=r"recorded with seed 0 \(now 3\)"):
        sweep.run(file)
    file.write_text(SWEEP.replace("high: 0.1", "high: 0.2"))
    with pytest.raises(VtccError, match=r"recorded with space \{.*; give the sweep another name"):
        sweep.run(file)
    assert sweep.run(file, again=True, trials=1).done == 1
    assert len(trials(project)) == 1


def test_trials_of_other_code_are_said(
    file: Path, project: Path, world: World, capsys: pytest.CaptureFixture
) -> None:
    page = project / "reports" / "sweep-rates.html"
    sweep.run(file, trials=1)
    sweep.run(file, trials=2)
    assert "other code" not in capsys.readouterr().out
    assert "the same code" not in page.read_text()
    (project / "vtcc" / "engine" / "loop.py").write_text("# another loop\n")
    sweep.run(file, trials=3)
    assert "trials 0, 1: recorded with other code than there is now" in capsys.readouterr().out
    assert "Not all of these runs are of the same code" in page.read_text()
    assert "trial 0, trial 1; commit" in page.read_text()


def test_other_images_are_refused(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.run(file, trials=2)
    world.digest = "new"
    with pytest.raises(VtccError, match="images changed since the first trials"):
        sweep.run(file)
    assert len(world.trained) == 2


def test_a_file_of_weights_that_was_replaced_is_refused(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name in the parameters stays what it was."""
    digest = "damaged"

    def fail(train: dict[str, Any]) -> None:
        if digest == "damaged":
            raise StageError("train", 1, "damaged safetensors", explained=True)

    world.on_train = fail
    stand_in(monkeypatch, embed, "weights_digest", lambda weights, directory=Path(): digest)
    assert len(sweep.run(file, trials=1).failed) == 1
    digest = "mended"  # trials that failed compare with none
    assert sweep.run(file, trials=2).done == 2
    digest = "other"
    with pytest.raises(VtccError, match=r"train\.model\.weights.* replaced since the first trials"):
        sweep.run(file, trials=3)
    assert len(world.trained) == 3
    mended = trials(project)[1]
    named = mended["params"] | {"train.model.weights": "another.pth"}
    assert not records.other_weights(mended, mended | {"weights": "other", "params": named})


def test_one_process_at_a_time(file: Path, project: Path, world: World) -> None:
    lock = locks.exclusive(project / ".vtcc/sweeps/rates.lock")
    with lock, pytest.raises(VtccError, match="another process runs it"):
        sweep.run(file)


def test_the_page_holds_everything_and_needs_no_network(
    file: Path, project: Path, world: World
) -> None:
    outcome = sweep.run(file, trials=9)
    text = outcome.page.read_text()
    assert outcome.page == project / "reports/sweep-rates.html"
    assert "://" not in text.replace("http://www.w3.org", "") and "<script" not in text
    for words in ("Which rate", "objective over trials", "PED-ANOVA", "Labels were looked at when"):
        assert words in text
    for t in trials(project):
        assert f"trial {t['number']}, {t['metrics']['objective']:.4f}" in text
    assert text.count('class="dot chosen"') == 4  # history, two slices, against ACC


def test_registering_trains_the_winner_in_full(
    file: Path, project: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    world.on_train = seen.append
    made = registry.Registered("vtcc-digits", "1", "r", True, "promoted")
    registered = stand_in(monkeypatch, registry, "register_current", lambda directory: made)
    sweep.run(file, trials=2, register=True)
    registered.assert_called_once()
    assert [train["epochs"] for train in seen] == [30, 30, 75]
    assert world.events[-2:] == ["train", "evaluate"]
    assert world.events.index("labels") < len(world.events) - 2


def test_dry_run_starts_nothing(
    file: Path, project: Path, world: World, capsys: pytest.CaptureFixture
) -> None:
    stage.start(file, dry_run=True)
    assert "6 trials of 30 epochs, random" in capsys.readouterr().out
    stage.start(file, dry_run=True, trials=2, write=project / "best.yaml")
    assert "2 trials of 30 epochs, random" in capsys.readouterr().out
    (project / "link.yaml").symlink_to("params.yaml")
    for wrong, message in (
        ({"trials": 0}, "--trials: found 0; allowed: at least 1"),
        ({"trials": 10**9}, "--trials: found 1000000000; allowed"),
        ({"write": project / "best.txt"}, r"--write .*best\.txt: name a \.yaml file"),
        ({"write": project / "no" / "best.yaml"}, "no directory that can be written to"),
        ({"write": project / "link.yaml"}, f"--write: {project / 'link.yaml'} is a link; name"),
    ):
        with pytest.raises(VtccError, match=message):
            stage.start(file, dry_run=True, **wrong)
    assert world.events == [] and not (project / ".vtcc").exists()
    assert yaml.safe_load(file.read_text())["name"] == "rates"
