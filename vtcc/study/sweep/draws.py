"""Which trial comes next, and which is not worth going on with: Optuna, over the recorded trials.

The records are the only storage. Optuna is told of them when a sweep begins, so that the same
command goes on: a trial that was under way keeps its number and values, and its training goes on
from its checkpoint.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcc import config
from vtcc.errors import VtccError
from vtcc.study import records
from vtcc.study.plan import Setting
from vtcc.study.run import RefusedError
from vtcc.study.sweep import objective
from vtcc.study.sweep.file import Sweep

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import TrialState

DONE = ("complete", "pruned")
NEEDED = {"number", "overrides", "params", "drawn", "intermediate", "rungs", "search"}
# Parameter combinations may be forbidden; a space of little else would be drawn from for ever.
MOST_REFUSED = 200


def load(root: Path) -> list[dict[str, Any]]:
    """Every trial recorded below `root`, by number, each with its `state`.

    Raises:
        VtccError: on a file that is no record.
    """
    trials = []
    for folder in sorted(root.glob("trial*")):
        for state in records.STATES:
            for run in records.load(folder.name, root, state).values():
                if missing := NEEDED - run.keys():
                    raise VtccError(f"{folder}: no trial of a sweep, {min(missing)} is missing")
                trials.append(run | {"state": state})
    return sorted(trials, key=lambda t: t["number"])


def best(trials: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The complete trial of the highest objective, the earliest of equals."""
    complete = [t for t in trials if t["state"] == "complete"]
    return max(complete, key=lambda t: (t["metrics"]["objective"], -t["number"]), default=None)


