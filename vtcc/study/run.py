"""The trainings of a study or a sweep, side by side, each recorded as soon as it is over."""

import datetime
import shlex
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtcc import config, json_file, paths, provenance
from vtcc.analysis.scores import COMPARED
from vtcc.engine import cpus
from vtcc.errors import VtccError
from vtcc.runner import dvc
from vtcc.runner.workspace import Workspace
from vtcc.stages import embed
from vtcc.study import records, workers
from vtcc.study.plan import Plan, Setting, Study
from vtcc.tracking.studies import StudyRun


@dataclass(frozen=True)
class Run:
    """One training of a study; a trial of a sweep has a number, and the same seed as all others."""

    setting: Setting
    seed: int
    number: int | None = None

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.number is None else ""
        return f"{self.setting.name}{seed}"


@dataclass
class Outcome:
    """What a call did.

    Attributes:
        ran: runs recorded now; of a sweep also those that were pruned.
        kept: runs that were recorded before and stay as they are.
        failed: runs that failed, each with its one-line reason.
    """

    ran: list[Run] = field(default_factory=list)
    kept: list[Run] = field(default_factory=list)
    failed: dict[Run, str] = field(default_factory=dict)


@dataclass
class Attempt:
    """A run under way.

    Attributes:
        run: it.
        number: of this call, from 1.
        where: the worktree.
        code: of the worktree, as `provenance.commit` gives it.
        params: flat and complete, as they are recorded.
        digest: of the images, once they are there.
        done: the stages so far.
        more: further keys of its record; `metrics` once it is scored.
    """

    run: Run
    number: int
    where: Workspace
    code: dict[str, Any]
    params: dict[str, Any]
    digest: str = ""
    done: dict[str, dvc.StageRun] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


class PrunedError(Exception):
    """A run is not worth going on with."""


class RefusedError(VtccError):
    """All runs end, not this one alone."""


