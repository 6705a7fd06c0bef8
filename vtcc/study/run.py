"""Runs a study: every setting with every seed, each recorded as soon as it is done."""

import datetime
import json
import queue
import shlex
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtcc import config, paths, provenance
from vtcc.engine import cpus
from vtcc.errors import VtccError
from vtcc.runner import dvc
from vtcc.runner.workspace import Workspace
from vtcc.study import records, workers
from vtcc.study.plan import Setting, Study
from vtcc.tracking.studies import StudyRun

# Sections that decide which images a run sees.
SEEN = ("dataset.", "download.", "validate.")


@dataclass(frozen=True)
class Run:
    """One training of a study."""

    setting: Setting
    seed: int

    def __str__(self) -> str:
        return f"{self.setting.name} seed {self.seed}"


@dataclass
class Outcome:
    """What a call did.

    Attributes:
        ran: runs recorded now.
        kept: runs that were recorded before and stay as they are.
        failed: runs that failed, each with its one-line reason.
    """

    ran: list[Run] = field(default_factory=list)
    kept: list[Run] = field(default_factory=list)
    failed: dict[Run, str] = field(default_factory=dict)


def run(
    study: Study,
    settings: list[Setting],
    seeds: list[int],
    *,
    project: Path,
    root: Path,
    threads: int = 0,
    jobs: int = 1,
    again: bool = False,
    tracker: StudyRun | None = None,
) -> Outcome:
    """Runs what is not recorded yet; a run that fails is remembered and the others go on.

    Args:
        study: it.
        settings: those to run.
        seeds: those to run.
        project: directory of `params.yaml`, absolute.
        root: directory of the records.
        threads: processor threads of a stage; 0 leaves it to the libraries, or is one each
            for several jobs.
        jobs: runs at a time, each in a worktree of its own.
        again: run what is recorded too.
        tracker: hears of every run, new or kept, one at a time.

    Raises:
        VtccError: when no worktree can be made.
        KeyboardInterrupt: after the runs in progress have written their checkpoints.
    """
    runs = [Run(setting, seed) for seed in seeds for setting in settings]
    if not again:
        check_records(runs, root)
    jobs = min(jobs, len(runs))
    threads = threads or (1 if jobs > 1 else 0)
    conductor = _Conductor(study, runs, root, threads, jobs, again, tracker)
    with workers.places(project, runs[0].setting.seeded(runs[0].seed), jobs, threads) as places:
        conductor.workers.play(places, conductor.work)
    return conductor.outcome


def check_records(runs: list[Run], root: Path) -> None:
    """Refuses to replace what was recorded with other parameters.

    A key that one of them lacks is none: it came or went with a version of vtcc.

    Raises:
        VtccError: naming the file and the first parameters that differ.
    """
    for one in runs:
        known = records.load(one.setting.record, root).get(one.seed)
        if known is None:
            continue
        now = config.flatten(one.setting.seeded(one.seed))
        changed = records.differences(known["params"], now)
        other = {k: v for k, v in changed.items() if k in known["params"] and k in now}
        if other:
            shown = ", ".join(f"{k} {was} (now {is_})" for k, (was, is_) in list(other.items())[:3])
            file = records.directory(one.setting.record, root) / f"seed{one.seed}.json"
            raise VtccError(
                f"{file}: recorded with {shown}; give the study another name, or replace what is "
                "recorded with --again"
            )


