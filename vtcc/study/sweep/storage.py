"""Trials in Optuna's storage, `.vtcc/sweeps/NAME.db`: asked for, told, gone on with after a kill.

One process at a time runs a sweep, which a lock sees to. A trial that is RUNNING when the lock
is taken is one whose process is gone: the same trial goes on, and its training from its
checkpoint.
"""

import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vtcc import config
from vtcc.atomic import remove
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.study.sweep import objective
from vtcc.study.sweep.file import Sweep

DONE = ("complete", "pruned")
# Parameter combinations may be forbidden; a space of little else would be drawn from for ever.
MOST_REFUSED = 200


def directory(home: Path) -> Path:
    """Where sweeps keep their trials."""
    return home / ".vtcc" / "sweeps"


@contextmanager
def opened(sweep: Sweep, home: Path, *, again: bool = False) -> Iterator["Trials"]:
    """The trials of a sweep, held alone.

    Args:
        sweep: it.
        home: the main checkout, which all worktrees share.
        again: forget what is there.

    Raises:
        VtccError: when another process runs it, or what is there was searched otherwise.
    """
    root = directory(home)
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.exclusive(root / f"{sweep.name}.lock", wait=False))
        except locks.BusyError:
            raise VtccError(
                f"sweep {sweep.name!r}: another process runs it; wait for it, or stop it with "
                "Ctrl-C there"
            ) from None
        if again:
            for leftover in (*root.glob(f"{sweep.name}.db*"), root / sweep.name):
                remove(leftover)
        yield Trials(sweep, root)


class Trials:
    """All trials of a sweep. Methods may be called from several threads.

    A trial, as it is handed out, is a dict: `number`, `state` (running, complete, pruned, failed),
    `values` by key, `objective` (None unless complete) and what was told of it.

    Attributes:
        room: a directory for files of the trials.
    """

    def __init__(self, sweep: Sweep, root: Path) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep, self.room = sweep, root / sweep.name
        self.room.mkdir(exist_ok=True)
        self._lock = threading.RLock()
        self._storage = optuna.storages.RDBStorage(
            f"sqlite:///{(root / f'{sweep.name}.db').as_posix()}",
            engine_kwargs={"connect_args": {"timeout": 60}},
        )
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=sweep.name,
            direction="maximize",
            pruner=_pruner(sweep.pruning),
            load_if_exists=True,
        )
        self._check_same()
        self._left: list[int] = []
        self._failed: list[dict[str, Any]] = []  # values, in this call
        for trial in self.all():
            if trial["state"] != "running":
                continue
            if len(trial["values"]) == len(sweep.space):
                self._left.append(trial["number"])
            else:
                self.fail(trial["number"], "the process ended while the trial was drawn")

    def _check_same(self) -> None:
        known, now = self._study.user_attrs.get("identity"), identity(self.sweep)
        if known is None:
            self._study.set_user_attr("identity", now)
        elif known != now:
            key = next(k for k in now if known.get(k) != now[k])
            raise VtccError(
                f"{self.sweep.file}: {len(self.all())} trials were made with other values "
                f"({key}: {_short(known.get(key))}, now {_short(now[key])}); give the sweep "
                "another name, or forget them with --again"
            )

    def check_images(self, digest: str) -> None:
        """Refuses other images than those of the trials before.

        Raises:
            VtccError: when they changed.
        """
        with self._lock:
            known = self._study.user_attrs.get("digest")
            if known is None:
                self._study.set_user_attr("digest", digest)
        if known not in (None, digest):
            raise VtccError(
                f"{self.sweep.file}: the images changed since the first trials; give the sweep "
                "another name, or forget them with --again"
            )

    def all(self) -> list[dict[str, Any]]:
        """Every trial, by number."""
        with self._lock:
            scores = self._study.user_attrs.get("scores", {})
            return [
                _plain(t, self.sweep) | {"scores": scores.get(str(t.number), {})}
                for t in self._study.get_trials(deepcopy=False)
                if t.state.name != "WAITING" and "refused" not in t.user_attrs
            ]

    def done(self) -> int:
        """How many are complete or pruned."""
        return sum(t["state"] in DONE for t in self.all())

    def best(self) -> dict[str, Any] | None:
        """The complete trial of the highest objective, the earliest of equals."""
        complete = [t for t in self.all() if t["state"] == "complete"]
        return max(complete, key=lambda t: (t["objective"], -t["number"]), default=None)

    def next(self) -> dict[str, Any] | None:
        """A trial to run: one that was cut off, else a new one; None when a grid has no more.

        Raises:
            VtccError: when hardly any combination is allowed.
        """
        with self._lock:
            if self._left:
                return self._one(self._left.pop(0))
            for _ in range(MOST_REFUSED):
                number = self._ask()
                if number is None:
                    return None
                trial = self._one(number)
                try:
                    self.sweep.trial(trial["values"])
                except VtccError as error:
                    self._note(number, refused=str(error))
                    self._study.tell(number, state=_state("FAIL"))
                    reason = error
                else:
                    return trial
        raise VtccError(f"space: {MOST_REFUSED} combinations in a row are not allowed: {reason}")

    def _ask(self) -> int | None:
        known = self._study.get_trials(deepcopy=False)
        if self.sweep.sampler == "grid":
            chosen = self._unvisited()
            if chosen is None:
                return None
            self._enqueue(chosen)
        elif not known and (start := self.sweep.start()):
            self._enqueue(start)
        # Draws are a function of seed and trial, not of how often the sweep was interrupted.
        self._study.sampler = _sampler(self.sweep, len(known))
        space = {d.key: d.distribution() for d in self.sweep.space}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask(space)
        values = {d.key: d.decoded(trial.params[d.key]) for d in self.sweep.space}
        trial.set_user_attr("values", values)
        return trial.number

    def _enqueue(self, values: dict[str, Any]) -> None:
        encoded = {d.key: d.encoded(values[d.key]) for d in self.sweep.space}
        self._study.enqueue_trial(encoded)

    def _unvisited(self) -> dict[str, Any] | None:
        tried = [t["values"] for t in self.all() if t["state"] != "failed"]
        tried += self._failed
        for combination in self.sweep.grid():
            if combination not in tried and self.sweep.allowed(combination):
                return combination
        return None

    def report(self, number: int, step: int, value: float) -> bool:
        """Notes an intermediate objective; True when the trial is not worth going on with."""
        import optuna

        with self._lock:
            trial = optuna.trial.Trial(self._study, self._id(number))
            trial.report(value, step)
            return trial.should_prune()

    def complete(self, number: int, figures: dict[str, float], **facts: Any) -> dict[str, Any]:
        """Ends a trial with its figures, `objective` among them."""
        return self._end(number, "COMPLETE", figures["objective"], figures=figures, **facts)

    def prune(self, number: int, reason: str, **facts: Any) -> dict[str, Any]:
        """Ends a trial that was not worth going on with."""
        return self._end(number, "PRUNED", None, reason=reason, **facts)

    def fail(self, number: int, reason: str, **facts: Any) -> dict[str, Any]:
        """Ends a trial that met an error."""
        trial = self._end(number, "FAIL", None, reason=reason, **facts)
        self._failed.append(trial["values"])
        return trial

    def _end(self, number: int, state: str, value: float | None, **facts: Any) -> dict[str, Any]:
        with self._lock:
            self._note(number, **facts)
            self._study.tell(number, value, state=_state(state))
            return self._one(number)

    def _one(self, number: int) -> dict[str, Any]:
        return next(t for t in self.all() if t["number"] == number)

    def _note(self, number: int, **facts: Any) -> None:
        for key, value in facts.items():
            self._storage.set_trial_user_attr(self._id(number), key, value)

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self.sweep.name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def score(self, scores: dict[int, dict[str, float]]) -> None:
        """Keeps scores against labels beside the trials, where the sampler does not look."""
        with self._lock:
            self._study.set_user_attr("scores", {str(n): s for n, s in scores.items()})

    def importance(self) -> dict[str, float]:
        """Shares of the objective's variation by parameter, 0 to 1; {} for fewer than 8 trials."""
        import optuna

        if sum(t["state"] == "complete" for t in self.all()) < 8:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = optuna.importance.get_param_importances(self._study)
        except (ValueError, RuntimeError):  # all objectives alike
            return {}
        return {k: round(float(v), 4) for k, v in found.items() if np.isfinite(v)}


