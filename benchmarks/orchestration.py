"""What Prefect adds to `dvc repro` when everything is cached, and where it goes.

    make serve                                     # one terminal
    python -m benchmarks.orchestration             # another

Turns `dvc repro`, `vtcc/train` as it is, `vtcc/train` with a parameter (a worktree), and again;
the first turn makes sure that everything is cached and is not counted. Seconds are those of the
whole commands, `prefect deployment run --watch` with its imports and polling included.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from flows import server
from vtcc import paths, provenance
from vtcc.atomic import write_text
from vtcc.errors import VtccError

RECORD = "benchmarks/records/orchestration.json"
OVERRIDES = '{"train.epochs": 2}'
MODES = {"in place": [], "worktree": ["--param", f"overrides={OVERRIDES}"]}


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints and writes the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    project = paths.project()
    url = server.configured_url(project)
    if server.probe(url) != "prefect":
        sys.exit(f"error: no Prefect server answers at {url}; start it with `make serve`")
    plain: list[float] = []
    flows: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for turn in range(given.rounds + 1):
        seconds = _timed([sys.executable, "-m", "dvc", "repro"])
        found = {mode: _flow(url, more) for mode, more in MODES.items()}
        if turn:
            plain.append(seconds)
            for mode, items in found.items():
                flows[mode].append(items)
        print(
            f"{turn}/{given.rounds}: dvc repro {seconds:.1f} s, "
            + ", ".join(f"{mode} {items['whole command']:.1f} s" for mode, items in found.items()),
            flush=True,
        )
    record = {
        "command": f"python -m benchmarks.orchestration --rounds {given.rounds}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": provenance.cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": provenance.versions(),
        "dvc repro": [round(s, 2) for s in plain],
        "flow": {m: [{k: round(v, 2) for k, v in i.items()} for i in f] for m, f in flows.items()},
    }
    write_text(project / RECORD, json.dumps(record, indent=1) + "\n")
    print(render(record))


def _timed(command: list[str]) -> float:
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return time.monotonic() - started


def _flow(url: str, more: list[str]) -> dict[str, float]:
    """One run by the command line, its seconds by part."""
    asked = time.time()
    command = [sys.executable, "-m", "prefect", "deployment", "run", "vtcc/train", "--watch"]
    whole = _timed([*command, *more])
    try:
        newest = {"limit": 1, "sort": "EXPECTED_START_TIME_DESC"}
        body = newest | {"flows": {"name": {"any_": ["vtcc"]}}}
        (run,) = server.post(url, "/flow_runs/filter", body)
        tasks = server.post(url, "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    except (VtccError, ValueError) as error:
        sys.exit(f"error: {error}")
    tasks.sort(key=lambda task: when(task["start_time"]))
    parts = {
        "submitting (command line)": when(run["created"]) - asked,
        "picked up, process, imports": when(run["start_time"]) - when(run["created"]),
        "limit, worktree": when(tasks[0]["start_time"]) - when(run["start_time"]),
    }
    for task in tasks:
        name = task["name"].rpartition("-")[0]
        parts[f"task {name}"] = when(task["end_time"]) - when(task["start_time"])
    parts["artifacts, worktree removed"] = when(run["end_time"]) - when(tasks[-1]["end_time"])
    parts["between tasks"] = (
        when(tasks[-1]["end_time"])
        - when(tasks[0]["start_time"])
        - sum(v for k, v in parts.items() if k.startswith("task "))
    )
    parts["seen by --watch"] = asked + whole - when(run["end_time"])
    return {"whole command": whole, **parts}


def when(text: str) -> float:
    """Seconds since 1970 of a time as the API writes it."""
    return datetime.datetime.fromisoformat(text).timestamp()


def render(record: dict[str, Any]) -> str:
    """The table of docs/orchestration.md: medians, with minimum and maximum of the whole."""
    plain = record["dvc repro"]
    lines = [f"`dvc repro`: {_spread(plain)} s", "", "| seconds | in place | worktree |"]
    lines.append("|---|---|---|")
    modes = list(record["flow"])
    keys = list(dict.fromkeys(k for m in modes for items in record["flow"][m] for k in items))
    for key in keys:
        cells = []
        for mode in modes:
            values = [items[key] for items in record["flow"][mode] if key in items]
            if not values:
                cells.append("")
            elif key == "whole command":
                cells.append(_spread(values))
            else:
                cells.append(f"{statistics.median(values):.1f}")
        lines.append(f"| {key} | {' | '.join(cells)} |")
    added = []
    for mode in modes:
        whole = statistics.median(i["whole command"] for i in record["flow"][mode])
        added.append(f"**{whole - statistics.median(plain):.1f}**")
    lines.append(f"| more than `dvc repro` | {' | '.join(added)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
