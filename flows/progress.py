"""A stage's progress lines as a Prefect progress artifact."""

import time
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from vtcc.progress import describe

PAUSE = 20.0  # seconds without a try after one that failed


class ProgressArtifact:
    """Shows the latest progress of one stage; call it with what each line holds."""

    def __init__(self, stage: str, *, every: float = 2.0) -> None:
        """Shows nothing until the first call.

        Args:
            stage: its name, which becomes the artifact's key.
            every: seconds between updates; each is a request to the server.
        """
        self.stage, self.every = stage, every
        self._id: UUID | None = None
        self._last = -float("inf")

    def __call__(self, progress: dict[str, Any]) -> None:
        """Creates or updates the artifact; the first and the last always, others now and then."""
        done, total = float(progress.get("done", 0)), float(progress.get("total", 0))
        now = time.monotonic()
        if now - self._last < self.every and done < total:
            return
        self._last = now
        try:
            self._show(done, total, progress)
        except Exception as error:
            # The server may be away for a while; a training must not end with it.
            get_run_logger().warning("progress of %s not shown: %s", self.stage, error)
            self._last = now + PAUSE

    def _show(self, done: float, total: float, progress: dict[str, Any]) -> None:
        percent = min(100.0 * done / total, 100.0) if total > 0 else 0.0
        text = describe(self.stage, progress)
        if self._id is None:
            self._id = create_progress_artifact(percent, key=f"vtcc-{self.stage}", description=text)  # type: ignore[assignment]
        else:
            update_progress_artifact(self._id, percent, description=text)
