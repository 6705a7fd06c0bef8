"""Who hears what becomes of the runs of a study or a sweep: MLflow, where it is installed."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vtcc.progress import note


class Tracker(Protocol):
    """What a study or sweep tells as it goes; `tracking.studies.StudyRun` hands it on to MLflow."""

    run_id: str | None

    def adopt(self, setting: str, run_id: str | None, run_name: str | None = None) -> None:
        """A training belongs to it."""

    def log_evaluation(self, directory: Path) -> None:
        """A worktree holds the reports of an evaluation."""

    def score(self, run_id: str | None, figures: Mapping[str, float]) -> None:
        """A training has further figures."""

    def finish(
        self, status: str, figures: Mapping[str, float], artifacts: Sequence[Path] = ()
    ) -> None:
        """It is over."""


class Untracked:
    """Stands in where MLflow is not installed."""

    run_id: str | None = None

    def adopt(self, setting: str, run_id: str | None, run_name: str | None = None) -> None:
        """Does nothing."""

    def log_evaluation(self, directory: Path) -> None:
        """Does nothing."""

    def score(self, run_id: str | None, figures: Mapping[str, float]) -> None:
        """Does nothing."""

    def finish(
        self, status: str, figures: Mapping[str, float], artifacts: Sequence[Path] = ()
    ) -> None:
        """Does nothing."""


def create(name: str, title: str, question: str, params: dict[str, Any], kind: str) -> Tracker:
    """The tracker of a study or sweep.

    Args:
        name, title, question: of its file.
        params: nested; the dataset names the experiment.
        kind: study or sweep.
    """
    if importlib.util.find_spec("mlflow") is None:
        note(f"MLflow is not installed: the {kind} is not tracked")
        return Untracked()
    from vtcc.tracking.studies import StudyRun

    return StudyRun(name, title, question, params["dataset"]["name"], kind)