class Trainings(workers.Workers):
    """Hands runs to workers; says what is going on and how long it may take.

    What a study and a sweep do differently is in `next`, `known`, `train` and `ended`.

    Attributes:
        kind: the verb.
        unrecorded: parameters of every run that its record leaves as they are in the file.
        before: seconds of earlier runs.
    """

    kind = "study"

    def __init__(
        self,
        plan: Plan,
        root: Path,
        total: int,
        *,
        jobs: int = 1,
        threads: int = 0,
        tracker: StudyRun | None = None,
    ) -> None:
        """Starts nothing.

        Args:
            plan: the study or sweep.
            root: directory of the records.
            total: how many runs there are in this call.
            jobs: runs at a time, each in a worktree of its own.
            threads: processor threads of a stage; 0 leaves it to the libraries, or is one each
                for several jobs.
            tracker: hears of every run, new or kept, one at a time.
        """
        super().__init__(max(1, min(jobs, total)))
        self.plan, self.root, self.total, self.tracker = plan, root, total, tracker
        self.threads = threads or (1 if self.jobs > 1 else 0)
        self.before: list[float] = []
        self.unrecorded: dict[str, Any] = {}
        self.outcome = Outcome()
        self.lock = threading.RLock()
        self._begun = 0
        self._digests: dict[str, str] = {}  # of images, by what decides which they are
        self._images: dict[Path, str] = {}  # which of them a worktree holds

    def next(self) -> Run | None:
        """The next run, asked for by one thread at a time; None when there are no more."""
        raise NotImplementedError

    def known(self, attempt: Attempt) -> dict[str, Any] | None:
        """The record that running this again would give, or None."""
        return None

    def train(self, attempt: Attempt) -> None:
        """Trains and scores: fills `attempt.more`.

        Raises:
            VtccError: when the run failed.
            PrunedError: when it is not worth going on with.
            RefusedError: when no other run is either.
        """
        raise NotImplementedError

    def ended(self, attempt: Attempt, state: str, record: dict[str, Any]) -> None:
        """Hears of the end of every run, one at a time, when it is recorded."""

    def work(self, where: Workspace) -> None:
        """Works through the runs that are left, in one worktree."""
        code = provenance.commit(where.directory)
        while not self.stopping:
            with self.lock:
                current = self.next() if self._begun < self.total else None
                if current is None:
                    return
                self._begun += 1
                params = config.flatten(current.setting.seeded(current.seed))
                attempt = Attempt(current, self._begun, where, code, params)
            try:
                self._run(attempt)
            except PrunedError as why:
                self._end(attempt, "pruned", reason=str(why))
            except RefusedError:
                raise
            except VtccError as error:
                reason = " ".join(str(error).split())
                self.outcome.failed[current] = reason
                self._end(attempt, "failed", reason=reason)

    def _run(self, attempt: Attempt) -> None:
        current, where = attempt.run, attempt.where
        left = self.left(self.total - attempt.number + 1, self.before)
        self.say(f"{attempt.number}/{self.total} {self.described(current)}{left}")
        started = time.monotonic()
        where.write(config.override(current.setting.seeded(current.seed), self.unrecorded))
        self._look(attempt)
        if known := self.known(attempt):
            self.outcome.kept.append(current)
            folder = records.directory(current.setting.record, self.root)
            self.say(f"  {current}: recorded, in {folder}")
            self._adopt(current, known)
            return
        self.train(attempt)
        if attempt.done["train"].how == "ran":
            self.seconds.append(time.monotonic() - started)
        self.outcome.ran.append(current)
        training, run = (read_json(where.directory / file) for file in (paths.TRAINING, paths.RUN))
        self._end(attempt, "complete", training=training, run_id=run.get("run_id"))

    def described(self, run: Run) -> str:
        """The run for the line that says that it begins."""
        return str(run)

    def _look(self, attempt: Attempt) -> None:
        """Finds out which images the run sees; fetches them where that is needed."""
        seen = records.seen(attempt.params)
        attempt.digest = self._digests.get(seen, "")
        if not (attempt.digest and self.known(attempt)):
            attempt.done |= self.fetch(attempt.where, attempt.params, str(attempt.run))
            attempt.digest = self._digests[seen]

    def fetch(self, where: Workspace, params: dict[str, Any], who: str) -> dict[str, dvc.StageRun]:
        """Brings the images of a run into a worktree, unless they are there.

        Args:
            where: the worktree. params: flat. who: the run, for people.

        Returns:
            The stages that were needed, by name.
        """
        seen = records.seen(params)
        with self.data:
            if self._images.get(where.directory) == seen:
                return {}
            self._images.pop(where.directory, None)
            done = {stage: self.stage(stage, where, who) for stage in workers.DATA}
            self._images[where.directory] = seen
            cache = read_json(where.directory / paths.CACHE / "cache.json")
            self._digests[seen] = cache["digest"]
        return done

    def do(self, attempt: Attempt, stage: str, **watched: Any) -> None:
        """Runs a stage of a run; `watched` is as of `Workers.stage`."""
        started = time.monotonic()
        try:
            attempt.done[stage] = self.stage(stage, attempt.where, str(attempt.run), **watched)
        except BaseException:
            attempt.done[stage] = dvc.StageRun(stage, "ended", time.monotonic() - started)
            raise

    def _end(self, attempt: Attempt, state: str, **more: Any) -> None:
        current = attempt.run
        record = self.record(attempt, **more)
        with self.lock:
            file = records.write(current.setting.record, record, self.root, state)
            if state == "complete":
                seconds = sum(record["seconds"].values())
                self.say(f"  {current}: {scores(record['metrics'])} in {seconds:.0f} s -> {file}")
            else:
                self.say(f"  {current}: {state}: {record['reason']}")
            self.ended(attempt, state, record)
            if state != "failed":
                self._adopt(current, record)

    def _adopt(self, run: Run, record: dict[str, Any]) -> None:
        if self.tracker:
            label = str(run).removeprefix(f"{self.plan.name} ")
            with self.lock:
                self.tracker.adopt(run.setting.name, record.get("run_id"), label)

    def record(self, attempt: Attempt, **more: Any) -> dict[str, Any]:
        """A run as it is recorded, whatever became of it; `more` belongs to its state."""
        current = attempt.run
        limit = self.threads or cpus.usable()
        return {
            self.kind: self.plan.name,
            "setting": current.setting.name,
            "seed": current.seed,
            "command": self._command(),
            "preset": self.plan.preset,
            "overrides": current.setting.overrides,
            "params": attempt.params,
            "seconds": {s: round(d.seconds, 1) for s, d in attempt.done.items()},
            "how": {s: d.how for s, d in attempt.done.items()},
            "versions": provenance.versions(),
            "cpu": provenance.cpu(),
            "threads": min(attempt.params["train.threads"] or limit, limit),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "data_digest": attempt.digest,
            "weights": weights_in(attempt.where),
            **attempt.code,
            **attempt.more,
            **more,
        }

    def _command(self) -> str:
        words = ["vtcc", self.kind, self.plan.file.as_posix()]
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--jobs", str(self.jobs)] if self.jobs > 1 else []
        return shlex.join(words)


