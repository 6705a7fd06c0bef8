"""Which runs a living process writes to, and the end of those whose process is gone.

The process of a run holds a lock on a file below `<home>/.vtcc/runs`, which the kernel releases
however the process ends. The file is named by a random token that the run carries as a tag, so
neither tells anything of the machine or its user. It is there before the run is.
"""

import fcntl
import uuid
from pathlib import Path
from typing import IO, Any

from vtcc import paths
from vtcc.errors import VtccError
from vtcc.progress import note
from vtcc.tracking import store

HOLDER, ABANDONED = "vtcc.holder", "vtcc.abandoned"


class Hold:
    """Says that this process writes to a run, until `release` or the end of the process.

    Attributes:
        tags: to be set on the run, best when it is created.
    """

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self.tags = {HOLDER: self._token}
        room = _room(paths.home())
        self._path = room / f"{self._token}.lock"
        self._file: IO[str] | None = None
        try:
            room.mkdir(parents=True, exist_ok=True)
            # Under another name until it is locked: nobody may find it free.
            new = room / f".{self._token}.new"
            self._file = new.open("w", encoding="utf-8")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.write(store.public_uri())
            self._file.flush()
            new.rename(self._path)
        except OSError as error:
            note(f"MLflow: a kill would leave this run open ({error})")

    def release(self) -> None:
        """The run has ended; without this call it counts as abandoned once the process is gone."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def close_abandoned(home: Path | None = None) -> list[str]:
    """Ends, as KILLED, the runs of this project that no living process writes to.

    MLflow is imported only where a process was killed. A store that cannot be reached is
    noted; the next call tries again.

    Args:
        home: the main checkout; `paths.home()` unless told.

    Returns:
        The ids of the runs that were ended. Training on makes them RUNNING again.
    """
    gone = _gone(_room(home or paths.home()))
    if not gone:
        return []
    try:
        with store.alone():
            ended = _end(store.client(), {path.stem for path, _ in gone})
    except VtccError as error:
        note(f"MLflow: runs of killed processes stay open for now ({error})")
        return []
    finally:
        for _, file in gone:
            file.close()
    for path, _ in gone:
        path.unlink(missing_ok=True)
    if ended:
        note(f"MLflow: ended {len(ended)} runs whose process is gone: {', '.join(ended)}")
    return ended


def _room(home: Path) -> Path:
    return home / ".vtcc" / "runs"


def _gone(room: Path) -> list[tuple[Path, IO[str]]]:
    """The files of this store that nobody holds, held by us."""
    found: list[tuple[Path, IO[str]]] = []
    here = store.public_uri()
    for path in sorted(room.glob("*.lock")):
        try:
            file = path.open("r+", encoding="utf-8")
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = file.read()
        except OSError:  # held, or a file system without locks
            file.close()
            continue
        if there == here and path.exists():
            found.append((path, file))
        else:
            file.close()
    return found


def _end(client: Any, tokens: set[str]) -> list[str]:
    with store.reachable():
        everywhere = [e.experiment_id for e in client.search_experiments()]
        running = "attributes.status = 'RUNNING'"
        ended, page = [], None
        while True:
            runs = client.search_runs(everywhere, running, max_results=1000, page_token=page)
            for run in runs:
                if run.data.tags.get(HOLDER) in tokens:
                    _kill(client, run)
                    ended.append(run.info.run_id)
            page = runs.token
            if not page:
                return ended


def reopen(client: Any, run_id: str, hold: Hold) -> None:
    """Makes a run RUNNING again, by the process of `hold`."""
    for key, value in hold.tags.items():
        client.set_tag(run_id, key, value)
    client.update_run(run_id, status="RUNNING")
    forget(client, client.get_run(run_id))


def forget(client: Any, run: Any) -> None:
    """Takes back that a run was abandoned."""
    if ABANDONED in run.data.tags:
        client.delete_tag(run.info.run_id, ABANDONED)


def _kill(client: Any, run: Any) -> None:
    """Marks a run as killed, when its last figure came."""
    stamps = [metric.timestamp for metric in run.data._metric_objs]
    client.set_tag(run.info.run_id, ABANDONED, "its process was gone")
    client.set_terminated(run.info.run_id, "KILLED", max([run.info.start_time, *stamps]))
