"""The pipeline over several seeds, recorded.

    python -m benchmarks.seeds --preset digits --seeds 0-4 --record digits

runs download, validate, train and evaluate per seed in a private worktree, so that edits made
meanwhile change nothing, and writes `benchmarks/records/digits/seed<N>.json`. What DVC has
computed before is restored; only a training that ran tells its time.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import records
from flows import dvc, workspace
from vtcc import config, paths
from vtcc.errors import VtccError

STAGES = ("download", "validate", "train", "evaluate")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(arguments: list[str] | None = None) -> None:
    """Runs and records; exits 1 with one line when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description=__doc__)
    parser.add_argument("--preset", help="a run preset; without it, params.yaml as it is")
    parser.add_argument("--seeds", required=True, help="such as 0-4 or 0,3,7-9")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--record", required=True, metavar="NAME", help="under benchmarks/records")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    parser.add_argument("--again", action="store_true", help="record seeds that are recorded")
    given = parser.parse_args(arguments)
    try:
        run(
            given.preset,
            config.parse_assignments(given.set),
            parse_seeds(given.seeds),
            given.record,
            threads=given.threads,
            again=given.again,
        )
        print(table(records.load(given.record)))
    except VtccError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; seeds that are recorded are kept, the same command goes on")


def parse_seeds(text: str) -> list[int]:
    """`"0-2,7"` -> `[0, 1, 2, 7]`.

    Raises:
        VtccError: when it is not that.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise VtccError(f"--seeds {text}: expected numbers and ranges, such as 0-4 or 0,3,7-9")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) != len(seeds):
        raise VtccError(f"--seeds {text}: a seed comes twice")
    return seeds


def run(
    preset: str | None,
    overrides: dict[str, Any],
    seeds: list[int],
    name: str,
    *,
    threads: int = 0,
    again: bool = False,
    project: Path | None = None,
    root: Path | None = None,
) -> None:
    """Runs every seed that is not recorded yet, one after the other.

    Args:
        preset: name of a run preset, or None for `params.yaml`.
        overrides: dotted parameters and values, not `train.seed`.
        seeds: values of `train.seed`.
        name: of the record.
        threads: processor threads of a stage; 0 leaves it to the libraries.
        again: run recorded seeds too.
        project: directory of `params.yaml`; default: around the working directory.
        root: directory of the records; default: `benchmarks/records`.

    Raises:
        VtccError: on wrong parameters or when a stage fails.
    """
    if "train.seed" in overrides:
        raise VtccError("--set train.seed: seeds are given with --seeds")
    if threads < 0:
        raise VtccError(f"--threads: expected 0 or more, found {threads}")
    project = (project or paths.project()).resolve()
    root = root or records.RECORDS
    known = records.load(name, root)
    command = _command(preset, overrides, seeds, name, threads)
    # One worktree for all seeds: they must not differ in code that was edited meanwhile.
    with workspace.Workspace(preset, overrides, seeds[0], project=project, private=True) as where:
        if threads:
            where.env |= dict.fromkeys(THREADS, str(threads))
        facts = {
            "command": command,
            "preset": preset,
            "overrides": overrides,
            "versions": _versions(),
            "cpu": _cpu(),
            "threads": threads or len(os.sched_getaffinity(0)),
            **_commit(where.directory),
        }
        for seed in seeds:
            where.write(workspace.resolve(preset, overrides, seed, project))
            print(f"{name} seed {seed}", flush=True)
            data = {s: _stage(s, where) for s in STAGES[:2]}
            digest = _json(where.directory / paths.CACHE / "cache.json")["digest"]
            if not again and _same(known.get(seed), where.params, digest):
                print(f"  recorded, in {records.directory(name, root)}", flush=True)
                continue
            done = data | {s: _stage(s, where) for s in STAGES[2:]}
            record = facts | {
                "seed": seed,
                "params": config.flatten(where.params),
                "metrics": _json(where.directory / paths.METRICS),
                "training": _json(where.directory / paths.TRAINING),
                "seconds": {s: round(d.seconds, 1) for s, d in done.items()},
                "how": {s: d.how for s, d in done.items()},
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "data_digest": digest,
            }
            file = records.write(name, record, root)
            print(f"  {_scores(record['metrics'])} -> {file}", flush=True)


def _stage(stage: str, where: workspace.Workspace) -> dvc.StageRun:
    shown = _Shown(stage)
    done = dvc.run_stage(
        stage,
        where.directory,
        env=where.env,
        on_line=lambda line: print(f"    {line}", flush=True),
        on_progress=shown,
    )
    print(f"  {stage}: {done.how} in {done.seconds:.1f} s", flush=True)
    return done


class _Shown:
    """One line of progress in a while: a log of a long training stays readable."""

    def __init__(self, stage: str, every: float = 30.0) -> None:
        self.stage, self.every, self._last = stage, every, time.monotonic()

    def __call__(self, progress: dict[str, Any]) -> None:
        if time.monotonic() - self._last < self.every:
            return
        self._last = time.monotonic()
        figures = {k: v for k, v in progress.items() if k not in ("stage", "done", "total")}
        shown = "  ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()
        )
        done = f"{progress.get('done')}/{progress.get('total')}"
        print(f"    {self.stage} {done}  {shown}", flush=True)


def _same(record: dict[str, Any] | None, params: dict[str, Any], digest: str) -> bool:
    return (
        record is not None
        and record["params"] == config.flatten(params)
        and record["data_digest"] == digest
    )


def _command(
    preset: str | None, overrides: dict[str, Any], seeds: list[int], name: str, threads: int
) -> str:
    """The command that records this again, with seeds in canonical form."""
    words = ["python", "-m", "benchmarks.seeds"]
    words += ["--preset", preset] if preset else []
    words += ["--seeds", ",".join(map(str, seeds)), "--record", name]
    for key, value in overrides.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    words += ["--threads", str(threads)] if threads else []
    return shlex.join(words)


def _commit(directory: Path) -> dict[str, Any]:
    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    # What a run writes or chooses for itself does not make its code a changed one.
    mine = [f":!{p}" for p in (paths.PARAMS, "dvc.lock", paths.REPORTS, "benchmarks", "docs")]
    status = git("status", "--porcelain", "--", ".", *mine)
    return {"commit": git("rev-parse", "--short=12", "HEAD"), "dirty": bool(status)}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "timm", "scikit-learn", "numpy"):
        found[package] = importlib.metadata.version(package)
    return found


def _cpu() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _scores(metrics: dict[str, Any]) -> str:
    found = [f"{s} {metrics[s]:.4f}" for s in records.SCORES if s in metrics]
    return "  ".join(found) or "no labels, no scores"


def table(runs: dict[int, dict[str, Any]]) -> str:
    """Scores of every method over all recorded seeds, as aligned text."""
    rows = [["method", "score", "mean", "std", "min", "max", "seeds"]]
    for method, prefix in records.methods(runs.values()).items():
        for score in records.SCORES:
            s = records.scores(runs.values(), prefix + score)
            if s:
                figures = [f"{v:.4f}" for v in (s.mean, s.std, s.low, s.high)]
                rows.append([method, score, *figures, str(s.n)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


if __name__ == "__main__":
    main()
