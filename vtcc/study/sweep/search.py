"""Runs a sweep: asks for trials, trains and judges them, keeps what is found."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import config, paths, provenance
from vtcc.errors import VtccError
from vtcc.runner.dvc import StageError
from vtcc.runner.workspace import Workspace
from vtcc.study import workers
from vtcc.study.sweep import file as sweep_file
from vtcc.study.sweep import results, storage
from vtcc.study.sweep.file import Sweep
from vtcc.study.sweep.storage import Trials
from vtcc.tracking.studies import StudyRun

if TYPE_CHECKING:
    from vtcc.data.cache import Cache
    from vtcc.study.sweep.objective import Yardstick

MOST_FAILURES = 3  # in a row
_COLLAPSED = "the training has collapsed"


@dataclass
class Outcome:
    """What a call did.

    Attributes:
        sweep: what was asked for.
        done: trials that are complete or pruned, of all calls.
        best: the complete trial of the highest objective, or None; a dict with `number`,
            `values`, `objective`, `figures`, `run_id` and, where labels exist, `scores`.
        failed: reasons of the trials that failed in this call, by number.
        run_id: the MLflow run above the trials, or None.
        params: the file with the winner's complete parameters, or None.
        record: everything as JSON.
        page: everything for a person.
    """

    sweep: Sweep
    done: int = 0
    best: dict[str, Any] | None = None
    failed: dict[int, str] = field(default_factory=dict)
    run_id: str | None = None
    params: Path | None = None
    record: Path = Path()
    page: Path = Path()


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
    on_trial: Callable[[dict[str, Any]], None] = lambda trial: None,
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
        on_trial: gets every trial that ends, one at a time, as in `Outcome.best` with `state`
            (complete, pruned or failed) and, unless complete, `reason`.

    Raises:
        VtccError: on a file that is not right, another process that runs the same sweep, or
            three trials in a row that failed.
        KeyboardInterrupt: after the trainings in progress have written their checkpoints.
    """
    project = (project or paths.project()).resolve()
    sweep = sweep_file.read(file, project)
    if trials is not None:
        sweep = sweep_file.resized(sweep, trials)
    target = results.target(sweep, project, write)
    outcome = Outcome(sweep)
    home = Workspace(project=project, params=sweep.params).home
    with storage.opened(sweep, home, again=again) as found:
        experiment = sweep.params["dataset"]["name"]
        tracker = StudyRun(sweep.name, sweep.title, sweep.question, experiment, kind="sweep")
        outcome.run_id = tracker.run_id
        search = _Search(sweep, found, jobs, threads, tracker, on_trial)
        status = "FAILED"
        try:
            search.play(project, register)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            outcome.done, outcome.best, outcome.failed = found.done(), found.best(), search.failed
            record = results.record(sweep, found, search.surroundings, outcome.run_id)
            outcome.record, outcome.page = results.write(record, project)
            if outcome.best is not None and outcome.done >= sweep.trials:
                outcome.params = results.write_params(sweep, outcome.best, project, target)
            artifacts = [outcome.record, outcome.page, project / sweep.file]
            artifacts += [outcome.params] if outcome.params else []
            tracker.finish(status, results.figures(record), artifacts)
    return outcome


