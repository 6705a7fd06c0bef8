"""A long training in calls of a few minutes that resume each other, for lent GPUs.

    python -m benchmarks.gpu --minutes 9     in a project with data/cache; again until it exits 0
    python -m benchmarks.gpu --dry-run       a toy on this machine: stopped once, then finished

A call runs `python -m vtcc train` and ends it with SIGTERM when the time is up; the training
writes its checkpoint, and the next call goes on from it to the same bits. Exit status: 0 when
the model is there, 75 when a further call is needed, else the training's own.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

UNFINISHED = 75
STOPPED = 128 + signal.SIGTERM
GRACE = 60.0  # seconds for the checkpoint


def main(arguments: list[str] | None = None) -> None:
    """One call, or the dry run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call, start included")
    parser.add_argument("--project", type=Path, default=Path.cwd())
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args(arguments)
    if given.dry_run:
        dry_run()
        return
    sys.exit(call(given.project, 60 * given.minutes))


def call(project: Path, seconds: float, epochs: int = 0) -> int:
    """Trains until it is done, the time is up, or so many epochs (0: any) were reported.

    Returns:
        0, 75, or the status of a training that failed.
    """
    command = [sys.executable, "-m", "vtcc", "train"]
    code = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": code, "VTCC_HOME": str(project.resolve())}
    began, last, reported = time.monotonic(), {}, 0
    with subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True
    ) as training:
        clock = threading.Timer(seconds, _stop, [training])
        clock.daemon = True
        clock.start()
        assert training.stdout is not None
        for line in training.stdout:
            progress = _progress(line)
            if progress is None:
                print(line, end="", flush=True)
                continue
            last, reported = progress, reported + 1
            if reported == epochs:
                _stop(training)
        status = training.wait()
        clock.cancel()
    if last:
        print(json.dumps({"epoch": last["done"], "of": last["total"], **_shown(last)}))
    print(f"{time.monotonic() - began:.0f} s; status {status}", flush=True)
    return UNFINISHED if status == STOPPED else status


def _stop(training: subprocess.Popen) -> None:
    """SIGTERM; SIGKILL where the checkpoint takes too long."""
    with contextlib.suppress(ProcessLookupError):
        training.send_signal(signal.SIGTERM)
    last = threading.Timer(GRACE, training.kill)
    last.daemon = True
    last.start()


def _progress(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"progress"'):
        return None
    return json.loads(line)["progress"]


def _shown(progress: dict[str, Any]) -> dict[str, Any]:
    return {k: progress[k] for k in ("images_per_second", "seconds_left") if k in progress}


def dry_run() -> None:
    """The paper's preset at toy size, two epochs on noise, cut after the first."""
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory)
        toy(project)
        statuses = [call(project, 600, epochs=1)]
        while statuses[-1] == UNFINISHED and len(statuses) < 5:
            statuses.append(call(project, 600))
        info = json.loads((project / "models/model/model.json").read_text(encoding="utf-8"))
        if statuses[-1] or info["epoch"] != 2:
            sys.exit(f"error: statuses {statuses}, model of epoch {info['epoch']}")
        print(f"dry run: {len(statuses)} calls, model of epoch {info['epoch']}")


def toy(project: Path) -> None:
    """A project with `params.yaml` and a cache of noise."""
    import numpy as np

    from vtcc import config, paths
    from vtcc.data.cache import CacheWriter

    changes = {
        "train.epochs": 2,
        "train.image_size": 32,
        "train.batch_size": 32,
        "train.num_clusters": 21,
        "train.model.embed_dim": 48,
        "train.model.depth": 2,
        "train.device": "cpu",
        "train.threads": 1,
        "validate.image_size": 32,
    }
    text = config.edit((config.PRESETS / "paper.yaml").read_text(), changes)
    (project / paths.PARAMS).write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    with CacheWriter(project / paths.CACHE, name="noise", image_size=32, channels=3) as writer:
        for i in range(1024):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            writer.add(f"{i}.png", "train", pixels)
        writer.finish()


if __name__ == "__main__":
    main()
