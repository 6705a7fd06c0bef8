"""What outlives a killed flow run: a mark of its process, which says what is to be settled.

`.vtcc/flow-runs/<id>.json` names the flow run and the concurrency lease it holds. Imports no
Prefect.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vtcc.process import locks

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


class LiveRecord:
    """The record of this process's flow run."""

    def __init__(self, home: Path, record: Record) -> None:
        self.record = record
        path = home / DIRECTORY / f"{record.flow_run}.json"
        self.mark = locks.Mark(path, json.dumps(asdict(record)))

    def write(self, lease: str | None) -> None:
        """Notes the lease, or that there is none any more."""
        self.record = replace(self.record, lease=lease)
        self.mark.write(json.dumps(asdict(self.record)))


@contextlib.contextmanager
def held(home: Path, flow_run: str, server: str | None = None) -> Iterator[LiveRecord]:
    """Inside, the record exists and is locked; afterwards it is gone.

    Args:
        home: the main checkout.
        flow_run: its id.
        server: as in `Record`.
    """
    live = LiveRecord(home, Record(flow_run, server))
    try:
        yield live
    finally:
        live.mark.remove()


@contextlib.contextmanager
def dead(home: Path, server: str | None = None) -> Iterator[list[Record]]:
    """Records of runs whose process is gone, without those of another server.

    They are removed at the end of the block, unless it raises: whoever settles what they left
    may fail and try again. Two that ask at once do not get the same.
    """
    with locks.abandoned(home / DIRECTORY, "*.json") as left:
        pairs = [(mark, _read(mark)) for mark in left]
        pairs = [(mark, record) for mark, record in pairs if record.server in (None, server)]
        yield [record for _, record in pairs]
        for mark, _ in pairs:
            mark.remove()


def _read(mark: locks.Abandoned) -> Record:
    try:
        return Record(**json.loads(mark.text))
    except (ValueError, TypeError):  # killed while it was written
        return Record(mark.path.stem)
