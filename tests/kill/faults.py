"""What else can happen to a training: signals, a full disk, no place to write, divergence."""

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

from tests.kill import victim
from vtcc.engine import checkpoint, objective

MIDWAY = 250_000  # bytes: more than the first state, less than one with the optimiser's


def all_of(root: Path, expected: str) -> dict[str, dict[str, Any]]:
    """Meets each in a project of its own, then goes on in peace; what each came to.

    `status`, `step` of the state that stands, `said` on lines that are no progress, `hidden`
    files left, whether a `model` was there; and for two of them, whether going on gave the `same`
    as `expected`.
    """
    told = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        told[number.name] = _meet(root, number.name, expected, send=number)
    told["full"] = _meet(root, "full", expected, before=_fill)
    told["nan"] = _meet(root, "nan", expected, before=_diverge)
    told["unwritable"] = _meet(root, "unwritable", expected, before=_block)
    return told


def _meet(root: Path, name: str, expected: str, *, before: Any = None, send: int = 0) -> dict:
    project = root / name
    victim.prepare(project)
    pid = victim.start(project, before)
    if send:
        while not list(project.glob(".vtcc/scratch/*/previous.pt")):
            time.sleep(0.002)
        os.kill(pid, send)
    _, status = os.waitpid(pid, 0)
    states = [checkpoint.load_state(p) for p in project.glob(".vtcc/scratch/*/last.pt")]
    said = (project / "log.txt").read_text().splitlines()
    told = {
        "status": os.waitstatus_to_exitcode(status),
        "step": states[0]["step"] if states and states[0] else None,
        "said": [line for line in said if not line.startswith('{"progress"')],
        "hidden": [p.name for p in project.rglob(".*") if p.name.endswith((".building", ".old"))],
        "model": (project / "models/model").exists(),
    }
    if name not in ("SIGTERM", "full"):
        return told
    _, status = os.waitpid(victim.start(project), 0)
    return told | {"same": status == 0 and victim.digest(project) == expected}


def _fill() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIDWAY, MIDWAY))


def _diverge() -> None:
    real, calls = objective.instance_loss, []

    def exploding(z: Any, *args: Any) -> Any:
        if len(z) == victim.BATCH:  # smaller ones rehearse what fits the memory
            calls.append(1)
        return real(z, *args) * (float("nan") if len(calls) > 20 else 1)

    objective.instance_loss = exploding


def _block() -> None:
    Path("models").write_text("not a directory")
