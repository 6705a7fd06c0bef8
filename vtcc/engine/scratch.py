"""The directory a training goes on from: its last state, and the weights of its candidates."""

from pathlib import Path
from typing import Any

from torch import Tensor

from vtcc import progress
from vtcc.engine import checkpoint
from vtcc.errors import VtccError

STATE = "last.pt"


class Scratch:
    """Checkpoints of one training, in a directory named by `checkpoint.training_key`."""

    def __init__(self, directory: Path):
        self.directory = directory

    def resume(self) -> dict[str, Any]:
        """The state to go on from, empty when there is none or a part of it is missing."""
        state = checkpoint.load_state(self.directory / STATE) or {}
        for step in sorted({c["step"] for c in state.get("candidates", [])}):
            if not self._candidate(step).is_file():
                progress.note(
                    f"{self.directory}: incomplete, without {self._candidate(step).name}; "
                    "starting afresh"
                )
                return {}
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keeps `state` as what a resume goes on from."""
        checkpoint.save_state(self.directory / STATE, state)

    def keep(self, step: int, weights: dict[str, Tensor]) -> None:
        """Keeps weights that may be chosen at the end."""
        checkpoint.save_state(self._candidate(step), weights)

    def weights(self, step: int) -> dict[str, Tensor]:
        """What `keep` kept.

        Raises:
            VtccError: when it is gone or damaged.
        """
        weights = checkpoint.load_state(self._candidate(step))
        if weights is None:
            raise VtccError(
                f"{self._candidate(step)}: gone or damaged since the training wrote it; train again"
            )
        return weights

    def _candidate(self, step: int) -> Path:
        return self.directory / f"candidate-{step}.pt"