def identity(sweep: Sweep) -> dict[str, Any]:
    """What trials that compare have in common; the number of trials may grow."""
    searched = {d.key for d in sweep.space}
    flat = config.flatten(sweep.trial({}))
    fixed = {k: v for k, v in flat.items() if k not in searched and not k.startswith("evaluate.")}
    return {
        "objective": objective.VERSION,
        "space": {d.key: d.described() for d in sweep.space},
        "sampler": sweep.sampler,
        **json.loads(json.dumps(fixed)),
    }


def _plain(trial: Any, sweep: Sweep) -> dict[str, Any]:
    state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
    intermediate = {str(k): round(v, 6) for k, v in sorted(trial.intermediate_values.items())}
    values = trial.user_attrs.get("values") or {
        d.key: d.decoded(trial.params[d.key]) for d in sweep.space if d.key in trial.params
    }
    return {
        **trial.user_attrs,
        "number": trial.number,
        "state": state,
        "values": values,
        "objective": trial.value if state == "complete" else None,
        "intermediate": intermediate,
    }


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _sampler(sweep: Sweep, number: int) -> Any:
    from optuna import samplers

    seed = int(np.random.SeedSequence([sweep.seed, number]).generate_state(1)[0])
    if sweep.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=max(5, sweep.trials // 4))
    return samplers.RandomSampler(seed=seed)


def _pruner(kind: str) -> Any:
    from optuna import pruners

    if kind == "median":
        return pruners.MedianPruner(n_startup_trials=4)
    if kind == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return pruners.NopPruner()


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