class _Study(Trainings):
    """Settings times seeds, unless they are recorded already."""

    def __init__(self, study: Study, runs: list[Run], root: Path, again: bool, **how: Any) -> None:
        super().__init__(study, root, len(runs), **how)
        self._waiting, self._again = iter(runs), again
        self._recorded = {s: records.load(s, root) for s in {r.setting.record for r in runs}}
        every = (run for runs in self._recorded.values() for run in runs.values())
        self.before = records.seconds(every)

    def next(self) -> Run | None:
        return next(self._waiting, None)

    def known(self, attempt: Attempt) -> dict[str, Any] | None:
        """The record, where parameters, images and code are the same."""
        known = self._recorded[attempt.run.setting.record].get(attempt.run.seed)
        if self._again or known is None:
            return None
        weights = weights_in(attempt.where)
        same = (
            not records.differences(known["params"], attempt.params)
            and known["data_digest"] == attempt.digest
            and known.get("weights", weights) == weights  # records before 0.2 lack it
            and records.same_code(known, attempt.code)
        )
        return known if same else None

    def train(self, attempt: Attempt) -> None:
        for stage in workers.MODEL:
            self.do(attempt, stage)
        attempt.more["metrics"] = read_json(attempt.where.directory / paths.METRICS)

    def ended(self, attempt: Attempt, state: str, record: dict[str, Any]) -> None:
        # An evaluation that ran has logged itself.
        if state == "complete" and self.tracker and attempt.done["evaluate"].how != "ran":
            self.tracker.log_evaluation(attempt.where.directory)


def run(
    study: Study,
    settings: list[Setting],
    seeds: list[int],
    project: Path,
    root: Path,
    *,
    again: bool = False,
    **how: Any,
) -> Outcome:
    """Runs what is not recorded yet; a run that fails is remembered and the others go on.

    Args:
        study: it.
        settings: those to run.
        seeds: those to run.
        project: directory of `params.yaml`, absolute.
        root: directory of the records.
        again: run what is recorded too.
        **how: jobs, threads and tracker, as of `Trainings`.

    Raises:
        VtccError: when no worktree can be made.
        KeyboardInterrupt: after the runs in progress have written their checkpoints.
    """
    runs = [Run(setting, seed) for seed in seeds for setting in settings]
    if not again:
        check_records(runs, root)
    trainings = _Study(study, runs, root, again, **how)
    params = settings[0].seeded(seeds[0])
    with workers.places(project, params, trainings.jobs, trainings.threads) as places:
        trainings.play(places, trainings.work)
    return trainings.outcome


def check_records(runs: Iterable[Run], root: Path) -> None:
    """Refuses to replace what was recorded with other parameters.

    Raises:
        VtccError: naming the file and the first parameters that differ.
    """
    for run in runs:
        if known := records.load(run.setting.record, root).get(run.seed):
            file = records.directory(run.setting.record, root) / f"seed{run.seed}.json"
            now = config.flatten(run.setting.seeded(run.seed))
            records.refuse_others(file, known["params"], now, "study")


def weights_in(where: Workspace) -> str:
    """Digest of the file of weights that a run begins with; empty without one."""
    return embed.weights_digest(where.params["train"]["model"]["weights"], where.directory)


def read_json(file: Path) -> dict[str, Any]:
    """The named values in a JSON file; {} where there is none."""
    return json_file.read(file, "run the study again") if file.is_file() else {}


def scores(metrics: dict[str, Any]) -> str:
    """The figures that a run is judged by, in one line."""
    shown = ("objective",) if "objective" in metrics else COMPARED
    return "  ".join(f"{s} {metrics[s]:.4f}" for s in shown if s in metrics) or (
        "no labels, no scores"
    )
