"""A study or a sweep as one MLflow run, above the runs of its trainings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtcc.progress import note
from vtcc.tracking import alive, facts, runs, store

PARENT = "mlflow.parentRunId"


class StudyRun:
    """The parent run of a study; the same study goes on with the same run.

    The store may fail or lack a training (pulled from another machine): that is noted, and the
    study's records are complete all the same.

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
            kind: study or sweep.
        """
        self.run_id: str | None = None
        self._client: Any = None
        self._hold = alive.Hold()
        try:
            self._client = store.client()
            where = store.experiment_id(self._client, experiment)
            same = f"tags.`vtcc.study` = '{name}' and tags.`vtcc.kind` = '{kind}'"
            found = self._client.search_runs([where], same, max_results=1)
            if found:
                run_id = found[0].info.run_id
                alive.reopen(self._client, run_id, self._hold)
            else:
                tags = {
                    "mlflow.runName": f"{kind} {name}",
                    "vtcc.study": name,
                    "vtcc.kind": kind,
                    **facts.source_tags(f"vtcc {kind}"),
                    **self._hold.tags,
                }
                run_id = self._client.create_run(where, tags=tags).info.run_id
            text = "\n\n".join(filter(None, [title, question]))
            self._client.set_tag(run_id, "mlflow.note.content", text)
        except Exception as error:
            note(f"MLflow: the {kind} is not tracked ({store.reason(error)})")
        else:
            self.run_id, self._name, self._kind = run_id, name, kind

    def adopt(self, setting: str, run_id: str | None) -> None:
        """Puts a training's run below the study's.

        One that belongs to another study already stays there, and is tagged with this one too.
        """
        if self.run_id is None:
            return
        try:
            child = runs.known_run(self._client, run_id)
            if child is None:
                return
            tags = self._client.get_run(child).data.tags
            self._client.set_tag(child, f"vtcc.study.{self._name}", setting)
            if runs.known_run(self._client, tags.get(PARENT)) is None:
                self._client.set_tag(child, PARENT, self.run_id)
                if self._kind == "sweep":  # whose trainings differ neither in data nor in seed
                    self._client.set_tag(child, "mlflow.runName", f"{self._name} {setting}")
        except Exception as error:
            note(f"MLflow: {run_id} is not shown below its study ({store.reason(error)})")

    def score(self, run_id: str | None, figures: Mapping[str, float]) -> None:
        """Logs figures to a training's run."""
        if self.run_id is None:
            return
        try:
            child = runs.known_run(self._client, run_id)
            if child is not None:
                finite = {k: float(v) for k, v in figures.items() if runs.is_finite(v)}
                runs.log_scores(self._client, child, finite)
        except Exception as error:
            note(f"MLflow: figures of {run_id} were not delivered ({store.reason(error)})")

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
        try:
            finite = {k: float(v) for k, v in figures.items() if runs.is_finite(v)}
            runs.log_scores(self._client, self.run_id, finite)
            for path in artifacts:
                if path.exists():
                    self._client.log_artifact(self.run_id, str(path))
            self._client.set_terminated(self.run_id, status)
            self._hold.release()
        except Exception as error:
            note(f"MLflow: the study's summary was not delivered ({store.reason(error)})")
