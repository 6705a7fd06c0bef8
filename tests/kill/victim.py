"""Trainings that are killed and go on, in processes forked from one that has imported torch.

    python -m tests.kill.victim DIRECTORY KILLS WRITES SEED

prepares a project in DIRECTORY, trains it once in peace, then again with `kill -9` at KILLS
random moments, WRITES of them in the middle of writing a checkpoint, going on after each; then
meets the faults of `tests.kill.faults`; and prints one line of JSON. A process of its own for
each start would cost seconds of imports.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.cluster import hierarchy as hierarchy

from vtcc import cli as cli
from vtcc import config, paths
from vtcc.__main__ import main as vtcc_main
from vtcc.analysis import selection as selection
from vtcc.atomic import leftovers
from vtcc.data.cache import CacheWriter
from vtcc.engine import checkpoint
from vtcc.engine import loop as loop  # so that no fork imports what the stage imports itself
from vtcc.engine import model_info as model_info
from vtcc.engine import normalization as normalization
from vtcc.engine import plan as plan
from vtcc.engine import predict as predict
from vtcc.grouping import clusters as clusters
from vtcc.grouping import clusters_file as clusters_file
from vtcc.stages import train as train

BATCH = 8
EPOCHS = 6


def prepare(project: Path) -> None:
    """50 images of noise, and parameters that save a state at almost every step."""
    project.mkdir(parents=True)
    text = config.edit(
        (config.PRESETS / "tiny.yaml").read_text(),
        {
            "train.batch_size": BATCH,
            "train.epochs": EPOCHS,
            "train.selection.points": 3,
            "train.checkpoint_minutes": 0.001,
            "train.threads": 1,
        },
    )
    (project / "params.yaml").write_text(text)
    rng = np.random.default_rng(0)
    with CacheWriter(project / paths.CACHE, name="noise", image_size=16, channels=1) as writer:
        for i in range(50):
            writer.add(f"{i}.png", "train", rng.integers(0, 256, (16, 16, 1), dtype=np.uint8))
        writer.finish()


def start(
    project: Path, before: Callable[[], None] | None = None, words: Sequence[str] = ("train",)
) -> int:
    """Forks a process that runs `vtcc WORDS` in `project`; returns its id.

    Args:
        before: called in that process first.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        os.chdir(project)
        os.environ["VTCC_HOME"] = str(project)
        log = os.open(project / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if before:
            before()
        sys.argv = ["vtcc", *words]
        vtcc_main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(pid: int) -> int | None:
    """Exit status as a shell gives it, or None while the process runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def half_written(project: Path) -> list[Path]:
    """Checkpoints that are being written."""
    return [p for room in (project / ".vtcc/scratch").glob("*/") for p in leftovers(room)]


def kill(pid: int, project: Path, *, after: float, in_write: bool) -> bool:
    """Kills a training after some seconds, or then in its next write; False if it ended first."""
    until = time.monotonic() + after
    while True:
        if ended(pid) is not None:
            return False
        if time.monotonic() >= until and (not in_write or half_written(project)):
            # Held still while it is looked at again: the write may just have ended.
            os.kill(pid, signal.SIGSTOP)
            _, status = os.waitpid(pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                return False
            if not in_write or half_written(project):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return True
            os.kill(pid, signal.SIGCONT)
        if not in_write or time.monotonic() < until:
            time.sleep(0.002)


def check(project: Path) -> None:
    """What stands under its final name is whole."""
    for room in (project / ".vtcc/scratch").glob("*/"):
        for name in ("last.pt", "previous.pt", *(p.name for p in room.glob("candidate-*.pt"))):
            if (room / name).exists():
                assert checkpoint.load_state(room / name) is not None, name
    if (project / paths.MODEL).exists():
        checkpoint.read_model(project / paths.MODEL)
    for path in (paths.RUN, paths.TRAINING):
        if (project / path).exists():
            json.loads((project / path).read_text())


def digest(project: Path) -> str:
    """Of all that the stage promises, but for rates, which tell of the machine."""
    found = hashlib.sha256((project / paths.MODEL / "model.safetensors").read_bytes())
    found.update((project / paths.TRAINING).read_bytes())
    rows = (project / paths.CURVES).read_text().splitlines()
    at = rows[0].split(",").index("images_per_second")
    for row in rows:
        found.update(repr([v for i, v in enumerate(row.split(",")) if i != at]).encode())
    return found.hexdigest()


def main(directory: str, kills: str, writes: str, seed: str) -> None:
    """See above."""
    from tests.kill import faults

    sys.modules["mlflow"] = None  # type: ignore[assignment] # its import would take the kills
    root, draw = Path(directory), random.Random(int(seed))
    peaceful, killed = root / "peaceful", root / "killed"
    prepare(peaceful)
    prepare(killed)
    began = time.monotonic()
    pid = start(peaceful)
    while not list(peaceful.glob(".vtcc/scratch/*/last.pt")):
        time.sleep(0.002)
    preparing = time.monotonic() - began
    os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    plan = [i < int(writes) for i in range(int(kills))]
    draw.shuffle(plan)
    done: list[dict] = []
    same = []
    while len(done) < len(plan):
        in_write = plan[len(done)]
        pid = start(killed)
        # On the whole about as long as a training takes, so that kills fall on all of it.
        share = min(1.0, 3 / len(plan))
        after = draw.uniform(0, preparing + share * (seconds - preparing))
        if not kill(pid, killed, after=after, in_write=in_write):
            same.append(digest(peaceful) == digest(killed))
            assert len(same) < 10, "it ends before it is killed"
            continue
        check(killed)
        steps = [checkpoint.load_state(p) for p in killed.glob(".vtcc/scratch/*/last.pt")]
        done.append(
            {
                "after": round(after, 3),
                "in_write": in_write,
                "step": steps[0]["step"] if steps else None,
            }
        )
    pid = start(killed)
    _, status = os.waitpid(pid, 0)
    same.append(digest(peaceful) == digest(killed))
    hidden = [str(p) for p in killed.rglob(".*") if p.name.endswith((".building", ".old"))]
    print(
        json.dumps(
            {
                "status": os.waitstatus_to_exitcode(status),
                "seconds": round(seconds, 2),
                "kills": done,
                "hidden": hidden,
                "same": same,
                "faults": faults.all_of(root, digest(peaceful)),
                "scratch": [p.name for p in killed.glob(".vtcc/scratch/*/")],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
