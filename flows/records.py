"""What outlives a killed flow run: a small file, locked for as long as its process lives.

`.vtcc/flow-runs/<id>.json` names the flow run and the concurrency lease it holds. The kernel
releases the lock however the process ends, so a file that nobody locks belongs to a dead run.
Imports no Prefect.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

DIRECTORY = Path(".vtcc/flow-runs")


@dataclass(frozen=True)
class Record:
    """A flow run of this machine.

    Attributes:
        flow_run: its id.
        server: address of the Prefect API that knows it; None for a short-lived one, whose
            database the next local server reads.
        lease: the id of the concurrency lease it holds, or None.
    """

    flow_run: str
    server: str | None = None
    lease: str | None = None


class Held:
    """The record of this process's flow run."""

    def __init__(self, file: IO[str], record: Record) -> None:
        self._file, self.record = file, record
        self.write(None)

    def write(self, lease: str | None) -> None:
        """Notes the lease, or that there is none any more."""
        self.record = replace(self.record, lease=lease)
        self._file.seek(0)
        self._file.truncate()
        json.dump(asdict(self.record), self._file)
        self._file.flush()


@contextlib.contextmanager
def held(home: Path, flow_run: str, server: str | None = None) -> Iterator[Held]:
    """Inside, the record exists and is locked; afterwards it is gone.

    Args:
        home: the main checkout.
        flow_run: its id.
        server: as in `Record`.
    """
    path = home / DIRECTORY / f"{flow_run}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield Held(file, Record(flow_run, server))
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def dead(home: Path, server: str | None = None) -> Iterator[list[Record]]:
    """Records of runs whose process is gone, without those of another server.

    They are removed at the end of the block, unless it raises: whoever settles what they left
    may fail and try again. Two that ask at once do not get the same.
    """
    with contextlib.ExitStack() as stack:
        found: list[Record] = []
        files: list[Path] = []
        for path in sorted((home / DIRECTORY).glob("*.json")):
            try:
                file = stack.enter_context(path.open(encoding="utf-8"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, FileNotFoundError):
                continue
            try:
                record = Record(**json.load(file))
            except (ValueError, TypeError):  # killed while it was written
                record = Record(path.stem)
            if record.server in (None, server):
                found.append(record)
                files.append(path)
        yield found
        for path in files:
            path.unlink(missing_ok=True)
