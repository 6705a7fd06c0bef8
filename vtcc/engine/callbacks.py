"""What a training tells the world, which the engine does not know."""

from pathlib import Path
from typing import Any, Protocol

from vtcc.engine.guard import Warned


class Callbacks(Protocol):
    """What the loop tells the world; tracking implements it, a training runs without."""

    def on_start(self, info: dict[str, Any]) -> str | None:
        """Called once with `parameters` (their number), `kernels` (what `auto` became, a dict),
        `resumed_run_id` (None at first) and `curves`, the rows of the epochs before a resume.

        Returns an id that is kept in the checkpoints and handed back at a resume.
        """
        return None

    def on_epoch(self, epoch: int, figures: dict[str, float]) -> None:
        """Called after every epoch (from 1) with the row that goes to curves.csv."""
        return

    def on_warning(self, warned: Warned) -> None:
        """Called when the guard sees what looks like a collapse."""
        return


class Silent(Callbacks):
    """Callbacks that do nothing, where nothing is tracked and in all processes but one."""

    def on_end(self, status: str, artifacts: list[Path], model_dir: Path | None) -> None:
        """Sends nothing."""

    def record(self) -> dict[str, str | None]:
        """For `models/run.json`: there is no run."""
        return {"run_id": None, "tracking_uri": None, "experiment": None}
