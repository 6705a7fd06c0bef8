"""The directory a training goes on from: its last two states, the weights of its candidates."""

import contextlib
from pathlib import Path
from typing import Any

from torch import Tensor

from vtcc import progress
from vtcc.atomic import leftovers, remove, sync_directory
from vtcc.engine import checkpoint, record
from vtcc.errors import VtccError

STATE, PREVIOUS = "last.pt", "previous.pt"


class Scratch:
    """Checkpoints of one training, in a directory named by `checkpoint.training_key`.

    Attributes:
        source: the file that `resume` has read.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.source = directory / STATE
        self._saved: int | None = None
        self._last_is_whole = False

    def resume(self) -> dict[str, Any]:
        """The state to go on from; empty when there is none that is whole.

        The last one, else the one before. Weights of candidates that are later than that state
        are simply written again.
        """
        for leftover in leftovers(self.directory):  # of a writer that was killed
            remove(leftover)
        for name in (STATE, PREVIOUS):
            state = self._whole(self.directory / name)
            if state is not None:
                self.source, self._saved = self.directory / name, state["step"]
                self._last_is_whole = name == STATE
                return state
        if (self.directory / STATE).exists() or (self.directory / PREVIOUS).exists():
            progress.note(f"{self.directory}: no state there is whole; starting afresh")
        return {}

    def kernels(self, file: Path | None = None) -> dict[str, Any] | None:
        """What the training in `file`, else the one here, computes with; None: there is none."""
        states = [_state_file(file)] if file else [self.directory / n for n in (STATE, PREVIOUS)]
        for path in states:
            with contextlib.suppress(OSError):  # reading it for good will say why
                if state := checkpoint.load_state(path):
                    return state.get("kernels")
        return None

    def save(self, state: dict[str, Any], *, again: bool = False) -> None:
        """Keeps `state` as what a resume goes on from, and the one saved before it.

        Args:
            state: plain values and tensors, with its `step`.
            again: write it although that step is saved already, in its place.

        Raises:
            OSError: when it cannot be written; the states kept before then stand.
        """
        repeated = state["step"] == self._saved
        if repeated and not again:
            return  # a signal right after a regular checkpoint: keep two different states
        fresh, last = self.directory / "next.pt", self.directory / STATE
        try:
            checkpoint.save_state(fresh, state)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        # At every moment one of the two names holds a whole state.
        if self._last_is_whole and not repeated:
            last.replace(self.directory / PREVIOUS)
        fresh.replace(last)
        sync_directory(self.directory)
        self._saved, self._last_is_whole = state["step"], True

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

    def adopt(self, file: Path, ours: dict[str, Any]) -> None:
        """Makes a checkpoint from elsewhere the state to go on from.

        Args:
            file: a `last.pt`, with the `candidate-*.pt` it names beside it; or their directory.
            ours: `record.describe` of the training that is to go on.

        Raises:
            VtccError: when it is no whole checkpoint or of another training, naming what differs.
        """
        file = _state_file(file)
        if not file.is_file():
            raise VtccError(f"--resume: {file}: no such file; give a last.pt of .vtcc/scratch")
        try:
            state = checkpoint.load_state(file)
        except OSError as error:
            raise VtccError(f"--resume: {file}: cannot be read ({error.strerror})") from None
        if state is None or not {"params", "digest", "step"} <= state.keys():
            raise VtccError(f"--resume: {file}: damaged, or not the checkpoint of a training")
        if unlike := record.differences(state, ours):
            raise VtccError(
                f"--resume: {file}: of another training: {'; '.join(unlike)}; change params.yaml "
                "or the data to what it was made with, or train without --resume"
            )
        if state["kernels"].get("device") != ours["kernels"].get("device"):
            progress.note(f"{file}: made on another kind of device: not to the same bits")
        for key, theirs in state["versions"].items():
            if theirs != ours["versions"].get(key):
                progress.note(
                    f"{file}: made with {key} {theirs}, here {ours['versions'].get(key)}: it goes "
                    "on, but not to the same bits"
                )
        for step in _candidate_steps(state):
            weights = checkpoint.load_state(file.parent / self._candidate(step).name)
            if weights is None:
                raise VtccError(
                    f"--resume: {file}: needs {self._candidate(step).name} beside it; copy the "
                    "whole directory"
                )
            self.keep(step, weights)
        self._saved = None
        self.save(state)

    def _whole(self, file: Path) -> dict[str, Any] | None:
        """The state in `file` if it and all weights that it names can be read."""
        state = checkpoint.load_state(file)
        for step in _candidate_steps(state or {}):
            if not self._candidate(step).is_file():
                progress.note(f"{file}: not used, without {self._candidate(step).name}")
                return None
            if checkpoint.load_state(self._candidate(step)) is None:
                return None
        return state

    def _candidate(self, step: int) -> Path:
        return self.directory / f"candidate-{step}.pt"


def _candidate_steps(state: dict[str, Any]) -> list[int]:
    return sorted({c["step"] for c in state.get("candidates", [])})


def _state_file(path: Path) -> Path:
    """A checkpoint, or the last one in a directory."""
    return path / STATE if path.is_dir() else path