class _Search:
    """Hands trials to worktrees; says what is going on and how long it may take."""

    def __init__(
        self,
        sweep: Sweep,
        trials: Trials,
        jobs: int,
        threads: int,
        tracker: StudyRun,
        on_trial: Callable[[dict[str, Any]], None],
    ) -> None:
        self.sweep, self.trials, self.tracker = sweep, trials, tracker
        self.budget = sweep.trials - trials.done()
        self.jobs = max(1, min(jobs, self.budget))
        self.threads = threads or (1 if jobs > 1 else 0)
        self._asked = {"jobs": jobs, "threads": self.threads}
        self.workers = workers.Workers(self.jobs)
        self.failed: dict[int, str] = {}
        self.surroundings: dict[str, Any] = {}
        self._on_trial = on_trial
        self._lock = threading.Lock()
        self._begun = self._failures = 0
        self._ready: dict[Path, Cache] = {}  # caches of worktrees that have their images
        self._yardstick: Yardstick | None = None
        self._code: dict[str, Any] = {}

    def play(self, project: Path, register: bool) -> None:
        """Runs the trials that are missing, then scores all of them where labels exist."""
        scored = all(t["scores"] for t in self._complete())
        if self.budget <= 0 and scored and not register:
            self.workers.say(f"all {self.sweep.trials} trials are done; raise `trials` for more")
            return
        params = self.sweep.trial({})
        with workers.places(project, params, self.jobs, self.threads) as places:
            self._code = provenance.commit(places[0].directory)
            self.workers.play(places, self._work)
            if self._failures >= MOST_FAILURES:
                raise VtccError(
                    f"{self._failures} trials in a row failed, such as {max(self.failed)}: "
                    f"{self.failed[max(self.failed)]}; the same command tries others"
                )
            best = self.trials.best()
            if best is None:
                return
            self._score(places[0])
            if register:
                self._register(places[0], best)

    def _complete(self) -> list[dict[str, Any]]:
        return [t for t in self.trials.all() if t["state"] == "complete"]

    def _work(self, where: Workspace) -> None:
        while not self.workers.stopping:
            with self._lock:
                if self._begun >= self.budget or self._failures >= MOST_FAILURES:
                    return
                trial = self.trials.next()
                if trial is None:
                    return
                self._begun += 1
                begun = self._begun
            try:
                ended = self._one(trial, where, begun)
                self._failures = 0
            except VtccError as error:
                reason = " ".join(str(error).split())
                ended = self.trials.fail(trial["number"], reason)
                self.failed[trial["number"]] = reason
                self._failures += 1
            self._tell(ended)

    def _one(self, trial: dict[str, Any], where: Workspace, begun: int) -> dict[str, Any]:
        from vtcc.study.sweep.trial import Rungs, judge

        number, who = trial["number"], f"trial {trial['number']}"
        params = self.sweep.trial(trial["values"])
        if self.sweep.pruning != "none":
            params = config.override(params, {"train.collapse": "abort"})
        where.write(params)
        shown = results.shown(trial["values"])
        before = [t["seconds"] for t in self._complete() if t.get("how") == "ran"]
        left = self.workers.left(self.budget - begun + 1, before)
        self.workers.say(f"{begun}/{self.budget} {who}: {shown}{left}")
        cache, yardstick = self._images(where)
        rungs = Rungs(self.trials, number, where.params, cache, yardstick, where.home)
        started = time.monotonic()
        why = None
        try:
            self.workers.stage("embed", where, who)
            done = self.workers.stage(
                "train", where, who, on_progress=rungs, stopped=lambda: bool(rungs.pruned)
            )
        except KeyboardInterrupt:
            if self.workers.stopping or not rungs.pruned:
                raise
            why = rungs.pruned
        except StageError as error:
            if self.sweep.pruning == "none" or _COLLAPSED not in str(error):
                raise
            why = f"collapsed: {str(error).partition(': ')[2]}"
        seconds = round(time.monotonic() - started, 1)
        told = {"seconds": seconds, "code": self._code.get("code")}
        if why:
            run_id = rungs.run_id()
            rungs.forget()
            ended = self.trials.prune(number, why, run_id=run_id, **told)
        else:
            figures = judge(where.directory, yardstick, self._kept(number))
            run_id = results.read_json(where.directory / paths.RUN).get("run_id")
            if done.how == "ran":
                self.workers.seconds.append(seconds)
            ended = self.trials.complete(number, figures, run_id=run_id, how=done.how, **told)
            rungs.forget()  # DVC has the model; no evaluation will tidy up after it
            self.tracker.score(run_id, figures)
        self.tracker.adopt(who, run_id, who)
        return ended

    def _images(self, where: Workspace) -> "tuple[Cache, Yardstick]":
        """The worktree's image cache, made first where it is missing; and the yardstick."""
        from vtcc.data.cache import open_cache
        from vtcc.study.sweep.objective import Yardstick

        with self.workers.data:
            if where.directory not in self._ready:
                for stage in workers.DATA:
                    self.workers.stage(stage, where, "images")
                cache = open_cache(where.directory / paths.CACHE)
                self.trials.check_images(cache.digest)
                self._ready[where.directory] = cache
            if self._yardstick is None:
                import torch

                if self.threads:
                    torch.set_num_threads(self.threads)
                self._yardstick = Yardstick(where.directory / paths.CACHE)
                self.surroundings = {
                    "images": len(self._yardstick.images),
                    "data_digest": self._yardstick.digest,
                    "versions": provenance.versions(),
                    "cpu": provenance.cpu(),
                    **self._asked,
                    **self._code,
                }
            return self._ready[where.directory], self._yardstick

    def _kept(self, number: int) -> Path:
        return self.trials.room / f"{number:04d}.npz"

    def _score(self, where: Workspace) -> None:
        """Looks at labels, once everything is decided."""
        from vtcc.study.sweep.trial import scores

        if self.trials.done() < self.sweep.trials:
            return
        self._images(where)
        complete = self._complete()
        kept = {t["number"]: self._kept(t["number"]) for t in complete}
        found = scores(where.directory, {n: f for n, f in kept.items() if f.is_file()})
        self.trials.score(found)
        for trial in complete:
            if trial["number"] in found:
                self.tracker.score(trial.get("run_id"), found[trial["number"]])

    def _register(self, where: Workspace, best: dict[str, Any]) -> None:
        where.write(self.sweep.full(best["values"]))
        self._images(where)
        for stage in workers.MODEL:
            self.workers.stage(stage, where, "winner")
        from vtcc.tracking import registry

        self.tracker.adopt("winner", registry.register_current(where.directory).run_id, "winner")

    def _tell(self, trial: dict[str, Any]) -> None:
        with self._lock:
            number, best = trial["number"], self.trials.best()
            if trial["state"] == "complete":
                at = " (the best so far)" if best and best["number"] == number else ""
                words = f"objective {trial['objective']:.4f}{at} in {trial['seconds']:.0f} s"
            else:
                words = f"{trial['state']}: {trial['reason']}"
            self.workers.say(f"  trial {number}: {words}")
            self._on_trial(trial)
