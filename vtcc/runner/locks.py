"""Locks of a DVC that was killed."""

import json
from pathlib import Path
from typing import Any

from vtcc.atomic import write_text


def release_stale_locks(directory: Path) -> int:
    """Clears what a killed DVC left in `.dvc/tmp/rwlock`; returns how many entries.

    DVC drops the entries of dead processes by itself, but takes a number that another process
    has got since for its own, and cannot read a file that it was killed in writing.
    """
    file = directory / ".dvc" / "tmp" / "rwlock"
    if not file.is_file():
        return 0
    from zc.lockfile import LockError, LockFile  # comes with DVC

    try:
        guard = LockFile(str(file.with_name("rwlock.lock")))  # DVC's own, for editing the file
    except LockError:
        return 0  # another DVC is editing it now
    try:
        written = file.stat().st_mtime
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            file.unlink()
            return 1
        kept = _live(entries, written)
        if (gone := _count(entries) - _count(kept)) > 0:
            write_text(file, json.dumps(kept))
        return gone
    finally:
        guard.close()


def _live(entries: dict[str, Any], written: float) -> dict[str, Any]:
    write = {p: e for p, e in entries.get("write", {}).items() if _may_hold(e["pid"], written)}
    read = {
        path: [e for e in readers if _may_hold(e["pid"], written)]
        for path, readers in entries.get("read", {}).items()
    }
    return {"write": write, "read": {p: readers for p, readers in read.items() if readers}}


def _count(entries: dict[str, Any]) -> int:
    return len(entries.get("write", {})) + sum(map(len, entries.get("read", {}).values()))


def _may_hold(pid: int, written: float) -> bool:
    """Whether a process can have written an entry at `written` or before (seconds)."""
    import psutil  # comes with DVC

    try:
        process = psutil.Process(pid)
        command = " ".join([process.name(), *process.cmdline()]).lower()
        started = process.create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return started <= written + 1.0 and ("dvc" in command or "python" in command)
