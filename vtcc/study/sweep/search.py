"""Runs a sweep: trainings of a study whose settings are drawn, judged without labels."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import config, paths, provenance
from vtcc.atomic import remove
from vtcc.data import cache as caches
from vtcc.process import locks
from vtcc.progress import note
from vtcc.runner.dvc import StageError
from vtcc.runner.workspace import Workspace
from vtcc.study import records, workers
from vtcc.study.run import Attempt, PrunedError, RefusedError, Run, Trainings, weights_in
from vtcc.study.sweep import draws, objective, page, results, trial
from vtcc.study.sweep import file as sweep_file
from vtcc.study.sweep.draws import Draws
from vtcc.study.sweep.file import Sweep
from vtcc.tracking.studies import StudyRun

if TYPE_CHECKING:
    from vtcc.study.sweep.objective import Yardstick

MOST_FAILURES = 3  # in a row
_COLLAPSED = "the training has collapsed"


@dataclass
class Outcome:
    """What a call did.

    Attributes:
        sweep: what was asked for.
        trials: all there are, by number: their records, each with its `state`.
        failed: trials that failed in this call, with the reason.
        params: the file with the winner's complete parameters, or None.
        page: everything for a person.
    """

    sweep: Sweep
    trials: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[Run, str] = field(default_factory=dict)
    params: Path | None = None
    page: Path = Path()

    @property
    def done(self) -> int:
        """Trials that are complete or pruned, of all calls."""
        return sum(t["state"] in draws.DONE for t in self.trials)

    @property
    def best(self) -> dict[str, Any] | None:
        """The complete trial of the highest objective, or None."""
        return draws.best(self.trials)


def root(name: str, project: Path) -> Path:
    """Where a sweep keeps a record of every trial."""
    return project / records.RECORDS / "sweeps" / name


def planned(
    file: Path, project: Path, *, trials: int | None, write: Path | None
) -> tuple[Sweep, Path]:
    """What `run` would do, and the file of the winner's parameters. Arguments as of `run`.

    Raises:
        VtccError: on a file or option that is not right.
    """
    sweep = sweep_file.read(file, project)
    if trials is not None:
        sweep = sweep_file.resized(sweep, trials)
    return sweep, results.target(sweep, project, write)


def run(
    file: Path,
    *,
    project: Path | None = None,
    trials: int | None = None,
    jobs: int = 1,
    threads: int = 0,
    write: Path | None = None,
    register: bool = False,
    again: bool = False,
) -> Outcome:
    """Searches what a sweep file declares; the same call goes on after an interruption.

    Trials are trainings in private worktrees, judged without labels; none of their models is
    registered. The file is checked before anything starts.

    Args:
        file: the sweep file, see docs/sweeps.md.
        project: directory of `params.yaml`; default: the one around the working directory.
        trials: how many there are to be in the end, instead of the file's number.
        jobs: trials at a time, each in a worktree of its own.
        threads: processor threads of a trial; 0 leaves it to the libraries, or is one each for
            several jobs.
        write: where the winner's `params.yaml` goes; default `reports/sweep/NAME.params.yaml`.
        register: train the winner with its full number of epochs, evaluate it, and register
            the model as any other.
        again: forget the trials that there are.

    Raises:
        VtccError: on a file that is not right, another process that runs the same sweep, or
            three trials in a row that failed.
        KeyboardInterrupt: after the trainings in progress have written their checkpoints.
    """
    project = (project or paths.project()).resolve()
    sweep, target = planned(file, project, trials=trials, write=write)
    room = Workspace(project=project, params=sweep.params).home / ".vtcc" / "sweeps"
    kept, recorded = room / sweep.name, root(sweep.name, project)
    outcome = Outcome(sweep)
    busy = (
        f"sweep {sweep.name!r}: another process runs it; wait for it, or stop it with Ctrl-C there"
    )
    with locks.exclusive(room / f"{sweep.name}.lock", wait=False, busy=busy):
        if again:
            remove(kept)
            remove(recorded)
        drawn = Draws(sweep, recorded)
        _warn_of_other_code(drawn, project)
        experiment = sweep.params["dataset"]["name"]
        tracker = StudyRun(sweep.name, sweep.title, sweep.question, experiment, kind="sweep")
        search = _Search(drawn, recorded, kept, jobs=jobs, threads=threads, tracker=tracker)
        status = "FAILED"
        try:
            search.search(project, register)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            outcome.trials, outcome.failed = drawn.all(), search.outcome.failed
            outcome.page = page.write(sweep, outcome.trials, drawn.importance(), project)
            if outcome.best is not None and outcome.done >= sweep.trials:
                outcome.params = results.write_params(sweep, outcome.best, project, target)
            artifacts = [outcome.page, project / sweep.file]
            artifacts += [outcome.params] if outcome.params else []
            tracker.finish(status, results.figures(outcome.trials), artifacts)
    return outcome


def _warn_of_other_code(drawn: Draws, project: Path) -> None:
    """Says which trials there are of other code: what is measured now may not compare."""
    now = provenance.commit(project)
    other = [t["number"] for t in drawn.all() if not records.same_code(t, now)]
    if other:
        numbers = ", ".join(map(str, other))
        note(f"trials {numbers}: recorded with other code than there is now; --again begins afresh")


class _Search(Trainings):
    """Trials instead of settings: drawn one after the other, judged by the objective."""

    kind = "sweep"

    def __init__(
        self,
        drawn: Draws,
        root: Path,
        kept: Path,
        **how: Any,
    ) -> None:
        """Starts nothing.

        Args:
            drawn: the trials.
            root: directory of their records.
            kept: directory for what each model makes of every image.
            **how: as of `Trainings`.
        """
        self.sweep, self.drawn = drawn.sweep, drawn
        super().__init__(drawn.sweep, root, drawn.sweep.trials - drawn.done(), **how)
        self.before = records.seconds(drawn.complete())
        self._kept = kept
        self._failures = 0
        self._yardstick: Yardstick | None = None
        if self.sweep.pruning != "none":
            self.unrecorded = {"train.collapse": "abort"}

    def search(self, project: Path, register: bool) -> None:
        """Runs the trials that are missing, then scores all of them where labels exist."""
        scored = all("scores" in t for t in self.drawn.complete())
        if self.total <= 0 and scored and not register:
            self.say(f"all {self.sweep.trials} trials are done; raise `trials` for more")
            return
        params = self.sweep.trial({})
        with workers.places(project, params, self.jobs, self.threads) as places:
            self.play(places, self.work)
            best = draws.best(self.drawn.all())
            if best is None:
                return
            self._check_now(places[0], best)
            if self.drawn.done() >= self.sweep.trials:
                self._score(places[0])
            if register:
                self._register(places[0])

    def _check_now(self, where: Workspace, best: dict[str, Any]) -> None:
        """Compares what the winner would be scored and trained with now with the trials."""
        full = self.sweep.full(best["overrides"])
        where.write(full)
        params = config.flatten(full)
        self.fetch(where, params, "images")
        weights = weights_in(where)
        digest = self._digests[records.seen(params)]
        self.drawn.check_inputs({"params": params, "data_digest": digest, "weights": weights})

    def next(self) -> Run | None:
        chosen = self.drawn.next()
        return chosen and Run(chosen[1], self.sweep.seed, chosen[0])

    def described(self, run: Run) -> str:
        return f"{run}: {results.shown(run.setting.overrides)}"

    def record(self, attempt: Attempt, **more: Any) -> dict[str, Any]:
        """With what the next call needs to go on from it."""
        return super().record(attempt, **self.drawn.noted(_number(attempt.run)), **more)

    def train(self, attempt: Attempt) -> None:
        where, number = attempt.where, _number(attempt.run)
        self.drawn.check_inputs(self.record(attempt))

        def begun() -> None:
            """What the next call goes on from, the judgements so far with it."""
            records.write(attempt.run.setting.record, self.record(attempt), self.root, "running")

        begun()
        cache = caches.open_cache(where.directory / paths.CACHE)
        yardstick = self._yardstick_of(where)
        rungs = trial.Rungs(self.drawn, number, where.params, cache, yardstick, where.home, begun)
        try:
            self.do(attempt, "embed")
            self.do(attempt, "train", on_progress=rungs, stopped=lambda: bool(rungs.pruned))
        except KeyboardInterrupt:
            if self.stopping or not rungs.pruned:
                raise
            why = rungs.pruned
        except StageError as error:
            if self.sweep.pruning == "none" or _COLLAPSED not in str(error):
                raise
            why = f"collapsed: {str(error).partition(': ')[2]}"
        else:
            keep = self._file(number)
            attempt.more["metrics"] = trial.judge(where.directory, yardstick, keep)
            rungs.forget()  # DVC has the model; no evaluation will tidy up after it
            return
        attempt.more["run_id"] = rungs.run_id()
        rungs.forget()
        raise PrunedError(why)

    def ended(self, attempt: Attempt, state: str, record: dict[str, Any]) -> None:
        number = _number(attempt.run)
        self.drawn.end(number, state, record)
        if state == "complete":
            best = draws.best(self.drawn.all())
            if best and best["number"] == number:
                self.say(f"  {attempt.run}: the best so far")
            if self.tracker:
                self.tracker.score(record["run_id"], record["metrics"])
        self._failures = self._failures + 1 if state == "failed" else 0
        if self._failures >= MOST_FAILURES:
            raise RefusedError(
                f"{self._failures} trials in a row failed, such as {number}: "
                f"{record['reason']}; the same command tries others"
            )

    def _yardstick_of(self, where: Workspace) -> "Yardstick":
        with self.data:
            if self._yardstick is None:
                import torch

                if self.threads:
                    torch.set_num_threads(self.threads)
                self._yardstick = objective.Yardstick(where.directory / paths.CACHE)
            return self._yardstick

    def _file(self, number: int) -> Path:
        self._kept.mkdir(parents=True, exist_ok=True)
        return self._kept / f"{number:04d}.npz"

    def _score(self, where: Workspace) -> None:
        """Looks at labels, once everything is decided."""
        kept = {t["number"]: self._file(t["number"]) for t in self.drawn.complete()}
        kept = {number: file for number, file in kept.items() if file.is_file()}
        for number, scores in trial.scores(where.directory, kept).items():
            scored = self.drawn.trials[number]
            scored["scores"] = scores
            record = {k: v for k, v in scored.items() if k != "state"}
            records.write(sweep_file.record_name(number), record, self.root)
            if self.tracker:
                self.tracker.score(scored["run_id"], scores)

    def _register(self, where: Workspace) -> None:
        from vtcc.tracking import registry

        for stage in workers.MODEL:
            self.stage(stage, where, "winner")
        run_id = registry.register_current(where.directory).run_id
        if self.tracker:
            self.tracker.adopt("winner", run_id, "winner")


def _number(run: Run) -> int:
    assert run.number is not None
    return run.number
