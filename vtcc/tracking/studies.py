"""A study, a sweep or a group as one MLflow run, above the runs of its trainings."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtcc import provenance
from vtcc.progress import note
from vtcc.tracking import evaluations, run_locks, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient


class StudyRun:
    """The parent run of a study; the same study goes on with the same run.

    The store may fail or lack a training (pulled from another machine), and MLflow need not be
    installed: that is noted, and the study's records are complete all the same.

    Attributes:
        run_id: the MLflow run, or None where there is no store.
    """

    def __init__(
        self, name: str, title: str, question: str, experiment: str, kind: str = "study"
    ) -> None:
        """Finds or creates the run.

        Args:
            name: of the study.
            title: its one line.
            question: its paragraph.
            experiment: of the baseline's dataset, where MLflow shows the trainings below it.
            kind: study, sweep or group: those of one name are apart.
        """
        self.run_id: str | None = None
        self._name, self._kind = name, kind
        self._client: MlflowClient  # where there is a run
        self._run_lock = run_locks.RunLock()
        with _noted(f"the {kind} is not tracked"):
            self._client = store.client()
            where = store.experiment_id(self._client, experiment)
            same = f"tags.`vtcc.study` = '{name}' and tags.`vtcc.kind` = '{kind}'"
            known = self._client.search_runs([where], same, max_results=1)
            if known:
                run_id = known[0].info.run_id
                run_locks.reopen(self._client, run_id, self._run_lock)
            else:
                tags = {
                    "mlflow.runName": f"{kind} {name}",
                    "vtcc.study": name,
                    "vtcc.kind": kind,
                    **provenance.source_tags(f"vtcc {kind}"),
                    **self._run_lock.tags,
                }
                run_id = self._client.create_run(where, tags=tags).info.run_id
            text = "\n\n".join(filter(None, [title, question]))
            self._client.set_tag(run_id, "mlflow.note.content", text)
            self.run_id = run_id
        if self.run_id is None:
            self._run_lock.release()

    def adopt(self, setting: str, run_id: str | None, run_name: str | None = None) -> None:
        """Puts a training's run below the study's.

        One that belongs to another study already stays there, and is tagged with this one too.

        Args:
            setting: or trial, the tag `vtcc.study.<name>` of the run.
            run_id: of the training.
            run_name: tells it from its siblings, which differ neither in data nor in seed, or in
                the seed alone; None leaves it as it is.
        """
        if self.run_id is None:
            return
        with _noted(f"{run_id} is not shown below its study"):
            child = runs.known_run(self._client, run_id)
            if child is None:
                return
            tags = self._client.get_run(child).data.tags
            self._client.set_tag(child, f"vtcc.study.{self._name}", setting)
            if runs.known_run(self._client, tags.get(runs.PARENT)) is None:
                self._client.set_tag(child, runs.PARENT, self.run_id)
                if run_name:
                    self._client.set_tag(child, "mlflow.runName", f"{self._name} {run_name}")

    def log_evaluation(self, directory: Path) -> None:
        """Logs the evaluation in a worktree, which DVC may have restored; the same once only."""
        if self.run_id is not None:
            with _noted("an evaluation was not logged"):
                evaluations.log_current(directory)

    def score(self, run_id: str | None, figures: Mapping[str, float]) -> None:
        """Logs figures to a training's run."""
        if self.run_id is None:
            return
        with _noted(f"figures of {run_id} were not delivered"):
            child = runs.known_run(self._client, run_id)
            if child is not None:
                runs.log_scores(self._client, child, figures)

    def finish(
        self, status: str, figures: Mapping[str, float], artifacts: Sequence[Path] = ()
    ) -> None:
        """Logs the summary.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
            figures: `acc_mean/<setting>` and so on; what is not a finite number is left out.
            artifacts: files; those that do not exist are left out.
        """
        if self.run_id is None:
            return
        with _noted(f"the {self._kind}'s summary was not delivered"):
            runs.log_scores(self._client, self.run_id, figures)
            runs.log_files(self._client, self.run_id, artifacts)
            self._client.set_terminated(self.run_id, status)
            self._run_lock.release()


@contextlib.contextmanager
def _noted(what: str) -> Iterator[None]:
    """A store that fails costs a study nothing but a line."""
    try:
        yield
    except Exception as error:
        note(f"MLflow: {what} ({store.reason(error)})")