class Draws:
    """The trials of a sweep, those there are and those to come.

    Attributes:
        sweep: it.
        trials: by number; records with their `state`.
    """

    def __init__(self, sweep: Sweep, root: Path) -> None:
        """Reads what is recorded.

        Raises:
            VtccError: when that was searched otherwise.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep, self._root = sweep, root
        self.trials = {t["number"]: t for t in load(root)}
        self._check_same()
        self._study = optuna.create_study(direction="maximize", pruner=_pruner(sweep.pruning))
        self._space = {d.key: d.distribution() for d in sweep.space}
        self._asked: dict[int, Trial] = {}
        self._failed: list[dict[str, Any]] = []  # values, in this call
        for trial in self.trials.values():
            if trial["state"] in DONE:
                self._study.add_trial(
                    optuna.trial.create_trial(
                        state=_state(trial["state"]),
                        value=_objective(trial),
                        params=self._stored(trial["drawn"]),
                        distributions=self._space,
                        intermediate_values={int(k): v for k, v in trial["intermediate"].items()},
                        system_attrs=trial["rungs"],
                    )
                )
        self._left = [n for n, t in self.trials.items() if t["state"] == "running"]

    def _check_same(self) -> None:
        if not self.trials:
            return
        first = next(iter(self.trials.values()))
        fixed = config.flatten(self.sweep.trial({})) | self.searched()
        fixed = {k: v for k, v in fixed.items() if not k.startswith("evaluate.")}
        now = {k: v for k, v in fixed.items() if k not in first["overrides"]}
        records.refuse_others(self._root, first["params"] | first["search"], now, "sweep")

    def check_inputs(self, now: dict[str, Any]) -> None:
        """Compares images and weights with those of the trials.

        Args:
            now: `params`, `data_digest` and `weights`, as a record has them.

        Raises:
            RefusedError: naming what differs.
        """
        other = {t.get("data_digest") for t in self.all()} - {None, "", now["data_digest"]}
        compared = [t for t in self.all() if "params" in t and t["state"] != "failed"]
        if other:
            what = "the images changed"
        elif any(records.other_weights(t, now) for t in compared):
            what = "the file of train.model.weights was replaced"
        else:
            return
        raise RefusedError(
            f"{self.sweep.file}: {what} since the first trials; give the sweep another name, or "
            "forget them with --again"
        )

    def searched(self) -> dict[str, Any]:
        """What trials that compare have in common beside their parameters."""
        return {
            "objective": objective.VERSION,
            "space": {d.key: d.described() for d in self.sweep.space},
            "sampler": self.sweep.sampler,
            "seed": self.sweep.seed,
        }

    def all(self) -> list[dict[str, Any]]:
        """Every trial, by number."""
        return [self.trials[number] for number in sorted(self.trials)]

    def done(self) -> int:
        """How many trials are complete or pruned."""
        return sum(t["state"] in DONE for t in self.all())

    def complete(self) -> list[dict[str, Any]]:
        """The complete trials, by number."""
        return [t for t in self.all() if t["state"] == "complete"]

    def next(self) -> tuple[int, Setting] | None:
        """A trial to run: one that was cut off, else a new one; None when a grid has no more.

        Raises:
            VtccError: when hardly any combination is allowed.
        """
        if self._left:
            number = self._left.pop(0)
            self._enqueue(self.trials[number]["drawn"])
            self._asked[number] = self._study.ask(self._space)
            for step, value in self.trials[number]["intermediate"].items():
                self.report(number, int(step), value)  # it went on after these
            return number, self.sweep.setting(number, self.trials[number]["overrides"])
        number = max(self.trials, default=-1) + 1
        for refusals in range(MOST_REFUSED):
            if self.sweep.sampler == "grid":
                chosen = self._unvisited()
                if chosen is None:
                    return None
                self._enqueue(chosen)
            elif refusals == 0 and (start := self._start()):
                self._enqueue(start)
            # Draws are a function of seed and trial, not of how often the sweep was interrupted.
            self._study.sampler = _sampler(self.sweep, [number, *[refusals] * (refusals > 0)])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trial = self._study.ask(self._space)
            values = {d.key: d.decoded(trial.params[d.key]) for d in self.sweep.space}
            try:
                setting = self.sweep.setting(number, values)
            except VtccError as error:
                self._study.tell(trial, state=_state("failed"))
                reason = error
            else:
                self._asked[number] = trial
                self.trials[number] = {"number": number, "state": "running", "overrides": values}
                return number, setting
        raise VtccError(f"space: {MOST_REFUSED} combinations in a row are not allowed: {reason}")

    def _start(self) -> dict[str, Any] | None:
        """The preset's own values, where they are untried or failed in an earlier call."""
        tried = [t["overrides"] for t in self.all() if t["state"] != "failed"] + self._failed
        if 0 in self.trials and self.trials[0]["overrides"] in tried:
            return None
        return self.sweep.start()

    def _enqueue(self, values: dict[str, Any]) -> None:
        self._study.enqueue_trial(self._stored(values))

    def _stored(self, values: dict[str, Any]) -> dict[str, Any]:
        return {d.key: d.encoded(values[d.key]) for d in self.sweep.space}

    def _unvisited(self) -> dict[str, Any] | None:
        tried = [t["overrides"] for t in self.all() if t["state"] != "failed"]
        tried += self._failed
        for combination in self.sweep.grid():
            if combination not in tried and self.sweep.allowed(combination):
                return combination
        return None

    def noted(self, number: int) -> dict[str, Any]:
        """What the record of a trial needs so that Optuna can be told of it again."""
        trial = self._study.get_trials(deepcopy=False)[self._asked[number].number]
        # Successive halving keeps there which trials have passed a rung.
        rungs = {k: v for k, v in trial.system_attrs.items() if k.startswith("completed_rung")}
        return {
            "number": number,
            "drawn": trial.params,
            "intermediate": {str(k): round(v, 6) for k, v in trial.intermediate_values.items()},
            "rungs": rungs,
            "search": self.searched(),
        }

    def report(self, number: int, step: int, value: float) -> bool:
        """Notes an intermediate objective; True when the trial is not worth going on with."""
        trial = self._asked[number]
        trial.report(value, step)
        return trial.should_prune()

    def end(self, number: int, state: str, record: dict[str, Any]) -> None:
        """Tells Optuna how a trial ended."""
        trial = self.trials[number] = record | {"state": state}
        self._study.tell(self._asked[number], _objective(trial), state=_state(state))
        if state == "failed":
            self._failed.append(record["overrides"])

    def importance(self) -> dict[str, float]:
        """Shares of the objective's variation by parameter, 0 to 1; {} for fewer than 8 trials."""
        import optuna

        if len(self.complete()) < 8:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shares = optuna.importance.get_param_importances(self._study)
        except (ValueError, RuntimeError):  # all objectives alike
            return {}
        return {k: round(float(v), 4) for k, v in shares.items() if np.isfinite(v)}


def _objective(trial: dict[str, Any]) -> float | None:
    return trial["metrics"]["objective"] if trial["state"] == "complete" else None


def _state(name: str) -> "TrialState":
    from optuna.trial import TrialState

    return TrialState["FAIL" if name == "failed" else name.upper()]


def _sampler(sweep: Sweep, number: list[int]) -> "BaseSampler":
    from optuna import samplers

    seed = int(np.random.SeedSequence([sweep.seed, *number]).generate_state(1)[0])
    if sweep.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=max(5, sweep.trials // 4))
    return samplers.RandomSampler(seed=seed)


def _pruner(kind: str) -> "BasePruner":
    from optuna import pruners

    if kind == "median":
        return pruners.MedianPruner(n_startup_trials=4)
    if kind == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return pruners.NopPruner()