class _Conductor:
    """Hands runs to workers; says what is going on and how long it may take."""

    def __init__(
        self,
        study: Study,
        runs: list[Run],
        root: Path,
        threads: int,
        jobs: int,
        again: bool,
        tracker: StudyRun | None,
    ) -> None:
        self.study, self.runs, self.root, self.jobs, self.again = study, runs, root, jobs, again
        self.threads, self._tracker = threads, tracker
        self._telling = threading.Lock()
        self.outcome = Outcome()
        self._waiting: queue.SimpleQueue[tuple[int, Run]] = queue.SimpleQueue()
        for numbered in enumerate(runs, 1):
            self._waiting.put(numbered)
        self._known = {s.record: records.load(s.record, root) for s in {r.setting for r in runs}}
        self._digests: dict[str, str] = {}
        self.workers = workers.Workers(jobs)
        self._say = self.workers.say

    def work(self, where: Workspace) -> None:
        """Works through the runs that are left, in one worktree."""
        code = provenance.commit(where.directory)
        while not self.workers.stopping:
            try:
                number, one = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._one(number, one, where, code)
            except VtccError as error:
                self._fail(one, str(error), code)

    def _one(self, number: int, one: Run, where: Workspace, code: dict[str, Any]) -> None:
        params = one.setting.seeded(one.seed)
        flat = config.flatten(params)
        started = time.monotonic()
        self._say(f"{number}/{len(self.runs)} {one}{self._left(number)}")
        where.write(params)
        seen = json.dumps({k: v for k, v in flat.items() if k.startswith(SEEN)}, sort_keys=True)
        known = self._known[one.setting.record].get(one.seed)
        done: dict[str, dvc.StageRun] = {}
        if seen not in self._digests or not self._same(known, flat, self._digests[seen], code):
            with self.workers.data:
                for stage in workers.DATA:
                    done[stage] = self.workers.stage(stage, where, str(one))
            cache = _json(where.directory / paths.CACHE / "cache.json")
            self._digests[seen] = cache["digest"]
        digest = self._digests[seen]
        if self._same(known, flat, digest, code):
            self._say(f"  {one}: recorded, in {records.directory(one.setting.record, self.root)}")
            self.outcome.kept.append(one)
            self._tell(one, known or {})
            return
        for stage in workers.MODEL:
            done[stage] = self.workers.stage(stage, where, str(one))
        seconds = time.monotonic() - started
        record = {
            "study": self.study.name,
            "setting": one.setting.name,
            "seed": one.seed,
            "command": self._command(),
            "preset": self.study.preset,
            "overrides": one.setting.overrides,
            "params": flat,
            "metrics": _json(where.directory / paths.METRICS),
            "training": _json(where.directory / paths.TRAINING),
            "run_id": _json(where.directory / paths.RUN).get("run_id"),
            "seconds": {s: round(d.seconds, 1) for s, d in done.items()},
            "how": {s: d.how for s, d in done.items()},
            "versions": provenance.versions(),
            "cpu": provenance.cpu(),
            "threads": self.threads or cpus.usable(),
            "date": _now(),
            "data_digest": digest,
            **code,
        }
        file = records.write(one.setting.record, record, self.root)
        if self._tracker and done["evaluate"].how != "ran":  # else it has logged by itself
            self._tracker.log_evaluation(where.directory)
        if done["train"].how == "ran":
            self.workers.seconds.append(seconds)
        self.outcome.ran.append(one)
        self._say(f"  {one}: {_scores(record['metrics'])} in {seconds:.0f} s -> {file}")
        self._tell(one, record)

    def _tell(self, one: Run, record: dict[str, Any]) -> None:
        with self._telling:
            name = "" if one.setting.name == self.study.name else f"{one.setting.name} "
            if self._tracker:
                self._tracker.adopt(
                    one.setting.name, record.get("run_id"), f"{name}seed {one.seed}"
                )

    def _same(
        self,
        known: dict[str, Any] | None,
        flat: dict[str, Any],
        digest: str,
        code: dict[str, Any],
    ) -> bool:
        """Whether running this again would give what is recorded."""
        if self.again or known is None:
            return False
        clean = known["commit"] == code["commit"] and not known["dirty"] and not code["dirty"]
        return (
            known["params"] == flat
            and known["data_digest"] == digest
            and (clean or known.get("code") == code["code"])
        )

    def _fail(self, one: Run, reason: str, code: dict[str, Any]) -> None:
        reason = " ".join(reason.split())
        self.outcome.failed[one] = reason
        failure = {
            "study": self.study.name,
            "setting": one.setting.name,
            "seed": one.seed,
            "reason": reason,
            "params": config.flatten(one.setting.seeded(one.seed)),
            "date": _now(),
            **code,
        }
        records.write_failure(one.setting.record, failure, self.root)
        self._say(f"  {one}: failed: {reason}")

    def _command(self) -> str:
        words = ["vtcc", "study", self.study.file.as_posix()]
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--jobs", str(self.jobs)] if self.jobs > 1 else []
        return shlex.join(words)

    def _left(self, number: int) -> str:
        before = [
            sum(r["seconds"].values())
            for runs in self._known.values()
            for r in runs.values()
            if r["how"].get("train") == "ran"
        ]
        return self.workers.left(len(self.runs) - number + 1, before)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _scores(metrics: dict[str, Any]) -> str:
    found = [f"{s} {metrics[s]:.4f}" for s in records.SCORES if s in metrics]
    return "  ".join(found) or "no labels, no scores"
